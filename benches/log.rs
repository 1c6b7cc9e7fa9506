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

    let mut plain = 0.0f64;
    for round in 0..3 {
        let path = dir.path().join("plain");
        let mut file = File::create(&path).expect("the file can be created");
        let began = Instant::now();
        for _ in 0..ROUNDS {
            for chunk in text.chunks(CHUNK) {
                file.write_all(chunk).expect("the disk has room");
            }
        }
        let speed = megabytes / began.elapsed().as_secs_f64();
        plain = plain.max(speed);
        println!("{speed:8.0} MB/s  plain file, round {round}");
        drop(file);
        std::fs::remove_file(&path).expect("the file is there");
    }

    let store = SqliteStore::open(dir.path().join("state")).expect("the state can be opened");
    for count in [0, 1, 1000] {
        let secrets: Vec<Secret> = (0..count)
            .map(|n: u64| {
                Secret::new(format!(
                    "sEcReT-{:x}",
                    (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
                ))
            })
            .collect();
        let masks = Masks::new(&secrets);
        let run = RunId::new(count, 0);
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
        let speed = megabytes / began.elapsed().as_secs_f64();
        let path = dir
            .path()
            .join("state/logs")
            .join(run.as_str())
            .join("stage.zst");
        let size = std::fs::metadata(&path).expect("the log is there").len() as f64 / 1e6;
        println!(
            "{speed:8.0} MB/s  masks of {count} secrets and log writer: {:.2} of a plain file, {megabytes:.0} MB in {size:.0} MB",
            speed / plain
        );
        let began = Instant::now();
        let end = (text.len() * ROUNDS) as u64 - 1000;
        let tail = store
            .log(&run, "stage", end, 1000)
            .expect("the log can be read");
        assert_eq!(tail, &text[text.len() - 1000..]);
        println!("          last 1000 bytes read in {:.1?}", began.elapsed());
    }
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
