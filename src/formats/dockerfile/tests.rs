//! Tables for reading Dockerfiles.

use proptest::prelude::*;

use super::*;

const FULL: &str = r#"# syntax=docker/dockerfile:1
# a comment ends the directives
# escape=`

ARG GO="1.23" REG
ARG BASE=gcr.io/x:1
FROM --platform=$BUILDPLATFORM golang:${GO} AS build
ARG TARGETOS TARGETARCH=amd64
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=secret,id=npm,env=NPM \
    # a comment between

    go build \
      -o /app .
COPY <<EOF /etc/a.conf
FROM not-an-image
EOF
copy --chown=1:1 --from=golang:1.20 ["a b", "c", "/d/"]
RUN <<-'A' cat <<B "<<C"
FROM x
	A
FROM y
B
from scratch as Final
COPY --from=build /app \
  /bin/app
ADD https://example.com/x.tgz /x
FROM alpine@sha256:aaaa
FROM final
FROM ${BASE}
"#;

#[test]
fn a_whole_file_is_read() {
    let file = parse(FULL);
    assert_eq!(file.problems, []);
    assert_eq!(file.syntax.as_ref().unwrap().value, "docker/dockerfile:1");
    let text = |span: Span| &FULL[span.start..span.end];

    let args: Vec<_> = file
        .args
        .iter()
        .map(|arg| arg.name.value.as_str())
        .collect();
    assert_eq!(args, ["GO", "REG", "BASE"]);
    let go = file.args[0].default.as_ref().unwrap();
    assert_eq!((go.value.as_str(), text(go.span)), ("1.23", "\"1.23\""));

    let build = &file.stages[0];
    assert_eq!(build.image.value, "golang:${GO}");
    assert_eq!(text(build.image.span), "golang:${GO}");
    assert_eq!(build.platform.as_ref().unwrap().value, "$BUILDPLATFORM");
    assert_eq!(text(build.name.as_ref().unwrap().span), "build");
    assert_eq!(build.args.len(), 2);
    assert_eq!(build.args[1].default.as_ref().unwrap().value, "amd64");

    let copies: Vec<_> = build
        .copies
        .iter()
        .map(|copy| {
            let sources: Vec<_> = copy
                .sources
                .iter()
                .map(|source| source.value.as_str())
                .collect();
            (
                sources,
                copy.destination.value.as_str(),
                copy.from.as_ref().map(|from| from.value.as_str()),
            )
        })
        .collect();
    assert_eq!(
        copies,
        [
            (vec!["go.mod", "go.sum"], "./", None),
            (vec![], "/etc/a.conf", None),
            (vec!["a b", "c"], "/d/", Some("golang:1.20")),
        ]
    );
    assert_eq!(text(build.copies[0].sources[1].span), "go.sum");
    assert_eq!(
        text(build.copies[2].sources[0].span),
        "[\"a b\", \"c\", \"/d/\"]"
    );

    let kinds: Vec<_> = build
        .mounts
        .iter()
        .map(|mount| mount.kind.as_str())
        .collect();
    assert_eq!(kinds, ["cache", "secret"]);
    assert_eq!(build.mounts[1].field(&["id"]), Some("npm"));
    assert_eq!(
        text(build.mounts[1].span),
        "--mount=type=secret,id=npm,env=NPM"
    );

    let last = &file.stages[1].copies[0];
    assert_eq!(text(last.destination.span), "/bin/app");
    assert_eq!(text(last.span), "COPY --from=build /app \\\n  /bin/app");
    assert!(file.stages[1].copies[1].add);

    let bases: Vec<_> = (0..file.stages.len())
        .map(|index| file.base(index).unwrap())
        .collect();
    assert_eq!(
        bases,
        [
            Base::Variable("golang:${GO}"),
            Base::Scratch,
            Base::Image("alpine@sha256:aaaa"),
            Base::Stage(1),
            Base::Variable("${BASE}"),
        ]
    );
    let pinned: Vec<_> = file.stages.iter().map(Stage::is_pinned).collect();
    assert_eq!(pinned, [false, false, true, false, false]);
    assert_eq!(file.stage("FINAL").unwrap().0, 1);
    assert_eq!(file.stage("2").unwrap().0, 2);
    assert!(file.stage("9").is_none() && file.stage("").is_none() && file.stage("x").is_none());
}

#[test]
fn other_ways_to_write_are_read() {
    // text, images, sources of the last stage
    let cases: [(&str, &[&str], &[&str]); 8] = [
        (
            "\u{feff}FROM a\r\nCOPY x \\\r\n  y /\r\n",
            &["a"],
            &["x", "y"],
        ),
        (
            "# escape=`\nFROM a\nCOPY x `\n C:\\y\\\nRUN z",
            &["a"],
            &["x"],
        ),
        (
            "#syntax = x\n#ESCAPE=`\nFROM a\nCOPY b `  \n c",
            &["a"],
            &["b"],
        ),
        ("\n# escape=`\nFROM a\nCOPY b `\n", &["a"], &["b"]),
        ("FROM a\nRUN echo \\\\\nCOPY x y", &["a"], &["x"]),
        (
            "FROM a\nRUN echo '<<EOF' \"<<X\" a<<Y\nCOPY x y",
            &["a"],
            &["x"],
        ),
        ("FROM a\nRUN 3<<E cat\nFROM b\nE\nCOPY x y", &["a"], &["x"]),
        ("   FROM\ta\n\tCOPY\tx\ty", &["a"], &["x"]),
    ];
    for (text, images, sources) in cases {
        let file = parse(text);
        let found: Vec<_> = file
            .stages
            .iter()
            .map(|stage| stage.image.value.as_str())
            .collect();
        let last = file.stages.last().and_then(|stage| stage.copies.last());
        let read: Vec<_> = last
            .into_iter()
            .flat_map(|copy| &copy.sources)
            .map(|source| {
                assert_eq!(source.value, text[source.span.start..source.span.end]);
                source.value.as_str()
            })
            .collect();
        assert_eq!(file.problems, [], "{text:?}");
        assert_eq!(found, images, "{text:?}");
        assert_eq!(read, sources, "{text:?}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let cases = [
        ("", "no FROM", ""),
        ("# only a comment", "no FROM", ""),
        ("RUN x\nFROM a", "before the first FROM", "RUN"),
        ("FROM a\nFORM b", "unknown instruction `FORM`", "FORM"),
        ("FROM", "takes an image", "FROM"),
        ("FROM a b", "takes an image", "FROM a b"),
        (
            "FROM a \\\n\n# c\nFROM b",
            "takes an image",
            "FROM a \\\n\n# c\nFROM b",
        ),
        ("FROM a AS 1x", "no name for a stage", "1x"),
        ("FROM a AS x\nFROM b AS X", "two stages", "X"),
        ("FROM --plat=x a", "no flag --plat", "--plat=x"),
        ("FROM a\nARG", "needs a name", "ARG"),
        ("FROM a\nARG 1=2", "no name for an ARG", "1=2"),
        ("FROM a\nCOPY x", "needs a source", "COPY x"),
        ("FROM a\nCOPY [\"x\"]", "needs a source", "COPY [\"x\"]"),
        ("FROM a\nCOPY --from= x y", "names nothing", "--from="),
        (
            "FROM a\nRUN <<EOF\nx\n",
            "heredoc `EOF` does not end",
            "RUN <<EOF",
        ),
        ("# escape=x\nFROM a", "neither", "x"),
        ("# syntax=a\n# syntax=b\nFROM a", "twice", "b"),
    ];
    for (text, message, place) in cases {
        let file = parse(text);
        let [problem] = file.problems.as_slice() else {
            panic!("{text:?}: {:?}", file.problems);
        };
        assert!(problem.value.contains(message), "{text:?}: {problem:?}");
        assert_eq!(
            &text[problem.span.start..problem.span.end],
            place,
            "{text:?}"
        );
    }
    let large = parse(&"#".repeat(MAX_TEXT + 1));
    assert!(large.problems[0].value.contains("larger"));
}

proptest! {
    #[test]
    fn random_text_never_panics_and_spans_hold(
        lines in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "FROM a AS b", "FROM --platform=x ${A:-b}", "COPY --from=b x \\", "COPY [\"値\", \"y\"]", "ARG A='b c' \\",
                "RUN <<EOF", "EOF", "# escape=`", "RUN --mount=type=ssh x `", "# x", "", "  y z", "ADD 値 \"a b\" c",
            ]).prop_map(str::to_owned),
            any::<String>(),
        ], 0..12),
        crlf in any::<bool>(),
    ) {
        let text = lines.join(if crlf { "\r\n" } else { "\n" });
        let file = parse(&text);
        for stage in &file.stages {
            let span = stage.image.span;
            prop_assert_eq!(text.get(span.start..span.end), Some(stage.image.value.as_str()));
            for copy in &stage.copies {
                prop_assert!(text.get(copy.span.start..copy.span.end).is_some());
                prop_assert!(copy.sources.iter().all(|source| text.get(source.span.start..source.span.end).is_some()));
            }
        }
        for problem in &file.problems {
            prop_assert!(text.get(problem.span.start..problem.span.end).is_some());
        }
    }
}
