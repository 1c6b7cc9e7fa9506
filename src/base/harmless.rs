//! Makes text from outside harmless where it is shown: on screens, in logs and on pages. What is
//! found in an image, said by a registry or printed by a stage must not move the cursor, turn the
//! direction of reading or become a link.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line of text from outside, made safe to show: no escape sequences, no control characters,
/// tabs as blanks, nothing that changes the direction of reading.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(Cleaner { colours: false }.run(text))
}

/// Whether output holds nothing but printable ASCII, tabs and line ends, so that no line of it has
/// to be cleaned.
pub fn is_plain_log(bytes: &[u8]) -> bool {
    // Block by block without an early exit inside one, which the compiler turns into a few wide
    // instructions: output is looked at faster than it can be copied.
    bytes.chunks(256).all(|block| {
        let odd = |byte: &u8| !matches!(byte, b'\t' | b'\n' | b' '..=b'~');
        !block.iter().fold(false, |any, byte| any | odd(byte))
    })
}

/// One line of a log, made safe to show but left as it is otherwise: tabs stay, and colours if
/// asked for. What a carriage return overwrote is gone, as it would be on a screen.
pub fn clean_log(text: &str, colours: bool) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut lines = text.trim_end_matches('\r').rsplit('\r');
    let text = lines.next().unwrap_or("");
    let mut cleaned = String::with_capacity(text.len());
    for (at, part) in text.split('\t').enumerate() {
        if at > 0 {
            cleaned.push('\t');
        }
        cleaned.push_str(&Cleaner { colours }.run(part));
    }
    if cleaned.contains('\u{1b}') {
        cleaned.push_str("\u{1b}[0m");
    }
    Cow::Owned(cleaned)
}

/// Several lines of text from outside as one line.
pub fn one_line(text: &str) -> String {
    let mut joined = String::new();
    for word in text.split_whitespace() {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&clean(word));
    }
    joined
}

struct Cleaner {
    colours: bool,
}

impl Cleaner {
    fn run(&self, text: &str) -> String {
        let mut cleaned = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\u{1b}' => rest = self.escape(rest, &mut cleaned),
                '\t' => cleaned.push_str("    "),
                '\n' | '\r' | '\u{2028}' | '\u{2029}' => cleaned.push(' '),
                // Direction marks can make a line read as something it is not.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
                '\u{61c}' | '\u{feff}' => {}
                c if c.is_control() => {}
                c => cleaned.push(c),
            }
        }
        cleaned
    }

    /// Skips an escape sequence whose first byte is gone; returns what follows it.
    fn escape<'a>(&self, rest: &'a str, cleaned: &mut String) -> &'a str {
        let bytes = rest.as_bytes();
        match bytes.first() {
            Some(b'[') => {
                let body = &bytes[1..];
                let inner = body
                    .iter()
                    .take_while(|byte| matches!(byte, 0x20..=0x3f))
                    .count();
                match body.get(inner) {
                    Some(b'm') if self.colours && is_colour(&body[..inner]) => {
                        let _ = write!(cleaned, "\u{1b}{}", &rest[..inner + 2]);
                        &rest[inner + 2..]
                    }
                    Some(0x40..=0x7e) => &rest[inner + 2..],
                    _ => &rest[inner + 1..],
                }
            }
            // Strings (titles, links, …) end at BEL or ESC \. One that never ends hides nothing.
            Some(b']' | b'P' | b'X' | b'^' | b'_') => {
                match rest.find(['\u{7}', '\u{1b}', '\u{9c}']) {
                    Some(end) if bytes[end] == 0x1b => {
                        let after = &rest[end + 1..];
                        after.strip_prefix('\\').unwrap_or(&rest[end..])
                    }
                    Some(end) => rest[end..].trim_start_matches(['\u{7}', '\u{9c}']),
                    None => &rest[1..],
                }
            }
            Some(0x20..=0x7e) => {
                let skipped = bytes
                    .iter()
                    .take_while(|byte| matches!(byte, 0x20..=0x2f))
                    .count();
                match bytes.get(skipped) {
                    Some(0x30..=0x7e) => &rest[skipped + 1..],
                    _ => &rest[skipped..],
                }
            }
            _ => rest,
        }
    }
}

fn is_colour(parameters: &[u8]) -> bool {
    parameters.len() <= 32
        && parameters
            .iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'))
}

/// Text that Markdown and HTML take literally: nothing from outside becomes a link, a mention, a
/// picture or a new cell.
pub fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '@' => escaped.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    // An address is no link if its scheme is broken up.
    escaped.replace("://", ":&#47;&#47;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_controls_go() {
        for (dirty, tidy) in [
            ("plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hgone", "gone"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;never ends", "0;never ends"),
            ("a\u{1b}", "a"),
            ("a\u{1b}[", "a"),
            ("a\u{1b}[31", "a"),
            ("\u{1b}(Bx\u{1b}7y", "xy"),
            ("\u{1b}構", "構"),
            ("\u{1b}[構", "構"),
            ("a\u{0}b\u{8}c\u{7f}d\u{9b}e", "abcde"),
            ("a\tb", "a    b"),
            ("user\u{202e}txt.exe", "usertxt.exe"),
            ("構築 ✓", "構築 ✓"),
        ] {
            assert_eq!(clean(dirty), tidy, "{dirty:?}");
        }
    }

    #[test]
    fn logs_keep_tabs_and_maybe_colours() {
        assert_eq!(clean_log("a\tb", false), "a\tb");
        assert_eq!(clean_log("10%\r50%\r100%\r", false), "100%");
        assert_eq!(clean_log("\u{1b}[1;31mred", false), "red");
        assert_eq!(
            clean_log("\u{1b}[1;31mred\u{1b}[2K", true),
            "\u{1b}[1;31mred\u{1b}[0m"
        );
        assert_eq!(clean_log("\u{1b}[?25lx", true), "x");
    }

    #[test]
    fn plain_output_needs_no_cleaning() {
        for block in [0, 1, 255, 256, 257, 1000] {
            let mut bytes = b"a\tb ~\n".repeat(block).to_vec();
            assert!(is_plain_log(&bytes), "{block}");
            for odd in [0, 7, b'\r', 0x1b, 0x7f, 0x80, 0xff] {
                bytes.push(odd);
                assert!(!is_plain_log(&bytes), "{odd:#x} after {block}");
                bytes.pop();
            }
        }
    }

    #[test]
    fn lines_are_joined() {
        assert_eq!(one_line(" a\n\tb \u{1b}[31mc\r\n"), "a b c");
    }

    #[test]
    fn markdown_stays_text() {
        assert_eq!(
            escape_markdown("@a [x](http://e) \u{202e}<b>|\n`c`"),
            "&#64;a \\[x\\](http:&#47;&#47;e) &lt;b&gt;\\| \\`c\\`"
        );
    }
}
