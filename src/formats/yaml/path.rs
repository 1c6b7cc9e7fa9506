//! The address of a value in a YAML text: `.spec.containers[name=app].image`.

use std::fmt;

/// Longest path that is read, in bytes.
const MAX_PATH: usize = 4 << 10;
/// Largest number of steps of a path.
const MAX_STEPS: usize = 100;

/// Where a value stands: which document, then keys, indexes and selectors.
///
/// `.a.b` (the first dot may be left out), `.a[0]`, `."a.b"` or `["a.b"]` for keys that hold
/// dots, `[name=app]` for the item of a sequence whose `name` is `app`, and
/// `kind=Deployment/name=front:` before all of it to choose among several documents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    text: String,
    pub(super) document: Vec<(String, String)>,
    pub(super) steps: Vec<PathStep>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathStep {
    /// The value of a key.
    Key(String),
    /// The nth item.
    Index(usize),
    /// The item in which a key has a value.
    Where(String, String),
}

/// A path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at byte {at} of the path")]
pub struct PathError {
    /// One lowercase phrase that names the thing.
    pub message: String,
    /// Byte offset in the path.
    pub at: usize,
}

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_PATH {
            return Err(PathError {
                message: format!("path is longer than {MAX_PATH} bytes"),
                at: MAX_PATH,
            });
        }
        let mut parser = Parser { text, at: 0 };
        let document = parser.document()?;
        let mut steps = Vec::new();
        while parser.at < text.len() {
            if steps.len() == MAX_STEPS {
                return Err(parser.error(format!("path has more than {MAX_STEPS} steps")));
            }
            let step = parser.step(steps.is_empty())?;
            steps.push(step);
        }
        if steps.is_empty() {
            return Err(parser.error("path names no key"));
        }
        Ok(Self {
            text: text.to_owned(),
            document,
            steps,
        })
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its steps.
    pub fn steps(&self) -> &[PathStep] {
        &self.steps
    }

    /// Whether it chooses among documents.
    pub fn has_document(&self) -> bool {
        !self.document.is_empty()
    }

    /// A key as a step of a path.
    pub(super) fn key(key: &str) -> String {
        if key.chars().all(is_bare) && !key.is_empty() {
            format!(".{key}")
        } else {
            format!(".\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
        }
    }

    /// The first `count` steps as text, for messages.
    pub fn prefix(&self, count: usize) -> String {
        let mut out = String::new();
        for step in &self.steps[..count.min(self.steps.len())] {
            match step {
                PathStep::Key(key) => out.push_str(&Self::key(key)),
                PathStep::Index(index) => out.push_str(&format!("[{index}]")),
                PathStep::Where(key, value) => out.push_str(&format!("[{key}={value}]")),
            }
        }
        if out.is_empty() {
            "the document".into()
        } else {
            out
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a character may stand in a key without quotes.
fn is_bare(c: char) -> bool {
    !(c.is_whitespace()
        || c.is_control()
        || matches!(c, '.' | '[' | ']' | '"' | '\'' | '=' | ':' | '*'))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> PathError {
        PathError {
            message: message.into(),
            at: self.at,
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    /// `key=value/key=value:`, told from a path by the `=` after its first word.
    fn document(&mut self) -> Result<Vec<(String, String)>, PathError> {
        let word = self.text.find(|c: char| !is_bare(c) || c == '/');
        if !word.is_some_and(|end| end > 0 && self.text[end..].starts_with('=')) {
            return Ok(Vec::new());
        }
        let mut pairs = Vec::new();
        loop {
            let key = self.run(|c| is_bare(c) && c != '/');
            if key.is_empty() {
                return Err(self.error("document selector needs a name before `=`"));
            }
            if !self.eat('=') {
                return Err(self.error(format!("document selector `{key}` needs `=` and a value")));
            }
            let value = match self.peek() {
                Some('"' | '\'') => self.quoted()?,
                _ => self.run(|c| c != '/' && c != ':' && !c.is_control()),
            };
            if value.is_empty() {
                return Err(self.error(format!("document selector `{key}=` has no value")));
            }
            pairs.push((key, value));
            if self.eat(':') {
                return Ok(pairs);
            }
            if !self.eat('/') {
                return Err(self.error("document selector must end with `:` before the path"));
            }
        }
    }

    fn step(&mut self, first: bool) -> Result<PathStep, PathError> {
        if self.eat('[') {
            return self.bracket();
        }
        if !self.eat('.') && !first {
            return Err(self.error("expected `.` or `[`"));
        }
        match self.peek() {
            Some('"' | '\'') => self.quoted().map(PathStep::Key),
            // `.[0]` is what other tools write for the root.
            Some('[') if first => {
                self.eat('[');
                self.bracket()
            }
            _ => {
                let key = self.run(is_bare);
                match self.peek() {
                    _ if !key.is_empty() => Ok(PathStep::Key(key)),
                    None => Err(self.error("path ends where a key should be")),
                    Some('.') => Err(self.error("key is empty")),
                    Some(other) => Err(self.error(format!(
                        "a key with {other:?} must be quoted, as in `.\"a{}b\"`",
                        other.escape_default()
                    ))),
                }
            }
        }
    }

    /// What stands between `[` and `]`.
    fn bracket(&mut self) -> Result<PathStep, PathError> {
        let step = match self.peek() {
            Some('"' | '\'') => PathStep::Key(self.quoted()?),
            Some(c) if c.is_ascii_digit() => {
                let start = self.at;
                let digits = self.run(|c| c.is_ascii_digit());
                if self.peek() == Some('=') {
                    self.at = start;
                    self.selector()?
                } else {
                    PathStep::Index(digits.parse().map_err(|_| PathError {
                        message: format!("index {digits} is too large"),
                        at: start,
                    })?)
                }
            }
            _ => self.selector()?,
        };
        if self.eat(']') {
            Ok(step)
        } else {
            Err(self.error("expected `]`"))
        }
    }

    fn selector(&mut self) -> Result<PathStep, PathError> {
        let start = self.at;
        let key = self.run(is_bare);
        if key.is_empty() || !self.eat('=') {
            self.at = start;
            return Err(self.error("expected an index, a quoted key or `name=value` after `[`"));
        }
        let value = match self.peek() {
            Some('"' | '\'') => self.quoted()?,
            _ => self.run(|c| c != ']' && c != '[' && !c.is_control()),
        };
        Ok(PathStep::Where(key, value))
    }

    fn run(&mut self, accept: impl Fn(char) -> bool) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    /// A quoted text; in it `\` keeps the next character as it is.
    fn quoted(&mut self) -> Result<String, PathError> {
        let start = self.at;
        let quote = self.peek();
        self.at += 1;
        let mut out = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if Some(c) == quote {
                return Ok(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let Some(escaped) = self.peek() else { break };
            self.at += escaped.len_utf8();
            out.push(escaped);
        }
        self.at = start;
        Err(self.error("quote is not closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> PathStep {
        PathStep::Key(text.into())
    }

    #[test]
    fn paths_are_read() {
        let cases: [(&str, Vec<PathStep>); 9] = [
            (".front.imageTag", vec![key("front"), key("imageTag")]),
            ("front.imageTag", vec![key("front"), key("imageTag")]),
            (".a[0].b", vec![key("a"), PathStep::Index(0), key("b")]),
            ("[1]", vec![PathStep::Index(1)]),
            (".[1]", vec![PathStep::Index(1)]),
            (r#"."a.b"["c]d"]"#, vec![key("a.b"), key("c]d")]),
            (r#"."say \"hi\"""#, vec![key("say \"hi\"")]),
            (
                ".c[name=app].x",
                vec![
                    key("c"),
                    PathStep::Where("name".into(), "app".into()),
                    key("x"),
                ],
            ),
            (".値.a/b-c_d", vec![key("値"), key("a/b-c_d")]),
        ];
        for (text, steps) in cases {
            assert_eq!(Path::parse(text).unwrap().steps, steps, "{text}");
        }
    }

    #[test]
    fn documents_are_selected() {
        let path = Path::parse("kind=Deployment/name=front:.spec.x").unwrap();
        assert_eq!(
            path.document,
            [
                ("kind".to_owned(), "Deployment".to_owned()),
                ("name".to_owned(), "front".to_owned())
            ]
        );
        assert_eq!(path.steps, [key("spec"), key("x")]);
        assert_eq!(path.prefix(1), ".spec");
        let path = Path::parse("name='a:b/c':x[k=\"v ]\"]").unwrap();
        assert_eq!(path.document, [("name".to_owned(), "a:b/c".to_owned())]);
        assert_eq!(path.prefix(2), ".x[k=v ]]");
    }

    #[test]
    fn mistakes_name_their_place() {
        let cases = [
            ("", "names no key", 0),
            (".", "ends where a key", 1),
            ("a..b", "key is empty", 2),
            ("a.", "ends where", 2),
            ("a b", "expected `.` or `[`", 1),
            (".a:b", "expected `.` or `[`", 2),
            (".:b", "must be quoted", 1),
            (".a[", "after `[`", 3),
            (".a[0", "expected `]`", 4),
            (".a[*]", "after `[`", 3),
            (".a[-1]", "after `[`", 3),
            (".a[99999999999999999999]", "too large", 3),
            (".a.\"b", "not closed", 3),
            ("kind=:a", "no value", 5),
            ("kind=A", "must end with `:`", 6),
            ("kind=A/name:a", "needs `=`", 11),
            ("kind=A:", "names no key", 7),
        ];
        for (text, message, at) in cases {
            let error = Path::parse(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(error.at, at, "{text}: {error}");
        }
        assert!(Path::parse(&"a.".repeat(5000)).is_err());
        assert!(Path::parse(&".a".repeat(101)).is_err());
    }
}
