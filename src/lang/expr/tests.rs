//! Tables and properties of expressions.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 12] = [
    "git.short-sha",
    "git.branch",
    "git.tag",
    "input.dry",
    "input.count",
    "input.version",
    "input.wait",
    "input.image",
    "secret.TOKEN",
    "build.app.id",
    "tags",
    "versions",
];

fn type_of(name: &[String]) -> Option<Type> {
    let list = |item| Some(Type::List(Box::new(item)));
    match name.join(".").as_str() {
        "git.short-sha" | "git.branch" | "git.tag" => Some(Type::String),
        "input.dry" => Some(Type::Bool),
        "input.count" => Some(Type::Int),
        "input.version" => Some(Type::Version),
        "input.wait" => Some(Type::Duration),
        "input.image" => Some(Type::Image),
        "secret.TOKEN" => Some(Type::Secret),
        "build.app.id" => Some(Type::Digest),
        "tags" => list(Type::String),
        "versions" => list(Type::Version),
        _ => None,
    }
}

/// A run without a tag.
fn value_of(name: &[String]) -> Option<Value> {
    let text = |text: &str| Some(Value::String(text.into()));
    match name.join(".").as_str() {
        "git.short-sha" => text("abc1234"),
        "git.branch" => text("release/値"),
        "input.dry" => Some(Value::Bool(false)),
        "input.count" => Some(Value::Int(3)),
        "input.version" => Some(Value::Version("v1.10.0".parse().unwrap())),
        "input.wait" => Some(Value::Duration(std::time::Duration::from_secs(90))),
        "input.image" => Some(Value::Image("app:1".into())),
        "secret.TOKEN" => Some(Value::Secret),
        "build.app.id" => Some(Value::Digest(crate::base::Digest::of(b""))),
        "tags" => Some(Value::List(vec![
            Value::String("a".into()),
            Value::String("b".into()),
        ])),
        "versions" => Some(Value::List(vec![Value::Version("1.2".parse().unwrap())])),
        _ => None,
    }
}

/// The expression behind some other text, as it stands in a file.
fn source(text: &str) -> (Source, usize) {
    let lead = "expr \"値 ";
    (Source::new("p.kdl", format!("{lead}{text}\"")), lead.len())
}

fn check(text: &str) -> Result<Expr, Vec<Diagnostic>> {
    let (source, offset) = source(text);
    let expr = parse(&source, offset, text)?;
    assert_eq!(expr.check(&type_of, &NAMES)?, Type::Bool);
    Ok(expr)
}

#[test]
fn expressions_have_values() {
    let cases = [
        ("true", true),
        ("!input.dry", true),
        ("!!input.dry", false),
        ("input.dry || !input.dry", true),
        ("input.dry && !input.dry", false),
        ("true || true && false", true),
        ("(true || true) && false", false),
        ("!(input.count == 3)", false),
        ("input.count == 3", true),
        ("3 != input.count", false),
        ("input.count > -1 && input.count<=3", true),
        ("input.count >= 4", false),
        ("git.short-sha == \"abc1234\"", true),
        ("git.short-sha=='abc1234'", true),
        ("git.branch.startsWith(\"release/\")", true),
        ("git.branch.endsWith('値')", true),
        ("git.branch.contains(git.short-sha)", false),
        ("git.branch.size() == 9", true),
        ("git.branch.matches(r\"^release/\\w+$\")", true),
        ("git.branch.matches(\"^RELEASE/\")", false),
        ("git.branch.matches(\"(?i)^RELEASE/\")", true),
        ("\"a\\\"b\\\\\".size() == 4", true),
        ("(\"ab\").contains('b')", true),
        ("git.branch in [\"main\", \"release/値\",]", true),
        ("\"b\" in tags", true),
        ("'c' in tags", false),
        ("tags.size() == 2", true),
        ("input.count in [1, 2, 3]", true),
        ("input.version > \"1.9\"", true),
        ("\"v2\" > input.version", true),
        ("input.version == \"1.10\"", true),
        ("input.version != \"1.10.0-rc.1\"", true),
        ("input.version in [\"1.2\", \"1.10\"]", true),
        ("\"v1.2.0\" in versions", true),
        ("input.version in versions", false),
        ("input.wait >= \"1m30s\"", true),
        ("input.wait < \"1m\"", false),
        ("input.image == \"app:1\"", true),
        (
            "build.app.id != \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
            true,
        ),
        ("build.app.id == build.app.id", true),
        ("has(secret.TOKEN)", true),
        ("has(git.tag)", false),
        ("has(git.tag) && git.tag.startsWith(\"v\")", false),
        ("!has(git.tag) || git.tag == \"v1\"", true),
        ("input.dry == false", true),
        ("tags == tags", true),
    ];
    for (text, expected) in cases {
        let expr = check(text).unwrap_or_else(|found| panic!("{text}: {found:#?}"));
        assert_eq!(expr.eval(&value_of), Ok(expected), "{text}");
    }
    let long = vec!["input.count == 3"; 200].join(" && ");
    assert_eq!(check(&long).unwrap().eval(&value_of), Ok(true));
}

#[test]
fn mistakes_have_a_code_a_place_and_a_help() {
    // text, code, part of the message, what is underlined, part of the help
    let cases = [
        ("", "PW0130", "empty", "", ""),
        ("input.count = 3", "PW0130", "unexpected '='", "=", "`==`"),
        ("input.dry & true", "PW0130", "unexpected '&'", "&", "`&&`"),
        ("input.dry and true", "PW0130", "found `and`", "and", "`&&`"),
        (
            "not input.dry",
            "PW0130",
            "found `input.dry`",
            "input.dry",
            "",
        ),
        (
            "not(input.dry)",
            "PW0138",
            "no function `not`",
            "not",
            "`!`",
        ),
        (
            "input.count + 1 == 2",
            "PW0130",
            "unexpected '+'",
            "+",
            "no arithmetic",
        ),
        (
            "input.count == 1.5",
            "PW0130",
            "`1.5` is not a whole",
            "1.5",
            "\"1.5\"",
        ),
        ("input.wait > 5m", "PW0130", "`5m` is not", "5m", "\"5m\""),
        (
            "input.count == 99999999999999999999",
            "PW0130",
            "too large",
            "99999999999999999999",
            "",
        ),
        (
            "git.branch == \"main",
            "PW0130",
            "not closed",
            "\"main",
            "quote",
        ),
        (
            "git.branch.matches(\"\\d\")",
            "PW0130",
            "`\\d` is no escape",
            "\\d",
            "raw",
        ),
        ("(true", "PW0130", "expected `)`, found the end", "", ""),
        ("true)", "PW0130", "found `)`", ")", ""),
        ("1 < 2 < 3", "PW0130", "found `<`", "<", "chain"),
        ("true &&", "PW0130", "expected a value", "", ""),
        ("in tags", "PW0130", "found `in`", "in", ""),
        (".git.sha", "PW0130", "found `.`", ".", "dot"),
        ("\"a\".b", "PW0130", "methods", "b", ""),
        ("\"a\".1", "PW0130", "name of a method", "1", ""),
        (
            "${git.branch} == \"x\"",
            "PW0130",
            "unexpected '$'",
            "$",
            "without",
        ),
        ("has(\"x\")", "PW0130", "takes a name", "has", ""),
        ("tags[0] == \"a\"", "PW0130", "found `[`", "[", ""),
        (
            "git.brnach == \"x\"",
            "PW0132",
            "no value `git.brnach`",
            "git.brnach",
            "`git.branch`",
        ),
        ("has(git.tga)", "PW0132", "no value", "git.tga", "`git.tag`"),
        (
            "main == git.branch",
            "PW0132",
            "no value `main`",
            "main",
            "quoted",
        ),
        (
            "git.branch == 3",
            "PW0133",
            "a string and an int",
            "git.branch == 3",
            "nothing is converted",
        ),
        (
            "git.branch < \"x\"",
            "PW0133",
            "no order",
            "git.branch < \"x\"",
            "version",
        ),
        (
            "input.dry > true",
            "PW0133",
            "no order",
            "input.dry > true",
            "",
        ),
        (
            "!git.branch",
            "PW0133",
            "needs a bool",
            "git.branch",
            "!= \"\"",
        ),
        (
            "input.dry && input.count",
            "PW0133",
            "needs a bool",
            "input.count",
            "> 0",
        ),
        (
            "\"a\" in git.branch",
            "PW0133",
            "needs a list",
            "git.branch",
            ".contains",
        ),
        ("1 in tags", "PW0133", "never in", "1", ""),
        (
            "git.branch.startsWith(1)",
            "PW0133",
            "takes a string",
            "1",
            "",
        ),
        (
            "git.branch",
            "PW0134",
            "is a string",
            "git.branch",
            "compare",
        ),
        ("input.count", "PW0134", "is an int", "input.count", "> 0"),
        (
            "secret.TOKEN == \"x\"",
            "PW0135",
            "secret",
            "secret.TOKEN",
            "has",
        ),
        (
            "\"x\" != secret.TOKEN",
            "PW0135",
            "secret",
            "secret.TOKEN",
            "has",
        ),
        (
            "secret.TOKEN in tags",
            "PW0135",
            "secret",
            "secret.TOKEN",
            "",
        ),
        (
            "\"x\" in [secret.TOKEN]",
            "PW0135",
            "secret",
            "secret.TOKEN",
            "",
        ),
        (
            "secret.TOKEN.startsWith(\"x\")",
            "PW0135",
            "secret",
            "startsWith",
            "",
        ),
        ("secret.TOKEN.size() > 3", "PW0135", "secret", "size", ""),
        (
            "git.branch.contains(secret.TOKEN)",
            "PW0135",
            "secret",
            "secret.TOKEN",
            "",
        ),
        ("!secret.TOKEN", "PW0135", "secret", "secret.TOKEN", "has"),
        (
            "input.version > \"latest\"",
            "PW0136",
            "not a version",
            "\"latest\"",
            "",
        ),
        (
            "input.version in [\"1\", \"x\"]",
            "PW0136",
            "not a version",
            "\"x\"",
            "",
        ),
        ("\"y\" in versions", "PW0136", "not a version", "\"y\"", ""),
        (
            "input.wait > \"5\"",
            "PW0136",
            "not a duration",
            "\"5\"",
            "",
        ),
        (
            "build.app.id == \"abc\"",
            "PW0136",
            "not a digest",
            "\"abc\"",
            "",
        ),
        (
            "git.branch.matches(git.tag)",
            "PW0137",
            "written out",
            "git.tag",
            "r\"",
        ),
        (
            "git.branch.matches(\"(\")",
            "PW0137",
            "not valid",
            "\"(\"",
            "",
        ),
        (
            "git.branch.matches(\"(x{1000}){1000}\")",
            "PW0137",
            "too large",
            "\"(x{1000}){1000}\"",
            "",
        ),
        (
            "git.branch.startswith(\"x\")",
            "PW0138",
            "no method `startswith`",
            "startswith",
            "`startsWith`",
        ),
        (
            "git.branch.length() == 1",
            "PW0138",
            "no method",
            "length",
            "size",
        ),
        (
            "size(git.branch) > 1",
            "PW0138",
            "no function",
            "size",
            "x.size",
        ),
        (
            "git.branch.startsWith()",
            "PW0138",
            "needs an argument",
            "startsWith",
            "",
        ),
        (
            "git.branch.startsWith(\"a\", \"b\")",
            "PW0138",
            "one argument",
            "startsWith",
            "",
        ),
        (
            "git.branch.size(1) == 1",
            "PW0138",
            "no argument",
            "size",
            "",
        ),
        (
            "input.version.startsWith(\"1\")",
            "PW0138",
            "a version has no method",
            "startsWith",
            "",
        ),
        (
            "tags.contains(\"a\")",
            "PW0138",
            "a list of string has no",
            "contains",
            "in list",
        ),
        ("git.branch in []", "PW0139", "empty", "[]", ""),
        (
            "git.branch in [\"a\", 1]",
            "PW0139",
            "holds a string and an int",
            "1",
            "",
        ),
    ];
    for (text, code, message, underlined, help) in cases {
        let found = match check(text) {
            Err(found) => found,
            Ok(_) => panic!("{text} was accepted"),
        };
        let [one] = found.as_slice() else {
            panic!("{text}: {found:#?}");
        };
        assert_eq!(one.code, code, "{text}: {one:#?}");
        assert!(one.message.contains(message), "{text}: {one:#?}");
        assert_eq!(one.source.slice(one.span), underlined, "{text}: {one:#?}");
        assert!(
            one.help.as_deref().unwrap_or("").contains(help),
            "{text}: {one:#?}"
        );
    }
}

#[test]
fn every_mistake_is_found_and_can_be_fixed() {
    let text = "git.brunch == \"a\" && secret.TOKEN == \"b\" || input.count";
    let found = check(text).unwrap_err();
    let codes: Vec<_> = found.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["PW0132", "PW0135", "PW0133"]);
    let edit = &found[0].fixes[0].edits[0];
    assert_eq!(
        (edit.source.slice(edit.span), edit.replacement.as_str()),
        ("git.brunch", "git.branch")
    );
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = [
        format!("{}true{}", "(".repeat(33), ")".repeat(33)),
        format!("{}true", "!".repeat(33)),
        format!("1 in {}1{}", "[".repeat(33), "]".repeat(33)),
        format!("\"a\"{} == 1", ".size()".repeat(33)),
        format!("{}\"a\"{}", "\"a\".contains(".repeat(33), ")".repeat(33)),
        "(".repeat(4000),
        " ".repeat(5000),
    ];
    for text in deep {
        let found = check(&text).unwrap_err();
        assert_eq!(found[0].code, "PW0131", "{:#?}", found[0]);
    }
    let deepest = format!("{}true{}", "(".repeat(32), ")".repeat(32));
    assert!(check(&deepest).is_ok());
}

#[test]
fn references_have_their_places() {
    let (source, offset) =
        source("has(git.tag) && git.tag == ( git.branch ) || !has(x.y) || x.y.size() > 1");
    let text = source.slice(Span::new(offset, source.text().len() - 1));
    let expr = parse(&source, offset, text).unwrap();
    let names = |found: Vec<(Vec<String>, Span)>| -> Vec<String> {
        for (name, span) in &found {
            assert_eq!(source.slice(*span), name.join("."));
        }
        found.into_iter().map(|(name, _)| name.join(".")).collect()
    };
    assert_eq!(
        names(expr.references()),
        ["git.tag", "git.tag", "git.branch", "x.y", "x.y"]
    );
    assert_eq!(names(expr.required()), ["git.branch"]);
    let expr = parse(&source, offset, "git.tag == \"\" && has(git.tag)").unwrap();
    assert_eq!(expr.required().len(), 1);
}

#[test]
fn what_is_missing_or_wrong_in_a_run_is_said() {
    let (source, offset) = source("git.tag == \"v1\"");
    let expr = parse(&source, offset, "git.tag == \"v1\"").unwrap();
    let error = expr.eval(&value_of).unwrap_err();
    assert!(error.to_string().contains("has(git.tag)"), "{error}");
    assert!(matches!(error, EvalError::Missing { span, .. } if source.slice(span) == "git.tag"));
    for text in [
        "secret.TOKEN == secret.TOKEN",
        "tags",
        "git.branch < \"x\"",
        "input.count == \"3\"",
        "1 in tags",
    ] {
        let expr = parse(&source, offset, text).unwrap();
        assert!(
            matches!(expr.eval(&value_of), Err(EvalError::Type { .. })),
            "{text}"
        );
    }
}

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "git.branch",
        "input.dry",
        "input.count",
        "input.version",
        "secret.TOKEN",
        "tags",
        "has(git.tag)",
        "true",
        "1",
        "-2",
        "\"1.2\"",
        "'a'",
        "r\"x\"",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "!",
        "&&",
        "||",
        "==",
        "!=",
        "<",
        ">=",
        "in",
        ".size()",
        ".contains(",
        ".matches(\"a\")",
        "x",
        "値",
    ]);
    prop::collection::vec(word, 0..14).prop_map(|words| words.join(" ").replace(" .", "."))
}

proptest! {
    #[test]
    fn random_input_never_panics(text in prop_oneof![any::<String>(), words(), "[-a-c.()!&|=<>\"'\\\\r \\[\\],0]{0,40}"]) {
        let (source, offset) = source(&text);
        let whole = Span::new(offset, offset + text.len());
        match parse(&source, offset, &text) {
            Err(found) => for one in found {
                prop_assert!(whole.contains(one.span.start) && whole.contains(one.span.end));
            },
            Ok(expr) => {
                for (name, span) in expr.references() {
                    prop_assert_eq!(source.slice(span), name.join("."));
                }
                match expr.check(&type_of, &NAMES) {
                    // A checked expression fails only for want of a value.
                    Ok(_) => if let Err(error) = expr.eval(&value_of) {
                        prop_assert!(matches!(error, EvalError::Missing { .. }), "{}", error);
                    },
                    Err(found) => for one in found {
                        prop_assert!(whole.contains(one.span.start) && whole.contains(one.span.end));
                        prop_assert!(one.code.starts_with("PW013"));
                    },
                }
            }
        }
    }
}
