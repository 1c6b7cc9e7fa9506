//! Rules of the source tree that no compiler holds: who imports whom, and how files look.

use std::collections::BTreeMap;

use regex::Regex;

use crate::support::files::{below, root};

/// Who may import whom, as `docs/architecture.md` says it. A module may always import itself.
const IMPORTS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("event", &["base"]),
    ("lang", &["base"]),
    ("formats", &["base"]),
    ("scan", &["base", "formats"]),
    ("ports", &["base", "scan"]),
    ("decl", &["base", "lang", "formats"]),
    (
        "stage",
        &["base", "event", "lang", "ports", "scan", "formats", "decl"],
    ),
    ("journal", &["base", "event", "ports", "scan"]),
    ("report", &["base", "event"]),
    ("adapters", &["base", "ports", "scan", "formats"]),
    (
        "pipeline",
        &[
            "base", "event", "lang", "ports", "scan", "formats", "decl", "stage",
        ],
    ),
    (
        "plan",
        &[
            "base", "event", "lang", "ports", "scan", "formats", "decl", "stage", "pipeline",
        ],
    ),
    (
        "engine",
        &[
            "base", "event", "lang", "ports", "scan", "formats", "decl", "stage", "pipeline",
            "plan", "journal",
        ],
    ),
    (
        "cli",
        &[
            "base", "event", "lang", "ports", "scan", "formats", "decl", "stage", "pipeline",
            "plan", "engine", "journal", "report",
        ],
    ),
];

/// Macros live at the crate's root wherever they are written.
const MACROS: &[(&str, &str)] = &[("stage_children", "stage")];

/// Longest file, in lines: about 600.
const MAX_LINES: usize = 640;

/// Files of `src`, by path relative to it.
fn sources() -> BTreeMap<String, String> {
    texts("src")
}

fn texts(directory: &str) -> BTreeMap<String, String> {
    let directory = root().join(directory);
    below(&directory, "rs")
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let name = path.strip_prefix(&directory).expect("a path below it");
            (name.display().to_string(), text)
        })
        .collect()
}

/// What is compiled for the program: everything but modules that are for tests only.
fn without_tests(files: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let declared = Regex::new(r"#\[cfg\(test\)\]\s*(?:pub(?:\(\w+\))? )?mod (\w+);")
        .expect("a regular expression");
    let inline = Regex::new(r"#\[cfg\(test\)\]\n(?:pub\([\w: ]+\) )?mod tests \{")
        .expect("a regular expression");
    let mut tests: Vec<String> = Vec::new();
    for (path, text) in &files {
        let directory = match path.strip_suffix("/mod.rs") {
            Some(directory) => directory.to_owned(),
            None => path.trim_end_matches(".rs").to_owned(),
        };
        let names = declared.captures_iter(text);
        tests.extend(names.map(|found| format!("{directory}/{}", &found[1])));
    }
    let of_tests = |path: &str| {
        tests.iter().any(|test| {
            let rest = path.strip_prefix(test.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    files
        .into_iter()
        .filter(|(path, _)| !of_tests(path))
        .map(|(path, text)| {
            // What follows the first `mod tests {` is for tests, as it stands last by custom.
            let end = inline.find(&text).map_or(text.len(), |found| found.start());
            (path, text[..end].to_owned())
        })
        .collect()
}

/// The top-level module a file belongs to; none for the crate's root.
fn module(path: &str) -> Option<&str> {
    let first = path.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(module, "lib" | "main")).then_some(module)
}

/// The modules of the crate a text names in `crate::…`, with the lines.
fn imported(text: &str) -> Vec<(usize, String)> {
    let path = Regex::new(r"\bcrate::(?:(\w+)|\{([^}]*))").expect("a regular expression");
    let word = Regex::new(r"(?:^|,)\s*(\w+)").expect("a regular expression");
    // Comments may link to anything.
    let code: Vec<&str> = text
        .lines()
        .map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line,
        })
        .collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for hit in path.captures_iter(&code) {
        let at = hit.get(0).expect("the whole match").start();
        let line = code[..at].matches('\n').count() + 1;
        match (hit.get(1), hit.get(2)) {
            (Some(one), _) => found.push((line, one.as_str().to_owned())),
            (None, Some(several)) => found.extend(
                word.captures_iter(several.as_str())
                    .map(|word| (line, word[1].to_owned())),
            ),
            (None, None) => {}
        }
    }
    found
}

#[test]
fn modules_import_only_what_they_may() {
    let table: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let macros: BTreeMap<&str, &str> = MACROS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in without_tests(sources()) {
        let Some(module) = module(&path) else {
            continue;
        };
        let Some(allowed) = table.get(module) else {
            wrong.push(format!("{path}: module `{module}` is not in the table"));
            continue;
        };
        for (line, name) in imported(&text) {
            let name = macros.get(name.as_str()).copied().unwrap_or(&name);
            if name != module && !allowed.contains(&name) {
                wrong.push(format!("src/{path}:{line}: `{module}` imports `{name}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_imports_is_acyclic_and_that_of_the_docs() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the page");
    let mut known: Vec<&str> = Vec::new();
    for (module, allowed) in IMPORTS {
        // Modules may only import what stands above them, so there is no circle.
        for name in *allowed {
            assert!(known.contains(name), "{module} imports {name} below it");
        }
        known.push(module);
        let imports = match allowed {
            [] => "–".to_owned(),
            allowed => allowed.join(", "),
        };
        let row = format!("| `{module}` | {imports} |");
        assert!(page.contains(&row), "docs/architecture.md lacks: {row}");
    }
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let text = "use crate::base::Span;\nuse crate::{decl, lang::spec::Type};\n// crate::no\nlet x = crate::event::X;\n";
    let found: Vec<(usize, String)> = imported(text);
    let expected = [(1, "base"), (2, "decl"), (2, "lang"), (4, "event")];
    assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (directory, files) in [("src", sources()), ("tests", texts("tests"))] {
        for (path, text) in files {
            let lines = text.lines().count();
            if lines > MAX_LINES {
                wrong.push(format!("{directory}/{path}: {lines} lines"));
            }
            if !text.starts_with("//! ") {
                wrong.push(format!("{directory}/{path}: does not open with `//!`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lints_are_expected_with_a_reason_and_tests_are_never_ignored() {
    // Put together here, so that this file does not find itself.
    let allow = ["#[", "allow("].concat();
    let allow_file = ["#![", "allow("].concat();
    let ignore = ["#[", "ignore"].concat();
    let mut wrong = Vec::new();
    for (directory, files) in [("src", sources()), ("tests", texts("tests"))] {
        for (path, text) in files {
            for (at, line) in text.lines().enumerate() {
                let found = [&allow, &allow_file, &ignore]
                    .into_iter()
                    .find(|word| line.contains(word.as_str()));
                if let Some(word) = found {
                    wrong.push(format!("{directory}/{path}:{}: `{word}`", at + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn globs_are_imported_in_tests_only() {
    let glob = Regex::new(r"^\s*(?:pub )?use .*\*;").expect("a regular expression");
    let mut wrong = Vec::new();
    for (path, text) in without_tests(sources()) {
        for (at, line) in text.lines().enumerate() {
            if glob.is_match(line) {
                wrong.push(format!("src/{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Words that say that something is not finished.
#[test]
fn nothing_is_left_to_do() {
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|word| word.concat());
    let conflict = Regex::new(r"(?m)^(?:<{7}|>{7}) ").expect("a regular expression");
    let mut paths = vec![root().join("Cargo.toml")];
    for (directory, extension) in [
        ("src", "rs"),
        ("tests", "rs"),
        ("benches", "rs"),
        ("docs", "md"),
        ("pipelines", "kdl"),
    ] {
        paths.extend(below(&root().join(directory), extension));
    }
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        for word in &words {
            let word = Regex::new(&format!(r"\b{word}\b")).expect("a regular expression");
            if word.is_match(&text) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
        if conflict.is_match(&text) {
            wrong.push(format!("{}: a merge was not finished", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every dependency has its line of reason.
#[test]
fn dependencies_have_reasons() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect("a readable file");
    let manifest = read("Cargo.toml");
    let section = manifest
        .split_once("[dependencies]\n")
        .and_then(|(_, rest)| rest.split_once("\n["))
        .map_or("", |(section, _)| section);
    let declared: Vec<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    let page = read("docs/dependencies.md");
    let without: Vec<_> = declared
        .iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(without.is_empty(), "without a reason: {without:?}");
    assert!(declared.len() > 20, "the manifest was not understood");
}
