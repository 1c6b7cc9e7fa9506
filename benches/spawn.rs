//! What it costs to run a stage's process, beside what ninja takes for the same.
//!
//! Runs 10,000 times `true`, two at a time, here and in ninja, in turns, and prints the ratio; then
//! the same here with a large heap, which must not make it slower; then how fast a stage that
//! prints a gigabyte is read. `cargo bench --bench spawn`, with ninja on the path.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts programs and prints what it found"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pipewright::adapters::process::HostProcesses;
use pipewright::ports::process::{Host, ProcessSpec, Program};
use pipewright::ports::{Output, Progress, Silent};
use tokio_util::sync::CancellationToken;

const COUNT: usize = 10_000;
const JOBS: usize = 2;
const ROUNDS: usize = 3;
const PRINTED: u64 = 1 << 30;

struct Count(AtomicU64);

impl Output for Count {
    fn log(&self, bytes: &[u8]) {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    fn progress(&self, _progress: Progress) {}
}

fn spec(program: Program, workdir: &Path, number: usize) -> ProcessSpec {
    ProcessSpec {
        program,
        workdir: workdir.to_owned(),
        env: Vec::new(),
        marker: format!("bench-{}/run.{number}", std::process::id()),
        grace: Duration::from_secs(1),
    }
}

async fn ours(host: &Arc<HostProcesses>, dir: &Path) -> Duration {
    let start = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..JOBS)
        .map(|_| {
            let (host, next, dir) = (host.clone(), next.clone(), dir.to_owned());
            tokio::spawn(async move {
                let cancel = CancellationToken::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= COUNT {
                        break;
                    }
                    let spec = spec(Program::Command(vec!["true".into()]), &dir, number);
                    let code = host.run(&spec, &Silent, &cancel).await.expect("it runs");
                    assert_eq!(code, 0);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("no panic");
    }
    start.elapsed()
}

fn ninja(dir: &Path) -> Duration {
    let _ = std::fs::remove_file(dir.join(".ninja_log"));
    let start = Instant::now();
    let status = Command::new("ninja")
        .arg(format!("-j{JOBS}"))
        .current_dir(dir)
        .stdout(Stdio::null())
        .status()
        .expect("ninja is on the path");
    assert!(status.success());
    start.elapsed()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut text = String::from("rule t\n  command = true\n");
    for number in 0..COUNT {
        writeln!(text, "build o{number}: t").expect("a string");
    }
    std::fs::write(dir.path().join("build.ninja"), text).expect("a file");

    let host = Arc::new(HostProcesses::new());
    let mut best = [Duration::MAX; 2];
    for round in 1..=ROUNDS {
        let theirs = ninja(dir.path());
        let ours = runtime.block_on(ours(&host, dir.path()));
        println!(
            "round {round}: {COUNT} x true, {JOBS} at a time: ninja {theirs:.2?}, here {ours:.2?}"
        );
        best = [best[0].min(theirs), best[1].min(ours)];
    }
    println!(
        "best: ninja {:.2?}, here {:.2?}, ratio {:.2}",
        best[0],
        best[1],
        best[1].as_secs_f64() / best[0].as_secs_f64()
    );

    let heap = vec![1u8; 2 << 30];
    let large = runtime.block_on(ours(&host, dir.path()));
    println!(
        "with {} MiB of heap in use: here {large:.2?}",
        heap.len() >> 20
    );
    drop(heap);

    let printed = Count(AtomicU64::new(0));
    let script = format!("exec head -c {PRINTED} /dev/zero");
    let start = Instant::now();
    let spec = spec(Program::Script(script), dir.path(), COUNT);
    let code = runtime.block_on(host.run(&spec, &printed, &CancellationToken::new()));
    assert_eq!(code.expect("it runs"), 0);
    assert_eq!(printed.0.into_inner(), PRINTED);
    let speed = PRINTED as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("reading 1 GiB of output: {speed:.0} MB/s");
}
