//! Shows how two texts differ, as people and tools read it: the unified format.

use std::fmt::Write;

use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;
/// Most lines of either side that are compared in detail, between what they begin and end with in
/// common; beyond it they are shown as replaced as a whole.
const MAX_COMPARED: usize = 4_000;

/// The unified diff from one text to another; empty if they are equal. `name` is the path shown.
pub fn unified(name: &str, before: &str, after: &str) -> String {
    let mut out = String::new();
    if before == after {
        return out;
    }
    let (old, new) = (lines(before), lines(after));
    // A path with a line break must not look like a line of the diff.
    let name = name.replace(['\n', '\r'], "?");
    let _ = write!(out, "--- a/{name}\n+++ b/{name}\n");
    for hunk in group_diff_ops(operations(&old, &new), CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else {
            continue;
        };
        let old_range = first.old_range().start..last.old_range().end;
        let new_range = first.new_range().start..last.new_range().end;
        let _ = writeln!(
            out,
            "@@ -{} +{} @@",
            header(old_range.start, old_range.len()),
            header(new_range.start, new_range.len())
        );
        for operation in &hunk {
            match operation {
                DiffOp::Equal { .. } => write(&mut out, ' ', &old[operation.old_range()]),
                _ => {
                    write(&mut out, '-', &old[operation.old_range()]);
                    write(&mut out, '+', &new[operation.new_range()]);
                }
            }
        }
    }
    out
}

/// The lines of a text with their ends.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn operations(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let ends = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = ends.take_while(same).count();
    let (old_len, new_len) = (old_rest.len() - tail, new_rest.len() - tail);

    let mut operations = Vec::new();
    let equal = |old_index, new_index, len| DiffOp::Equal {
        old_index,
        new_index,
        len,
    };
    if head > 0 {
        operations.push(equal(0, 0, head));
    }
    if old_len.max(new_len) > MAX_COMPARED {
        operations.push(DiffOp::Replace {
            old_index: head,
            old_len,
            new_index: head,
            new_len,
        });
    } else {
        let (old, new) = (&old_rest[..old_len], &new_rest[..new_len]);
        for operation in capture_diff_slices(Algorithm::Myers, old, new) {
            operations.push(shift(operation, head));
        }
    }
    if tail > 0 {
        operations.push(equal(head + old_len, head + new_len, tail));
    }
    operations
}

fn shift(operation: DiffOp, by: usize) -> DiffOp {
    let (tag, old, new) = operation.as_tag_tuple();
    let (old_index, new_index) = (old.start + by, new.start + by);
    let (old_len, new_len) = (old.len(), new.len());
    match tag {
        similar::DiffTag::Equal => DiffOp::Equal {
            old_index,
            new_index,
            len: old_len,
        },
        similar::DiffTag::Delete => DiffOp::Delete {
            old_index,
            old_len,
            new_index,
        },
        similar::DiffTag::Insert => DiffOp::Insert {
            old_index,
            new_index,
            new_len,
        },
        similar::DiffTag::Replace => DiffOp::Replace {
            old_index,
            old_len,
            new_index,
            new_len,
        },
    }
}

/// One side of the header of a hunk: an empty range stands behind the line before it.
fn header(start: usize, len: usize) -> String {
    match len {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        _ => format!("{},{len}", start + 1),
    }
}

fn write(out: &mut String, sign: char, lines: &[&str]) {
    for line in lines {
        out.push(sign);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changes_are_shown_with_their_surroundings() {
        let cases = [
            ("a\n", "a\n", ""),
            ("a\n", "b\n", "@@ -1 +1 @@\n-a\n+b\n"),
            ("", "a\n", "@@ -0,0 +1 @@\n+a\n"),
            ("a\n", "", "@@ -1 +0,0 @@\n-a\n"),
            (
                "a",
                "a\n",
                "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n",
            ),
            (
                "a\r\nb\r\n",
                "a\r\nc\r\n",
                "@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n",
            ),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
                "1\n2\n3\n4\nx\n6\n7\n8\n9\n",
                "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n",
            ),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
                "0\n1\n2\n3\n4\n5\n6\n7\n8\n",
                "@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -6,4 +7,3 @@\n 6\n 7\n 8\n-9\n",
            ),
        ];
        for (before, after, hunks) in cases {
            let head = "--- a/v.yaml\n+++ b/v.yaml\n";
            let expected = match hunks {
                "" => String::new(),
                hunks => format!("{head}{hunks}"),
            };
            assert_eq!(unified("v.yaml", before, after), expected);
        }
    }

    #[test]
    fn large_texts_are_not_compared_in_detail() {
        let before: String = (0..100_000).map(|n| format!("a{n}\n")).collect();
        let after = before.replace('a', "b");
        let diff = unified("x", &format!("same\n{before}"), &format!("same\n{after}"));
        assert!(
            diff.contains("@@ -1,100001 +1,100001 @@\n same\n-a0\n"),
            "{}",
            &diff[..200]
        );
        assert_eq!(diff.lines().count(), 200_000 + 4);
        let one = before.replace("a50000\n", "z\n");
        assert_eq!(unified("x", &before, &one).lines().count(), 2 + 1 + 8);
    }

    /// Applies a diff as `patch` would, to see that it says what happened.
    fn apply(before: &str, diff: &str) -> String {
        let old = lines(before);
        let mut out = String::new();
        let mut at = 0;
        let body: Vec<&str> = diff.split_inclusive('\n').skip(2).collect();
        for (index, line) in body.iter().enumerate() {
            let bare = body
                .get(index + 1)
                .is_some_and(|next| next.starts_with('\\'));
            let text = if bare {
                line[1..].trim_end_matches('\n')
            } else {
                &line[1..]
            };
            match line.as_bytes()[0] {
                b'@' => {
                    let range = line[4..].split(' ').next().unwrap();
                    let (start, len) = range.split_once(',').unwrap_or((range, "1"));
                    let start: usize = start.parse().unwrap();
                    let from = if len == "0" { start } else { start - 1 };
                    old[at..from].iter().for_each(|line| out.push_str(line));
                    at = from;
                }
                b'+' => out.push_str(text),
                b'\\' => {}
                sign => {
                    assert_eq!(old[at], text);
                    at += 1;
                    if sign == b' ' {
                        out.push_str(text);
                    }
                }
            }
        }
        old[at..].iter().for_each(|line| out.push_str(line));
        out
    }

    proptest! {
        #[test]
        fn a_diff_applied_gives_the_new_text(
            before in "([ab]?\n){0,20}[a]?",
            after in "([ab]?\n){0,20}[a]?",
        ) {
            let diff = unified("x", &before, &after);
            if before == after {
                prop_assert!(diff.is_empty());
            } else {
                prop_assert_eq!(apply(&before, &diff), after);
            }
        }
    }
}
