//! The language from outside: texts and the findings they must give, and texts nobody would write.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pipewright::base::{Applicability, Diagnostic, Source, Span};
use pipewright::lang::{CODES, MAX_BYTES, Node, ValueKind};
use pipewright::{lang, pipeline, plan};

use crate::support::files::{below, root, same_as_file};

fn findings(sources: Vec<Source>) -> Vec<Diagnostic> {
    let (project, mut diagnostics) = pipeline::load(sources);
    diagnostics.extend(plan::check(&project));
    diagnostics
}

/// Every case: a file, or a directory of files that are read together.
fn cases() -> BTreeMap<PathBuf, Vec<Source>> {
    let directory = root().join("tests/data/lang");
    let mut cases: BTreeMap<PathBuf, Vec<Source>> = BTreeMap::new();
    for path in below(&directory, "kdl") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let name = path.file_name().expect("a file's name").to_string_lossy();
        let source = Source::new(name, text);
        let parent = path.parent().expect("a file's directory");
        let case = if parent == directory {
            path.clone()
        } else {
            parent.to_owned()
        };
        cases.entry(case).or_default().push(source);
    }
    cases
}

/// A finding as the cases write it down.
fn written(found: &Diagnostic) -> String {
    let place = |source: &Source, span: Span| {
        let (line, column) = source.line_column(span.start);
        let text = source.slice(span).lines().next().unwrap_or("");
        format!("{}:{line}:{column} {text:?}", source.name())
    };
    let mut text = format!(
        "{}[{}] {}\n  at {}\n",
        found.severity.as_str(),
        found.code,
        found.message,
        place(&found.source, found.span)
    );
    for label in &found.labels {
        let at = place(&label.source, label.span);
        writeln!(text, "  see {at}: {}", label.text).expect("a string grows");
    }
    if let Some(note) = &found.note {
        writeln!(text, "  note: {note}").expect("a string grows");
    }
    if let Some(help) = &found.help {
        writeln!(text, "  help: {help}").expect("a string grows");
    }
    for fix in &found.fixes {
        let how = match fix.applicability {
            Applicability::Safe => "fix",
            Applicability::Unsafe => "unsafe fix",
            Applicability::DisplayOnly => "shown fix",
        };
        writeln!(text, "  {how}: {}", fix.title).expect("a string grows");
    }
    text
}

#[test]
fn every_case_gives_its_findings() {
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for (path, sources) in cases {
        let mut found = findings(sources);
        found.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.source.name().to_owned(), d.span, d.code);
            key(a).cmp(&key(b))
        });
        let text: String = match found.as_slice() {
            [] => "no findings\n".to_owned(),
            found => found.iter().map(written).collect(),
        };
        wrong.extend(same_as_file(&path.with_extension("txt"), &text).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Findings without a case here: one needs a file of a megabyte, one a file that cannot be read.
const ELSEWHERE: [&str; 2] = ["PW0004", "PW0005"];

#[test]
fn every_code_has_a_case_and_every_case_a_code() {
    let mut met: BTreeSet<&str> = ELSEWHERE.into();
    for sources in cases().into_values() {
        met.extend(findings(sources).iter().map(|found| found.code));
    }
    let known: BTreeSet<&str> = CODES.iter().map(|code| code.code).collect();
    assert_eq!(
        known.len(),
        CODES.len(),
        "a code stands twice in the register"
    );
    let without: Vec<_> = known.difference(&met).collect();
    assert!(without.is_empty(), "codes without a case: {without:?}");
    let unknown: Vec<_> = met.difference(&known).collect();
    assert!(unknown.is_empty(), "codes not in the register: {unknown:?}");
}

#[test]
fn a_large_file_is_refused_whatever_is_in_it() {
    let text = "pipeline a\n".repeat(MAX_BYTES / 11 + 1);
    let found = findings(vec![Source::new("large.kdl", text)]);
    let codes: Vec<_> = found.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["PW0004"]);
}

/// A declared project of the largest size that is accepted must not take long.
#[test]
fn a_large_project_is_checked_in_linear_time() {
    let project = |stages: usize| {
        let mut text = String::from("pipeline large {\n");
        for at in 0..stages {
            let needs = match at {
                0 | 1 => String::new(),
                _ => format!("; needs run.s{} run.s{}", at - 1, at / 2),
            };
            writeln!(text, "  run s{at} {{ script \"true\"{needs} }}").expect("a string grows");
        }
        text.push_str("}\n");
        assert!(text.len() < MAX_BYTES);
        text
    };
    let measure = |stages: usize| {
        // The fastest of a few: other tests run at the same time.
        let once = || {
            let began = Instant::now();
            let found = findings(vec![Source::new("large.kdl", project(stages))]);
            assert!(found.is_empty(), "{}", written(&found[0]));
            began.elapsed()
        };
        once().min(once()).min(once())
    };
    let small = measure(1_000).max(Duration::from_millis(1));
    let large = measure(8_000);
    // Eight times the work; a square law would take sixty-four times as long.
    assert!(
        large < small * 32,
        "1000 stages: {small:?}, 8000: {large:?}"
    );
}

/// What must hold for any text at all.
fn holds(text: &str) -> Result<(), String> {
    let source = Source::new("fuzz.kdl", text);
    for found in findings(vec![source]) {
        let known = CODES.iter().any(|code| code.code == found.code);
        if !known || found.message.is_empty() {
            return Err(format!("{} {:?}", found.code, found.message));
        }
        let own = std::iter::once((&found.source, found.span));
        let labels = found.labels.iter().map(|label| (&label.source, label.span));
        let edits = found.fixes.iter().flat_map(|fix| &fix.edits);
        let edits = edits.map(|edit| (&edit.source, edit.span));
        for (source, span) in own.chain(labels).chain(edits) {
            if source.text().get(span.start..span.end).is_none() {
                return Err(format!(
                    "{} {:?}: {span:?} is no place in the text",
                    found.code, found.message
                ));
            }
        }
    }
    Ok(())
}

/// Pieces that texts are made from and broken with.
const SOUP: &[&str] = &[
    "{",
    "}",
    "\"",
    "\"\"\"",
    "#\"",
    "\"#",
    "#\"\"\"\n",
    "\n\"\"\"#",
    "\\",
    "\n",
    "\r\n",
    ";",
    "=",
    "/-",
    "//",
    "/*",
    "*/",
    "(",
    ")",
    "${",
    "$${",
    "${name}",
    "${git.sha}",
    "${secret.S}",
    "${image.app.tag}",
    "${run.a.b}",
    "${upstream.push.app.digest}",
    "#true",
    "true",
    "#null",
    "1.10",
    "-1",
    "0x7f",
    "1e400",
    "99999999999999999999999999999999999999999",
    "\u{feff}",
    "\u{202e}",
    "日本語",
    "é",
    "\u{0}",
    " ",
    "\t",
    "pipeline p {",
    "on {",
    "push branch=main",
    "watch app",
    "run a {",
    "build app",
    "scan app",
    "push app",
    "bump b repo=r {",
    "deploy d { docker {",
    "notify n to=t",
    "image app registry=r { tag \"1\" }",
    "registry r \"localhost:5000\"",
    "repo r \"x\"",
    "var v env=V",
    "secret s env=S",
    "needs run.a",
    "needs push",
    "when { expr \"",
    "matrix { a \"1\" \"2\" }",
    "script \"",
    "retry 3",
    "timeout \"1m\"",
    "finally",
    "concurrency g",
    "uses run.a",
    "env A \"",
    "x",
    "x {",
    "r\"",
    "r#\"",
    "|",
    "&&",
    "!",
    "in",
    "has(",
];

/// A piece repeated until the file is as large as a file may be, and in the middle of blocks.
#[test]
fn repetition_overflows_no_stack() {
    let ascii = (0u8..128).map(|byte| char::from(byte).to_string());
    let pieces: Vec<String> = ascii
        .chain(SOUP.iter().map(|piece| (*piece).to_owned()))
        .chain(
            [
                "a {(} )b\n",
                "a {\"\\q\" }\n",
                "/-{",
                "(a)",
                "a;",
                "a \\\n",
                "/-a ",
            ]
            .map(str::to_owned),
        )
        .collect();
    for piece in pieces {
        let many = piece.repeat(60_000 / piece.len());
        for text in [many.clone(), format!("pipeline p {{ run a {{ {many} }} }}")] {
            let start = Instant::now();
            holds(&text).unwrap_or_else(|why| panic!("{why}: {piece:?} repeated"));
            let took = start.elapsed();
            assert!(
                took < Duration::from_secs(5),
                "{took:?}: {piece:?} repeated"
            );
        }
    }
}

/// Breaks a text in one of a few ways.
fn mutate(random: &mut fastrand::Rng, text: &str, corpus: &[String]) -> String {
    let cut = |random: &mut fastrand::Rng, text: &str| {
        let mut at = random.usize(0..=text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (a, b) = (cut(random, text), cut(random, text));
    let (from, to) = (a.min(b), a.max(b));
    let piece = SOUP[random.usize(0..SOUP.len())];
    match random.u8(0..9) {
        0 => format!("{}{}", &text[..from], &text[to..]),
        1 => format!("{}{piece}{}", &text[..from], &text[from..]),
        2 => format!("{}{piece}{}", &text[..from], &text[to..]),
        3 => format!("{}{}{}", &text[..to], &text[from..to], &text[to..]),
        4 => {
            let times = random.usize(1..80);
            format!("{}{}{}", &text[..from], piece.repeat(times), &text[from..])
        }
        5 => {
            let other = &corpus[random.usize(0..corpus.len())];
            let at = cut(random, other);
            format!("{}{}", &text[..from], &other[at..])
        }
        6 => {
            // Lines change places.
            let mut lines: Vec<&str> = text.lines().collect();
            if lines.len() > 1 {
                let (a, b) = (random.usize(0..lines.len()), random.usize(0..lines.len()));
                lines.swap(a, b);
            }
            lines.join("\n")
        }
        7 => {
            // One character becomes another.
            let mut chars: Vec<char> = text.chars().collect();
            if !chars.is_empty() {
                let at = random.usize(0..chars.len());
                chars[at] = random.char(..);
            }
            chars.into_iter().collect()
        }
        _ => {
            let other = &corpus[random.usize(0..corpus.len())];
            format!("{}{other}{}", &text[..from], &text[to..])
        }
    }
}

fn soup(random: &mut fastrand::Rng) -> String {
    let count = random.usize(0..120);
    let mut text = String::new();
    for _ in 0..count {
        text.push_str(SOUP[random.usize(0..SOUP.len())]);
        text.push_str(["", " ", "\n"][random.usize(0..3)]);
    }
    text
}

/// Texts that were written by people, and everything that ever broke something.
fn corpus() -> Vec<String> {
    let mut paths = below(&root().join("pipelines"), "kdl");
    paths.extend(below(&root().join("tests/data/lang"), "kdl"));
    paths.extend(below(&root().join("tests/data/fuzz"), "kdl"));
    let texts = paths
        .iter()
        .map(|path| std::fs::read(path).expect("a readable file"));
    texts
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect()
}

/// What the `kdl` crate makes of a text, written like [`ours`]. `None` if it refuses it.
fn theirs(text: &str) -> Option<String> {
    fn write(nodes: &[kdl::KdlNode], out: &mut String) {
        for node in nodes {
            write!(out, "{:?}", node.name().value()).expect("a string grows");
            for entry in node.entries() {
                if let Some(name) = entry.name() {
                    write!(out, " {:?}=", name.value()).expect("a string grows");
                }
                match entry.value() {
                    kdl::KdlValue::String(text) => write!(out, " {text:?}"),
                    kdl::KdlValue::Integer(number) => write!(out, " {number}"),
                    kdl::KdlValue::Float(number) => write!(out, " {number:?}"),
                    kdl::KdlValue::Bool(flag) => write!(out, " #{flag}"),
                    kdl::KdlValue::Null => write!(out, " #null"),
                }
                .expect("a string grows");
            }
            if let Some(children) = node.children() {
                out.push('{');
                write(children.nodes(), out);
                out.push('}');
            }
            out.push(';');
        }
    }
    let document = kdl::KdlDocument::parse(text).ok()?;
    let mut out = String::new();
    write(document.nodes(), &mut out);
    Some(out)
}

fn too_deep(text: &str) -> bool {
    let found = lang::parse(&Source::new("x.kdl", text)).1;
    found.iter().any(|found| found.code == "PW0003")
}

/// What our parser makes of it.
fn ours(text: &str) -> Option<String> {
    fn write(nodes: &[Node], out: &mut String) {
        for node in nodes {
            write!(out, "{:?}", node.name.value).expect("a string grows");
            let args = node.args.iter().map(|value| (None, value));
            let props = node.props.iter();
            let props = props.map(|prop| (Some(&prop.name.value), &prop.value));
            let mut entries: Vec<_> = args.chain(props).collect();
            entries.sort_by_key(|(_, value)| value.span);
            for (name, value) in entries {
                if let Some(name) = name {
                    write!(out, " {name:?}=").expect("a string grows");
                }
                match &value.kind {
                    ValueKind::String(text) => write!(out, " {text:?}"),
                    ValueKind::Integer(number) => write!(out, " {number}"),
                    ValueKind::Float(number) => write!(out, " {number:?}"),
                    ValueKind::Bool(flag) => write!(out, " #{flag}"),
                    ValueKind::Null => write!(out, " #null"),
                }
                .expect("a string grows");
            }
            if node.has_block {
                out.push('{');
                write(&node.children, out);
                out.push('}');
            }
            out.push(';');
        }
    }
    let (document, diagnostics) = lang::parse(&Source::new("x.kdl", text));
    let mut out = String::new();
    write(&document.nodes, &mut out);
    diagnostics.is_empty().then_some(out)
}

/// The structure of a text is found by us, its values by the `kdl` crate. On short texts, which
/// cannot overflow its stack, the crate alone must see the same.
#[test]
fn the_kdl_crate_reads_the_same() {
    const PIECES: &[&str] = &[
        "a",
        "b",
        "-",
        "1",
        "1.5",
        "-2",
        "0x1f",
        "#true",
        "#null",
        "true",
        "\"x\"",
        "\"\"",
        "\"\\n\"",
        "\"\\q\"",
        "#\"y\"#",
        "\"\"\"\nz\n\"\"\"",
        "=",
        "=",
        "{",
        "}",
        "{",
        "}",
        ";",
        "\n",
        "\n",
        " ",
        " ",
        " ",
        "/-",
        "//c\n",
        "/*c*/",
        "\\\n",
        "(t)",
        "(",
        ")",
        "/",
        "\\",
        "\u{85}",
        "日本",
        "\u{3000}",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let mut texts: Vec<String> = corpus()
        .into_iter()
        .filter(|text| text.len() < 1500)
        .collect();
    for _ in 0..60_000 {
        let count = random.usize(1..14);
        texts.push(
            (0..count)
                .map(|_| PIECES[random.usize(0..PIECES.len())])
                .collect(),
        );
    }
    let mut read = 0;
    let mut wrong = Vec::new();
    for text in &texts {
        let (theirs, ours) = (theirs(text), ours(text));
        read += usize::from(theirs.is_some());
        // The crate is of two minds about what `/-` may stand before, and has no bound on depth.
        let unclear = text.contains("/-") && (theirs.is_none() || ours.is_none());
        if theirs != ours && !unclear && !too_deep(text) {
            wrong.push(format!("{text:?}\n  theirs {theirs:?}\n  ours   {ours:?}"));
        }
    }
    wrong.sort_by_key(|text| (text.len(), text.clone()));
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(25)].join("\n")
    );
    assert!(read > 4_000, "only {read} texts are KDL");
}

/// Runs as many inputs as `PIPEWRIGHT_FUZZ_INPUTS` says, or for twenty seconds at most.
/// `PIPEWRIGHT_FUZZ_SEED` repeats a run. An overflow of the stack ends the process, so the seed is
/// part of the thread's name, which the message of the abort shows.
#[test]
fn no_text_makes_the_language_panic_or_hang() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let inputs = number("PIPEWRIGHT_FUZZ_INPUTS");
    let seed = number("PIPEWRIGHT_FUZZ_SEED").unwrap_or(1);
    let corpus = corpus();
    assert!(corpus.len() > 40);
    for text in &corpus {
        holds(text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    }
    let threads = 2;
    let work = |thread: u64| {
        let corpus = &corpus;
        move || {
            let began = Instant::now();
            let limit = inputs.unwrap_or(20_000) / threads;
            let mut done = 0;
            while done < limit && (inputs.is_some() || began.elapsed() < Duration::from_secs(20)) {
                // Each input has a seed of its own, so that one alone can be repeated.
                let mut random = fastrand::Rng::with_seed(seed << 40 | thread << 36 | done);
                let mut text = match random.u8(0..8) {
                    0 => soup(&mut random),
                    _ => corpus[random.usize(0..corpus.len())].clone(),
                };
                for _ in 0..random.u8(1..6) {
                    text = mutate(&mut random, &text, corpus);
                }
                let start = Instant::now();
                let held = std::panic::catch_unwind(|| holds(&text));
                let held = held.unwrap_or_else(|_| Err("it panics".to_owned()));
                let took = start.elapsed();
                assert!(held.is_ok(), "{}: {text:?}", held.unwrap_err());
                assert!(took < Duration::from_secs(5), "took {took:?}: {text:?}");
                done += 1;
            }
            done
        }
    };
    let done: u64 = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                std::thread::Builder::new()
                    .name(format!("fuzz seed {seed}"))
                    .spawn_scoped(scope, work(thread))
                    .expect("a thread")
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| match handle.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .sum()
    });
    assert!(done >= 500, "only {done} inputs in the time given");
}
