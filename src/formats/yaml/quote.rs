//! Writes a string as a YAML scalar that every reader takes for that string.

use std::sync::LazyLock;

use regex::Regex;
use saphyr_parser::ScalarStyle;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// `'…'`
    Single,
    /// `"…"`
    Double,
    /// A block after `|`.
    Literal,
    /// A block after `>`.
    Folded,
}

impl From<ScalarStyle> for Style {
    fn from(style: ScalarStyle) -> Self {
        match style {
            ScalarStyle::Plain => Self::Plain,
            ScalarStyle::SingleQuoted => Self::Single,
            ScalarStyle::DoubleQuoted => Self::Double,
            ScalarStyle::Literal => Self::Literal,
            ScalarStyle::Folded => Self::Folded,
        }
    }
}

/// What a plain scalar may be taken for other than a string, by a reader of YAML 1.1 or 1.2 or by
/// one with habits of its own: null, booleans, numbers in any base or in sixties, infinities,
/// dates. Wider than any one reader, because quotes cost nothing.
static NOT_A_STRING: LazyLock<Regex> = LazyLock::new(|| {
    let forms = [
        r"~|null|nil|none",
        r"y|yes|n|no|true|false|on|off",
        r"[-+]?\.?(inf|infinity|nan)",
        r"[-+]?0x[0-9a-f_.p+-]*",
        r"[-+]?0[ob][0-9_]*",
        r"[-+]?[0-9][0-9_,]*(\.[0-9_]*)?(e[-+]?[0-9_]*)?",
        r"[-+]?\.[0-9_]*(e[-+]?[0-9_]*)?",
        r"[-+]?[0-9][0-9_]*(:[0-9]{1,2})+(\.[0-9_]*)?",
        r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([t \t](?s:.*))?",
        r"=|<<",
    ];
    Regex::new(&format!("^(?:{})$", forms.join("|"))).expect("the pattern is a constant")
});

/// Whether a plain scalar with this text is a string to every reader.
pub(super) fn is_string(text: &str) -> bool {
    !text.is_empty() && !NOT_A_STRING.is_match(&text.to_ascii_lowercase())
}

/// Whether a text is a number, a boolean or null to every reader alike.
pub fn is_literal(text: &str) -> bool {
    static LITERAL: LazyLock<Regex> = LazyLock::new(|| {
        let number = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?";
        Regex::new(&format!("^(?:true|false|null|{number})$")).expect("the pattern is a constant")
    });
    LITERAL.is_match(text)
}

/// Whether a string may stand without quotes anywhere a value may.
fn is_plain(text: &str) -> bool {
    let first = |c: char| c.is_alphanumeric() || matches!(c, '/' | '_' | '.' | '$' | '+');
    let inner =
        |c: char| c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
    text.starts_with(first)
        && text.chars().all(inner)
        // Comma and brackets end a plain scalar in a flow collection.
        && !text.contains([',', '[', ']', '{', '}'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        // A document marker must not come about at the start of a line.
        && !text.starts_with("...")
        && is_string(text)
}

/// The string as a scalar on one line, in the wanted style if that can hold it.
pub(super) fn render(text: &str, style: Style) -> (String, Style) {
    match style {
        Style::Plain if is_plain(text) => (text.to_owned(), Style::Plain),
        Style::Single if !text.chars().any(needs_escape) => {
            (format!("'{}'", text.replace('\'', "''")), Style::Single)
        }
        _ => (double(text), Style::Double),
    }
}

fn double(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if !needs_escape(c) => out.push(c),
            c if u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Whether a character is not printable in YAML, breaks a line for some reader, or would turn
/// the order of the text around it for an eye.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_string_everywhere() {
        let others = [
            "",
            "~",
            "null",
            "Null",
            "NULL",
            "y",
            "N",
            "yes",
            "No",
            "on",
            "OFF",
            "true",
            "False",
            "0",
            "1",
            "-1",
            "+1",
            "007",
            "0o17",
            "0O17",
            "0x1",
            "0xdeadbeef",
            "0b101",
            "1_000",
            "1,000",
            "1e6",
            "1E6",
            "1e+6",
            "12e03",
            "123e4567",
            "1.",
            "1.5",
            ".5",
            "-.5e1",
            "1.5e-3",
            ".inf",
            "-.INF",
            ".nan",
            "NaN",
            "inf",
            "1:30",
            "190:20:30",
            "1:30.5",
            "2024-01-31",
            "2024-1-2",
            "2024-01-31T10:00:00Z",
            "2024-01-31 10:00:00",
            "1234567",
            "<<",
            "=",
        ];
        for text in others {
            assert!(!is_string(text), "{text}");
            assert_eq!(render(text, Style::Plain).1, Style::Double, "{text}");
        }
        let strings = [
            "1.2.3",
            "v1",
            "1a2b3c4",
            "2024-01-31-abc",
            "20240131-abc",
            "latest",
            "yesterday",
            "1.2.3-rc.1",
            "sha-1e6",
            "16-alpine",
            "nullable",
            "localhost:5000/app:1.0",
            "app@sha256:e3b0c442",
            "/bin/sh",
            "値",
            "a b",
            "it's",
            "a\"b",
            "x#y",
            "release/1.0",
        ];
        for text in strings {
            assert_eq!(render(text, Style::Plain), (text.into(), Style::Plain));
        }
    }

    #[test]
    fn plain_text_that_is_syntax_is_quoted() {
        let cases = [
            "a: b",
            "a #b",
            "a:",
            " a",
            "a ",
            "-",
            "- a",
            "? a",
            ":a",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "#a",
            "'a",
            "\"a",
            "[a]",
            "{a}",
            "a, b",
            "a\tb",
            "a\nb",
            "---",
            "...",
            "a\u{a0}b",
            "a\u{2028}b",
            "😀",
        ];
        for text in cases {
            assert_eq!(render(text, Style::Plain).1, Style::Double, "{text:?}");
        }
    }

    #[test]
    fn quotes_are_kept_and_escaped() {
        assert_eq!(render("it's", Style::Single).0, "'it''s'");
        assert_eq!(render("1", Style::Single).0, "'1'");
        assert_eq!(render("a\nb", Style::Single).0, r#""a\nb""#);
        assert_eq!(render("", Style::Single).0, "''");
        assert_eq!(
            render("\"\\\t\0\u{85}\u{202e}値😀", Style::Double).0,
            r#""\"\\\t\x00\x85\u202E値😀""#
        );
    }
}
