//! Throughput of a stage's log through masking and the log writer, against the same bytes
//! written to a plain file on the same disk. Writes about 1 GB each, in the current directory's
//! file system.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark writes files of its own"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use pipewright::adapters::sqlite::SqliteStore;
use pipewright::base::{Masks, RunId, Secret};
use pipewright::ports::store::{Store as _, StoreReader as _};

const TEXT: usize = 64 << 20;
const ROUNDS: usize = 16;
const CHUNK: usize = 64 << 10;

fn main() {
    let dir = tempfile::tempdir_in(".").expect("the current directory is writable");
    let text = log_text();
    let megabytes = (text.len() * ROUNDS) as f64 / 1e6;

    // Taken in turns and the best of three, because a disk has moods.
    let mut plain = 0.0f64;
    let mut logs = [0, 1, 1000].map(|count| (count, 0.0f64, 0));
    for _ in 0..3 {
        plain = plain.max(megabytes / write_plain(dir.path(), &text));
        for (count, best, size) in &mut logs {
            let (seconds, bytes) = write_log(dir.path(), &text, *count);
            if megabytes / seconds > *best {
                *best = megabytes / seconds;
                *size = bytes;
            }
        }
    }
    println!("{plain:8.0} MB/s  plain file");
    for (count, best, size) in logs {
        println!(
            "{best:8.0} MB/s  masks of {count} secrets and log writer: {:.2} of a plain file; {megabytes:.0} MB kept in {:.0} MB",
            best / plain,
            size as f64 / 1e6
        );
    }
}

/// Seconds to write the text to a plain file.
fn write_plain(dir: &Path, text: &[u8]) -> f64 {
    let path = dir.join("plain");
    let mut file = File::create(&path).expect("the file can be created");
    let began = Instant::now();
    for _ in 0..ROUNDS {
        for chunk in text.chunks(CHUNK) {
            file.write_all(chunk).expect("the disk has room");
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    file.sync_all().expect("the disk has room");
    drop(file);
    std::fs::remove_file(&path).expect("the file is there");
    seconds
}

/// Seconds to write the text to a log, and the bytes it takes.
fn write_log(dir: &Path, text: &[u8], secrets: u64) -> (f64, u64) {
    let secrets: Vec<Secret> = (1..=secrets)
        .map(|n| {
            Secret::new(format!(
                "sEcReT-{:x}",
                n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ))
        })
        .collect();
    let masks = Masks::new(&secrets);
    let state = dir.join("state");
    let store = SqliteStore::open(&state).expect("the state can be opened");
    let run = RunId::new(0, 0);
    let mut writer = store
        .log_writer(&run, "stage")
        .expect("the log can be opened");
    let mut stream = masks.stream();
    let mut out = Vec::with_capacity(2 * CHUNK);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        for chunk in text.chunks(CHUNK) {
            out.clear();
            stream.push(chunk, &mut out);
            writer.write(&out).expect("the log can be written");
        }
    }
    out.clear();
    stream.finish(&mut out);
    writer.write(&out).expect("the log can be written");
    writer.flush().expect("the log can be written");
    let seconds = began.elapsed().as_secs_f64();

    let end = (text.len() * ROUNDS) as u64 - 1000;
    let tail = store
        .log(&run, "stage", end, 1000)
        .expect("the log can be read");
    assert_eq!(tail, &text[text.len() - 1000..]);
    let file = File::open(state.join("logs").join(run.as_str()).join("stage.zst"));
    let file = file.expect("the log is there");
    file.sync_all().expect("the disk has room");
    let size = file.metadata().expect("the log is there").len();
    std::fs::remove_dir_all(&state).expect("the state is there");
    (seconds, size)
}

fn log_text() -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "Compiling",
        "downloading",
        "layer",
        "test",
        "passed",
        "error:",
        "warning:",
        "in",
        "the",
        "src/main.rs:42",
        "https://registry.example.org/v2/app",
        "node_modules",
        "npm",
        "=>",
        "ok",
        "finished",
    ];
    let mut state = 42u64;
    let mut random = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let mut text = String::with_capacity(TEXT + 300);
    while text.len() < TEXT {
        let _ = write!(
            text,
            "2026-01-31T08:{:02}:{:02}Z #{} ",
            random(60),
            random(60),
            random(30)
        );
        for _ in 0..random(14) {
            text.push_str(WORDS[random(16) as usize]);
            text.push(' ');
        }
        if random(4) == 0 {
            let _ = write!(
                text,
                "sha256:{:016x}{:016x}",
                random(u64::MAX),
                random(u64::MAX)
            );
        }
        text.push('\n');
    }
    text.into_bytes()
}
