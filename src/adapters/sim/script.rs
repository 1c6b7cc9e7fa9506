//! The tiny vocabulary in which simulated commands are played.
//!
//! A command whose every part is one of these, in the shell's own spelling, is played by
//! meaning:
//!
//! - `echo TEXT`, `echo TEXT > PATH`: prints or writes; `$NAME` and `${NAME}` of the given
//!   environment are filled in
//! - `cat PATH`: prints a file; fails if there is none
//! - `sleep 2`, `sleep 1.5`, `sleep 500ms`
//! - `exit N`, `true`, `false`
//! - `fail-once`: fails when this command is first played in this world, then never again
//! - `hang`: waits until it is stopped
//! - `trap '' TERM`: from here on only `SIGKILL` ends it
//!
//! Parts are lines, and what `;` and `&&` divide. Comments and `set` lines count for nothing.
//! Anything else succeeds after a while and prints `simulated: ` and its first line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// One act of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Prints a text.
    Print(String),
    /// Writes a file.
    Write { path: String, text: String },
    /// Prints a file.
    Cat(String),
    /// Lets time pass, scaled.
    Sleep(Duration),
    /// Lets the time of a real command pass.
    Work,
    /// Ends.
    Exit(i64),
    /// Ends with 1 unless the key failed before.
    FailOnce(String),
    /// Never ends.
    Hang,
    /// Is deaf to `SIGTERM` from here on.
    IgnoreTerm,
}

/// The acts of a script.
pub(super) fn acts(script: &str, env: &BTreeMap<String, String>) -> VecDeque<Act> {
    let parts: Option<Vec<Act>> = parts(script)
        .iter()
        .map(|part| act(part, script, env))
        .collect();
    match parts {
        Some(acts) if !acts.is_empty() => acts.into(),
        _ => VecDeque::from([
            Act::Work,
            Act::Print(format!("simulated: {}\n", first_line(script))),
        ]),
    }
}

/// The acts of an argument list: those of the script in `sh -c SCRIPT`, else of its words.
pub(super) fn script_of(words: &[String], stdin: Option<&str>) -> String {
    let shell = words.iter().take(2).position(|word| {
        let name = word.rsplit('/').next().unwrap_or(word);
        matches!(name, "sh" | "bash" | "ash" | "dash" | "zsh")
    });
    if let Some(shell) = shell {
        let flag = words[shell + 1..].iter().position(|word| {
            word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
        });
        if let Some(script) = flag.and_then(|flag| words.get(shell + flag + 2)) {
            return script.clone();
        }
        if let Some(stdin) = stdin {
            return stdin.to_owned();
        }
    }
    if words.is_empty() {
        return stdin.unwrap_or_default().to_owned();
    }
    words.join(" ")
}

fn first_line(script: &str) -> &str {
    script
        .lines()
        .map(str::trim)
        .find(|line| !is_silent(line))
        .unwrap_or_default()
}

fn is_silent(line: &str) -> bool {
    line.is_empty() || line.starts_with('#') || line == "set" || line.starts_with("set -")
}

/// Cuts a script at line ends, `;` and `&&` that are not quoted.
fn parts(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in script.lines().map(str::trim) {
        if is_silent(line) {
            continue;
        }
        let mut part = String::new();
        let mut quote = None;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let cut = match (quote, c) {
                (None, ';') => true,
                (None, '&') if chars.peek() == Some(&'&') => {
                    chars.next();
                    true
                }
                _ => false,
            };
            if cut {
                found.push(std::mem::take(&mut part));
                continue;
            }
            match quote {
                Some(open) if open == c => quote = None,
                None if c == '"' || c == '\'' => quote = Some(c),
                _ => {}
            }
            part.push(c);
        }
        found.push(part);
    }
    found
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !is_silent(part))
        .collect()
}

fn act(part: &str, script: &str, env: &BTreeMap<String, String>) -> Option<Act> {
    let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
    let rest = rest.trim();
    match word {
        "echo" => {
            if let Some((text, path)) = redirection(rest) {
                let text = format!("{}\n", value(text, env)?);
                return Some(Act::Write {
                    path: value(path, env)?,
                    text,
                });
            }
            Some(Act::Print(format!("{}\n", value(rest, env)?)))
        }
        "cat" => Some(Act::Cat(value(rest, env).filter(|path| !path.is_empty())?)),
        "sleep" => Some(Act::Sleep(duration(rest)?)),
        "exit" if rest.is_empty() => Some(Act::Exit(0)),
        "exit" => Some(Act::Exit(rest.parse::<u8>().ok()?.into())),
        "true" if rest.is_empty() => Some(Act::Sleep(Duration::ZERO)),
        "false" if rest.is_empty() => Some(Act::Exit(1)),
        "fail-once" => Some(Act::FailOnce(script.to_owned())),
        "hang" if rest.is_empty() => Some(Act::Hang),
        "trap" if rest == "'' TERM" => Some(Act::IgnoreTerm),
        _ => None,
    }
}

/// Cuts `TEXT > PATH` at a `>` that is not quoted.
fn redirection(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '>' => return Some((text[..at].trim(), text[at + 1..].trim())),
            _ => {}
        }
    }
    None
}

/// The value of one shell word or of several plain ones; `None` for what only a shell can do.
fn value(text: &str, env: &BTreeMap<String, String>) -> Option<String> {
    if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        return (!inner.contains('\'')).then(|| inner.to_owned());
    }
    let inner = match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(inner) if !inner.contains('"') => inner,
        _ if text.contains(['"', '\'', '|', '<', '>', '*', '?', '(']) => return None,
        _ => text,
    };
    if inner.contains(['`', '\\']) {
        return None;
    }
    let mut out = String::new();
    let mut rest = inner;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key = if let Some(braced) = rest.strip_prefix('{') {
            let end = braced.find('}')?;
            rest = &braced[end + 1..];
            &braced[..end]
        } else {
            let end = rest.find(|c| !name(c)).unwrap_or(rest.len());
            let key = &rest[..end];
            rest = &rest[end..];
            key
        };
        if key.is_empty() || !key.chars().all(name) {
            return None;
        }
        out.push_str(env.get(key).map_or("", String::as_str));
    }
    out.push_str(rest);
    Some(out)
}

fn duration(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => crate::base::parse_duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(script: &str) -> Vec<Act> {
        let env = BTreeMap::from([("NAME".to_owned(), "world".to_owned())]);
        acts(script, &env).into()
    }

    #[test]
    fn the_vocabulary() {
        let print = |text: &str| Act::Print(text.to_owned());
        assert_eq!(
            played("#!/bin/sh\nset -eu\n\necho \"a; b\" && sleep 1.5; exit 3\n"),
            [
                print("a; b\n"),
                Act::Sleep(Duration::from_millis(1500)),
                Act::Exit(3)
            ]
        );
        assert_eq!(
            played("echo hello ${NAME}, $NAME!"),
            [print("hello world, world!\n")]
        );
        assert_eq!(played("echo '$NAME'"), [print("$NAME\n")]);
        assert_eq!(
            played("echo \"total: 83% > x\" > out/report.txt"),
            [Act::Write {
                path: "out/report.txt".to_owned(),
                text: "total: 83% > x\n".to_owned()
            }]
        );
        assert_eq!(
            played("sleep 500ms"),
            [Act::Sleep(Duration::from_millis(500))]
        );
    }

    #[test]
    fn what_only_a_shell_can_do_is_simulated() {
        for script in [
            "go test ./... | tee report.txt",
            "exit 300",
            "echo \"$(date)\"",
            "if true; then\nexit 1\nfi",
            "sleep forever",
            "cat < x",
            "",
        ] {
            let line = script.lines().next().unwrap_or_default();
            let expected = [Act::Work, Act::Print(format!("simulated: {line}\n"))];
            assert_eq!(played(script), expected, "{script}");
        }
    }

    #[test]
    fn argument_lists() {
        let words = |text: &[&str]| text.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            script_of(&words(&["/bin/sh", "-eu", "-c", "exit 2"]), None),
            "exit 2"
        );
        assert_eq!(
            script_of(
                &words(&["bash", "-euo", "pipefail", "-c", "true"]),
                Some("x")
            ),
            "true"
        );
        assert_eq!(
            script_of(&words(&["/bin/busybox", "sh", "-ec", "false"]), None),
            "false"
        );
        assert_eq!(script_of(&words(&["sh", "-s"]), Some("exit 4")), "exit 4");
        assert_eq!(script_of(&words(&["go", "test"]), None), "go test");
    }
}
