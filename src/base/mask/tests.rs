//! What is masked, and that chunks do not matter.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

fn masks(values: &[&str]) -> Masks {
    let secrets: Vec<Secret> = values.iter().map(|value| Secret::new(*value)).collect();
    Masks::new(&secrets)
}

#[track_caller]
fn check(values: &[&str], text: &str, expect: &str) {
    assert_eq!(masks(values).mask(text), expect, "{values:?}");
    assert_eq!(masks(values).finds(text), text != expect);
}

#[test]
fn masks_values_and_lines() {
    check(&["hunter22"], "pw=hunter22;", "pw=***;");
    check(&["hunter22"], "hunter22hunter22", "******");
    check(&["hunter22"], "hunter2", "hunter2");
    check(&["one two\nab\nthree\n"], "x three y", "x *** y");
    check(&["one two\nab\nthree\n"], "ab", "ab");
    check(&["one two\r\nthree"], "one two", "***");
    check(&["one two\nab\nthree\n"], "<one two\nab\nthree>", "<***>");
    check(&["naïveté"], "la naïveté même", "la *** même");
    check(&[], "text", "text");
}

#[test]
fn the_longest_form_wins_and_overlaps_are_masked_whole() {
    check(&["abcd", "abcdefgh"], "1abcdefgh2abcd3", "1***2***3");
    check(&["abcdef", "defghi"], "1abcdefghi2", "1***2");
    check(&["abcdefgh", "cdef"], "abcdefg", "ab***g");
}

#[test]
fn masks_encodings() {
    let secret = "p@ss \"wörd\"/?<1>";
    let masks = masks(&[secret]);
    for before in ["", "u", "us", "user:"] {
        for after in ["", "\n", ":x", "..."] {
            let whole = format!("{before}{secret}{after}");
            for text in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
                let masked = masks.mask(&text);
                assert!(masked.contains("***"), "{whole} as {text}");
                // Of the secret's characters only those mixed with its surroundings may stay.
                let around = (before.len() + after.len()).div_ceil(3) * 4 + 8;
                assert!(masked.len() <= around + 3, "{masked}");
            }
        }
    }
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        hex.clone(),
        hex.to_uppercase(),
        "p%40ss%20%22w%C3%B6rd%22%2F%3F%3C1%3E".into(),
        "p%40ss+%22w%c3%b6rd%22%2f%3f%3c1%3e".into(),
        "p%40ss%20%22w%C3%B6rd%22/%3F%3C1%3E".into(),
        r#"p@ss \"wörd\"/?<1>"#.into(),
        r#"p@ss \"wörd\"\/?<1>"#.into(),
        r#"p@ss \"w\u00f6rd\"/?<1>"#.into(),
        r#"p@ss \"wörd\"/?\u003c1\u003e"#.into(),
    ] {
        assert_eq!(masks.mask(&format!("<{text}>")), "<***>");
    }
    check(&["one\ntwo, three"], r"one\ntwo, three", "***");
}

#[test]
fn masks_base64_as_tools_wrap_it() {
    let secret: String = (0..200)
        .map(|n| char::from(b'!' + (n * 7 % 90) as u8))
        .collect();
    let text = STANDARD.encode(&secret);
    for width in [64, 76] {
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(width)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        let masked = masks(&[&secret]).mask(&lines.join("\n"));
        for line in masked.lines() {
            assert!(line.starts_with("***") && line.len() <= 7, "{masked}");
        }
    }
}

#[test]
fn short_values_are_counted_and_left() {
    let masks = masks(&["abc", "", "\n1\n", "long enough"]);
    assert_eq!(masks.too_short(), 3);
    assert_eq!(masks.mask("abc long enough 1"), "abc *** 1");
    assert!(Masks::new(&[Secret::new("abc")]).is_empty());
}

#[test]
fn huge_values_are_masked_in_one_piece_and_hold_little() {
    let secret: String = (0..40_000u32)
        .map(|n| char::from(b' ' + (n * n % 89 + n / 89 % 5) as u8))
        .collect();
    let masks = masks(&[&secret]);
    assert_eq!(masks.mask(&format!("<{secret}>")), "<***>");
    let mut stream = masks.stream();
    let mut out = Vec::new();
    for chunk in secret.as_bytes().chunks(700) {
        stream.push(chunk, &mut out);
        assert!(stream.held.len() < forms::LONGEST, "{}", stream.held.len());
    }
    stream.finish(&mut out);
    assert_eq!(out, b"***");
}

#[test]
fn live_lines_pass_at_once() {
    let masks = masks(&[
        "secret value",
        "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----",
    ]);
    let mut stream = masks.stream();
    let mut push = |chunk: &str| {
        let mut out = Vec::new();
        stream.push(chunk.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(push("building s"), "building ");
    assert_eq!(push("ecret\n"), "secret\n");
    assert_eq!(push("a secret value\n"), "a ***\n");
    // A secret of several lines may have begun.
    assert_eq!(push("-----BEGIN KEY-----\n"), "");
    assert_eq!(push("something else\n"), "***\nsomething else\n");
    assert_eq!(push("the sec"), "the ");
    let mut out = Vec::new();
    stream.finish(&mut out);
    assert_eq!(out, b"sec");
}

#[test]
fn debug_shows_no_secret() {
    let masks = masks(&["hunter22"]);
    let mut stream = masks.stream();
    stream.push(b"hunter2", &mut Vec::new());
    let text = format!("{masks:?} {stream:?}");
    assert!(
        !text.contains("hunter") && text.contains("too_short"),
        "{text}"
    );
}

/// Every occurrence of every form, replaced by the slowest and plainest code.
fn reference(forms: &BTreeSet<Vec<u8>>, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut covered = 0;
    for at in 0..text.len() {
        let longest = forms
            .iter()
            .filter(|form| text[at..].starts_with(form))
            .map(Vec::len)
            .max();
        if let Some(length) = longest {
            if at >= covered {
                out.extend_from_slice(REPLACEMENT);
            }
            covered = covered.max(at + length);
        }
        if at >= covered {
            out.push(text[at]);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn chunks_do_not_matter(
        // A tiny alphabet makes overlaps, prefixes and periodic secrets likely.
        values in prop::collection::vec("[ab\n]{1,9}|[a-c%\"]{4,30}", 1..6),
        pieces in prop::collection::vec(("[ab\nc ]{0,12}", any::<prop::sample::Index>(), any::<bool>(), 0usize..40), 1..12),
        cuts in prop::collection::vec(1usize..24, 1..20),
    ) {
        let secrets: Vec<Secret> = values.iter().map(|value| Secret::new(value.as_str())).collect();
        let masks = Masks::new(&secrets);
        let mut forms = BTreeSet::new();
        for value in &values {
            let value = forms::trimmed(value);
            if value.chars().count() >= SHORTEST {
                forms::of(value, &mut forms);
            }
        }
        let all: Vec<&Vec<u8>> = forms.iter().collect();
        let mut text = Vec::new();
        for (filler, which, insert, keep) in &pieces {
            text.extend_from_slice(filler.as_bytes());
            if *insert && !all.is_empty() {
                let form = which.get(&all);
                text.extend_from_slice(&form[..form.len().min(*keep)]);
            }
        }

        let expect = reference(&forms, &text);
        let mut stream = masks.stream();
        let mut out = Vec::new();
        let mut rest = &text[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, next) = rest.split_at((*cut).min(rest.len()));
            // Passing on what may pass is the same as feeding it.
            if cut % 2 == 0 && stream.lets_pass(chunk) {
                out.extend_from_slice(chunk);
            } else {
                stream.push(chunk, &mut out);
            }
            rest = next;
        }
        stream.finish(&mut out);
        prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expect));
        for form in &forms {
            prop_assert!(!out.windows(form.len()).any(|part| part == &form[..]));
        }
    }
}
