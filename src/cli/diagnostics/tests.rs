//! Exact renderings, and hostile sources.

use super::*;

fn shown(diagnostics: &[Diagnostic], format: DiagnosticFormat, style: Style) -> String {
    let display = Display {
        format,
        style,
        columns: 80,
        files: 3,
    };
    let mut out = Vec::new();
    show(&mut out, diagnostics, &display).expect("memory does not fail");
    String::from_utf8(out).expect("output is UTF-8")
}

fn full(diagnostics: &[Diagnostic]) -> String {
    shown(diagnostics, DiagnosticFormat::Full, Style::new(false, true))
}

fn release() -> Source {
    Source::new(
        "pipelines/release.kdl",
        "pipeline release {\n    build app\n    pussh app\n    build app\n}\n",
    )
}

fn sample() -> Vec<Diagnostic> {
    let (release, shared) = (
        release(),
        Source::new("pipelines/a.kdl", "image 構築 \"x\"\n"),
    );
    vec![
        Diagnostic::error(
            "PW0102",
            "unknown node \"pussh\"",
            &release,
            Span::new(37, 42),
        )
        .note("no such stage kind")
        .help("write `push`")
        .fix(
            "replace it with `push`",
            Applicability::Safe,
            Span::new(37, 42),
            "push",
        ),
        Diagnostic::warning(
            "PW0300",
            "stage build.app is declared twice",
            &release,
            Span::new(51, 60),
        )
        .label(&release, Span::new(23, 32), "first declared here")
        .label(&shared, Span::new(6, 12), "its image"),
        Diagnostic::error("PW0001", "image 構築 has no tag", &shared, Span::new(6, 12)),
    ]
}

#[test]
fn full_shows_excerpts() {
    assert_eq!(
        full(&sample()),
        "\
PW0001

  × image 構築 has no tag
   ╭─[pipelines/a.kdl:1:7]
 1 │ image 構築 \"x\"
   ·       ────
   ╰────

PW0102

  × unknown node \"pussh\"
   ╭─[pipelines/release.kdl:3:5]
 2 │     build app
 3 │     pussh app
   ·     ──┬──
   ·       ╰── no such stage kind
 4 │     build app
   ╰────
  help: write `push`
        fix: replace it with `push`

PW0300

  ⚠ stage build.app is declared twice
   ╭─[pipelines/release.kdl:4:5]
 1 │ pipeline release {
 2 │     build app
   ·     ────┬────
   ·         ╰── first declared here
 3 │     pussh app
 4 │     build app
   ·     ─────────
 5 │ }
   ╰────
  ☞ related
   ╭─[pipelines/a.kdl:1:7]
 1 │ image 構築 \"x\"
   ·       ──┬─
   ·         ╰── its image
   ╰────

2 errors, 1 warning in 3 files
"
    );
}

#[test]
fn concise_is_one_line_each() {
    assert_eq!(
        shown(&sample(), DiagnosticFormat::Concise, Style::ascii()),
        "\
pipelines/a.kdl:1:7: error[PW0001] image 構築 has no tag
pipelines/release.kdl:3:5: error[PW0102] unknown node \"pussh\"
pipelines/release.kdl:4:5: warning[PW0300] stage build.app is declared twice
2 errors, 1 warning in 3 files
"
    );
    assert_eq!(
        shown(&[], DiagnosticFormat::Concise, Style::ascii()),
        "no problems in 3 files\n"
    );
    assert_eq!(
        shown(
            &sample()[2..],
            DiagnosticFormat::Concise,
            Style::new(true, true)
        ),
        "pipelines/a.kdl:1:7: \u{1b}[31merror[PW0001]\u{1b}[0m image 構築 has no tag\n\
         \u{1b}[31m1 error\u{1b}[0m in 3 files\n"
    );
}

#[test]
fn json_has_every_position() {
    let text = shown(&sample(), DiagnosticFormat::Json, Style::ascii());
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value.as_array().map(Vec::len), Some(3));
    assert_eq!(
        value[0],
        json!({
            "code": "PW0001",
            "severity": "error",
            "message": "image 構築 has no tag",
            "path": "pipelines/a.kdl",
            "span": {
                "start": { "byte": 6, "line": 1, "column": 7 },
                "end": { "byte": 12, "line": 1, "column": 9 },
            },
            "note": null,
            "labels": [],
            "help": null,
            "fixes": [],
        })
    );
    assert_eq!(value[1]["note"], "no such stage kind");
    assert_eq!(value[1]["fixes"][0]["applicability"], "safe");
    assert_eq!(value[1]["fixes"][0]["edits"][0]["replacement"], "push");
    assert_eq!(value[2]["labels"][1]["path"], "pipelines/a.kdl");
    assert_eq!(value[2]["labels"][0]["span"]["start"]["line"], 2);
    assert_eq!(shown(&[], DiagnosticFormat::Json, Style::ascii()), "[]\n");
}

#[test]
fn any_span_in_any_text_is_survived() {
    for text in [
        "",
        "\n",
        "a",
        "a\n",
        "\r\n\r\n",
        "構\n\n築",
        "\t\u{1b}[2J\r\u{202e}x",
        "a\r\nb\r\n",
    ] {
        let source = Source::new("x.kdl", text);
        for start in 0..12 {
            for end in [0, start, start + 1, start + 2, start + 30, usize::MAX] {
                let diagnostic = Diagnostic::error("PW0001", "bad", &source, Span::new(start, end))
                    .note("here")
                    .label(&source, Span::new(end, start), "there");
                let text = full(std::slice::from_ref(&diagnostic));
                assert!(!text.contains("Failed to read"), "{text}");
                assert!(text.contains("here"), "{start} {end} {source:?} {text}");
                assert!(text.contains("[x.kdl:"), "{text}");
                assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
                for format in [DiagnosticFormat::Concise, DiagnosticFormat::Json] {
                    shown(std::slice::from_ref(&diagnostic), format, Style::ascii());
                }
            }
        }
    }
}

#[test]
fn the_end_of_a_file_can_be_pointed_at() {
    let source = Source::new("x.kdl", "pipeline a {\n\n");
    let diagnostic = Diagnostic::error("PW0001", "a brace is missing", &source, Span::new(14, 14))
        .note("expected `}`");
    let text = full(&[diagnostic]);
    assert!(text.contains("x.kdl:1:13"), "{text}");
    assert!(text.contains("expected `}`"), "{text}");
}

#[test]
fn long_spans_and_long_lines_stay_short() {
    let many = Source::new("many.kdl", "build app\n".repeat(10_000));
    let wide = Source::new("wide.kdl", format!("a {}\n", "x".repeat(1 << 20)));
    let text = full(&[
        Diagnostic::error("PW0001", "all of it", &many, Span::new(0, 100_000)),
        Diagnostic::error("PW0002", "very wide", &wide, Span::new(1000, 900_000)).note("too long"),
    ]);
    assert!(text.len() < 2000, "{text}");
    assert!(text.contains("wide.kdl:1:1001:"), "{text}");
    assert!(text.contains(": too long"), "{text}");
}

#[test]
fn far_labels_do_not_pull_in_what_lies_between() {
    let source = Source::new("many.kdl", "build app\n".repeat(10_000));
    let diagnostic = Diagnostic::error("PW0001", "twice", &source, Span::new(99_900, 99_905))
        .label(&source, Span::new(50_000, 50_005), "first");
    let text = full(&[diagnostic]);
    assert!(text.lines().count() < 20, "{text}");
    assert!(text.contains("many.kdl:9991:1"), "{text}");
    assert!(text.contains("many.kdl:5001:1"), "{text}");
}

#[test]
fn thousands_are_capped_in_full_only() {
    let source = release();
    let many: Vec<Diagnostic> = (0..5000)
        .map(|n| {
            Diagnostic::error(
                "PW0001",
                format!("problem {n}"),
                &source,
                Span::new(n % 60, 60),
            )
        })
        .collect();
    let text = full(&many);
    assert_eq!(text.matches("× problem").count(), MAX_FULL);
    assert!(text.ends_with(
        "and 4,900 more; `--format concise` lists all of them\n\n5,000 errors in 3 files\n"
    ));
    let lines = shown(&many, DiagnosticFormat::Concise, Style::ascii());
    assert_eq!(lines.lines().count(), 5001);
}

#[test]
fn hostile_messages_are_tamed() {
    let source = Source::new("a\u{1b}[2J.kdl", "x");
    let diagnostic = Diagnostic::error(
        "PW0001",
        "no \u{1b}[31m\"x\n\ty\"",
        &source,
        Span::new(0, 1),
    );
    for format in [DiagnosticFormat::Full, DiagnosticFormat::Concise] {
        let text = shown(std::slice::from_ref(&diagnostic), format, Style::ascii());
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    assert!(
        shown(&[diagnostic], DiagnosticFormat::Concise, Style::ascii())
            .starts_with("a.kdl:1:1: error[PW0001] no \"x y\"\n")
    );
}
