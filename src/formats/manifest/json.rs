//! Reads JSON into values with their places. Strict: what is no JSON by its standard is refused.

use super::EditError;
use super::tree::{Node, What};
use crate::base::Span;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 100;

/// Reads a text, which `serde_json` must read too.
pub(super) fn read(text: &str) -> Result<Node, EditError> {
    let _: serde_json::Value = serde_json::from_str(body(text))
        .map_err(|error| EditError::new(format!("text is not JSON: {error}")))?;
    let mut reader = Reader {
        text,
        at: text.len() - body(text).len(),
    };
    let node = reader.value(0)?;
    reader.blank();
    match reader.at == text.len() {
        true => Ok(node),
        false => Err(reader.broken()),
    }
}

/// The text behind a byte order mark.
fn body(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A string as JSON writes it.
pub(super) fn string(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn broken(&self) -> EditError {
        let line = self.text[..self.at].matches('\n').count() + 1;
        EditError::new(format!(
            "line {line}: two readers of JSON read this differently"
        ))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.blank();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Node, EditError> {
        if depth > MAX_DEPTH {
            return Err(EditError::new(format!(
                "text is nested deeper than {MAX_DEPTH}"
            )));
        }
        self.blank();
        let start = self.at;
        let what = match self.peek() {
            Some(b'{') => {
                self.at += 1;
                What::Map(self.entries(depth)?)
            }
            Some(b'[') => {
                self.at += 1;
                What::List(self.items(depth)?)
            }
            Some(b'"') => What::Scalar {
                text: true,
                value: self.string()?,
            },
            _ => {
                let rest = &self.text[self.at..];
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c))
                    .unwrap_or(rest.len());
                if end == 0 {
                    return Err(self.broken());
                }
                self.at += end;
                What::Scalar {
                    text: false,
                    value: rest[..end].to_owned(),
                }
            }
        };
        Ok(Node {
            what,
            span: Span::new(start, self.at),
        })
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(String, Span, Node)>, EditError> {
        let mut entries = Vec::new();
        if self.eat(b'}') {
            return Ok(entries);
        }
        loop {
            self.blank();
            let start = self.at;
            let key = self.string()?;
            let span = Span::new(start, self.at);
            if !self.eat(b':') {
                return Err(self.broken());
            }
            entries.push((key, span, self.value(depth + 1)?));
            if self.eat(b'}') {
                return Ok(entries);
            }
            if !self.eat(b',') {
                return Err(self.broken());
            }
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, EditError> {
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.eat(b']') {
                return Ok(items);
            }
            if !self.eat(b',') {
                return Err(self.broken());
            }
        }
    }

    fn string(&mut self) -> Result<String, EditError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        if self.peek() != Some(b'"') {
            return Err(self.broken());
        }
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'"' => {
                    let raw = self.text.get(start..self.at).ok_or_else(|| self.broken())?;
                    return serde_json::from_str(raw).map_err(|_| self.broken());
                }
                _ => {}
            }
        }
        self.at = self.text.len();
        Err(self.broken())
    }
}
