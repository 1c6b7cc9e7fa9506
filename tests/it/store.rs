//! The state directory across processes: crashes, locks, full disks.
//!
//! A test that needs another process starts itself again with [`ROLE`] set.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests start processes and look at files"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipewright::adapters::sqlite::SqliteStore;
use pipewright::base::{RunId, StageId, Timestamp};
use pipewright::event::Event;
use pipewright::journal::{Journal, JournalError, replay};
use pipewright::ports::clock::Clock;
use pipewright::ports::store::{Change, NewEvent, RunRow, Store, StoreError, StoreReader};

/// Set in a child process: the state directory, and what it needs to know.
const ROLE: &str = "PIPEWRIGHT_TEST_STORE_ROLE";

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1)
    }

    fn random(&self) -> u64 {
        4
    }
}

/// This test again in another process; killed when it goes out of scope.
struct Other {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(test: &str, role: &str) -> Self {
        let program = std::env::current_exe().expect("the test knows its program");
        let mut child = Command::new(program)
            .args([&format!("store::{test}"), "--exact", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test can start itself");
        let output = BufReader::new(child.stdout.take().expect("the output is a pipe"));
        Self { child, output }
    }

    /// The next number the child said; none once it is gone.
    fn heard(&mut self) -> Option<u64> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line).expect("the pipe works") == 0 {
                return None;
            }
            // The first line follows the harness's own words. A line without its end is half.
            if let Some((_, number)) = line.split_once("said ")
                && let Some(number) = number.strip_suffix('\n')
            {
                return Some(number.parse().expect("the child says numbers"));
            }
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn say(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "said {number}").expect("the parent listens");
    out.flush().expect("the parent listens");
}

fn run(number: u64) -> RunId {
    RunId::new(number, 0)
}

fn create(number: u64) -> Change {
    Change::CreateRun(RunRow {
        run: run(number),
        pipeline: "release".into(),
        created: Timestamp(1),
        finished: None,
        outcome: None,
        sha: String::new(),
        reference: String::new(),
        upstream: None,
        root: run(number),
    })
}

fn started(number: u64, attempt: u32) -> Event {
    Event::StageStarted {
        stage: StageId::new("run", &format!("s{number}")),
        attempt,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

/// Waits, with an end, until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn acked_events_survive_kill() {
    if let Some(state) = role() {
        return runtime().block_on(record_forever(&state));
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    SqliteStore::open(&state)
        .unwrap()
        .append(&[], &[create(1)])
        .unwrap();
    let mut acked = Vec::new();
    for round in 0..6 {
        let mut other = Other::start("acked_events_survive_kill", &state.display().to_string());
        for _ in 0..=round * 37 {
            acked.push(other.heard().expect("the child records"));
        }
        other.kill();
        // What it still managed to say counts, too.
        while let Some(number) = other.heard() {
            acked.push(number);
        }
        let store = SqliteStore::open(&state).unwrap();
        let events = replay(&store, &run(1)).unwrap();
        // Batches of three are all there or not at all, without gaps between them.
        assert_eq!(events.len() % 3, 0);
        for (index, three) in (0u64..).zip(events.chunks(3)) {
            for (attempt, event) in (0u32..).zip(three) {
                assert_eq!(event.seq, index * 3 + u64::from(attempt) + 1);
                assert_eq!(
                    event.event,
                    started(event.seq - u64::from(attempt), attempt)
                );
            }
        }
        let stored = events.len() as u64;
        assert!(
            acked.iter().all(|seq| *seq <= stored),
            "{stored} are stored"
        );
        assert!(acked.len() as u64 * 3 <= stored);
    }
}

/// Records batches of three events as fast as it can; says the first place of each once it is
/// durable.
async fn record_forever(state: &str) {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(state).expect("the state is there"));
    let stored = store
        .events(&run(1), 0, usize::MAX)
        .expect("the state can be read");
    let mut next = stored.last().map_or(1, |event| event.seq + 1);
    let (journal, _task) = Journal::spawn(store, Arc::new(Still));
    loop {
        let batch = (0..3)
            .map(|attempt| (run(1), started(next, attempt)))
            .collect();
        let seqs = journal
            .commit(batch, vec![])
            .await
            .expect("the state can be written");
        assert_eq!(seqs, [next, next + 1, next + 2]);
        say(next);
        next += 3;
    }
}

#[test]
fn flushed_logs_survive_kill_and_go_on() {
    if let Some(state) = role() {
        let store = SqliteStore::open(state).unwrap();
        let mut writer = store.log_writer(&run(1), "run.a").unwrap();
        for number in 0.. {
            // Now and then more than a frame, so that both ways of writing are met.
            let copies = if number % 16 == 15 { 40_000 } else { 3 };
            writer.write("12345678".repeat(copies).as_bytes()).unwrap();
            writer.flush().unwrap();
            say(copies as u64 * 8);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = SqliteStore::open(&state).unwrap();
    let mut flushed = 0;
    for round in 0..5 {
        let mut other = Other::start(
            "flushed_logs_survive_kill_and_go_on",
            &state.display().to_string(),
        );
        for _ in 0..=round * 11 {
            flushed += other.heard().expect("the child writes");
        }
        other.kill();
        while let Some(bytes) = other.heard() {
            flushed += bytes;
        }
        let log = store.log(&run(1), "run.a", 0, usize::MAX).unwrap();
        assert!(log.len() as u64 >= flushed, "{} of {flushed}", log.len());
        assert!(log.chunks(8).all(|part| b"12345678".starts_with(part)));
        // What was written beyond the last word stays; the next round counts from there.
        flushed = log.len() as u64;
        assert_eq!(flushed % 8, 0);
    }
}

#[test]
fn two_processes_write_at_once() {
    const EACH: u64 = 300;
    if let Some(role) = role() {
        let (number, state) = role.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        let store = SqliteStore::open(state).unwrap();
        store.append(&[], &[create(number)]).unwrap();
        for _ in 0..EACH {
            let event = NewEvent {
                at: Timestamp(0),
                run: run(number),
                json: format!("{{\"n\":{number}}}"),
            };
            store.append(&[event], &[]).unwrap();
        }
        return say(number);
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut others: Vec<Other> = (1..=3)
        .map(|number| {
            Other::start(
                "two_processes_write_at_once",
                &format!("{number} {}", state.display()),
            )
        })
        .collect();
    for (number, other) in (1..).zip(&mut others) {
        assert_eq!(other.heard(), Some(number));
    }
    let store = SqliteStore::open(&state).unwrap();
    let mut seqs = Vec::new();
    for number in 1..=3 {
        let events = store.events(&run(number), 0, 9999).unwrap();
        assert_eq!(events.len() as u64, EACH);
        seqs.extend(events.iter().map(|event| event.seq));
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=3 * EACH).collect::<Vec<u64>>());
}

#[test]
fn what_a_process_holds_vanishes_with_it() {
    if let Some(state) = role() {
        let store = SqliteStore::open(state).unwrap();
        let _run = store.hold_run(&run(1)).unwrap();
        let _place = store.enter_group("prod", 1, "1").unwrap().unwrap();
        assert!(store.enter_group("prod", 1, "2").unwrap().is_none());
        say(u64::from(std::process::id()));
        // Until it is killed.
        let _ = std::io::stdin().read_line(&mut String::new());
        loop {
            std::thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut other = Other::start(
        "what_a_process_holds_vanishes_with_it",
        &state.display().to_string(),
    );
    let pid = other.heard().unwrap();
    let store = SqliteStore::open(&state).unwrap();
    assert!(store.is_held(&run(1)).unwrap());
    let error = store.hold_run(&run(1)).map(drop).unwrap_err().to_string();
    assert!(error.contains(&format!("process {pid}")), "{error}");
    assert!(
        error.contains(&format!("pipewright cancel {}", run(1))),
        "{error}"
    );
    assert!(store.enter_group("prod", 1, "3").unwrap().is_none());
    other.kill();
    until("the run is free", || !store.is_held(&run(1)).unwrap());
    let _hold = store.hold_run(&run(1)).unwrap();
    // Its place and the one it waited for are both gone.
    let place = store.enter_group("prod", 1, "3").unwrap();
    assert!(place.is_some());
}

/// A small file system of its own; unmounted at the end.
struct Small(PathBuf);

impl Small {
    /// `None` where mounting is not allowed.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("the directory can be made");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        status
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_keeps_nothing_of_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = dir.path().join("small");
    match Small::mount(&mounted) {
        Some(_small) => runtime().block_on(fill(&mounted.join("state"), true)),
        // Another kind of full that needs no rights.
        None => limited("a_file_size_limit_is_a_full_disk", dir.path()),
    }
}

#[test]
fn a_file_size_limit_is_a_full_disk() {
    if let Some(state) = role() {
        return runtime().block_on(fill(Path::new(&state), false));
    }
    let dir = tempfile::tempdir().unwrap();
    limited("a_file_size_limit_is_a_full_disk", dir.path());
}

/// Runs a test in a process whose files cannot grow beyond half a mebibyte.
fn limited(test: &str, dir: &Path) {
    // The signal that tells of the limit would kill it; ignored signals are inherited.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("the test knows its program"))
        .args([&format!("store::{test}"), "--exact", "--nocapture"])
        .env(ROLE, dir.join("state"))
        .output()
        .expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{complaint}");
    assert!(text.contains("1 passed"), "{text}");
}

/// Writes until there is no room: the journal stops, the batch is gone, the rest is whole.
async fn fill(state: &Path, really_full: bool) {
    let sqlite = Arc::new(SqliteStore::open(state).expect("there is room for a start"));
    let store: Arc<dyn Store> = sqlite.clone();
    let (journal, task) = Journal::spawn(Arc::clone(&store), Arc::new(Still));
    journal
        .commit(vec![], vec![create(1)])
        .await
        .expect("there is room for a run");
    let mut durable = 0u64;
    let error = loop {
        let warning = Event::Warning {
            stage: None,
            message: format!("{durable} {}", "x".repeat(20_000)),
        };
        let batch = vec![(run(1), started(durable, 0)), (run(1), warning)];
        match journal.commit(batch, vec![]).await {
            Ok(_) => durable += 1,
            Err(error) => break error,
        }
        assert!(durable < 10_000, "the disk is never full");
    };
    assert!(
        matches!(error, JournalError::Store(StoreError::Full(_))),
        "{error}"
    );
    assert!(journal.failed().is_some());
    let later = journal.record_durable(&run(1), started(0, 9)).await;
    assert!(
        matches!(later, Err(JournalError::Store(StoreError::Full(_)))),
        "{later:?}"
    );
    drop(journal);
    task.finished().await;

    let check = |store: &SqliteStore| {
        let events = replay(store, &run(1)).expect("the journal can be read");
        assert_eq!(events.len() as u64, 2 * durable);
    };
    check(&sqlite);
    let mut log = store
        .log_writer(&run(1), "run.a")
        .expect("a log can be opened");
    let noise: Vec<u8> = (0u64..3_000_000)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect();
    let failed = log
        .write(&noise)
        .and_then(|()| log.flush())
        .expect_err("there is no room");
    assert!(matches!(failed, StoreError::Full(_)), "{failed}");
    assert!(log.flush().is_err());
    drop(log);
    let kept = store
        .log(&run(1), "run.a", 0, usize::MAX)
        .expect("the log can be read");
    assert!(noise.starts_with(&kept));

    drop((store, sqlite));
    if really_full {
        // With room again everything goes on where it was.
        let logs = state.join("logs");
        if logs.exists() {
            std::fs::remove_dir_all(logs).expect("logs can be removed");
        }
        let limit = state.parent().expect("the state is in the mount");
        let grown = Command::new("mount")
            .args(["-o", "remount,size=4m"])
            .arg(limit)
            .status();
        assert!(grown.is_ok_and(|status| status.success()));
    }
    let reopened = SqliteStore::open(state).expect("the state can be opened");
    check(&reopened);
    if really_full {
        let event = NewEvent {
            at: Timestamp(1),
            run: run(1),
            json: "{}".into(),
        };
        let seqs = reopened.append(&[event], &[]).expect("there is room again");
        assert_eq!(seqs, [2 * durable + 1]);
    }
}
