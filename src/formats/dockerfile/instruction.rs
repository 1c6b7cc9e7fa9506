//! Reads instructions into stages.

use super::lines::{Heredoc, Lines, Logical, heredoc};
use super::{Arg, Copy, Dockerfile, MAX_TEXT, Mount, Stage};
use crate::base::{Span, Spanned};

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

pub(super) fn read(text: &str) -> Dockerfile {
    let mut reader = Reader {
        file: Dockerfile {
            escape: '\\',
            syntax: None,
            args: Vec::new(),
            stages: Vec::new(),
            problems: Vec::new(),
        },
        lines: Lines::new(text),
    };
    if text.len() > MAX_TEXT {
        let message = format!("Dockerfile is larger than {MAX_TEXT} bytes");
        reader.problem(Span::new(0, 0), message);
        return reader.file;
    }
    reader.directives();
    reader.file.escape = reader.lines.escape;
    while let Some(logical) = reader.lines.instruction() {
        reader.instruction(&logical);
    }
    if reader.file.stages.is_empty() && reader.file.problems.is_empty() {
        reader.problem(Span::new(0, 0), "Dockerfile has no FROM");
    }
    reader.file
}

struct Reader<'a> {
    file: Dockerfile,
    lines: Lines<'a>,
}

/// A flag such as `--from=build`.
struct Flag {
    name: String,
    value: Spanned<String>,
    span: Span,
}

impl Reader<'_> {
    fn problem(&mut self, span: Span, message: impl Into<String>) {
        self.file.problems.push(Spanned::new(message.into(), span));
    }

    fn directives(&mut self) {
        let mut seen = Vec::new();
        while let Some((name, value)) = self.lines.directive() {
            if seen.contains(&name) {
                self.problem(value.span, format!("directive {name} is there twice"));
                continue;
            }
            match (name.as_str(), value.value.as_str()) {
                ("escape", "\\") => self.lines.escape = '\\',
                ("escape", "`") => self.lines.escape = '`',
                ("escape", other) => {
                    let message = format!("escape character {other:?} is neither \\ nor `");
                    self.problem(value.span, message);
                }
                ("syntax", _) => self.file.syntax = Some(value),
                _ => {}
            }
            seen.push(name);
        }
    }

    fn instruction(&mut self, logical: &Logical) {
        let words = logical.words(0);
        let Some(keyword) = words.first() else { return };
        let name = keyword.value.to_ascii_uppercase();
        let from = keyword.value.len();
        if !KEYWORDS.contains(&name.as_str()) {
            let shown: String = keyword.value.chars().take(40).collect();
            self.problem(keyword.span, format!("unknown instruction `{shown}`"));
            return;
        }
        // Whatever else is wrong, the bodies of heredocs are not instructions.
        let heredocs = match name.as_str() {
            "RUN" | "COPY" | "ADD" => self.heredocs(logical, from),
            _ => 0,
        };
        if self.file.stages.is_empty() && !matches!(name.as_str(), "FROM" | "ARG") {
            self.problem(keyword.span, format!("{name} stands before the first FROM"));
            return;
        }
        match name.as_str() {
            "FROM" => self.from(logical, from),
            "ARG" => self.arg(logical, from),
            "COPY" | "ADD" => self.copy(logical, from, name == "ADD", heredocs),
            "RUN" => self.run(logical, from),
            _ => {}
        }
    }

    /// Passes over the heredocs of an instruction and counts them.
    fn heredocs(&mut self, logical: &Logical, from: usize) -> usize {
        let words = logical.quoted_words(from, self.lines.escape);
        let found: Vec<Heredoc> = words.iter().filter_map(|(_, word)| heredoc(word)).collect();
        for heredoc in &found {
            if !self.lines.skip(heredoc) {
                self.problem(
                    logical.span,
                    format!("heredoc `{}` does not end", heredoc.name),
                );
                break;
            }
        }
        found.len()
    }

    /// The flags behind a keyword, and where they end.
    fn flags(&self, logical: &Logical, from: usize) -> (Vec<Flag>, usize) {
        let mut flags = Vec::new();
        let mut end = from;
        for (start, word) in logical.quoted_words(from, self.lines.escape) {
            let Some(flag) = word.strip_prefix("--") else {
                break;
            };
            end = start + word.len();
            if flag.is_empty() {
                break;
            }
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            let value_span = logical.span(end - value.len(), end);
            flags.push(Flag {
                name: name.to_ascii_lowercase(),
                value: Spanned::new(unquote(value, self.lines.escape), value_span),
                span: logical.span(start, end),
            });
        }
        (flags, end)
    }

    fn from(&mut self, logical: &Logical, from: usize) {
        let (flags, end) = self.flags(logical, from);
        let words = logical.words(end);
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, word, name] if word.value.eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => {
                let message = "FROM takes an image and maybe `AS name`";
                return self.problem(logical.span, message);
            }
        };
        if let Some(name) = name {
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !name.value.starts_with(|c: char| c.is_ascii_alphabetic())
                || !name.value.chars().all(valid)
            {
                self.problem(
                    name.span,
                    format!("{:?} is no name for a stage", name.value),
                );
            } else if self.file.stages.iter().any(|stage| {
                let other = stage.name.as_ref();
                other.is_some_and(|other| other.value.eq_ignore_ascii_case(&name.value))
            }) {
                self.problem(name.span, format!("two stages are named {:?}", name.value));
            }
        }
        let mut platform = None;
        for flag in flags {
            match flag.name.as_str() {
                "platform" => platform = Some(flag.value),
                other => self.problem(flag.span, format!("FROM has no flag --{other}")),
            }
        }
        self.file.stages.push(Stage {
            span: logical.span,
            image: image.clone(),
            platform,
            name: name.cloned(),
            args: Vec::new(),
            copies: Vec::new(),
            mounts: Vec::new(),
        });
    }

    fn arg(&mut self, logical: &Logical, from: usize) {
        let escape = self.lines.escape;
        let words = logical.quoted_words(from, escape);
        if words.is_empty() {
            return self.problem(logical.span, "ARG needs a name");
        }
        for (start, word) in words {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word, None),
            };
            let end = start + word.len();
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty()
                || !name.chars().all(valid)
                || name.starts_with(|c: char| c.is_ascii_digit())
            {
                let shown: String = name.chars().take(40).collect();
                self.problem(
                    logical.span(start, end),
                    format!("{shown:?} is no name for an ARG"),
                );
                continue;
            }
            let arg = Arg {
                name: Spanned::new(name.to_owned(), logical.span(start, start + name.len())),
                default: default.map(|default| {
                    let span = logical.span(end - default.len(), end);
                    Spanned::new(unquote(default, escape), span)
                }),
            };
            match self.file.stages.last_mut() {
                Some(stage) => stage.args.push(arg),
                None => self.file.args.push(arg),
            }
        }
    }

    fn copy(&mut self, logical: &Logical, from: usize, add: bool, heredocs: usize) {
        let (flags, end) = self.flags(logical, from);
        let rest = logical.text[end..].trim_start();
        let list_start = logical.text.len() - rest.len();
        let list: Option<Vec<String>> = rest
            .starts_with('[')
            .then(|| serde_json::from_str(rest.trim_end()).ok())
            .flatten();
        let mut words = match list {
            // The pieces of a JSON list share its place.
            Some(list) => {
                let span = logical.span(list_start, logical.text.trim_end().len());
                list.into_iter()
                    .map(|word| Spanned::new(word, span))
                    .collect()
            }
            None => logical.words(end),
        };
        let name = if add { "ADD" } else { "COPY" };
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            return self.problem(
                logical.span,
                format!("{name} needs a source and a destination"),
            );
        };
        if heredocs > 0 {
            words.retain(|word| heredoc(&word.value).is_none());
        }
        let from = flags.into_iter().find(|flag| flag.name == "from");
        if let Some(flag) = from.as_ref().filter(|flag| flag.value.value.is_empty()) {
            self.problem(flag.span, format!("--from of {name} names nothing"));
        }
        if let Some(stage) = self.file.stages.last_mut() {
            stage.copies.push(Copy {
                add,
                from: from
                    .map(|flag| flag.value)
                    .filter(|value| !value.value.is_empty()),
                sources: words,
                destination,
                span: logical.span,
            });
        }
    }

    fn run(&mut self, logical: &Logical, from: usize) {
        let (flags, _) = self.flags(logical, from);
        let mounts = flags
            .into_iter()
            .filter(|flag| flag.name == "mount")
            .map(|flag| {
                let fields = flag.value.value.split(',').map(|field| {
                    let (name, value) = field.split_once('=').unwrap_or((field, ""));
                    (name.trim().to_ascii_lowercase(), value.to_owned())
                });
                let (kinds, fields): (Vec<_>, Vec<_>) =
                    fields.partition(|(name, _)| name == "type");
                // Without a type it is a bind mount.
                let kind = kinds
                    .into_iter()
                    .next()
                    .map_or("bind".to_owned(), |(_, kind)| kind);
                Mount {
                    kind,
                    fields,
                    span: flag.span,
                }
            });
        let mounts: Vec<_> = mounts.collect();
        if let Some(stage) = self.file.stages.last_mut() {
            stage.mounts.extend(mounts);
        }
    }
}

/// A word without its quotes and escapes.
/// An escaped dollar keeps its escape for the expansion that follows.
fn unquote(word: &str, escape: char) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') => quote = None,
            (Some('\''), c) => out.push(c),
            (_, c) if c == escape => match chars.next() {
                Some('$') => out.extend([escape, '$']),
                next => out.extend(next),
            },
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (_, c) => out.push(c),
        }
    }
    out
}
