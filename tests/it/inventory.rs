//! The inventory of images that are built here, compared with what syft finds in them.
//!
//! One image for each kind of package. Package URLs have to be the same, with their qualifiers;
//! every one that differs is named in a table with the reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipewright::adapters::docker::Docker;
use pipewright::adapters::image::{ImageSource, inventory};
use pipewright::ports::Silent;
use pipewright::scan::Inventory;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::files::root;

/// Types of package URLs that we read.
const OURS: [&str; 8] = [
    "deb", "apk", "rpm", "cargo", "npm", "pypi", "golang", "maven",
];

/// A URL that only one of the two has, and why.
type Difference = (&'static str, &'static str);

/// Runs a program to its end and returns what it prints.
#[track_caller]
fn run(command: &mut Command) -> Vec<u8> {
    let done = command
        .output()
        .expect("the program is installed; see scripts/lib.sh");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    done.stdout
}

#[track_caller]
fn shell(directory: &Path, script: &str) {
    run(Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(directory));
}

/// Where scripts/lib.sh keeps what is compared with, once it is there.
fn inputs() -> PathBuf {
    let script = "source scripts/lib.sh && need_scan_inputs";
    let said = run(Command::new("bash")
        .args(["-c", script])
        .current_dir(root()));
    PathBuf::from(String::from_utf8(said).expect("a path").trim())
}

/// The content of a directory as a layer.
fn layer(directory: &Path) -> Vec<u8> {
    run(Command::new("tar")
        .arg("-C")
        .arg(directory)
        .args(["--numeric-owner", "-cf", "-", "."]))
}

/// A layer of some files.
fn layer_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let directory = TempDir::new().expect("a directory");
    write(directory.path(), files);
    layer(directory.path())
}

fn write(directory: &Path, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("it is made");
        std::fs::write(path, content).expect("it is written");
    }
}

/// Writes an image of these layers in the form of `docker save`.
fn save(path: &Path, tag: &str, layers: &[Vec<u8>]) {
    use sha2::Digest as _;
    let mut archive = tar::Builder::new(std::fs::File::create(path).expect("it is made"));
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, content)
            .expect("it is written");
    };
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    for (at, layer) in layers.iter().enumerate() {
        names.push(format!("{at}/layer.tar"));
        add(&names[at], layer);
        let hash = sha2::Sha256::digest(layer);
        let hex = hash.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        digests.push(format!("sha256:{hex}"));
    }
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
        "history": names.iter().map(|name| serde_json::json!({"created_by": name})).collect::<Vec<_>>(),
    });
    add("config.json", config.to_string().as_bytes());
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]);
    add("manifest.json", manifest.to_string().as_bytes());
    archive
        .into_inner()
        .and_then(|mut file| file.flush())
        .expect("it is written");
}

/// A package URL without percent-encoding and with its qualifiers in order, so that two spellings of
/// one URL are the same: what stands after `#` belongs to the path of a Go module, letters there
/// have no case, and a version that is no version is none.
fn plain(purl: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = purl.bytes();
    while let Some(byte) = rest.next() {
        let hex =
            |byte: Option<u8>| char::from(byte.unwrap_or(b'0')).to_digit(16).unwrap_or(0) as u8;
        bytes.push(match byte {
            b'%' => hex(rest.next()) << 4 | hex(rest.next()),
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).expect("it is text");
    let (text, subpath) = text.split_once('#').unwrap_or((&text, ""));
    let (path, qualifiers) = text.split_once('?').unwrap_or((text, ""));
    let mut path = path.trim_end_matches("@(devel)").to_owned();
    if !subpath.is_empty() {
        let (name, version) = path.rsplit_once('@').unwrap_or((&path, ""));
        path = format!("{name}/{subpath}@{version}");
    }
    if path.starts_with("pkg:golang/") {
        path = path.to_lowercase();
    }
    let mut qualifiers: Vec<&str> = qualifiers.split('&').collect();
    qualifiers.sort_unstable();
    format!("{path} {}", qualifiers.join("&"))
        .trim_end()
        .to_owned()
}

fn ours(image: &Path) -> Inventory {
    let source = ImageSource::Archive {
        file: image.to_owned(),
        reference: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let cancel = CancellationToken::new();
    let read = runtime.block_on(inventory(&source, &Silent, &cancel));
    read.expect("it is read")
}

fn syft(program: &Path, image: &Path) -> BTreeSet<String> {
    let mut command = Command::new(program);
    // Lock files are left out of images by default.
    let more = "+rust-cargo-lock-cataloger,+javascript-lock-cataloger";
    command.args([
        "scan",
        "--quiet",
        "--output",
        "json",
        "--select-catalogers",
        more,
    ]);
    command.arg(format!("docker-archive:{}", image.display()));
    command.env("SYFT_CHECK_FOR_APP_UPDATE", "false");
    let report: serde_json::Value = serde_json::from_slice(&run(&mut command)).expect("JSON");
    let artifacts = report["artifacts"].as_array().expect("a list");
    let purls = artifacts
        .iter()
        .filter_map(|artifact| artifact["purl"].as_str());
    let read = purls.filter(|purl| {
        let kind = purl
            .strip_prefix("pkg:")
            .and_then(|purl| purl.split('/').next());
        kind.is_some_and(|kind| OURS.contains(&kind))
    });
    read.map(plain).collect()
}

/// Compares both on an image; returns how many URLs syft has, and how many of them we have.
fn compare(name: &str, layers: &[Vec<u8>], known: &[Difference]) -> (usize, usize) {
    let directory = TempDir::new().expect("a directory");
    let image = directory.path().join("image.tar");
    save(&image, "image:1", layers);
    let found = ours(&image);
    let ours: BTreeSet<String> = found
        .packages
        .iter()
        .map(|package| plain(&package.purl))
        .collect();
    let theirs = syft(&inputs().join("syft-1.18.1/bin/syft"), &image);
    assert!(!theirs.is_empty(), "{name}: syft found nothing");
    let differ: BTreeSet<&str> = ours
        .symmetric_difference(&theirs)
        .map(String::as_str)
        .collect();
    let table: BTreeSet<&str> = known.iter().map(|(purl, _)| *purl).collect();
    assert_eq!(
        differ, table,
        "{name}: what differs is not what the table says"
    );
    let both = ours.intersection(&theirs).count();
    (theirs.len(), both)
}

const ALPINE: &[u8] =
    b"NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.19.0\nPRETTY_NAME=\"Alpine Linux v3.19\"\n";

fn debian() -> (usize, usize) {
    let base = std::fs::read(inputs().join("debian.tar")).expect("it was made");
    // A layer above in which two packages were removed and one has another version.
    let directory = TempDir::new().expect("a directory");
    std::fs::write(directory.path().join("base.tar"), &base).expect("it is written");
    shell(
        directory.path(),
        "tar -xf base.tar ./var/lib/dpkg/status && rm base.tar",
    );
    let path = directory.path().join("var/lib/dpkg/status");
    let status = std::fs::read_to_string(&path).expect("it was there");
    let kept = status.split_inclusive("\n\n").filter(|paragraph| {
        !paragraph.starts_with("Package: tzdata\n") && !paragraph.starts_with("Package: mawk\n")
    });
    let changed: String = kept
        .map(|paragraph| paragraph.replace("\nVersion: 1:", "\nVersion: 2:"))
        .collect();
    assert_ne!(changed, status);
    std::fs::write(&path, changed).expect("it is written");
    let gone = ("var/lib/dpkg/info/.wh.tzdata.list", &b""[..]);
    write(directory.path(), &[gone]);
    compare("debian", &[base, layer(directory.path())], &[])
}

fn alpine() -> (usize, usize) {
    let installed =
        std::fs::read(root().join("tests/data/scan/apk-installed")).expect("it is there");
    let metadata = b"Metadata-Version: 2.1\nName: MarkupSafe\nVersion: 2.1.3\n\n";
    let python = "usr/lib/python3.11/site-packages/MarkupSafe-2.1.3.dist-info/METADATA";
    let layers = [layer_of(&[
        ("etc/os-release", ALPINE),
        ("lib/apk/db/installed", &installed),
        (python, metadata),
    ])];
    compare("alpine", &layers, &[])
}

fn rpm() -> (usize, usize) {
    let directory = TempDir::new().expect("a directory");
    let mut script = String::new();
    for (name, version, release, epoch) in [
        ("alpha", "1.0", "1", 0),
        ("beta-libs", "3.4~rc1", "2.el9", 2),
        ("gamma+x", "2024a", "1.fc39", 1),
    ] {
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: {release}\nEpoch: {epoch}\nSummary: x\nLicense: MIT\n\
             %description\nx\n%package devel\nSummary: x\nBuildArch: noarch\n%description devel\nx\n\
             %install\nmkdir -p %{{buildroot}}/usr/share/{name}\necho x >%{{buildroot}}/usr/share/{name}/file\n\
             %files\n/usr/share/{name}\n%files devel\n"
        );
        std::fs::write(directory.path().join(format!("{name}.spec")), spec).expect("it is written");
        let _ = writeln!(
            script,
            "rpmbuild -bb --quiet --define \"_topdir $PWD/top\" --target x86_64 '{name}.spec'"
        );
    }
    script.push_str(
        "mkdir -p root/etc root/var/lib root/usr/lib/sysimage/rpm\n\
         ln -s ../../usr/lib/sysimage/rpm root/var/lib/rpm\n\
         printf 'ID=fedora\\nVERSION_ID=39\\n' >root/etc/os-release\n\
         db=(--root \"$PWD/root\" --dbpath /usr/lib/sysimage/rpm --define '_db_backend sqlite')\n\
         rpm \"${db[@]}\" --initdb\n\
         find top -name '*.rpm' -exec rpm \"${db[@]}\" -i --force-debian --nodeps --noscripts {} +\n\
         rm -f root/usr/lib/sysimage/rpm/.rpm.lock\n",
    );
    shell(directory.path(), &script);
    compare("rpm", &[layer(&directory.path().join("root"))], &[])
}

/// A program with the list that `cargo auditable` would put into ours: the same form, the crates of
/// our own lock file.
fn rust() -> (usize, usize) {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("it is there");
    let field = |table: &str, name: &str| {
        let line = table
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    let tables = lock.split("[[package]]").skip(1);
    let packages: Vec<serde_json::Value> = tables
        .map(|table| {
            let name = field(table, "name").expect("it has a name");
            let local = field(table, "source").is_none();
            let mut package = serde_json::json!({
                "name": name,
                "version": field(table, "version").expect("it has a version"),
                "source": if local { "local" } else { "crates.io" },
            });
            if name.ends_with("-build") || name == "cc" {
                package["kind"] = "build".into();
            }
            if local {
                package["root"] = true.into();
            }
            package
        })
        .collect();
    let json = serde_json::json!({ "packages": packages }).to_string();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    let list = zlib.write_all(json.as_bytes()).and_then(|()| zlib.finish());
    let directory = TempDir::new().expect("a directory");
    std::fs::write(
        directory.path().join("list"),
        list.expect("a vector takes all"),
    )
    .expect("it is written");
    std::fs::write(
        directory.path().join("main.rs"),
        "fn main() { println!(\"hello\"); }",
    )
    .expect("it is written");
    shell(
        directory.path(),
        "mkdir -p root/usr/bin && rustc -C opt-level=0 main.rs -o main\n\
         objcopy --add-section .dep-v0=list main root/usr/bin/audited",
    );
    compare("rust", &[layer(&directory.path().join("root"))], &[])
}

fn npm() -> (usize, usize) {
    compare(
        "npm",
        &[layer(&inputs().join("npm"))],
        &[(
            "pkg:npm/demo-app@1.0.0",
            "it is the application itself, which nobody has advisories for",
        )],
    )
}

fn python() -> (usize, usize) {
    let egg = b"Metadata-Version: 1.1\nName: Old_Thing\nVersion: 0.9b1\nLicense: BSD\n";
    let name = "usr/lib/python3/site-packages/Old_Thing-0.9b1.egg-info";
    let layers = [layer(&inputs().join("python")), layer_of(&[(name, egg)])];
    compare("python", &layers, &[])
}

fn go() -> (usize, usize) {
    let directory = TempDir::new().expect("a directory");
    let module = b"module example.com/Team/app\n\ngo 1.19\n\nrequire (\n\texample.com/lib v1.2.3\n\tgithub.com/Team/deep/sub v1.4.0\n)\n\nreplace example.com/lib => ./lib\n";
    let list = b"# example.com/lib v1.2.3 => ./lib\n## explicit\nexample.com/lib\n# github.com/Team/deep/sub v1.4.0\n## explicit\n\
        github.com/Team/deep/sub\n# example.com/lib => ./lib\n";
    let main = b"package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.com/lib\"\n\t\"github.com/Team/deep/sub\"\n)\n\nfunc main() { fmt.Println(lib.Hi(), sub.Hi()) }\n";
    write(
        directory.path(),
        &[
            ("go.mod", module),
            ("main.go", main),
            ("lib/go.mod", b"module example.com/lib\n"),
            ("vendor/modules.txt", list),
            (
                "vendor/example.com/lib/lib.go",
                b"package lib\n\nfunc Hi() string { return \"lib\" }\n",
            ),
            (
                "vendor/github.com/Team/deep/sub/sub.go",
                b"package sub\n\nfunc Hi() string { return \"sub\" }\n",
            ),
        ],
    );
    shell(
        directory.path(),
        "export GOPATH=$PWD/gopath GOCACHE=$PWD/cache GOFLAGS=-mod=vendor GOPROXY=off GO111MODULE=on CGO_ENABLED=0\n\
         go build -trimpath -o root/usr/local/bin/app .\n\
         go build -trimpath -ldflags='-s -w' -o root/usr/local/bin/small .",
    );
    compare(
        "go",
        &[layer(&directory.path().join("root"))],
        &[
            (
                "pkg:golang/./lib",
                "syft takes the directory that replaces a module for its name",
            ),
            (
                "pkg:golang/example.com/lib",
                "a replaced module keeps its name",
            ),
        ],
    )
}

fn java() -> (usize, usize) {
    let directory = TempDir::new().expect("a directory");
    let jars = inputs().join("java");
    let script = "
import sys, zipfile, glob, os
jars = sorted(glob.glob(sys.argv[1] + '/*.jar'))
os.makedirs('root/srv')
for jar in jars[:3]:
    open('root/srv/' + os.path.basename(jar), 'wb').write(open(jar, 'rb').read())
with zipfile.ZipFile('app-1.0.war', 'w', zipfile.ZIP_DEFLATED) as war:
    for jar in jars: war.write(jar, 'WEB-INF/lib/' + os.path.basename(jar))
with zipfile.ZipFile('root/srv/all.ear', 'w') as ear: ear.write('app-1.0.war')
";
    let mut python = Command::new("python3");
    run(python
        .args(["-c", script])
        .arg(jars)
        .current_dir(directory.path()));
    compare(
        "java",
        &[layer(&directory.path().join("root"))],
        &[
            (
                "pkg:maven/spring3-core/spring3-core@3.x",
                "syft takes the name of an archive for the group it does not know",
            ),
            (
                "pkg:maven/spring3-core@3.x",
                "we leave the group out, and say that it is not covered",
            ),
        ],
    )
}

fn locks() -> (usize, usize) {
    let cargo = std::fs::read(root().join("Cargo.lock")).expect("it is there");
    let npm = br#"{"name": "demo", "version": "1.0.0", "lockfileVersion": 3, "packages": {
        "": {"name": "demo", "version": "1.0.0"},
        "node_modules/@babel/code-frame": {"version": "7.24.2"},
        "node_modules/express": {"version": "4.19.2"},
        "node_modules/express/node_modules/debug": {"version": "2.6.9"}}}"#;
    let yarn = b"# yarn lockfile v1\n\n\"@types/node@^20.0.0\":\n  version \"20.12.7\"\n  resolved \"https://registry.yarnpkg.com/@types/node/-/node-20.12.7.tgz#x\"\n\n\
        ms@2.0.0, ms@^2.0.0:\n  version \"2.0.0\"\n  resolved \"https://registry.yarnpkg.com/ms/-/ms-2.0.0.tgz#x\"\n";
    let pnpm = b"lockfileVersion: '6.0'\n\npackages:\n\n  /@types/json5@0.0.29:\n    resolution: {integrity: sha512-x}\n    dev: false\n\n  /minimist@1.2.8:\n    resolution: {integrity: sha512-x}\n    dev: false\n";
    let layers = [layer_of(&[
        ("src/Cargo.lock", &cargo),
        ("a/package-lock.json", npm),
        ("b/yarn.lock", yarn),
        ("c/pnpm-lock.yaml", pnpm),
    ])];
    compare(
        "locks",
        &layers,
        &[(
            "pkg:npm/demo@1.0.0",
            "it is the application itself, which nobody has advisories for",
        )],
    )
}

#[test]
fn inventories_are_those_of_syft() {
    inputs();
    let images = [debian, alpine, rpm, rust, npm, python, go, java, locks];
    let (theirs, both) = std::thread::scope(|scope| {
        let running = images.map(|image| scope.spawn(image));
        let counts = running.map(|image| image.join().expect("the image is as expected"));
        counts
            .into_iter()
            .fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    });
    println!("in all: syft {theirs}, both {both}");
    // In whole numbers: 99 of 100.
    assert!(both * 100 >= theirs * 99, "we have {both} of {theirs}");
    assert!(theirs > 800, "the images have become small: {theirs}");
}

#[tokio::test]
async fn an_image_of_the_engine_is_read_as_its_archive() {
    let directory = TempDir::new().expect("a directory");
    let installed =
        std::fs::read(root().join("tests/data/scan/apk-installed")).expect("it is there");
    let base = layer_of(&[
        ("etc/os-release", ALPINE),
        ("lib/apk/db/installed", &installed),
        ("app/a.egg-info", b"Name: a\nVersion: 1\n"),
    ]);
    let above = layer_of(&[
        ("app/.wh.a.egg-info", b""),
        ("app/b.egg-info", b"Name: b\nVersion: 1\n"),
    ]);
    let image = directory.path().join("image.tar");
    let name = format!("pipewright-test-inventory-{}:1", std::process::id());
    save(&image, &name, &[base, above]);
    let docker = |arguments: &[&str]| run(Command::new("docker").args(arguments));
    let loaded = docker(&["load", "--quiet", "--input", &image.display().to_string()]);
    let loaded = String::from_utf8(loaded).expect("text");
    assert!(loaded.contains(&name), "{loaded}");
    let source = ImageSource::Engine {
        docker: Box::new(Docker::connect().expect("an engine")),
        reference: name.clone(),
    };
    let cancel = CancellationToken::new();
    let found = inventory(&source, &Silent, &cancel).await;
    docker(&["rmi", &name]);
    let found = found.expect("it is read");
    let file = image.clone();
    let expected = tokio::task::spawn_blocking(move || ours(&file))
        .await
        .expect("it is read");
    let names: Vec<&str> = found
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert!(
        names.contains(&"b") && names.contains(&"musl") && !names.contains(&"a"),
        "{names:?}"
    );
    assert_eq!(found.packages, expected.packages);
    assert_eq!(found.layers, expected.layers);
    let gone = inventory(&source, &Silent, &cancel)
        .await
        .expect_err("it was removed");
    assert!(
        gone.to_string().contains("does not exist") || gone.to_string().contains("export"),
        "{gone}"
    );
}
