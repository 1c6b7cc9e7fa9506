//! The forms in which a secret may show up in text. Pure; knows nothing about searching.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::SHORTEST;

/// Longer forms are cut into overlapping pieces of this many bytes. It bounds what a stream
/// holds back; a piece this long that appears alone is a leak as well.
pub(super) const LONGEST: usize = 1024;

/// Only values up to this many bytes are also looked for in encoded forms; it bounds memory.
const LONGEST_ENCODED: usize = 64 * 1024;

/// Columns at which common tools wrap base64 (`base64`, `openssl base64`).
const WRAPS: [usize; 2] = [76, 64];

/// A wrapped rest of base64 that is shorter is not worth a mask.
const SHORTEST_WRAPPED: usize = 8;

/// The value without newlines at its ends, which tools add and drop as they like.
pub(super) fn trimmed(value: &str) -> &str {
    value.trim_matches(['\r', '\n'])
}

/// Adds all forms of a trimmed value of at least [`SHORTEST`] characters.
pub(super) fn of(value: &str, into: &mut BTreeSet<Vec<u8>>) {
    add(value.as_bytes(), into);
    for line in value.lines() {
        if line.chars().count() >= SHORTEST {
            add(line.as_bytes(), into);
        }
    }
    if value.len() > LONGEST_ENCODED {
        return;
    }
    base64(value.as_bytes(), into);
    hex(value.as_bytes(), into);
    url(value, into);
    json(value, into);
}

/// Adds one form, in overlapping pieces if it is long.
fn add(form: &[u8], into: &mut BTreeSet<Vec<u8>>) {
    if form.len() <= LONGEST {
        into.insert(form.to_vec());
        return;
    }
    // Pieces share a byte, so that a whole occurrence is one union and one replacement.
    for start in (0..form.len() - LONGEST).step_by(LONGEST - 1) {
        into.insert(form[start..start + LONGEST].to_vec());
    }
    into.insert(form[form.len() - LONGEST..].to_vec());
}

/// Base64 of the value inside something longer: of each of the three alignments, only the
/// characters that do not depend on what stands before or after.
fn base64(value: &[u8], into: &mut BTreeSet<Vec<u8>>) {
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for (before, unstable) in [(0, 0), (1, 2), (2, 3)] {
            let mut bytes = vec![0; before];
            bytes.extend_from_slice(value);
            let stable = bytes.len() * 8 / 6;
            let text = engine.encode(&bytes);
            let text = &text.as_bytes()[unstable..stable];
            add(text, into);
            if before == 0 {
                for width in WRAPS.into_iter().filter(|width| text.len() > *width) {
                    text.chunks(width)
                        .filter(|line| line.len() >= SHORTEST_WRAPPED)
                        .for_each(|line| add(line, into));
                }
            }
        }
    }
}

/// Hexadecimal digits, all lower and all upper.
fn hex(value: &[u8], into: &mut BTreeSet<Vec<u8>>) {
    let mut text = String::with_capacity(value.len() * 2);
    for byte in value {
        let _ = write!(text, "{byte:02x}");
    }
    add(text.as_bytes(), into);
    add(text.to_ascii_uppercase().as_bytes(), into);
}

/// Percent-encoding as the common encoders do it: they differ in what they keep (nothing;
/// `encodeURIComponent`'s marks; a path's slashes), in the case of digits and in spaces.
fn url(value: &str, into: &mut BTreeSet<Vec<u8>>) {
    for keep in ["", "!'()*", "/"] {
        for space in ["%20", "+"] {
            let mut upper = String::new();
            let mut lower = String::new();
            for byte in value.bytes() {
                let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
                if plain || keep.as_bytes().contains(&byte) {
                    upper.push(char::from(byte));
                    lower.push(char::from(byte));
                } else if byte == b' ' {
                    upper.push_str(space);
                    lower.push_str(space);
                } else {
                    let _ = write!(upper, "%{byte:02X}");
                    let _ = write!(lower, "%{byte:02x}");
                }
            }
            add(upper.as_bytes(), into);
            add(lower.as_bytes(), into);
        }
    }
}

/// The inside of a JSON string as the common writers escape it: as little as they must, all that
/// is not ASCII, what HTML could misread, and slashes.
fn json(value: &str, into: &mut BTreeSet<Vec<u8>>) {
    let ascii: fn(char) -> bool = |c| !c.is_ascii() || c == '\u{7f}';
    let html: fn(char) -> bool = |c| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    for also in [|_| false, ascii, html] {
        for slash in ["/", "\\/"] {
            let mut text = String::with_capacity(value.len() + 16);
            for c in value.chars() {
                match c {
                    '"' => text.push_str("\\\""),
                    '\\' => text.push_str("\\\\"),
                    '\n' => text.push_str("\\n"),
                    '\r' => text.push_str("\\r"),
                    '\t' => text.push_str("\\t"),
                    '\u{8}' => text.push_str("\\b"),
                    '\u{c}' => text.push_str("\\f"),
                    '/' => text.push_str(slash),
                    c if c < ' ' || also(c) => {
                        for unit in c.encode_utf16(&mut [0; 2]) {
                            let _ = write!(text, "\\u{unit:04x}");
                        }
                    }
                    c => text.push(c),
                }
            }
            add(text.as_bytes(), into);
        }
    }
}
