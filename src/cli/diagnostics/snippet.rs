//! One diagnostic with excerpts of its sources, drawn by miette.
//!
//! miette gets our own source type: it knows where lines start, counts columns in characters,
//! keeps excerpts short, and shows no control character of a file.

use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};

use super::Lines;
use crate::base::{Diagnostic, Severity, Source, Span};
use crate::report::{Style, text};

/// A span over more lines than this is shown by its first line.
const MAX_LINES: usize = 8;
/// An excerpt with more bytes than this is left out: minified files.
const MAX_BYTES: usize = 8 << 10;
/// Labels shown per diagnostic.
const MAX_LABELS: usize = 20;
/// Characters of a message, a label or help.
const MAX_TEXT: usize = 4000;

/// Draws diagnostics and remembers the sources it met.
pub(super) struct Snippets {
    handler: GraphicalReportHandler,
    pages: Vec<Page>,
}

impl Snippets {
    /// Draws in a style, wrapped at a number of columns.
    pub(super) fn new(style: Style, columns: usize) -> Self {
        let theme = match (style.has_unicode(), style.has_colour()) {
            (true, true) => GraphicalTheme::unicode(),
            (true, false) => GraphicalTheme::unicode_nocolor(),
            (false, true) => GraphicalTheme::ascii(),
            (false, false) => GraphicalTheme::none(),
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(columns.clamp(40, 200))
            .with_links(false)
            .without_primary_span_start()
            .without_syntax_highlighting();
        Self {
            handler,
            pages: Vec::new(),
        }
    }

    /// A diagnostic as text that ends in a line break.
    pub(super) fn draw(&mut self, diagnostic: &Diagnostic) -> String {
        let severity = match diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Info => miette::Severity::Advice,
        };
        let mut main = Marks::of(&diagnostic.source);
        main.add(diagnostic.span, diagnostic.note.as_deref(), true);
        let mut others: Vec<Marks> = Vec::new();
        for label in diagnostic.labels.iter().take(MAX_LABELS) {
            let marks = if label.source == main.source {
                &mut main
            } else {
                match others.iter().position(|marks| marks.source == label.source) {
                    Some(at) => &mut others[at],
                    None => {
                        others.push(Marks::of(&label.source));
                        others.last_mut().expect("one was just pushed")
                    }
                }
            };
            marks.add(label.span, Some(&label.text), false);
        }
        let mut drawn = String::new();
        let head = Head {
            code: Some(diagnostic.code),
            severity,
            message: tidy(&diagnostic.message),
            help: help(diagnostic),
        };
        self.part(&mut drawn, head, main);
        for marks in others {
            let head = Head {
                code: None,
                severity: miette::Severity::Advice,
                message: "related".to_owned(),
                help: None,
            };
            self.part(&mut drawn, head, marks);
        }
        drawn
    }

    fn part(&mut self, drawn: &mut String, head: Head, marks: Marks) {
        let page = self.page(&marks.source);
        let page = &self.pages[page];
        let shown = Shown {
            head,
            labels: marks.labels(page),
            page,
        };
        let handler = &self.handler;
        // Writing to a string fails only if miette cannot read the excerpt; then go without.
        let start = drawn.len();
        if !shown.page.fits(&shown.labels) || handler.render_report(drawn, &shown).is_err() {
            drawn.truncate(start);
            let mut bare = shown;
            let lines = bare.labels.iter().map(|label| bare.page.line(label));
            let places: Vec<String> = lines.collect();
            bare.head.message = format!("{}\n{}", bare.head.message, places.join("\n"));
            bare.labels.clear();
            let _ = handler.render_report(drawn, &bare);
        }
    }

    /// The position of a source among those met.
    fn page(&mut self, source: &Source) -> usize {
        let known = self
            .pages
            .iter()
            .rposition(|page| page.lines.source == *source);
        known.unwrap_or_else(|| {
            self.pages.push(Page::of(source));
            self.pages.len() - 1
        })
    }
}

/// Help, and the titles of fixes that say more.
fn help(diagnostic: &Diagnostic) -> Option<String> {
    let mut lines: Vec<String> = diagnostic.help.iter().map(|help| tidy(help)).collect();
    for fix in &diagnostic.fixes {
        let title = tidy(&fix.title);
        if !lines.contains(&title) {
            lines.push(if lines.is_empty() {
                title
            } else {
                format!("fix: {title}")
            });
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Text from outside, line by line made safe to show.
fn tidy(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    let lines: Vec<_> = text[..end].lines().map(text::clean).collect();
    lines.join("\n")
}

/// The places of one source to point at.
struct Marks {
    source: Source,
    marks: Vec<(Span, Option<String>, bool)>,
}

impl Marks {
    fn of(source: &Source) -> Self {
        Self {
            source: source.clone(),
            marks: Vec::new(),
        }
    }

    fn add(&mut self, span: Span, text: Option<&str>, primary: bool) {
        let text = text.map(|text| text::one_line(&tidy(text)));
        self.marks.push((span, text, primary));
    }

    fn labels(self, page: &Page) -> Vec<LabeledSpan> {
        self.marks
            .into_iter()
            .map(|(span, text, primary)| {
                let span = page.clamp(span);
                let place = SourceSpan::new(span.start.into(), span.len());
                if primary {
                    LabeledSpan::new_primary_with_span(text, place)
                } else {
                    LabeledSpan::new_with_span(text, place)
                }
            })
            .collect()
    }
}

/// A source as it is shown: every byte stays where it was.
struct Page {
    lines: Lines,
    name: String,
    text: String,
}

impl Page {
    fn of(source: &Source) -> Self {
        let mut text = String::with_capacity(source.text().len() + 1);
        let mut chars = source.text().chars().peekable();
        while let Some(c) = chars.next() {
            // The stand-ins have as many bytes in UTF-8 as what they stand for.
            text.push(match c {
                '\n' | '\t' => c,
                '\r' if chars.peek() == Some(&'\n') => c,
                c if c.is_ascii_control() => '?',
                c if c.is_control() => '¿',
                '\u{61c}' => '¿',
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    '\u{fffd}'
                }
                c => c,
            });
        }
        if text.is_empty() {
            text.push(' ');
        }
        Self {
            lines: Lines::of(source),
            name: text::one_line(source.name()),
            text,
        }
    }

    /// A span that exists, lies between characters and is short enough to be shown.
    fn clamp(&self, span: Span) -> Span {
        let length = self.text.len();
        let mut start = self.text.floor_char_boundary(span.start.min(length));
        // There is nothing to point at after the last line break.
        if start == length {
            let last = self.text.trim_end_matches(['\n', '\r']).len();
            start = if last == length {
                self.text.floor_char_boundary(last.saturating_sub(1))
            } else {
                last
            };
        }
        let mut end = self.text.ceil_char_boundary(span.end.clamp(start, length));
        let (first, last) = (self.lines.line(start), self.lines.line(end));
        if last - first >= MAX_LINES {
            let next = self.lines.starts.get(first + 1).copied().unwrap_or(length);
            end = start + self.text[start..next].trim_end().len();
        }
        Span::new(start, end)
    }

    /// Whether the excerpts for some places are short enough.
    fn fits(&self, labels: &[LabeledSpan]) -> bool {
        labels.iter().all(|label| {
            let (start, end) = self.excerpt(label.inner(), 1, 1);
            end - start <= MAX_BYTES
        })
    }

    /// First and last byte of the lines of a place and of some lines around it.
    fn excerpt(&self, span: &SourceSpan, before: usize, after: usize) -> (usize, usize) {
        let first = self.lines.line(span.offset()).saturating_sub(before);
        let last = self.lines.line(span.offset() + span.len()) + after;
        let end = self.lines.starts.get(last + 1).copied();
        (self.lines.starts[first], end.unwrap_or(self.text.len()))
    }

    /// A place in one line, for excerpts that would be too long.
    fn line(&self, label: &LabeledSpan) -> String {
        let place = self.lines.at(label.offset());
        let end = self
            .text
            .floor_char_boundary(label.offset() + label.len().min(80));
        let excerpt = self.text.get(label.offset()..end).unwrap_or("");
        let excerpt = text::one_line(excerpt);
        let note = label
            .label()
            .map_or(String::new(), |note| format!(": {note}"));
        format!(
            "{}:{}:{}: {excerpt}{note}",
            self.name, place.line, place.column
        )
    }
}

impl SourceCode for Page {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        if span.offset() + span.len() > self.text.len() {
            return Err(MietteError::OutOfBounds);
        }
        let (start, end) = self.excerpt(span, before, after);
        let place = self.lines.at(span.offset());
        let line = self.lines.line(start);
        Ok(Box::new(MietteSpanContents::new_named(
            format!("{}:{}:{}", self.name, place.line, place.column),
            &self.text.as_bytes()[start..end],
            SourceSpan::new(start.into(), end - start),
            line,
            0,
            self.lines.line(end.saturating_sub(1)) - line,
        )))
    }
}

struct Head {
    code: Option<&'static str>,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
}

/// A diagnostic in miette's terms.
struct Shown<'a> {
    head: Head,
    labels: Vec<LabeledSpan>,
    page: &'a Page,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head.message)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.head.code?))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.head.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.head.help.as_ref()?))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.page)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.labels.is_empty() {
            return None;
        }
        Some(Box::new(self.labels.iter().cloned()))
    }
}
