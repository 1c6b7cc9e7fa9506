//! The world misbehaves: registries that fail, repositories that move, disks that are full,
//! output that tells secrets. What is delivered is right all the same, or nothing is.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;

use crate::support::delivery::{Delivery, PASSWORD};
use crate::support::faulty::{Reply, Request};
use crate::support::repo;

const RELEASE: &str = r#"
pipeline release {
    build app { dockerfile "build/app/Dockerfile.prod" }
    push app
    bump main repo=manifests {
        file "main/values.yaml" { set ".front.imageTag" "${image.app.tag}" }
        commit "Update image tag to ${git.sha}"
    }
}
"#;

/// Bytes that do not compress, so that an upload takes more than one packet.
fn noise(seed: u64, bytes: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| rng.alphanumeric()).collect()
}

/// Does the same to the first requests that match, and notes how many there were.
fn first(
    times: usize,
    matches: fn(&Request) -> bool,
    reply: Reply,
) -> (impl FnMut(&Request) -> Reply + Send, Arc<AtomicUsize>) {
    let spoiled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&spoiled);
    let script = move |request: &Request| {
        if matches(request) && count.load(Ordering::SeqCst) < times {
            count.fetch_add(1, Ordering::SeqCst);
            return reply.clone();
        }
        Reply::Pass
    };
    (script, spoiled)
}

fn sends_bytes(request: &Request) -> bool {
    request.is("PATCH ") && request.body.len() > 10_000
}

#[test]
fn a_registry_that_fails_now_and_then_gets_the_image_all_the_same() {
    let delivery = Delivery::start("registry-faults");
    delivery.pipeline(RELEASE);
    type Case = (&'static str, usize, fn(&Request) -> bool, Reply);
    let cases: [Case; 7] = [
        (
            "500 to a look",
            2,
            |r| r.is("GET /v2/app-repo/manifests"),
            Reply::status(500),
        ),
        ("500 to an upload", 1, |r| r.is("POST "), Reply::status(500)),
        (
            "429 to an upload",
            1,
            |r| r.is("POST "),
            Reply::Answer(429, vec![("Retry-After", "1".to_owned())], String::new()),
        ),
        ("reset in an upload", 1, sends_bytes, Reply::PassPart(5_000)),
        ("lost answer to an upload", 1, sends_bytes, Reply::Cut(10)),
        (
            "503 to the manifest",
            1,
            |r| r.is("PUT /v2/app-repo/manifests"),
            Reply::status(503),
        ),
        (
            "lost answer to the manifest",
            1,
            |r| r.is("PUT /v2/app-repo/manifests"),
            Reply::Cut(0),
        ),
    ];
    for (at, (name, times, matches, reply)) in cases.into_iter().enumerate() {
        let sha = delivery
            .source
            .commit(name, &[("app/noise", &noise(at as u64, 300_000))]);
        let (script, spoiled) = first(times, matches, reply);
        delivery.spoil(script);
        let answer = delivery.pipewright(&["run", "release"]);
        assert_eq!(answer.status.code(), Some(0), "{name}: {answer:#?}");
        assert_eq!(
            spoiled.load(Ordering::SeqCst),
            times,
            "{name}: the fault was met"
        );
        delivery.heal();
        let digest = delivery.digest("app-repo", &sha).expect(name);
        answer.says(&digest[..19]);
        assert_whole(&delivery, &sha);
        eprintln!("{name}: {:?}", answer.took);
    }
    assert_eq!(delivery.manifest_commits().len(), 8);
}

/// Everything the manifest names is there, byte for byte: an independent tool fetches it all and
/// checks the digests.
fn assert_whole(delivery: &Delivery, sha: &str) {
    let into = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--src-creds"])
        .arg(format!("bot:{PASSWORD}"))
        .arg(format!(
            "docker://{}/app-repo:{sha}",
            delivery.registry.host()
        ))
        .arg(format!("dir:{}", into.path().display()))
        .output()
        .expect("these tests need the program `skopeo`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_registry_that_dies_in_the_middle_of_an_upload_and_comes_back() {
    let delivery = Delivery::start("registry-dies");
    delivery.source.write(&[("app/noise", &noise(99, 300_000))]);
    let sha = delivery.pipeline(RELEASE);
    let gone_for = Arc::new(AtomicUsize::new(usize::MAX));
    let left = Arc::clone(&gone_for);
    delivery.spoil(move |request| {
        if left.load(Ordering::SeqCst) == usize::MAX && sends_bytes(request) {
            left.store(4, Ordering::SeqCst);
            return Reply::PassPart(20_000);
        }
        match left.load(Ordering::SeqCst) {
            0 | usize::MAX => Reply::Pass,
            more => {
                left.store(more - 1, Ordering::SeqCst);
                Reply::Reset
            }
        }
    });
    let answer = delivery.pipewright(&["run", "release"]).expect(0);
    assert_eq!(
        gone_for.load(Ordering::SeqCst),
        0,
        "it was gone and came back"
    );
    delivery.heal();
    answer.says(&delivery.digest("app-repo", &sha).expect("pushed")[..19]);
    assert_whole(&delivery, &sha);
}

#[test]
fn a_registry_that_never_works_is_named_and_nothing_follows() {
    let delivery = Delivery::start("registry-gone");
    delivery.pipeline(RELEASE);
    delivery.spoil(|_| Reply::Answer(400, Vec::new(), "no, and that is final".to_owned()));
    let commits = delivery.manifest_commits();
    let answer = delivery.pipewright(&["run", "release"]);
    assert!(matches!(answer.status.code(), Some(1 | 3)), "{answer:?}");
    answer.says(&delivery.host());
    assert_eq!(delivery.manifest_commits(), commits);
    assert!(!answer.text().contains(PASSWORD));
}

/// Somebody else who commits to the manifest repository, as often as they are let.
struct Rival {
    work: PathBuf,
    commits: Arc<AtomicUsize>,
}

impl Rival {
    fn new(delivery: &Delivery, most: usize) -> Self {
        let work = delivery.dir().join("rival");
        repo::git(
            delivery.dir(),
            &[
                "clone",
                "-q",
                delivery.manifests.to_str().expect("UTF-8"),
                "rival",
            ],
        );
        let commits = Arc::new(AtomicUsize::new(0));
        let (theirs, count) = (work.clone(), Arc::clone(&commits));
        delivery.git.before_every_push(move || {
            let round = count.load(Ordering::SeqCst);
            if round < most {
                commit(&theirs, round);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { work, commits }
    }
}

/// Changes the very file that is bumped, at another place.
fn commit(work: &Path, round: usize) {
    repo::git(work, &["pull", "-q", "--ff-only"]);
    let path = work.join("main/values.yaml");
    let text = std::fs::read_to_string(&path).expect("values");
    let text = format!("# rival {round}\n{text}");
    std::fs::write(&path, text).expect("write");
    repo::git(work, &["commit", "-qam", &format!("rival {round}")]);
    repo::git(work, &["push", "-q", "origin", "main"]);
}

#[test]
fn a_repository_that_moves_nine_times_gets_the_tenth_edit() {
    let delivery = Delivery::start("races");
    let sha = delivery.pipeline(RELEASE);
    let before = delivery.manifest("main/values.yaml");
    let rival = Rival::new(&delivery, 9);
    let answer = delivery.pipewright(&["run", "release"]).expect(0);
    answer.says("moved under us");
    assert_eq!(rival.commits.load(Ordering::SeqCst), 9);
    assert_eq!(delivery.manifest_commits().len(), 11);
    // Nothing of theirs is lost, and ours is there once.
    let rivals: String = (0..9)
        .rev()
        .map(|round| format!("# rival {round}\n"))
        .collect();
    let expected = format!(
        "{rivals}{}",
        before.replace("\"0000000\"", &format!("\"{sha}\""))
    );
    assert_eq!(delivery.manifest("main/values.yaml"), expected);
    let parents = repo::git(
        &delivery.manifests,
        &["log", "--merges", "--format=%H", "main"],
    );
    assert_eq!(parents, "", "no merges");
    drop(rival.work);
}

#[test]
fn a_repository_that_never_stands_still_is_given_up() {
    let delivery = Delivery::start("endless-races");
    delivery.pipeline(RELEASE);
    let rival = Rival::new(&delivery, usize::MAX);
    let answer = delivery.pipewright(&["run", "release"]);
    assert!(matches!(answer.status.code(), Some(1 | 3)), "{answer:?}");
    answer
        .says("somebody else was faster 10 times in a row on main of")
        .says("nothing was written");
    assert_eq!(rival.commits.load(Ordering::SeqCst), 10);
    let authors = repo::git(&delivery.manifests, &["log", "--format=%an", "main"]);
    assert!(!authors.contains("release bot"), "{authors}");
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).expect("mkdir");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .output()
            .expect("mount runs");
        assert!(
            output.status.success(),
            "this test needs to mount a small file system (run as root): {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(path)
    }

    /// Takes all space that is left, or gives it back.
    fn fill(path: &Path) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(path.join("filler")).expect("a file");
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![7; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("the filler is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_a_run_before_its_effects_and_the_rest_follows_later() {
    let delivery = Delivery::start("disk-full");
    let disk = SmallDisk::new(delivery.dir().join("state"), "24m");
    let sha = delivery.pipeline(RELEASE);
    let state = disk.0.to_str().expect("UTF-8").to_owned();
    let commits = delivery.manifest_commits();
    // The disk gets full at the moment the registry is first asked, in the middle of the run.
    let path = disk.0.clone();
    let filled = Arc::new(Mutex::new(false));
    let once = Arc::clone(&filled);
    delivery.spoil(move |_| {
        let mut filled = once.lock().expect("no panic");
        if !*filled {
            *filled = true;
            SmallDisk::fill(&path);
        }
        Reply::Pass
    });
    let answer = delivery.pipewright(&["--state", &state, "run", "release"]);
    assert!(*filled.lock().expect("no panic"), "{answer:?}");
    assert!(matches!(answer.status.code(), Some(1 | 3)), "{answer:#?}");
    let text = answer.text().to_lowercase();
    assert!(text.contains("full") || text.contains("no space"), "{text}");
    assert_eq!(
        delivery.front.count("PUT "),
        0,
        "nothing was pushed: {text}"
    );
    assert_eq!(delivery.manifest_commits(), commits);
    // Still full: going on says so and does nothing.
    let answer = delivery.pipewright(&["--state", &state, "run", "--resume", "last"]);
    assert_ne!(answer.status.code(), Some(0), "{answer:#?}");
    assert_eq!(delivery.front.count("PUT "), 0);
    assert_eq!(delivery.manifest_commits(), commits);

    disk.free();
    delivery
        .pipewright(&["--state", &state, "run", "--resume", "last"])
        .expect(0);
    assert!(delivery.digest("app-repo", &sha).is_some());
    assert_eq!(delivery.manifest_commits().len(), commits.len() + 1);
    let answer = delivery
        .pipewright(&["--state", &state, "show", "last"])
        .expect(0);
    answer.says("push.app").says("bump.main");
}

/// Every file below a directory; logs as they were before they were compressed.
fn everything(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)
            .expect("a directory")
            .flatten()
        {
            let path = entry.path();
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).expect("a readable file");
                if path.extension().is_some_and(|extension| extension == "zst") {
                    let text = zstd::decode_all(&bytes[..]).expect("a whole log");
                    found.push((path.with_extension("text"), text));
                }
                found.push((path, bytes));
            }
        }
    }
    found
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

const LINE: &str = "one-line-s3cret/with+odd=\"characters\"";
const LINES: &str = "-----BEGIN THE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nx7Zk0qLmPq2rT5vW8yB1dF4gH6jK9nM3\n-----END THE KEY-----\n";

#[test]
fn secrets_are_nowhere_but_where_they_belong() {
    let mut delivery = Delivery::start("secrets");
    delivery.set("TEST_LINE", LINE);
    delivery.set("TEST_LINES", LINES);
    delivery.source.write(&[(
        "build/app/Dockerfile.prod",
        "FROM pipewright-test-base:latest\nCOPY app/ /app/\n\
         RUN --mount=type=secret,id=key [\"/bin/busybox\", \"cat\", \"/run/secrets/key\"]\n",
    )]);
    let sha = delivery.pipeline(
        r##"
secret LINE env=TEST_LINE
secret KEY env=TEST_LINES
pipeline release {
    run tell {
        env LINE "${secret.LINE}"
        env KEY "${secret.KEY}"
        env BOTH "user:${secret.LINE}@host"
        script #"""
            echo "plain $LINE end"
            printf %s "$LINE" | base64 -w0; echo
            printf 'xy%s' "$LINE" | base64 -w0; echo
            printf %s "$LINE" | od -An -tx1 | tr -d ' \n'; echo
            echo "$KEY"
            echo "$KEY" | head -2 | tail -1
            echo "composite $BOTH"
            # In pieces with pauses, so that no reader gets it in one.
            i=0; while [ $i -lt ${#LINE} ]; do printf %s "${LINE:$i:1}"; sleep 0.01; i=$((i+1)); done; echo
            echo "to standard error: $LINE" >&2
            """#
    }
    run boxed {
        container "pipewright-test-base:latest"
        env KEY "${secret.KEY}"
        script "echo \"$KEY\"; echo \"$KEY\" >&2; echo boxed"
    }
    run broken {
        env LINE "${secret.LINE}"
        script "echo \"fails with $LINE\"; echo \"$LINE\" > told; exit 3"
        allow-failure
    }
    run leaky {
        env LINE "${secret.LINE}"
        script "echo \"$LINE\" > told"
        output told from="told"
        allow-failure
    }
    build app {
        dockerfile "build/app/Dockerfile.prod"
        secret key "${secret.KEY}"
    }
    push app
    bump main repo=manifests {
        file "main/values.yaml" { set ".front.imageTag" "${image.app.tag}" }
        commit "Update image tag to ${git.sha}"
    }
}
"##,
    );
    let secrets = [
        LINE.to_owned(),
        LINES.lines().nth(1).expect("a line").to_owned(),
        LINES.lines().nth(2).expect("a line").to_owned(),
        base64::engine::general_purpose::STANDARD.encode(LINE),
        LINE.bytes().map(|byte| format!("{byte:02x}")).collect(),
        delivery.git.token().to_owned(),
        PASSWORD.to_owned(),
    ];
    let plan = delivery.pipewright(&["plan", "release"]).expect(0);
    let json = delivery
        .pipewright(&["plan", "release", "--format", "json"])
        .expect(0);
    let run = delivery.pipewright(&["run", "release"]).expect(0);
    run.says("plain *** end")
        .says("composite user:***@host")
        .says("boxed");
    run.says("outputs are shown and stored");
    let logs = delivery.pipewright(&["logs", "last"]).expect(0);
    let shown = delivery.show().to_string();
    let again = delivery.pipewright(&["rerun", "last", "--failed"]).text();
    let text = [
        plan.text(),
        json.text(),
        run.text(),
        logs.text(),
        shown,
        again,
    ];
    let files = everything(&delivery.state());
    assert!(
        files
            .iter()
            .any(|(path, _)| path.ends_with("run.tell.text")),
        "{files:?}"
    );
    for secret in &secrets {
        for text in &text {
            assert!(!text.contains(secret.as_str()), "{secret} in:\n{text}");
        }
        for (path, bytes) in &files {
            assert!(!holds(bytes, secret), "{secret} in {}", path.display());
        }
    }
    // Nor in the image or the repository.
    let config = delivery.image_config("app-repo", &sha).to_string();
    assert!(!config.contains("MIIEvQ"), "{config}");
    let history = repo::git(&delivery.manifests, &["log", "-p", "main"]);
    assert!(!history.contains(LINE) && !history.contains(delivery.git.token()));
}
