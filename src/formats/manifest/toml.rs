//! Reads TOML into values with their places.

use toml_edit::{Document, Item, Table, TableLike, Value};

use super::EditError;
use super::tree::{Node, What};
use crate::base::Span;

/// Reads a text.
pub(super) fn read(text: &str) -> Result<Node, EditError> {
    let document = Document::parse(text)
        .map_err(|error| EditError::new(format!("text is not TOML: {}", error.message())))?;
    Ok(table(document.as_table(), Span::new(0, text.len())))
}

/// A string on one line as TOML writes it.
pub(super) fn string(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn of(range: Option<std::ops::Range<usize>>) -> Span {
    range.map_or(Span::new(0, 0), |range| Span::new(range.start, range.end))
}

fn table(table: &Table, span: Span) -> Node {
    Node {
        what: entries(table),
        span,
    }
}

fn entries(table: &dyn TableLike) -> What {
    let all = table.iter().map(|(name, value)| {
        let key = table
            .key(name)
            .map_or(Span::new(0, 0), |key| of(key.span()));
        (name.to_owned(), key, item(value))
    });
    What::Map(all.collect())
}

fn item(item: &Item) -> Node {
    match item {
        Item::Value(value) => self::value(value),
        Item::Table(inner) => table(inner, of(inner.span())),
        Item::ArrayOfTables(tables) => Node {
            what: What::List(
                tables
                    .iter()
                    .map(|inner| table(inner, of(inner.span())))
                    .collect(),
            ),
            span: of(tables.span()),
        },
        Item::None => Node {
            what: What::List(Vec::new()),
            span: Span::new(0, 0),
        },
    }
}

fn value(value: &Value) -> Node {
    let what = match value {
        Value::Array(array) => What::List(array.iter().map(self::value).collect()),
        Value::InlineTable(inner) => entries(inner),
        Value::String(text) => What::Scalar {
            text: true,
            value: text.value().clone(),
        },
        Value::Integer(number) => scalar(number.value()),
        Value::Float(number) => scalar(number.value()),
        Value::Boolean(flag) => scalar(flag.value()),
        Value::Datetime(time) => scalar(time.value()),
    };
    Node {
        what,
        span: of(value.span()),
    }
}

fn scalar(value: &dyn std::fmt::Display) -> What {
    What::Scalar {
        text: false,
        value: value.to_string(),
    }
}
