//! Tables for reading and editing YAML.

use std::time::{Duration, Instant};

use super::*;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const DEPLOYMENTS: &str = "\
# 二つ
kind: Service
metadata: {name: front}
spec:
  tag: a
---
kind: Deployment
metadata:
  name: front
spec:
  tag: b # here
  containers:
  - image: nginx:1
    name: side
  - name: app
    image: 'app:1'
---
kind: Deployment
metadata:
  name: back
spec:
  tag: c
...
";

#[test]
fn edits_change_the_target_only() {
    // text, path, new value, text after
    let cases = [
        (
            "front:\n  imageTag: v1\n",
            ".front.imageTag",
            "v2",
            "front:\n  imageTag: v2\n",
        ),
        ("a: v1", "a", "v2", "a: v2"),
        ("a: 'v1' # c\n", ".a", "it's", "a: 'it''s' # c\n"),
        ("a: \"v1\"   # c\n", ".a", "v2", "a: \"v2\"   # c\n"),
        (
            "a: \"x\"\n",
            ".a",
            "say \"hi\"\\",
            "a: \"say \\\"hi\\\"\\\\\"\n",
        ),
        ("a: v1\n", ".a", "1234567", "a: \"1234567\"\n"),
        ("a: v1\n", ".a", "1e6", "a: \"1e6\"\n"),
        ("a: v1\n", ".a", "on", "a: \"on\"\n"),
        ("a: v1\n", ".a", "", "a: \"\"\n"),
        ("a: v1\n", ".a", "x: y #z", "a: \"x: y #z\"\n"),
        ("a: v1\n", ".a", "two\nlines", "a: \"two\\nlines\"\n"),
        ("a: 3\n", ".a", "4", "a: \"4\"\n"),
        ("a: true\n", ".a", "v1", "a: v1\n"),
        ("a: 1234567\n", ".a", "1234567", "a: \"1234567\"\n"),
        ("a:\nb: 1\n", ".a", "v", "a: v\nb: 1\n"),
        ("a: # none\nb: 1\n", ".a", "v", "a: v # none\nb: 1\n"),
        ("\"a\" :\n", ".a", "v", "\"a\" : v\n"),
        ("a:", ".a", "v", "a: v"),
        ("a: ~\n", ".a", "v", "a: v\n"),
        (
            "a: {b: 1, c: [x, y]}\n",
            ".a.c[1]",
            "p, q",
            "a: {b: 1, c: [x, \"p, q\"]}\n",
        ),
        ("a: {b: , c: d}\n", ".a.b", "v", "a: {b: v , c: d}\n"),
        ("- x\n- y # z\n", "[1]", "new", "- x\n- new # z\n"),
        ("- - a\n  - b\n", "[0][1]", "new", "- - a\n  - new\n"),
        ("a: &x v1\n", ".a", "v2", "a: &x v2\n"),
        ("a: !!str 1\n", ".a", "2", "a: !!str \"2\"\n"),
        ("a: &x !!str \"1\"\n", ".a", "2", "a: &x !!str \"2\"\n"),
        (
            "%YAML 1.2\n---\na: b\n...\n",
            ".a",
            "c",
            "%YAML 1.2\n---\na: c\n...\n",
        ),
        (
            "\u{feff}a: b\r\n\r\n# c\r\nd: e\r\n",
            ".d",
            "f",
            "\u{feff}a: b\r\n\r\n# c\r\nd: f\r\n",
        ),
        (
            "鍵: 古い値 # 注\n次: x\n",
            ".鍵",
            "新しい値",
            "鍵: 新しい値 # 注\n次: x\n",
        ),
        (
            "a:\n\n\n  b:   v1   \n",
            ".a.b",
            "v2",
            "a:\n\n\n  b:   v2   \n",
        ),
        (
            "a.b: x\n\"c d\":\n  e/f: y\n",
            ".\"c d\".e/f",
            "z",
            "a.b: x\n\"c d\":\n  e/f: z\n",
        ),
        ("a.b: x\n", "[\"a.b\"]", "z", "a.b: z\n"),
        (
            "- name: a\n  v: 1\n- v: 2\n  name: b\n",
            "[name=b].v",
            "new",
            "- name: a\n  v: 1\n- v: new\n  name: b\n",
        ),
        ("? a\n: b\n", ".a", "c", "? a\n: c\n"),
        ("a: http://x/y?z#w\n", ".a", "http://x/q", "a: http://x/q\n"),
        ("a: b\rc: d\r", ".c", "e", "a: b\rc: e\r"),
        (
            "base: &b {x: 1}\nother:\n  <<: *b\n  y: 2\n",
            ".other.y",
            "z",
            "base: &b {x: 1}\nother:\n  <<: *b\n  y: z\n",
        ),
    ];
    for (text, at, new, after) in cases {
        let edited = set(text, &path(at), new).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(edited.text, after, "{text:?}");
        assert!(edited.changed, "{text:?}");
        let read = get(&edited.text, &path(at)).unwrap();
        assert_eq!(read.value, new, "{text:?}");
        assert_eq!(
            (read.span, read.line),
            (edited.span, edited.line),
            "{text:?}"
        );
        let again = set(&edited.text, &path(at), new).unwrap();
        assert!(!again.changed && again.text == after, "{text:?}");
    }
}

#[test]
fn documents_are_told_apart() {
    let cases = [
        ("kind=Service:.spec.tag", "  tag: a\n", "  tag: z\n"),
        (
            "kind=Deployment/name=front:spec.tag",
            "  tag: b #",
            "  tag: z #",
        ),
        ("name=back:.spec.tag", "  tag: c\n", "  tag: z\n"),
        (".spec.containers[name=app].image", "'app:1'", "'z'"),
        (
            "kind=Deployment/name=front:.spec.containers[0].image",
            "nginx:1",
            "z",
        ),
    ];
    for (at, old, new) in cases {
        let edited =
            set(DEPLOYMENTS, &path(at), "z").unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(edited.text, DEPLOYMENTS.replacen(old, new, 1), "{at}");
    }
}

#[test]
fn what_cannot_be_edited_is_refused_with_its_place() {
    use Problem::*;
    // text, path, problem, part of the message, line
    let cases = [
        ("a: b\n", ".c", NotFound, "no key \"c\"; its keys are a", 1),
        ("a:\n  b: c\n", ".a.x", NotFound, ".a has no key \"x\"", 2),
        ("a: b\n", ".a.b", NotFound, "no mapping", 1),
        ("a: [b]\n", ".a.b", NotFound, "choose an item", 1),
        ("a: [b]\n", ".a[1]", NotFound, "1 items", 1),
        ("a: b\n", ".a[0]", NotFound, "not a sequence", 1),
        ("a:\n- n: x\n", ".a[n=y]", NotFound, "no item with n=y", 2),
        ("x: 1\na: *x\n", ".a", Invalid, "not YAML", 2),
        ("x: &x 1\na: *x\n", ".a", Alias, "is an alias", 2),
        (
            "x: &x {b: 1}\na: *x\n",
            ".a.b",
            Alias,
            "cannot go through",
            2,
        ),
        ("x: &x 1\na: *x\n", ".x", Shared, "repeated on line 2", 1),
        (
            "x: &x\n  b: 1\na: *x\n",
            ".x.b",
            Shared,
            "repeated on line 3",
            1,
        ),
        ("x: &x {b: 1}\na:\n  <<: *x\n", ".a.b", NotFound, "merge", 3),
        ("a: |\n  b\n", ".a", Block, "block scalar", 2),
        ("a: >-\n  b\n", ".a", Block, "block scalar", 2),
        ("a: b\n  c\n", ".a", MultiLine, "several lines", 1),
        ("a: \"b\n  c\"\n", ".a", MultiLine, "several lines", 1),
        (
            "a: 1\nb: 2\na: 3\n",
            ".a",
            Duplicate,
            "twice, first on line 1",
            3,
        ),
        ("a:\n  b: 1\na: 3\n", ".a.b", Duplicate, "twice", 3),
        (
            "a:\n- n: x\n  v: 1\n- n: x\n",
            ".a[n=x].v",
            Ambiguous,
            "several items",
            4,
        ),
        ("a: 1\n---\na: 2\n", ".a", Ambiguous, "lines 1 and 3", 3),
        ("a: {}\n", ".a", NotScalar, "a mapping", 1),
        ("a: []\n", ".a", NotScalar, "a sequence", 1),
        ("a: !!int 3\n", ".a", Tagged, "tag", 1),
        ("a: !vault x\n", ".a", Tagged, "!vault", 1),
        ("- \n- b\n", "[0]", CannotCreate, "empty", 1),
        ("a: &x\nb: c\n", ".a", CannotCreate, "empty", 1),
        ("a: [b\n", ".a", Invalid, "not YAML", 2),
        ("a:\n\t- b\n", ".a[0]", Invalid, "not YAML", 2),
        ("a: b: c\n", ".a", Invalid, "not YAML", 1),
        ("a: {{ x }}\n", ".a", NotScalar, "a mapping", 1),
        ("a: \"b\n", ".a", Invalid, "not YAML", 2),
    ];
    for (text, at, problem, message, line) in cases {
        let error = match set(text, &path(at), "new") {
            Err(error) => error,
            Ok(edited) => panic!("{text:?} became {:?}", edited.text),
        };
        assert_eq!(error.problem, problem, "{text:?}: {error}");
        assert!(error.to_string().contains(message), "{text:?}: {error}");
        if problem != Invalid {
            assert_eq!(error.line, Some(line), "{text:?}: {error}");
        }
        assert!(error.span.is_some(), "{text:?}: {error}");
    }
    let error = set("", &path(".a"), "b").unwrap_err();
    assert_eq!(error.problem, NotFound, "{error}");
    let error = set(DEPLOYMENTS, &path("kind=Job:.a"), "b").unwrap_err();
    assert!(
        error.message.contains("no document has kind=Job"),
        "{error}"
    );
    let error = set("a: b\n", &path(".a"), &"x".repeat(MAX_VALUE + 1)).unwrap_err();
    assert_eq!(error.problem, TooLarge);
}

#[test]
fn scalars_are_read() {
    let text = "\u{feff}a: 'it''s'\nb: \"\\u5024\"\nc: |\n  x\n  y\nd: 5\ne:\nf: one\n  two\n";
    let cases = [
        (".a", "it's", Style::Single, "'it''s'"),
        (".b", "値", Style::Double, "\"\\u5024\""),
        (".d", "5", Style::Plain, "5"),
        (".e", "", Style::Plain, ""),
        (".f", "one two", Style::Plain, "one\n  two"),
    ];
    for (at, value, style, raw) in cases {
        let scalar = get(text, &path(at)).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(
            (scalar.value.as_str(), scalar.style),
            (value, style),
            "{at}"
        );
        assert_eq!(&text[scalar.span.start..scalar.span.end], raw, "{at}");
    }
    let block = get(text, &path(".c")).unwrap();
    assert_eq!(
        (block.value.as_str(), block.style),
        ("x\ny\n", Style::Literal)
    );
}

#[test]
fn missing_keys_are_created_in_block_mappings() {
    let cases = [
        ("a:\n  b: 1\nc: 2\n", ".a.x", "a:\n  b: 1\n  x: new\nc: 2\n"),
        ("a:\n  b: 1\n", ".x", "a:\n  b: 1\nx: new\n"),
        ("a: 1", ".x", "a: 1\nx: new"),
        ("a: 1 # c\n# end\n", ".x", "a: 1 # c\nx: new\n# end\n"),
        (
            "a:\r\n    b: 1\r\nc: 2\r\n",
            ".a.x",
            "a:\r\n    b: 1\r\n    x: new\r\nc: 2\r\n",
        ),
        (
            "- a: 1\n  b: 2\n- c: 3\n",
            "[0].x",
            "- a: 1\n  b: 2\n  x: new\n- c: 3\n",
        ),
        (
            "a: 1\n---\nb: 2\n...\n",
            "b=2:.x",
            "a: 1\n---\nb: 2\nx: new\n...\n",
        ),
        (
            "a: |\n  t\n\n  u\n\nb:\n",
            ".x",
            "a: |\n  t\n\n  u\n\nb:\nx: new\n",
        ),
        (
            "m:\n  a: |\n    t\n\n    u\n\nb: 1\n",
            ".m.x",
            "m:\n  a: |\n    t\n\n    u\n  x: new\n\nb: 1\n",
        ),
        (
            "m:\n  a: |+\n    t\n\nb: 1\n",
            ".m.x",
            "m:\n  a: |+\n    t\n\n  x: new\nb: 1\n",
        ),
        (
            "a: {\n  b: 1\n}\nc: [\n  d\n]\n",
            ".x",
            "a: {\n  b: 1\n}\nc: [\n  d\n]\nx: new\n",
        ),
        ("a: b\n  c\n", ".x", "a: b\n  c\nx: new\n"),
        ("a:\n- b\n- c\n", ".x", "a:\n- b\n- c\nx: new\n"),
        ("\u{feff}a: 1\n", ".\"1\"", "\u{feff}a: 1\n\"1\": new\n"),
        ("a: 値\n", ".\"k: v\"", "a: 値\n\"k: v\": new\n"),
    ];
    for (text, at, after) in cases {
        let edited = set_or_create(text, &path(at), "new")
            .unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(edited.text, after, "{text:?}");
        assert_eq!(&after[edited.span.start..edited.span.end], "new");
        assert_eq!(edited.line, get(after, &path(at)).unwrap().line, "{text:?}");
        assert!(edited.changed && edited.before.is_empty());
        assert!(!set_or_create(after, &path(at), "new").unwrap().changed);
    }
    use Problem::*;
    let refused = [
        ("a: 1\n", ".x.y", NotFound, "only the last key"),
        ("a: {b: 1}\n", ".a.x", CannotCreate, "not a block mapping"),
        ("a: {}\n", ".a.x", CannotCreate, "no entries"),
        ("a:\n", ".a.x", CannotCreate, "no entries"),
        (
            "a: &x\n  b: 1\nc: *x\n",
            ".a.x",
            Shared,
            "repeated on line 3",
        ),
        (
            "a: [b: 1]\n",
            ".a[0].x",
            CannotCreate,
            "not a block mapping",
        ),
        ("? a\n: b\n", ".x", CannotCreate, "not a block mapping"),
        ("a: 1\n---\nb: 1\n", ".x", Ambiguous, "several documents"),
        ("- a\n", "[1]", NotFound, "1 items"),
        ("a: |\n  t\n", ".a", Block, "block scalar"),
    ];
    for (text, at, problem, message) in refused {
        let error = set_or_create(text, &path(at), "new").unwrap_err();
        assert_eq!(error.problem, problem, "{text:?}: {error}");
        assert!(error.to_string().contains(message), "{text:?}: {error}");
    }
}

#[test]
fn hostile_texts_end_soon() {
    let units = [
        "- ",
        "? ",
        ": ",
        "[",
        "{",
        "[{",
        "a: ",
        "-\n",
        "? a\n",
        "k: v\n",
        "a, ",
        "&a ",
        "!a ",
        "*a ",
        "---\n",
        "- a\n",
        "'a' ",
        "\"",
        "#\n",
        " ",
        "\n",
        "\r",
        "\t",
        "- &a x\n- *a\n",
        "[a]: b\n",
        "a:\n",
        "値: x\n",
        "%T\n",
        "a:\r\n ",
        "? - ",
        "- ? ",
        "!<a> ",
        "|\n",
        ">\n",
    ];
    let start = Instant::now();
    for unit in units {
        for lead in ["", "x: ", "- ", "[", "x:\n  - "] {
            let text = format!("{lead}{}", unit.repeat(60_000 / unit.len()));
            for at in ["x", "[0]", ".k", "[2][1]"] {
                if let Ok(edited) = set_or_create(&text, &path(at), "new") {
                    assert!(edited.changed, "{unit:?} after {lead:?}");
                }
            }
        }
    }
    let deep: String = (0..150)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    for text in [deep, "[".repeat(150), "- ".repeat(101) + "a"] {
        let error = set(&text, &path(".a"), "b").unwrap_err();
        assert_eq!(error.problem, Problem::TooLarge, "{error}");
    }
    let error = set(&"- a\n".repeat(MAX_NODES), &path("[0]"), "b").unwrap_err();
    assert!(error.message.contains("nodes"), "{error}");
    let wide = "k: v\n".repeat(20_000) + "last: x\n";
    assert_eq!(set(&wide, &path(".last"), "y").unwrap().line, 20_001);
    let error = set(&" ".repeat(MAX_TEXT + 1), &path(".a"), "b").unwrap_err();
    assert_eq!(error.problem, Problem::TooLarge);
    assert!(
        start.elapsed() < Duration::from_secs(240),
        "{:?}",
        start.elapsed()
    );
}
