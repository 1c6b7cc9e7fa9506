//! Draws on a small made-up terminal and looks at what a person would see.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use unicode_width::UnicodeWidthChar;

use super::*;
use crate::event::{Event, Outcome};
use crate::report::PartState;
use crate::report::fixture::{ClosedPipe, Page, START, Story};

/// A terminal that knows just what the reporter uses and panics at anything else.
struct Screen {
    columns: usize,
    rows: usize,
    lines: Vec<String>,
    row: usize,
    top: usize,
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows,
            lines: vec![String::new()],
            row: 0,
            top: 0,
        }
    }

    fn feed(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\u{1b}' => {
                    rest = rest.strip_prefix('[').expect("only CSI sequences");
                    let end = rest
                        .find(|c: char| c.is_ascii_alphabetic())
                        .expect("a complete sequence");
                    let (parameters, command) = (&rest[..end], &rest[end..=end]);
                    self.command(parameters, command);
                    rest = &rest[end + 1..];
                }
                '\r' => {}
                '\n' => {
                    self.row += 1;
                    if self.row == self.lines.len() {
                        self.lines.push(String::new());
                    }
                    self.top = self.top.max((self.row + 1).saturating_sub(self.rows));
                    // Lines are always written from the first column.
                    self.lines[self.row] = format!("\u{0}{}", self.lines[self.row]);
                }
                c => {
                    assert!(!c.is_control(), "control character {c:?} on the screen");
                    let line = &mut self.lines[self.row];
                    if line.starts_with('\u{0}') {
                        line.clear();
                    }
                    line.push(c);
                    let width: usize = line.chars().filter_map(char::width).sum();
                    assert!(width <= self.columns, "the line wraps: {line}");
                }
            }
        }
    }

    fn command(&mut self, parameters: &str, command: &str) {
        match (parameters, command) {
            ("?2026", "h" | "l") | (_, "m") => {}
            ("", "K") => {
                let line = &mut self.lines[self.row];
                if line.starts_with('\u{0}') {
                    line.clear();
                }
            }
            ("", "J") => {
                self.lines.truncate(self.row);
                self.lines.push(String::new());
            }
            (count, "A") => {
                let count: usize = count.parse().expect("a number of rows");
                self.row = self.row.saturating_sub(count).max(self.top);
                self.lines[self.row] = format!("\u{0}{}", self.lines[self.row]);
            }
            other => panic!("unknown sequence {other:?}"),
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<&str> = self
            .lines
            .iter()
            .map(|line| line.trim_start_matches('\u{0}'))
            .collect();
        while lines.last() == Some(&"") {
            lines.pop();
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

struct Bench {
    tty: Tty,
    page: Page,
    screen: Screen,
    now: Arc<AtomicI64>,
    columns: Arc<AtomicUsize>,
}

impl Bench {
    fn new(columns: usize, rows: usize, style: Style, expected: Expected) -> Self {
        let page = Page::default();
        let now = Arc::new(AtomicI64::new(START));
        let width = Arc::new(AtomicUsize::new(columns));
        let (clock, live_width) = (now.clone(), width.clone());
        let terminal = Terminal {
            out: page.boxed(),
            size: Box::new(move || (live_width.load(Ordering::Relaxed), rows)),
            now: Box::new(move || Timestamp(clock.load(Ordering::Relaxed))),
            style,
        };
        Self {
            tty: Tty::new(terminal, expected),
            page,
            screen: Screen::new(columns, rows),
            now,
            columns: width,
        }
    }

    fn plain(columns: usize, rows: usize) -> Self {
        Self::new(columns, rows, Style::new(false, true), Expected::new())
    }

    fn at(&mut self, millis: i64) -> String {
        self.now.store(START + millis, Ordering::Relaxed);
        self.tty.tick();
        self.show()
    }

    fn show(&mut self) -> String {
        let text = self.page.take();
        self.screen.feed(&text);
        self.screen.text()
    }

    fn finish(&mut self) -> String {
        self.tty.finish();
        self.show()
    }
}

#[test]
fn shows_what_runs() {
    let expected = Expected::from([("build.app".into(), Duration::from_secs(40))]);
    let mut bench = Bench::new(72, 24, Style::new(false, true), expected);
    let mut story = Story::new(
        "release",
        &[
            "build.app",
            "push.app",
            "run.test",
            "run.lint",
            "deploy.prod",
            "notify.x",
        ],
    );
    story
        .at(0)
        .start("build.app")
        .start("push.app")
        .start("run.test")
        .start("run.lint");
    story.add(Event::StageWaiting {
        stage: "deploy.prod".into(),
        group: "prod".to_owned(),
    });
    story.tell(&mut bench.tty);
    let tty = &mut bench.tty;
    tty.signal(&story.progress("build.app", "[3/7] RUN npm ci", 0, None, PartState::Running));
    tty.signal(&story.progress(
        "push.app",
        "layer a",
        1 << 20,
        Some(4 << 20),
        PartState::Running,
    ));
    tty.signal(&story.progress(
        "push.app",
        "layer b",
        3 << 20,
        Some(4 << 20),
        PartState::Running,
    ));
    tty.signal(&story.log("run.lint", b"checking\n\x1b[1;31mdeep\x1b[0m in\ttrouble"));
    tty.signal(&story.log("run.test", b"one\ntwo\nthree\nfour: \x1b[2Jassert"));
    story
        .at(2)
        .end("run.test", Outcome::Failed, "exit status 1\nsee above");
    story.tell(&mut bench.tty);
    assert_eq!(
        bench.at(12_300),
        "\
⢿ release 000007 at 1a2b3c4 (main)  1/6  12.3s
  ⢿ build.app    12.3s / ~40.0s  [3/7] RUN npm ci
  ⢿ push.app     12.3s  ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌ 4.0 MiB of 8.0 MiB  layer…
  ✗ run.test      2.0s  failed  exit status 1 see above
      │ two
      │ three
      │ four: assert
  ⢿ run.lint     12.3s  deep in    trouble
  ◇ deploy.prod         waiting for group prod
  · notify.x
"
    );

    story.at(13).end("build.app", Outcome::Succeeded, "");
    story.end("push.app", Outcome::UpToDate, "the registry has it");
    story.end("run.lint", Outcome::Cancelled, "by SIGINT");
    story.end("deploy.prod", Outcome::Blocked, "run.test failed");
    story.end("notify.x", Outcome::Skipped, "its condition is false");
    story.finish(Outcome::Cancelled).tell(&mut bench.tty);
    assert_eq!(
        bench.finish(),
        "\
■ release 000007 at 1a2b3c4 (main)  6/6  13.0s  cancelled
  ✓ build.app    13.0s
  = push.app     13.0s  up-to-date  the registry has it
  ✗ run.test      2.0s  failed  exit status 1 see above
      │ two
      │ three
      │ four: assert
  ■ run.lint     13.0s  cancelled  by SIGINT
  ⊘ deploy.prod         blocked  run.test failed
  ○ notify.x            skipped  its condition is false
"
    );
    assert_eq!(
        bench.at(20_000),
        bench.finish(),
        "nothing is drawn after the end"
    );
}

#[test]
fn draws_at_most_ten_times_a_second() {
    let mut bench = Bench::plain(60, 10);
    let mut story = Story::new("release", &["run.a"]);
    story.start("run.a").tell(&mut bench.tty);
    let mut frames = 0;
    for millis in 0..1000 {
        bench.tty.signal(&story.log("run.a", b"line\n"));
        bench.now.store(START + millis, Ordering::Relaxed);
        bench.tty.tick();
        frames += usize::from(!bench.page.take().is_empty());
    }
    assert_eq!(frames, 10);
    bench.now.store(START - 60_000, Ordering::Relaxed);
    bench.tty.tick();
    assert!(
        !bench.page.take().is_empty(),
        "a clock set back must not freeze it"
    );
}

#[test]
fn one_frame_is_one_synchronized_write() {
    let mut bench = Bench::plain(60, 10);
    let mut story = Story::new("release", &["run.a"]);
    story.start("run.a").tell(&mut bench.tty);
    bench.tty.tick();
    assert_eq!(
        bench.page.take(),
        "\u{1b}[?2026h⣾ release 000007 at 1a2b3c4 (main)  0/1  0ms\u{1b}[K\r\n  \
         ⣾ run.a    0ms\u{1b}[K\r\n\u{1b}[J\u{1b}[?2026l"
    );
    bench.now.store(START + 100, Ordering::Relaxed);
    bench.tty.tick();
    let frame = bench.page.take();
    assert!(frame.starts_with("\u{1b}[?2026h\r\u{1b}[2A"), "{frame:?}");
}

#[test]
fn ten_thousand_stages_fit_any_height() {
    let ids: Vec<String> = (0..10_000).map(|n| format!("run.s{n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut story = Story::new("big", &names);
    for name in &names[..5000] {
        story.start(name).at(3).end(name, Outcome::Succeeded, "");
    }
    for name in &names[5000..5100] {
        story.start(name).end(name, Outcome::Failed, "no");
    }
    story
        .start("run.s6000")
        .start("run.s6001")
        .start("run.s9999");
    let log = story.log("run.s6000", b"working\n");
    let events = story.events.clone();
    for rows in [1, 2, 3, 5, 12, 50] {
        let mut bench = Bench::plain(60, rows);
        story.events.clone_from(&events);
        story.tell(&mut bench.tty);
        bench.tty.signal(&log);
        let text = bench.at(5000);
        assert!(text.lines().count() < rows.max(2), "{rows}: {text}");
        if rows == 12 {
            assert_eq!(
                text,
                "\
⣻ big 000007 at 1a2b3c4 (main)  5100/10000  5.0s
  ✗ run.s5000    0ms  failed  no
  ✗ run.s5001    0ms  failed  no
  ✗ run.s5002    0ms  failed  no
  ✗ run.s5003    0ms  failed  no
  ✗ run.s5004    0ms  failed  no
  ✗ run.s5005    0ms  failed  no
  ⣻ run.s6000   2.0s  working
  ⣻ run.s6001   2.0s
  ⣻ run.s9999   2.0s
  … 4,897 pending, 5,000 succeeded, 94 failed
"
            );
        }
    }
}

#[test]
fn redrawing_ten_thousand_stages_costs_what_is_visible() {
    let ids: Vec<String> = (0..10_000).map(|n| format!("run.s{n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut bench = Bench::plain(100, 30);
    let mut story = Story::new("big", &names);
    story.tell(&mut bench.tty);
    let started = std::time::Instant::now();
    for (n, name) in names.iter().enumerate() {
        story.start(name).tell(&mut bench.tty);
        bench.now.fetch_add(100, Ordering::Relaxed);
        bench.tty.tick();
        if n >= 8 {
            story
                .end(names[n - 8], Outcome::Succeeded, "")
                .tell(&mut bench.tty);
        }
        assert!(bench.page.take().len() < 100 * 30 * 4);
    }
    // 10,000 pictures; looking at every stage for each would take minutes.
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn wide_names_and_narrow_terminals() {
    let mut bench = Bench::plain(30, 10);
    let mut story = Story::new("公開", &["build.構築する画像の名前がとても長い", "run.x"]);
    story.start("run.x").tell(&mut bench.tty);
    bench
        .tty
        .signal(&story.log("run.x", "進行状況を表示しています".as_bytes()));
    assert_eq!(
        bench.at(1000),
        "\
⣻ 公開 000007 at 1a2b3c4 (ma…
  · build.構築する…
  ⣻ run.x              1.0s …
"
    );
    for columns in [1, 2, 3, 7, 19] {
        let mut bench = Bench::plain(columns, 10);
        let mut story = Story::new("公開", &["build.構築"]);
        story.start("build.構築").tell(&mut bench.tty);
        // The screen itself fails if a line wraps.
        assert!(!bench.at(1000).is_empty());
    }
}

#[test]
fn hostile_names_and_reasons_draw_no_escapes() {
    let mut bench = Bench::plain(80, 10);
    let mut story = Story::new("a\u{1b}[2Jb", &["run.x\u{1b}]0;t\u{7}y"]);
    story.end(
        "run.x\u{1b}]0;t\u{7}y",
        Outcome::Failed,
        "bad\u{1b}[1A\u{202e}\nluck",
    );
    story.tell(&mut bench.tty);
    assert_eq!(
        bench.at(1000),
        "⣻ ab 000007 at 1a2b3c4 (main)  1/1  1.0s\n  ✗ run.xy         failed  bad luck\n"
    );
}

#[test]
fn chained_runs_follow_the_first() {
    let mut bench = Bench::plain(70, 6);
    let mut first = Story::new("release", &["build.a", "build.b", "build.c"]);
    for stage in ["build.a", "build.b", "build.c"] {
        first.start(stage).at(1).end(stage, Outcome::Succeeded, "");
    }
    let mut next = first.chained("deploy", &["deploy.a", "deploy.b"]);
    first.finish(Outcome::Succeeded).tell(&mut bench.tty);
    next.at(1).start("deploy.a").tell(&mut bench.tty);
    assert_eq!(
        bench.at(2000),
        "\
✓ release 000007 at 1a2b3c4 (main)  3/3  1.0s  succeeded
  … 3 succeeded
⡿ deploy 000008 at 1a2b3c4 (main) after release  0/2  2.0s
  ⡿ deploy.a   1.0s
  · deploy.b
"
    );
}

#[test]
fn retries_say_when_and_why() {
    let mut bench = Bench::plain(80, 10);
    let mut story = Story::new("release", &["push.app"]);
    story.start("push.app").at(1).add(Event::StageRetried {
        stage: "push.app".into(),
        outcome: Outcome::Errored,
        reason: "the registry answered 503".to_owned(),
        wait_ms: 4000,
    });
    story.tell(&mut bench.tty);
    let text = bench.at(2000);
    assert!(
        text.contains("push.app   2.0s  again in 3.0s: the registry answered 503"),
        "{text}"
    );
    story.at(5).add(Event::StageStarted {
        stage: "push.app".into(),
        attempt: 2,
    });
    story.tell(&mut bench.tty);
    let text = bench.at(6000);
    assert!(text.contains("push.app   6.0s  attempt 2\n"), "{text}");
}

#[test]
fn a_narrower_terminal_is_cleared_row_by_row() {
    let mut bench = Bench::plain(60, 20);
    let mut story = Story::new("release", &["run.a"]);
    story.start("run.a").tell(&mut bench.tty);
    bench.at(0);
    bench.columns.store(20, Ordering::Relaxed);
    bench.now.store(START + 100, Ordering::Relaxed);
    bench.tty.tick();
    let frame = bench.page.take();
    // The header of 42 columns takes three rows now, the stage one.
    assert!(frame.starts_with("\u{1b}[?2026h\r\u{1b}[4A"), "{frame:?}");
}

#[test]
fn ascii_and_colour() {
    let mut bench = Bench::new(60, 10, Style::new(true, false), Expected::new());
    let mut story = Story::new("release", &["run.a", "run.b"]);
    story
        .end("run.a", Outcome::Failed, "no")
        .start("run.b")
        .tell(&mut bench.tty);
    bench.now.store(START + 100, Ordering::Relaxed);
    bench.tty.tick();
    let frame = bench.page.take();
    assert!(frame.is_ascii());
    assert!(frame.contains("\u{1b}[31mx\u{1b}[0m run.a"), "{frame:?}");
}

#[test]
fn a_closed_pipe_silences_it() {
    let pipe = ClosedPipe::default();
    let terminal = Terminal {
        out: Box::new(pipe.clone()),
        size: Box::new(|| (80, 24)),
        now: Box::new(|| Timestamp(START)),
        style: Style::ascii(),
    };
    let mut tty = Tty::new(terminal, Expected::new());
    Story::new("release", &["run.a"]).tell(&mut tty);
    tty.tick();
    tty.finish();
    assert_eq!(*pipe.0.lock().expect("no writer panics"), 1);
}
