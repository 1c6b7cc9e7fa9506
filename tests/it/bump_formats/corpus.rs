//! Every scalar of several hundred manifests is edited. Two parsers that the edit did not ask judge
//! it: exactly that scalar differs and no other byte, or it was refused, for few reasons and rarely.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pipewright::formats::yaml::{self, Problem, Wanted};
use saphyr_parser::{Event, Parser};
use yaml_edit::{YamlFile, YamlNode};

use crate::support::files::root;

/// What is written, in turn: plain, ambiguous, syntax, other scripts.
const VALUES: &[&str] = &[
    "v2.0.1",
    "1234567",
    "registry.example.com/app:v2@sha256:0a1b",
    "on",
    "1e6",
    "a: b #c",
    "日本語 の値",
    "it's \"so\" \\n",
    "",
    "- x",
    "2024-01-31",
    "[x, y]",
    "🚀",
    "a, b",
];

/// The manifests as they were written, by name.
fn manifests() -> BTreeMap<String, String> {
    let directory = root().join("tests/data/manifests");
    let entries = std::fs::read_dir(&directory).expect("a readable directory");
    entries
        .map(|entry| {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().expect("a name").display().to_string();
            (name, std::fs::read_to_string(&path).expect("a text"))
        })
        .filter(|(name, _)| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect()
}

fn each_line(text: &str, change: impl Fn(&str) -> String) -> String {
    text.lines()
        .map(|line| match line.trim().is_empty() {
            true => "\n".to_owned(),
            false => format!("{}\n", change(line)),
        })
        .collect()
}

/// The same manifest as other people and programs would have written it.
fn variants(text: &str) -> Vec<(&'static str, String)> {
    let one_document = !text.contains("\n---") && !text.starts_with(['-', '%']);
    let nested = match one_document {
        true => format!("外側:\n{}", each_line(text, |line| format!("  {line}"))),
        false => format!("{text}---\nname: x\n"),
    };
    vec![
        ("as written", text.to_owned()),
        ("CRLF", text.replace('\n', "\r\n")),
        ("byte order mark", format!("\u{feff}{text}")),
        ("no final line end", text.trim_end().to_owned()),
        (
            "comments",
            each_line(text, |line| format!("{line} # 注: [x")),
        ),
        ("comment above", format!("# 日本語のコメント\n\n{text}")),
        ("nested", nested),
        (
            "another document",
            format!("{text}---\nkind: Extra\nname: 'その他'\n"),
        ),
        (
            "spaces at line ends",
            each_line(text, |line| format!("{line}   ")),
        ),
        (
            "CRLF, mark and blank lines",
            format!(
                "\u{feff}{}",
                each_line(text, |line| format!("{line}\n")).replace('\n', "\r\n")
            ),
        ),
    ]
}

/// All events of a text; `None` if it is not YAML.
fn events(text: &str) -> Option<Vec<Event<'_>>> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(body);
    let mut all = Vec::new();
    while let Some(event) = parser.next_event() {
        all.push(event.ok()?.0);
    }
    Some(all)
}

/// All scalars of a text, keys too, as the other parser reads them.
fn scalars(text: &str) -> Vec<String> {
    fn below(node: &YamlNode, all: &mut Vec<String>) {
        match node {
            YamlNode::Scalar(scalar) => all.push(scalar.as_string()),
            YamlNode::Mapping(mapping) => {
                for entry in mapping.entries() {
                    for node in [entry.key_node(), entry.value_node()].into_iter().flatten() {
                        below(&node, all);
                    }
                }
            }
            YamlNode::Sequence(sequence) => {
                for item in sequence.values() {
                    below(&item, all);
                }
            }
            YamlNode::TaggedNode(tagged) => {
                let inner = tagged.as_mapping().map(YamlNode::Mapping);
                let inner = inner.or_else(|| tagged.as_sequence().map(YamlNode::Sequence));
                let inner = inner.or_else(|| tagged.value().map(YamlNode::Scalar));
                inner.iter().for_each(|node| below(node, all));
            }
            YamlNode::Alias(_) => all.push("*".to_owned()),
        }
    }
    let mut all = Vec::new();
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    for document in YamlFile::parse(body).tree().documents() {
        let root = document
            .as_tagged()
            .map(YamlNode::TaggedNode)
            .or_else(|| document.as_mapping().map(YamlNode::Mapping))
            .or_else(|| document.as_sequence().map(YamlNode::Sequence))
            .or_else(|| document.as_scalar().map(YamlNode::Scalar));
        root.iter().for_each(|node| below(node, &mut all));
    }
    all
}

/// Panics unless the texts differ in one scalar, which says `new` now.
#[track_caller]
fn one_scalar_differs(before: &str, after: &str, new: &str, what: &str) {
    let (old, now) = (
        events(before).expect("it was read"),
        events(after).unwrap_or_else(|| panic!("{what}: the result is not YAML:\n{after}")),
    );
    assert_eq!(old.len(), now.len(), "{what}");
    let differing: Vec<_> = old.iter().zip(&now).filter(|(a, b)| a != b).collect();
    match differing.as_slice() {
        [(Event::Scalar(_, _, old_anchor, old_tag), Event::Scalar(value, _, anchor, tag))] => {
            assert_eq!(
                (value.as_ref(), anchor, tag),
                (new, old_anchor, old_tag),
                "{what}"
            );
        }
        other => panic!("{what}: {other:?} differ"),
    }
    let (old, now) = (scalars(before), scalars(after));
    assert_eq!(old.len(), now.len(), "{what}: the other parser");
    let differing = old.iter().zip(&now).filter(|(a, b)| a != b);
    let now_says: Vec<&str> = differing.map(|(_, now)| now.as_str()).collect();
    // A number may become a string of the same letters.
    assert!(
        now_says.is_empty() || now_says == [new],
        "{what}: the other parser reads {now_says:?}"
    );
}

/// Panics unless only one stretch of one line differs, which is that of the value.
#[track_caller]
fn only_the_value_differs(before: &str, edited: &yaml::Edited, what: &str) {
    let after = &edited.text;
    let tail = after.len() - edited.span.end;
    let end = before.len() - tail;
    // Behind a colon with nothing after it, a space is written too.
    let start = match edited.before.is_empty() && end < edited.span.start {
        true => end,
        false => edited.span.start,
    };
    let lead = &after[start..edited.span.start];
    assert!(lead.is_empty() || lead == " ", "{what}: {lead:?}");
    assert_eq!(before[..start], after[..start], "{what}");
    assert_eq!(before[end..], after[edited.span.end..], "{what}");
    let replaced = &before[start..end];
    assert!(!replaced.contains(['\n', '\r']), "{what}: {replaced:?}");
    let lines = before.matches('\n').count();
    assert_eq!(lines, after.matches('\n').count(), "{what}");
}

#[derive(Default)]
struct Tally {
    manifests: BTreeSet<String>,
    unreadable: BTreeMap<String, usize>,
    edited: usize,
    refused: BTreeMap<String, usize>,
}

impl Tally {
    fn manifest(&mut self, name: &str, text: &str) {
        if !self.manifests.insert(text.to_owned()) {
            return;
        }
        let leaves = match yaml::leaves(text, |_| true) {
            Ok(leaves) => leaves,
            Err(error) => {
                assert_eq!(error.problem, Problem::Invalid, "{name}: {error}");
                assert!(events(text).is_none(), "{name}: {error}");
                *self.unreadable.entry(name.to_owned()).or_default() += 1;
                return;
            }
        };
        for (index, leaf) in leaves.iter().enumerate() {
            let what = format!("{name} {} on line {}", leaf.path, leaf.line);
            let new = VALUES[(index + name.len()) % VALUES.len()];
            match yaml::set_leaf(text, leaf, Wanted::Text(new)) {
                Ok(edited) => {
                    self.edited += 1;
                    assert_eq!(edited.before, leaf.value, "{what}");
                    assert!(edited.changed || leaf.value == new, "{what}");
                    if edited.changed {
                        one_scalar_differs(text, &edited.text, new, &what);
                        only_the_value_differs(text, &edited, &what);
                    }
                    self.by_path(text, leaf, new, &edited, &what);
                }
                Err(error) => {
                    let reason = format!("{:?}", error.problem);
                    *self.refused.entry(reason).or_default() += 1;
                    assert!(error.line.is_some(), "{what}: {error}");
                }
            }
        }
    }

    /// The path of a leaf leads to it, or says that it leads to several.
    fn by_path(
        &self,
        text: &str,
        leaf: &yaml::Leaf,
        new: &str,
        expected: &yaml::Edited,
        what: &str,
    ) {
        // The root of a document has no path.
        let Ok(path) = yaml::Path::parse(&leaf.path) else {
            assert!(leaf.path.is_empty(), "{what}");
            return;
        };
        match yaml::set(text, &path, new) {
            Ok(edited) => assert_eq!(&edited, expected, "{what}"),
            Err(error) => assert_eq!(error.problem, Problem::Ambiguous, "{what}: {error}"),
        }
    }
}

#[test]
fn every_scalar_of_the_corpus_is_edited_alone_or_refused() {
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    for (name, text) in manifests() {
        for (variant, text) in variants(&text) {
            // One failure must not hide the others.
            let name = format!("{name} ({variant})");
            let judged = catch_unwind(AssertUnwindSafe(|| tally.manifest(&name, &text)));
            failed.extend(judged.is_err().then_some(name));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let Tally {
        manifests,
        unreadable,
        edited,
        refused,
    } = &tally;
    let story = format!(
        "{} manifests, {edited} edits, refused {refused:?}, unreadable {unreadable:?}",
        manifests.len()
    );
    assert!(manifests.len() >= 400, "{story}");
    assert!(*edited >= 4_800, "{story}");
    // A template is no YAML; neither is a text over several lines with comments put between.
    assert!(unreadable.len() * 15 <= manifests.len(), "{story}");
    for (reason, count) in refused {
        // Per mille of all scalars.
        let bound = match reason.as_str() {
            "Block" => 40,
            "Shared" => 25,
            "MultiLine" | "Duplicate" | "Tagged" | "CannotCreate" => 12,
            "Unsafe" => 2,
            other => panic!("no scalar is refused for {other}: {story}"),
        };
        assert!(count * 1_000 <= bound * edited, "{reason}: {story}");
    }
    let all: usize = refused.values().sum();
    assert!(all * 1_000 <= 90 * edited, "{story}");
}
