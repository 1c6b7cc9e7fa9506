//! Properties of editing YAML, over texts made up in many styles.

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A value and how it is written.
#[derive(Clone, Debug)]
enum Value {
    Scalar(String),
    Block(Vec<String>),
    Sequence(Vec<Value>),
    Mapping(Vec<Value>, bool),
}

/// What to write: text, and the paths and values of the scalars in it.
struct Writer {
    text: String,
    scalars: Vec<(String, String)>,
    count: usize,
    end: &'static str,
}

impl Writer {
    fn key(&mut self) -> String {
        self.count += 1;
        let names = ["key", "画像", "a-b_c", "x.y", "two words", "k/v"];
        format!("{}{}", names[self.count % names.len()], self.count)
    }

    fn flow(&mut self, value: &Value, at: &str) {
        match value {
            Value::Scalar(raw) => self.scalar(raw, at),
            Value::Block(_) => self.scalar("'it''s'", at),
            Value::Sequence(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.flow(item, &format!("{at}[{index}]"));
                    self.text.push_str(", ");
                }
                self.text.push(']');
            }
            Value::Mapping(values, _) => {
                self.text.push_str("{ ");
                for value in values {
                    let key = self.key();
                    self.text.push_str(&format!("\"{key}\": "));
                    self.flow(value, &format!("{at}.\"{key}\""));
                    self.text.push_str(" , ");
                }
                self.text.push('}');
            }
        }
    }

    fn scalar(&mut self, raw: &str, at: &str) {
        self.text.push_str(raw);
        self.scalars.push((at.to_owned(), raw.to_owned()));
    }

    /// Writes a value behind `key:` or `-`, with what ends its lines.
    fn block(&mut self, value: &Value, at: &str, indent: usize) {
        let pad = " ".repeat(indent);
        match value {
            Value::Scalar(raw) => {
                self.text.push(' ');
                self.scalar(raw, at);
                if self.count.is_multiple_of(3) {
                    self.text.push_str("  # 注: \"x\" - [y");
                }
                self.text.push_str(self.end);
            }
            Value::Block(lines) => {
                self.text
                    .push_str(if lines.len() % 2 == 0 { " |" } else { " >-" });
                self.text.push_str(self.end);
                for line in lines {
                    self.text.push_str(&format!("{pad} {line}{}", self.end));
                }
            }
            Value::Sequence(items) if !items.is_empty() => {
                self.text.push_str(self.end);
                for (index, item) in items.iter().enumerate() {
                    self.text.push_str(&format!("{pad}-"));
                    self.block(item, &format!("{at}[{index}]"), indent + 2);
                }
            }
            Value::Mapping(values, false) if !values.is_empty() => {
                self.text.push_str(self.end);
                for value in values {
                    let key = self.key();
                    if self.count.is_multiple_of(4) {
                        self.text
                            .push_str(&format!("{pad}# comment{0}{0}", self.end));
                    }
                    self.text.push_str(&format!("{pad}{key}:"));
                    self.block(value, &format!("{at}.\"{key}\""), indent + 2);
                }
            }
            flow => {
                self.text.push(' ');
                self.flow(flow, at);
                self.text.push_str(self.end);
            }
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let raw = prop::sample::select(vec![
        "v1.2.3",
        "'single'",
        "\"double\"",
        "\"esc \\\" \\u5024\"",
        "123",
        "true",
        "値 と 値",
        "''",
        "~",
        "a/b:c@d",
        "'it''s # no'",
        "\"a: b\"",
        "1.0",
        "null",
        "2024-01-01",
        "x#y",
        "-1",
        "\"[x\"",
    ]);
    let line = prop::sample::select(vec!["text", "- no item", "k: v", "# no comment", "'", "値"]);
    let leaf = prop_oneof![
        6 => raw.prop_map(|raw| Value::Scalar(raw.to_owned())),
        1 => prop::collection::vec(line.prop_map(str::to_owned), 1..4).prop_map(Value::Block),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Sequence),
            (prop::collection::vec(inner, 0..5), any::<bool>())
                .prop_map(|(values, flow)| Value::Mapping(values, flow)),
        ]
    })
}

fn new_values() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        "[0-9eExX_.:+-]{0,8}",
        any::<String>(),
        prop::sample::select(vec![
            "on", "No", "~", "v1.2.3", "値", "- x", "a: b", "'", "\"", "\\"
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn one_scalar_changes_and_no_other(
        mut root in prop::collection::vec(values(), 0..5),
        new in new_values(),
        pick in any::<prop::sample::Index>(),
        crlf in any::<bool>(),
    ) {
        // At least one scalar to pick.
        root.push(Value::Scalar("v1".into()));
        let end = if crlf { "\r\n" } else { "\n" };
        let mut writer = Writer { text: "---".into(), scalars: Vec::new(), count: 0, end };
        writer.block(&Value::Mapping(root, false), "", 0);
        let Writer { text, scalars, .. } = writer;

        let (at, raw) = &scalars[pick.index(scalars.len())];
        let edited = set(&text, &path(at), &new).map_err(|error| {
            TestCaseError::fail(format!("{at} in\n{text}\n{error}"))
        })?;
        prop_assert_eq!(&edited.text[..edited.span.start], &text[..edited.span.start]);
        prop_assert_eq!(
            &edited.text[edited.span.end..],
            &text[edited.span.start + raw.len()..]
        );
        prop_assert_eq!(get(&edited.text, &path(at)).unwrap().value, new);
        for (other, _) in scalars.iter().filter(|(other, _)| other != at).take(12) {
            let was = get(&text, &path(other)).unwrap();
            let is = get(&edited.text, &path(other)).unwrap();
            prop_assert_eq!((was.value, was.style), (is.value, is.style));
        }
    }

    #[test]
    fn random_text_never_panics(text in "[-a: \\[\\]{},&*!|>'\"%#?\r\n\t値0]{0,60}", new in new_values()) {
        for at in [".a", "[0]", ".a.a", ".a[0]", "a=0:.a"] {
            if let Ok(edited) = set_or_create(&text, &path(at), &new) {
                prop_assert_eq!(get(&edited.text, &path(at)).unwrap().value, new.clone());
            }
        }
    }

    #[test]
    fn paths_never_panic(text in "[-a.\\[\\]=:/'\"\\\\ 0値]{0,30}") {
        if let Ok(path) = Path::parse(&text) {
            prop_assert_eq!(path.as_str(), text);
        }
    }
}
