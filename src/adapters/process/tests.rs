//! Tests of the whole adapter, with real processes.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::base::{Secret, Text};
use crate::ports::{Progress, Silent};

/// An output that keeps everything.
#[derive(Default)]
struct Kept(Mutex<Vec<u8>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Output for Kept {
    fn log(&self, bytes: &[u8]) {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
    }

    fn progress(&self, _progress: Progress) {}
}

struct Bench {
    dir: TempDir,
    host: HostProcesses,
    output: Kept,
    cancel: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            host: HostProcesses::new(),
            output: Kept::default(),
            cancel: CancellationToken::new(),
        }
    }

    fn spec(&self, program: Program) -> ProcessSpec {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        ProcessSpec {
            program,
            workdir: self.dir.path().to_owned(),
            env: Vec::new(),
            marker: format!("test-{}-{count}/run.x", std::process::id()),
            grace: Duration::from_secs(20),
        }
    }

    fn script(&self, text: &str) -> ProcessSpec {
        self.spec(Program::Script(text.to_owned()))
    }

    async fn run(&self, spec: &ProcessSpec) -> Result<i32, ProcessError> {
        let run = self.host.run(spec, &self.output, &self.cancel);
        tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .expect("it ends in time")
    }

    async fn sh(&self, text: &str) -> i32 {
        self.run(&self.script(text)).await.expect("it runs")
    }

    /// Runs a script, cancels it once it has written the file `ready`, and waits.
    async fn cancelled(&self, text: &str) {
        self.cancelled_with(self.script(text)).await;
    }

    async fn cancelled_with(&self, spec: ProcessSpec) {
        let cancel = async {
            self.wait_for("ready").await;
            self.cancel.cancel();
        };
        let (result, ()) = tokio::join!(self.run(&spec), cancel);
        assert!(matches!(result, Err(ProcessError::Cancelled)), "{result:?}");
    }

    async fn wait_for(&self, name: &str) {
        let path = self.dir.path().join(name);
        let start = Instant::now();
        while !path.exists() {
            assert!(start.elapsed() < Duration::from_secs(20), "no {name}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn pids(&self, file: &str) -> Vec<i32> {
        pids_in(&self.dir.path().join(file))
    }
}

fn pids_in(file: &Path) -> Vec<i32> {
    std::fs::read_to_string(file)
        .expect("process ids")
        .split_whitespace()
        .map(|word| word.parse().expect("a process id"))
        .collect()
}

fn exists(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).expect("not zero")).is_ok()
}

fn assert_gone(pids: &[i32]) {
    assert!(!pids.is_empty());
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(!exists(*pid), "process {pid} is left: {stat:?}");
    }
}

#[tokio::test]
async fn lines_of_both_outputs_keep_their_order() {
    let bench = Bench::new();
    let code = bench
        .sh("for i in $(seq 1 500); do echo out$i; echo err$i >&2; done")
        .await;
    let mut expected = String::new();
    for i in 1..=500 {
        writeln!(expected, "out{i}\nerr{i}").expect("a string");
    }
    assert_eq!((code, bench.output.text()), (0, expected));
}

#[tokio::test]
async fn scripts_stop_at_errors_unset_variables_and_broken_pipelines() {
    let bench = Bench::new();
    assert_eq!(bench.sh("false | cat; echo not reached").await, 1);
    assert_eq!(bench.sh("(exit 3); echo not reached").await, 3);
    assert_ne!(bench.sh("echo $UNSET_VARIABLE; echo not reached").await, 0);
    let text = bench.output.text();
    assert!(!text.contains("not reached"), "{text}");
    assert!(text.contains("UNSET_VARIABLE"), "{text}");
}

#[tokio::test]
async fn without_bash_sh_is_used_and_said() {
    let mut bench = Bench::new();
    let bin = bench.dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).expect("a link");
    bench.host = HostProcesses::with_environment([("PATH".into(), bin.into_os_string())]);
    assert_eq!(bench.sh("echo \"[${BASH_VERSION-none}]\"").await, 0);
    let text = bench.output.text();
    let (first, rest) = text.split_once('\n').expect("two lines");
    assert!(first.contains("sh -eu"), "{first}");
    assert_eq!(rest, "[none]\n");
}

#[tokio::test]
async fn the_environment_is_the_allow_list_and_what_is_given() {
    let mut bench = Bench::new();
    let path = std::env::var_os("PATH").expect("a path");
    bench.host = HostProcesses::with_environment(
        [
            ("PATH", path),
            ("LANG", "C".into()),
            ("LC_TIME", "C".into()),
            ("AWS_SECRET_ACCESS_KEY", "leaked".into()),
            ("GIVEN", "leaked".into()),
        ]
        .map(|(name, value)| (OsString::from(name), value)),
    );
    let mut spec = bench.spec(Program::Command(vec!["env".to_owned()]));
    spec.env = vec![
        ("GIVEN".to_owned(), Text::Secret(Secret::new("told"))),
        ("LANG".to_owned(), Text::Plain("de_DE".to_owned())),
    ];
    assert_eq!(bench.run(&spec).await.expect("it runs"), 0);
    let text = bench.output.text();
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("PATH="))
        .collect();
    lines.sort_unstable();
    let marker = format!("PIPEWRIGHT_STAGE={}", spec.marker);
    assert_eq!(
        lines,
        [
            "GIVEN=told",
            "LANG=de_DE",
            "LC_TIME=C",
            marker.as_str(),
            "TERM=dumb"
        ]
    );
}

#[tokio::test]
async fn standard_input_is_empty_and_the_directory_is_the_given_one() {
    let bench = Bench::new();
    assert_eq!(bench.sh("cat; pwd -P; test ! -t 1").await, 0);
    let dir = bench.dir.path().canonicalize().expect("it exists");
    assert_eq!(bench.output.text(), format!("{}\n", dir.display()));
}

#[tokio::test]
async fn exit_status_tells_the_signal() {
    let bench = Bench::new();
    assert_eq!(bench.sh("kill -KILL $$").await, 137);
    assert_eq!(bench.sh("kill -SEGV $$").await, 139);
    assert_eq!(bench.sh("exit 255").await, 255);
}

#[tokio::test]
async fn what_cannot_be_started_is_named() {
    let bench = Bench::new();
    let fail = async |spec: ProcessSpec| {
        let error = bench.run(&spec).await.expect_err("it cannot start");
        assert!(matches!(error, ProcessError::Start { .. }), "{error:?}");
        error.to_string()
    };
    let command = |words: &[&str]| {
        bench.spec(Program::Command(
            words.iter().map(|word| (*word).to_owned()).collect(),
        ))
    };
    let text = fail(command(&["no-such-program-here", "x"])).await;
    assert!(text.contains("\"no-such-program-here\""), "{text}");
    assert!(text.contains("PATH"), "{text}");
    let text = fail(command(&["./missing"])).await;
    assert!(text.contains("\"./missing\""), "{text}");
    fail(command(&[])).await;
    fail(command(&["echo", "a\0b"])).await;

    std::fs::write(bench.dir.path().join("tool"), "#!/no/such/interpreter\n").expect("a file");
    let text = fail(command(&["./tool"])).await;
    assert!(text.to_lowercase().contains("permission denied"), "{text}");
    std::fs::set_permissions(
        bench.dir.path().join("tool"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("permissions");
    let text = fail(command(&["./tool"])).await;
    assert!(text.contains("interpreter"), "{text}");

    let mut spec = command(&["true"]);
    spec.workdir = bench.dir.path().join("nowhere");
    let text = fail(spec).await;
    assert!(text.contains("working directory"), "{text}");

    let mut spec = command(&["true"]);
    spec.env = vec![("BIG".to_owned(), Text::Plain("x".repeat(200 << 10)))];
    let text = fail(spec).await;
    assert!(text.contains("BIG") && text.contains("128 KiB"), "{text}");

    let mut spec = command(&["true"]);
    spec.env = vec![("A=B".to_owned(), Text::Plain(String::new()))];
    let text = fail(spec).await;
    assert!(text.contains("\"A=B\""), "{text}");
}

#[tokio::test]
async fn a_huge_script_runs() {
    let bench = Bench::new();
    let mut script = String::from("set -o | grep -E 'errexit|pipefail' >settings\n");
    while script.len() < 3 << 20 {
        script.push_str(": a line that does nothing\n");
    }
    script.push_str("echo done\n");
    assert_eq!(bench.sh(&script).await, 0);
    assert_eq!(bench.output.text(), "done\n");
    let settings = std::fs::read_to_string(bench.dir.path().join("settings")).expect("settings");
    assert_eq!(settings.matches("on").count(), 2, "{settings}");
}

#[tokio::test]
async fn bytes_that_are_no_text_arrive_unchanged() {
    let bench = Bench::new();
    assert_eq!(bench.sh(r"printf '\377\000\200x'").await, 0);
    assert_eq!(*bench.output.0.lock().expect("no panic"), b"\xff\0\x80x");
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let bench = Bench::new();
    assert_eq!(bench.sh("head -c 67108864 /dev/zero | tr '\\0' x").await, 0);
    let bytes = bench.output.0.lock().expect("no panic");
    assert_eq!(bytes.len(), 64 << 20);
    assert!(bytes.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn cancelling_asks_first() {
    let bench = Bench::new();
    let start = Instant::now();
    bench
        .cancelled(
            "trap 'echo cleaned; exit 0' TERM; touch ready; while :; do sleep 0.01 || :; done",
        )
        .await;
    // bash itself may have a word about the `sleep` that was ended before.
    let text = bench.output.text();
    assert!(text.ends_with("cleaned\n"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn cancelling_reaches_a_stopped_process() {
    let bench = Bench::new();
    bench
        .cancelled("trap 'echo heard; exit 0' TERM; touch ready; kill -STOP $$; sleep 60")
        .await;
    assert_eq!(bench.output.text(), "heard\n");
}

#[tokio::test]
async fn cancelling_before_the_start_starts_nothing() {
    let bench = Bench::new();
    bench.cancel.cancel();
    let result = bench.run(&bench.script("touch started")).await;
    assert!(matches!(result, Err(ProcessError::Cancelled)));
    assert!(!bench.dir.path().join("started").exists());
}

#[tokio::test]
async fn cancelling_kills_all_that_ignore_it_also_detached_ones() {
    let bench = Bench::new();
    // A child, a grandchild, one in a session of its own, one that forked twice on top of that,
    // and one that also cleaned its environment and closed its outputs.
    let mut spec = bench.script(
            r#"trap '' TERM
            echo $$ >>pids
            stubborn='trap "" TERM HUP; echo $$ >>pids; while :; do sleep 0.05; done'
            bash -c "$stubborn" &
            bash -c "bash -c '$stubborn' & wait" &
            setsid bash -c "$stubborn" &
            (setsid bash -c "bash -c '$stubborn' & disown; exit 0" &)
            (env -i PATH="$PATH" setsid bash -c "bash -c '$stubborn' & exit 0" </dev/null >/dev/null 2>&1 &)
            while [ "$(wc -l <pids)" -lt 6 ]; do sleep 0.01; done
            touch ready
            while :; do sleep 0.05; done"#,
        );
    spec.grace = Duration::from_millis(300);
    bench.cancelled_with(spec).await;
    let pids = bench.pids("pids");
    assert_eq!(pids.len(), 6);
    assert_gone(&pids);
}

#[tokio::test]
async fn what_is_left_running_after_success_is_ended() {
    let bench = Bench::new();
    let start = Instant::now();
    let code = bench
        .sh("sleep 1000 & echo $! >>pids
             (setsid sleep 1000 >/dev/null 2>&1 & echo $! >>pids)
             echo out")
        .await;
    assert_eq!(code, 0);
    assert_gone(&bench.pids("pids"));
    let text = bench.output.text();
    assert!(text.starts_with("out\n"), "{text}");
    assert!(
        text.contains("ended what was left running: sleep"),
        "{text}"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_detached_silent_process_is_found_without_its_pipe_and_group() {
    let bench = Bench::new();
    let code = bench
        .sh(
            "(setsid sh -c 'echo $$ >pid; exec sleep 1000' >/dev/null 2>&1 &)
             while ! [ -s pid ]; do sleep 0.01; done",
        )
        .await;
    assert_eq!(code, 0);
    assert_gone(&bench.pids("pid"));
}

#[tokio::test]
async fn a_leftover_that_prints_for_ever_does_not_hang_the_stage() {
    let bench = Bench::new();
    let start = Instant::now();
    let code = bench
        .sh("(trap '' TERM; echo $BASHPID >pid; while :; do echo spam; done) & while ! [ -s pid ]; do :; done; exit 7")
        .await;
    assert_eq!(code, 7);
    assert_gone(&bench.pids("pid"));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn output_of_a_process_that_finishes_a_little_later_is_kept() {
    let bench = Bench::new();
    let code = bench
        .sh("exec > >(sleep 0.05; tr a-z A-Z); echo late")
        .await;
    assert_eq!((code, bench.output.text().as_str()), (0, "LATE\n"));
}

#[tokio::test]
async fn stages_do_not_end_each_others_processes() {
    let bench = Bench::new();
    let long = bench.script(
        "sleep 1000 & echo $! >pid; touch ready
         while ! [ -e go ]; do sleep 0.01; done
         kill -0 $(cat pid) && echo alive",
    );
    let short = async {
        bench.wait_for("ready").await;
        for _ in 0..3 {
            // Leaves something of its own, so that it looks for it.
            assert_eq!(bench.sh("sleep 1000 >/dev/null 2>&1 &").await, 0);
        }
        std::fs::write(bench.dir.path().join("go"), "").expect("a file");
    };
    let (code, ()) = tokio::join!(bench.run(&long), short);
    assert_eq!(code.expect("it runs"), 0);
    let text = bench.output.text();
    assert!(text.contains("alive\n"), "{text}");
    assert_gone(&bench.pids("pid"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stages_that_just_start_are_nobodys_leftovers() {
    // In one directory, while others clean up: what is being started holds copies of all pipes.
    let bench = std::sync::Arc::new(Bench::new());
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let bench = bench.clone();
            tokio::spawn(async move {
                for _ in 0..if worker == 0 { 20 } else { 150 } {
                    if worker == 0 {
                        assert_eq!(bench.sh("(setsid sleep 1000 >/dev/null 2>&1 &)").await, 0);
                    } else {
                        let spec = bench.spec(Program::Command(vec!["true".to_owned()]));
                        assert_eq!(bench.run(&spec).await.expect("it runs"), 0);
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("no process was ended by another stage");
    }
    let text = bench.output.text();
    // Two stages that end at the same moment may both tell of one leftover: they share a marker here.
    let told = text
        .lines()
        .filter(|line| line.contains("ended what was left running"));
    let ended: HashSet<&str> = told
        .flat_map(|line| line.split("(process ").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert_eq!(ended.len(), 20, "{text}");
}

#[tokio::test]
async fn dropping_a_run_kills_its_group() {
    let bench = Bench::new();
    let spec = bench.script("echo $$ >pid; touch ready; sleep 1000");
    {
        let run = bench.host.run(&spec, &Silent, &bench.cancel);
        tokio::select! {
            result = run => panic!("it must not end: {result:?}"),
            () = bench.wait_for("ready") => {}
        }
    }
    let pid = bench.pids("pid")[0];
    let start = Instant::now();
    while exists(pid) {
        assert!(start.elapsed() < Duration::from_secs(10), "it is left");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn reaping_finds_processes_by_their_marker() {
    let bench = Bench::new();
    let marker = format!("reap-{}", std::process::id());
    // As a crashed Pipewright leaves them: not ours, so nothing but the marker tells.
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            "echo $$ >>pids; (trap '' TERM; setsid sleep 1000 & echo $! >>pids; wait) & \
             while [ \"$(wc -l <pids)\" -lt 2 ]; do sleep 0.01; done; touch ready; sleep 1000",
        ])
        .env(MARKER, format!("{marker}/run.x"))
        .current_dir(bench.dir.path())
        .stdin(Stdio::null());
    let mut other = Command::new("sleep");
    other.arg("1000").env(MARKER, "someone-else/run.x");
    let (mut child, mut other) = (
        command.spawn().expect("it starts"),
        other.spawn().expect("it starts"),
    );
    bench.wait_for("ready").await;
    assert_eq!(bench.host.reap("").await, 0);
    assert_eq!(bench.host.reap("nobody-has-this/").await, 0);
    let count = bench.host.reap(&format!("{marker}/")).await;
    assert!(count >= 3, "{count}");
    let status = child.wait().expect("it was started");
    assert!(!status.success());
    assert_gone(&bench.pids("pids"));
    assert!(other.try_wait().expect("it was started").is_none());
    other.kill().expect("it runs");
    other.wait().expect("it was started");
}

#[tokio::test]
async fn reaping_leaves_no_zombies_of_stages() {
    let bench = Bench::new();
    for _ in 0..5 {
        let code = bench
            .sh("(setsid sleep 1000 >/dev/null 2>&1 & echo $! >>pids); (set -m; sleep 1000 >/dev/null 2>&1 & echo $! >>pids)")
            .await;
        assert_eq!(code, 0);
    }
    // A zombie still exists for `kill`.
    assert_gone(&bench.pids("pids"));
}

#[tokio::test]
async fn a_signal_that_nobody_waits_for_is_not_lost() {
    use tokio::signal::unix::{SignalKind, signal};
    let host = HostProcesses::new();
    let me = rustix::process::getpid();
    let send = |signal| rustix::process::kill_process(me, signal).expect("a signal to ourselves");
    // Tells when a signal has been handed out to everybody who listens.
    let mut heard = signal(SignalKind::terminate()).expect("it can be listened to");
    let next = async || {
        let limit = Duration::from_secs(5);
        tokio::time::timeout(limit, host.asked_to_stop()).await
    };
    let (first, ()) = tokio::join!(next(), async {
        send(Signal::TERM);
        heard.recv().await;
    });
    assert_eq!(first.ok().flatten().as_deref(), Some("SIGTERM"));
    send(Signal::TERM);
    heard.recv().await;
    assert_eq!(next().await.ok().flatten().as_deref(), Some("SIGTERM"));
}
