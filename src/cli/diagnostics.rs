//! Shows diagnostics: with excerpts for people, as lines for editors, as JSON for programs.

mod snippet;

use std::cmp::Reverse;
use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use self::snippet::Snippets;
use crate::base::{Applicability, Diagnostic, Severity, Source, Span, human_count, human_number};
use crate::report::{Style, Tone, text};

/// Diagnostics shown with excerpts at most; nobody reads more of them.
const MAX_FULL: usize = 100;

/// How diagnostics are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiagnosticFormat {
    /// With excerpts of the files, notes and help
    Full,
    /// One line each: `path:line:column: error[PW0001] message`
    Concise,
    /// An array of objects
    Json,
}

/// What showing diagnostics needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Display {
    /// How they are shown.
    pub format: DiagnosticFormat,
    /// Colours and symbols.
    pub style: Style,
    /// Columns to wrap at.
    pub columns: usize,
    /// Files that were looked at.
    pub files: usize,
}

/// Writes diagnostics, sorted by path and place, and a final count (not in JSON).
pub fn show(out: &mut dyn Write, diagnostics: &[Diagnostic], display: &Display) -> io::Result<()> {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by(|a, b| order(a).cmp(&order(b)));
    match display.format {
        DiagnosticFormat::Full => full(out, &sorted, display)?,
        DiagnosticFormat::Concise => concise(out, &sorted, display.style)?,
        DiagnosticFormat::Json => return as_json(out, &sorted),
    }
    writeln!(out, "{}", total(diagnostics, display))
}

fn order(diagnostic: &Diagnostic) -> impl Ord {
    (
        diagnostic.source.name(),
        diagnostic.span,
        Reverse(diagnostic.severity),
        diagnostic.code,
        diagnostic.message.as_str(),
    )
}

/// `2 errors, 1 warning in 3 files`.
fn total(diagnostics: &[Diagnostic], display: &Display) -> String {
    let mut parts = Vec::new();
    for severity in [Severity::Error, Severity::Warning, Severity::Info] {
        let count = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count();
        if count > 0 {
            let noun = match severity {
                Severity::Info => "note",
                other => other.as_str(),
            };
            let text = human_count(count, noun);
            parts.push(display.style.paint(tone(severity), &text).into_owned());
        }
    }
    if parts.is_empty() {
        parts.push(display.style.paint(Tone::Good, "no problems").into_owned());
    }
    let files = human_count(display.files, "file");
    format!("{} in {files}", parts.join(", "))
}

const fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Held,
        Severity::Info => Tone::Same,
    }
}

fn full(out: &mut dyn Write, sorted: &[&Diagnostic], display: &Display) -> io::Result<()> {
    let mut snippets = Snippets::new(display.style, display.columns);
    for diagnostic in sorted.iter().take(MAX_FULL) {
        writeln!(out, "{}", snippets.draw(diagnostic))?;
    }
    if let Some(rest) = sorted.len().checked_sub(MAX_FULL).filter(|rest| *rest > 0) {
        let rest = human_number(rest);
        writeln!(
            out,
            "and {rest} more; `--format concise` lists all of them\n"
        )?;
    }
    Ok(())
}

fn concise(out: &mut dyn Write, sorted: &[&Diagnostic], style: Style) -> io::Result<()> {
    let mut places = Places::default();
    for diagnostic in sorted {
        let path = text::one_line(diagnostic.source.name());
        let place = places.of(&diagnostic.source).at(diagnostic.span.start);
        let word = format!("{}[{}]", diagnostic.severity.as_str(), diagnostic.code);
        writeln!(
            out,
            "{path}:{}:{}: {} {}",
            place.line,
            place.column,
            style.paint(tone(diagnostic.severity), &word),
            text::one_line(&diagnostic.message)
        )?;
    }
    Ok(())
}

fn as_json(out: &mut dyn Write, sorted: &[&Diagnostic]) -> io::Result<()> {
    let mut places = Places::default();
    out.write_all(b"[")?;
    for (at, diagnostic) in sorted.iter().enumerate() {
        out.write_all(if at == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &object(diagnostic, &mut places))?;
    }
    out.write_all(if sorted.is_empty() { b"]\n" } else { b"\n]\n" })
}

fn object(diagnostic: &Diagnostic, places: &mut Places) -> Value {
    let labels: Vec<Value> = diagnostic
        .labels
        .iter()
        .map(|label| {
            json!({
                "path": label.source.name(),
                "span": places.of(&label.source).span(label.span),
                "text": label.text,
            })
        })
        .collect();
    let fixes: Vec<Value> = diagnostic
        .fixes
        .iter()
        .map(|fix| {
            let edits: Vec<Value> = fix
                .edits
                .iter()
                .map(|edit| {
                    json!({
                        "path": edit.source.name(),
                        "span": places.of(&edit.source).span(edit.span),
                        "replacement": edit.replacement,
                    })
                })
                .collect();
            let applicability = match fix.applicability {
                Applicability::Safe => "safe",
                Applicability::Unsafe => "unsafe",
                Applicability::DisplayOnly => "display-only",
            };
            json!({ "title": fix.title, "applicability": applicability, "edits": edits })
        })
        .collect();
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity.as_str(),
        "message": diagnostic.message,
        "path": diagnostic.source.name(),
        "span": places.of(&diagnostic.source).span(diagnostic.span),
        "note": diagnostic.note,
        "labels": labels,
        "help": diagnostic.help,
        "fixes": fixes,
    })
}

/// Line starts of the sources met, so that thousands of diagnostics stay cheap.
#[derive(Default)]
struct Places {
    known: Vec<Lines>,
}

impl Places {
    fn of(&mut self, source: &Source) -> &Lines {
        // Diagnostics come sorted by path: the source wanted is nearly always the last one.
        let known = self.known.iter().rposition(|lines| lines.source == *source);
        let at = known.unwrap_or_else(|| {
            self.known.push(Lines::of(source));
            self.known.len() - 1
        });
        &self.known[at]
    }
}

/// Where the lines of a source start.
struct Lines {
    source: Source,
    starts: Vec<usize>,
}

/// A place for people: both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    byte: usize,
    line: usize,
    column: usize,
}

impl Lines {
    fn of(source: &Source) -> Self {
        let breaks = memchr::memchr_iter(b'\n', source.text().as_bytes());
        Self {
            source: source.clone(),
            starts: std::iter::once(0).chain(breaks.map(|at| at + 1)).collect(),
        }
    }

    /// The zero-based line of a byte.
    fn line(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start <= byte) - 1
    }

    fn at(&self, byte: usize) -> Place {
        let text = self.source.text();
        let byte = text.floor_char_boundary(byte);
        let line = self.line(byte);
        Place {
            byte,
            line: line + 1,
            column: text[self.starts[line]..byte].chars().count() + 1,
        }
    }

    fn span(&self, span: Span) -> Value {
        let place = |byte: usize| {
            let place = self.at(byte);
            json!({ "byte": place.byte, "line": place.line, "column": place.column })
        };
        json!({ "start": place(span.start), "end": place(span.end.max(span.start)) })
    }
}

#[cfg(test)]
mod tests;
