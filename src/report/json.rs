//! JSON lines, one per signal, for programs.
//!
//! Three shapes, told apart by their keys:
//! `{"seq","at","run","event":{"type",…}}`, `{"log":{"run","stage","text"}}` and
//! `{"progress":{"run","stage","id","label","done","total","state"}}`. Times are milliseconds
//! since 1970 UTC, as everywhere in events. Keys are only ever added.

use std::collections::HashMap;
use std::io::Write;

use serde::Serialize;

use super::sink::Sink;
use super::{Reporter, Signal};
use crate::base::{RunId, StageId, Timestamp};
use crate::event::{Event, Recorded};

/// Writes every signal as one line of JSON.
pub struct Json {
    sink: Sink,
    /// Beginnings of characters that a chunk of a log broke off in; at most three bytes each.
    split: HashMap<(RunId, StageId), Vec<u8>>,
}

#[derive(Serialize)]
struct EventLine<'a> {
    seq: u64,
    at: Timestamp,
    run: &'a RunId,
    event: &'a Event,
}

#[derive(Serialize)]
struct LogLine<'a> {
    log: Log<'a>,
}

#[derive(Serialize)]
struct Log<'a> {
    run: &'a RunId,
    stage: &'a StageId,
    text: &'a str,
}

#[derive(Serialize)]
struct ProgressLine<'a> {
    progress: Progress<'a>,
}

#[derive(Serialize)]
struct Progress<'a> {
    run: &'a RunId,
    stage: &'a StageId,
    id: &'a str,
    label: &'a str,
    done: u64,
    total: Option<u64>,
    state: &'a str,
}

impl Json {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            sink: Sink::new(out),
            split: HashMap::new(),
        }
    }

    fn line(&mut self, line: &impl Serialize) {
        // Maps with string keys and no custom serializers: this cannot fail.
        if let Ok(mut bytes) = serde_json::to_vec(line) {
            bytes.push(b'\n');
            self.sink.put(&bytes);
        }
    }

    fn log(&mut self, run: &RunId, stage: &StageId, bytes: &[u8]) {
        let key = (run.clone(), stage.clone());
        let mut bytes = match self.split.remove(&key) {
            Some(mut begun) => {
                begun.extend_from_slice(bytes);
                begun
            }
            None => bytes.to_vec(),
        };
        let rest = bytes.split_off(bytes.len() - unfinished(&bytes));
        if !rest.is_empty() {
            self.split.insert(key, rest);
        }
        self.text(run, stage, &bytes);
    }

    fn text(&mut self, run: &RunId, stage: &StageId, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let text = &String::from_utf8_lossy(bytes);
        self.line(&LogLine {
            log: Log { run, stage, text },
        });
    }

    fn event(&mut self, recorded: &Recorded) {
        let run = &recorded.run;
        if let Event::StageFinished { stage, .. } = &recorded.event
            && let Some(rest) = self.split.remove(&(run.clone(), stage.clone()))
        {
            self.text(run, stage, &rest);
        }
        self.line(&EventLine {
            seq: recorded.seq,
            at: recorded.at,
            run,
            event: &recorded.event,
        });
    }
}

impl Reporter for Json {
    fn signal(&mut self, signal: &Signal) {
        match signal {
            Signal::Event(recorded) => self.event(recorded),
            Signal::Log { run, stage, bytes } => self.log(run, stage, bytes),
            Signal::Progress {
                run,
                stage,
                id,
                label,
                done,
                total,
                state,
            } => self.line(&ProgressLine {
                progress: Progress {
                    run,
                    stage,
                    id,
                    label,
                    done: *done,
                    total: *total,
                    state: state.as_str(),
                },
            }),
        }
    }

    fn settle(&mut self) {
        self.sink.flush();
    }

    fn tick(&mut self) {
        self.sink.flush();
    }

    fn finish(&mut self) {
        for ((run, stage), rest) in std::mem::take(&mut self.split) {
            self.text(&run, &stage, &rest);
        }
        self.sink.flush();
    }
}

/// How many bytes at the end begin a character that is not complete yet.
pub(super) fn unfinished(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    for (at, byte) in bytes.iter().enumerate().skip(from).rev() {
        let needs = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        let has = bytes.len() - at;
        return if has < needs { has } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Outcome;
    use crate::report::PartState;
    use crate::report::fixture::{ClosedPipe, Page, Story};

    #[test]
    fn one_line_per_signal() {
        let page = Page::default();
        let mut json = Json::new(page.boxed());
        let mut story = Story::new("release", &["build.app"]);
        story.tell(&mut json);
        page.take();
        story.start("build.app").tell(&mut json);
        json.signal(&story.log("build.app", b"hello \"x\"\n\x1b[31m"));
        json.signal(&story.progress("build.app", "[1/2]", 3, Some(9), PartState::Cached));
        json.signal(&story.progress("build.app", "[2/2]", 0, None, PartState::Running));
        story
            .at(2)
            .end_with("build.app", Outcome::Succeeded, "", &[("id", "sha256:1")]);
        story.tell(&mut json);
        json.finish();
        let expected = r#"
{"seq":3,"at":1769846400000,"run":"01kg97c500000007","event":{"type":"stage-started","stage":"build.app","attempt":1}}
{"log":{"run":"01kg97c500000007","stage":"build.app","text":"hello \"x\"\n\u001b[31m"}}
{"progress":{"run":"01kg97c500000007","stage":"build.app","id":"[1/2]","label":"[1/2]","done":3,"total":9,"state":"cached"}}
{"progress":{"run":"01kg97c500000007","stage":"build.app","id":"[2/2]","label":"[2/2]","done":0,"total":null,"state":"running"}}
{"seq":4,"at":1769846402000,"run":"01kg97c500000007","event":{"type":"stage-finished","stage":"build.app","outcome":"succeeded","reason":"","outputs":{"id":"sha256:1"}}}
"#;
        let run = story.run.as_str();
        assert_eq!(
            page.take(),
            expected.trim_start().replace("01kg97c500000007", run)
        );
    }

    #[test]
    fn events_can_be_read_back() {
        let page = Page::default();
        let mut json = Json::new(page.boxed());
        let mut story = Story::new("release", &["build.app"]);
        let told = story.events.clone();
        story.tell(&mut json);
        let text = page.take();
        assert_eq!(text.lines().count(), told.len());
        for (line, told) in text.lines().zip(told) {
            let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            let event: Event = serde_json::from_value(value["event"].clone()).expect("an event");
            assert_eq!(event, told.event);
            assert_eq!(value["seq"], told.seq);
        }
    }

    #[test]
    fn characters_split_between_chunks_stay_whole() {
        let page = Page::default();
        let mut json = Json::new(page.boxed());
        let story = Story::new("release", &["build.app"]);
        for byte in "構é😀a".bytes() {
            json.signal(&story.log("build.app", &[byte]));
        }
        json.signal(&story.log("build.app", b"\xff\xe6"));
        json.finish();
        let text: String = page
            .take()
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
                value["log"]["text"].as_str().expect("a text").to_owned()
            })
            .collect();
        assert_eq!(text, "構é😀a\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_closed_pipe_silences_it() {
        let pipe = ClosedPipe::default();
        let mut json = Json::new(Box::new(pipe.clone()));
        let mut story = Story::new("release", &["build.app"]);
        story.tell(&mut json);
        json.tick();
        json.finish();
        assert_eq!(*pipe.0.lock().expect("no writer panics"), 1);
    }
}
