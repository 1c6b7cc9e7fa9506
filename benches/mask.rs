//! Throughput of masking: MB/s on one core for several sets of masks and kinds of text.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pipewright::base::{Masks, Secret};

const SIZE: usize = 32 << 20;
const CHUNK: usize = 64 << 10;

fn main() {
    let log = log_text();
    for count in [0, 1, 1000] {
        let secrets = secrets(count);
        let began = Instant::now();
        let masks = Masks::new(&secrets);
        let built = began.elapsed();
        report(
            &format!("log text, {count} secrets (built in {built:.1?})"),
            &masks,
            &log,
            CHUNK,
        );
    }
    let thousand = secrets(1000);
    let masks = Masks::new(&thousand);
    report(
        "log text in lines of 100 bytes, 1000 secrets",
        &masks,
        &log,
        100,
    );
    let shared: Vec<Secret> = thousand
        .iter()
        .map(|secret| Secret::new(format!("https://user:{}@example.org/", secret.expose())))
        .collect();
    report(
        "log text, 1000 URLs as secrets",
        &Masks::new(&shared),
        &log,
        CHUNK,
    );
    let all: String = thousand.iter().map(|secret| secret.expose()).collect();
    report(
        "worst case: nothing but secrets",
        &masks,
        &repeat(&all),
        CHUNK,
    );
    let almost: String = thousand
        .iter()
        .map(|secret| &secret.expose()[..secret.expose().len() - 1])
        .collect();
    report(
        "worst case: nothing but secrets without their end",
        &masks,
        &repeat(&almost),
        CHUNK,
    );
    let periodic = [Secret::new("ab".repeat(2000))];
    report(
        "worst case: a periodic secret and its period",
        &Masks::new(&periodic),
        &repeat("ab"),
        CHUNK,
    );
}

fn report(name: &str, masks: &Masks, text: &[u8], chunk: usize) {
    let mut out = Vec::with_capacity(2 * CHUNK);
    let mut rounds = 0u32;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let mut stream = masks.stream();
        for chunk in text.chunks(chunk) {
            out.clear();
            stream.push(chunk, &mut out);
            black_box(&out);
        }
        out.clear();
        stream.finish(&mut out);
        rounds += 1;
    }
    let bytes = text.len() as f64 * f64::from(rounds);
    println!(
        "{:8.0} MB/s  {name}",
        bytes / began.elapsed().as_secs_f64() / 1e6
    );
}

/// A small generator, so that every run sees the same text.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn secrets(count: usize) -> Vec<Secret> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
    let mut random = Random(7);
    (0..count)
        .map(|_| {
            let length = 16 + random.below(32);
            let text: String = (0..length)
                .map(|_| char::from(ALPHABET[random.below(ALPHABET.len())]))
                .collect();
            Secret::new(text)
        })
        .collect()
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
    let mut random = Random(42);
    let mut text = String::with_capacity(SIZE + 200);
    while text.len() < SIZE {
        let _ = write!(
            text,
            "2026-01-31T08:{:02}:{:02}Z #{} ",
            random.below(60),
            random.below(60),
            random.below(30)
        );
        for _ in 0..random.below(14) {
            text.push_str(WORDS[random.below(WORDS.len())]);
            text.push(' ');
        }
        if random.below(4) == 0 {
            let _ = write!(text, "sha256:{:016x}{:016x}", random.next(), random.next());
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn repeat(text: &str) -> Vec<u8> {
    text.bytes().cycle().take(SIZE / 4).collect()
}
