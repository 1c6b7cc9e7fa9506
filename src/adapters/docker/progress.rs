//! From the builder's status messages to log lines and progress items: one item per vertex.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard_buildkit_proto::google::protobuf::Timestamp as ProtoTime;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexStatus};

use crate::base::human_duration;
use crate::ports::{Output, Progress, ProgressState};

/// Longest piece of a line that is held back to keep a line whole.
const MAX_LINE: usize = 16 << 10;
/// Most lines of a failing step that are kept for the error's message.
const LAST_LINES: usize = 5;

/// What is known of the vertices of one build.
pub(super) struct Vertices<'a> {
    output: &'a dyn Output,
    known: HashMap<String, Known>,
    numbered: u32,
}

#[derive(Default)]
struct Known {
    /// Position in the order of starting; 0 before.
    number: u32,
    name: String,
    started: Option<Duration>,
    ended: bool,
    error: String,
    partial: BTreeMap<i64, Vec<u8>>,
    last: std::collections::VecDeque<String>,
}

impl<'a> Vertices<'a> {
    pub(super) fn new(output: &'a dyn Output) -> Self {
        Self {
            output,
            known: HashMap::new(),
            numbered: 0,
        }
    }

    /// Takes in one message.
    pub(super) fn take(&mut self, message: StatusResponse) {
        for vertex in message.vertexes {
            self.vertex(vertex);
        }
        for status in message.statuses {
            self.status(status);
        }
        for log in message.logs {
            self.log(&log.vertex, log.stream, &log.msg);
        }
        for warning in message.warnings {
            let text = String::from_utf8_lossy(&warning.short).into_owned();
            let number = self
                .known
                .get(&warning.vertex)
                .map_or(0, |known| known.number);
            self.output
                .log(format!("#{number} warning: {text}\n").as_bytes());
        }
    }

    /// The step that went wrong: its name, the builder's words, the end of its log.
    pub(super) fn failure(&self) -> Option<String> {
        let mut failed: Vec<&Known> = self
            .known
            .values()
            .filter(|known| !known.error.is_empty() && !known.error.contains("context canceled"))
            .collect();
        failed.sort_unstable_by_key(|known| known.number);
        let first = failed.first()?;
        let mut text = format!("{}: {}", first.name, plain(&first.error));
        for line in &first.last {
            text.push_str("\n  ");
            text.push_str(line);
        }
        Some(text)
    }

    /// Writes out lines that have no end yet.
    pub(super) fn finish(&mut self) {
        for known in self.known.values_mut() {
            for rest in std::mem::take(&mut known.partial).into_values() {
                write_line(self.output, known.number, &rest, &mut known.last);
            }
        }
    }

    fn vertex(&mut self, vertex: Vertex) {
        let known = self.known.entry(vertex.digest.clone()).or_default();
        if known.ended {
            return;
        }
        if known.name.is_empty() {
            known.name = vertex.name.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        let started = vertex.started.as_ref().map(instant);
        if known.number == 0 && (started.is_some() || vertex.cached) {
            self.numbered += 1;
            known.number = self.numbered;
            self.output
                .log(format!("#{} {}\n", known.number, known.name).as_bytes());
        }
        known.started = known.started.or(started);
        let completed = vertex.completed.as_ref().map(instant);
        let state = match completed {
            None if started.is_none() => return,
            None => ProgressState::Running,
            Some(_) if !vertex.error.is_empty() => ProgressState::Failed,
            Some(_) if vertex.cached => ProgressState::Cached,
            Some(_) => ProgressState::Done,
        };
        if let Some(completed) = completed {
            known.ended = true;
            known.error = vertex.error;
            for rest in std::mem::take(&mut known.partial).into_values() {
                write_line(self.output, known.number, &rest, &mut known.last);
            }
            let took = completed.saturating_sub(known.started.unwrap_or(completed));
            let text = match state {
                ProgressState::Failed => format!("failed: {}", plain(&known.error)),
                ProgressState::Cached => "cached".to_owned(),
                _ => format!("done in {}", human_duration(took)),
            };
            self.output
                .log(format!("#{} {text}\n", known.number).as_bytes());
        }
        self.output.progress(Progress {
            id: vertex.digest,
            label: known.name.clone(),
            done: u64::from(known.ended),
            total: Some(1),
            state,
        });
    }

    fn status(&self, status: VertexStatus) {
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        let label = if status.name.is_empty() {
            &status.id
        } else {
            &status.name
        };
        let step = self
            .known
            .get(&status.vertex)
            .map_or("", |known| &known.name);
        self.output.progress(Progress {
            id: format!("{}/{}", status.vertex, status.id),
            label: if step.is_empty() {
                label.clone()
            } else {
                format!("{step}: {label}")
            },
            done: bytes(status.current),
            total: (status.total > 0).then(|| bytes(status.total)),
            state: if status.completed.is_some() {
                ProgressState::Done
            } else {
                ProgressState::Running
            },
        });
    }

    fn log(&mut self, digest: &str, stream: i64, bytes: &[u8]) {
        let Some(known) = self.known.get_mut(digest) else {
            self.output.log(bytes);
            return;
        };
        let partial = known.partial.entry(stream).or_default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || partial.len() >= MAX_LINE {
                write_line(self.output, known.number, partial, &mut known.last);
                partial.clear();
            }
        }
    }
}

fn write_line(
    output: &dyn Output,
    number: u32,
    line: &[u8],
    last: &mut std::collections::VecDeque<String>,
) {
    if line.is_empty() {
        return;
    }
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut text = format!("#{number} | ").into_bytes();
    text.extend_from_slice(line);
    text.push(b'\n');
    output.log(&text);
    if last.len() == LAST_LINES {
        last.pop_front();
    }
    let line = String::from_utf8_lossy(line);
    last.push_back(line.trim_end().chars().take(500).collect());
}

fn instant(time: &ProtoTime) -> Duration {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    Duration::new(
        seconds,
        u32::try_from(time.nanos).unwrap_or(0).min(999_999_999),
    )
}

/// The builder's words without the layers of "failed to solve" around them.
pub(super) fn plain(message: &str) -> &str {
    let mut text = message;
    loop {
        let shorter = text
            .strip_prefix("rpc error: code = Unknown desc = ")
            .or_else(|| text.strip_prefix("failed to solve with frontend dockerfile.v0: "))
            .or_else(|| text.strip_prefix("failed to solve with frontend gateway.v0: "))
            .or_else(|| text.strip_prefix("failed to solve: "))
            .or_else(|| text.strip_prefix("failed to create LLB definition: "));
        match shorter {
            Some(shorter) => text = shorter,
            None => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bollard_buildkit_proto::moby::buildkit::v1::VertexLog;

    use super::*;

    #[derive(Default)]
    struct Seen {
        text: Mutex<Vec<u8>>,
        states: Mutex<Vec<ProgressState>>,
    }

    impl Output for Seen {
        fn log(&self, bytes: &[u8]) {
            self.text.lock().expect("no panic").extend_from_slice(bytes);
        }

        fn progress(&self, progress: Progress) {
            self.states.lock().expect("no panic").push(progress.state);
        }
    }

    fn vertex(completed: Option<i64>, error: &str) -> StatusResponse {
        let time = |seconds| ProtoTime { seconds, nanos: 0 };
        StatusResponse {
            vertexes: vec![Vertex {
                digest: "d".to_owned(),
                name: "[2/2] RUN  make".to_owned(),
                started: Some(time(10)),
                completed: completed.map(time),
                error: error.to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn logged(text: &str) -> StatusResponse {
        StatusResponse {
            logs: vec![VertexLog {
                vertex: "d".to_owned(),
                stream: 1,
                msg: text.as_bytes().to_vec(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn lines_are_whole_and_the_failure_is_told_with_its_log() {
        let seen = Seen::default();
        let mut vertices = Vertices::new(&seen);
        vertices.take(vertex(None, ""));
        vertices.take(logged("one\ntw"));
        vertices.take(logged("o\nthree"));
        vertices.take(vertex(Some(12), "failed to solve: exit code: 1"));
        vertices.take(vertex(Some(12), "failed to solve: exit code: 1"));
        let text = String::from_utf8(seen.text.lock().expect("no panic").clone()).expect("text");
        assert_eq!(
            text,
            "#1 [2/2] RUN make\n#1 | one\n#1 | two\n#1 | three\n#1 failed: exit code: 1\n"
        );
        assert_eq!(
            vertices.failure().as_deref(),
            Some("[2/2] RUN make: exit code: 1\n  one\n  two\n  three")
        );
        let states = seen.states.lock().expect("no panic").clone();
        assert_eq!(states, [ProgressState::Running, ProgressState::Failed]);
    }
}
