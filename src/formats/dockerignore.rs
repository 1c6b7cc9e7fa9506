//! `.dockerignore`: which files of a build context a build does not see.
//!
//! Follows the builder's own rules: the last pattern that matches a path or one of its parents
//! decides, `!` takes back, `**` crosses directories, and a directory that is left out is still
//! entered where a `!` pattern could match below it. Works on text; touches no file.

use regex::Regex;

/// Most patterns one file may hold.
const MAX_PATTERNS: usize = 10_000;

/// The patterns of one `.dockerignore` file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// What is wrong with a `.dockerignore` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct IgnoreError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// What the patterns say about one path; the key to the paths below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the path itself is left out.
    pub excluded: bool,
    hits: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    exception: bool,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact,
    Prefix(String),
    Suffix(String),
    Glob(Regex),
}

impl Ignore {
    /// Reads the text of a `.dockerignore` file.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut patterns = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.split('\n').enumerate() {
            let fail = |message: String| IgnoreError {
                line: index + 1,
                message,
            };
            // A comment must start in the first column; a `#` after a space is a pattern.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let (exception, body) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if body.is_empty() {
                return Err(fail("\"!\" needs a pattern after it".to_owned()));
            }
            if patterns.len() == MAX_PATTERNS {
                return Err(fail(format!("more than {MAX_PATTERNS} patterns")));
            }
            let text = clean(body);
            let text = match text.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => rest.to_owned(),
                _ => text,
            };
            let matcher = Matcher::compile(&text)
                .map_err(|why| fail(format!("pattern \"{body}\" is malformed: {why}")))?;
            patterns.push(Pattern {
                text,
                exception,
                matcher,
            });
        }
        Ok(Self { patterns })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The verdict on the context's root, where a walk begins.
    pub fn root(&self) -> Verdict {
        Verdict {
            excluded: false,
            hits: vec![false; self.patterns.len()],
        }
    }

    /// The verdict on `path` (relative, `/` between names), given the one on its parent.
    pub fn enter(&self, parent: &Verdict, path: &str) -> Verdict {
        let mut verdict = Verdict {
            excluded: false,
            hits: Vec::with_capacity(self.patterns.len()),
        };
        for (pattern, inherited) in self.patterns.iter().zip(&parent.hits) {
            let hit = *inherited || pattern.matches(path);
            verdict.hits.push(hit);
            if hit {
                verdict.excluded = !pattern.exception;
            }
        }
        verdict
    }

    /// Whether `path` is left out, its parents considered.
    pub fn excludes(&self, path: &str) -> bool {
        let mut verdict = self.root();
        for end in path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()])
        {
            verdict = self.enter(&verdict, &path[..end]);
        }
        verdict.excluded
    }

    /// Whether something below a directory that is left out could be taken back by a `!` pattern.
    pub fn keeps_below(&self, directory: &str) -> bool {
        let below = format!("{directory}/");
        self.patterns
            .iter()
            .filter(|pattern| pattern.exception)
            .any(|pattern| {
                let fixed = pattern.fixed_prefix();
                fixed.starts_with(&below) || (pattern.has_wildcard() && below.starts_with(fixed))
            })
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            Matcher::Glob(regex) => regex.is_match(path),
        }
    }

    fn has_wildcard(&self) -> bool {
        !matches!(self.matcher, Matcher::Exact)
    }

    /// The part before the first character that is not literal.
    fn fixed_prefix(&self) -> &str {
        let end = self.text.find(['*', '?', '[', '\\']);
        &self.text[..end.unwrap_or(self.text.len())]
    }
}

impl Matcher {
    fn compile(pattern: &str) -> Result<Self, String> {
        let mut regex = String::from("^");
        let mut kind = Self::Exact;
        let mut glob = false;
        let mut chars = pattern.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.peek() == Some(&'*') => {
                    chars.next();
                    if chars.peek() == Some(&'/') {
                        chars.next();
                    }
                    if chars.peek().is_none() {
                        if matches!(kind, Self::Exact) && !glob {
                            let prefix = pattern.strip_suffix("**").unwrap_or(pattern);
                            kind = Self::Prefix(prefix.to_owned());
                        } else {
                            regex.push_str(".*");
                            glob = true;
                        }
                    } else {
                        regex.push_str("(?:.*/)?");
                        glob |= !first;
                    }
                    if first {
                        kind = Self::Suffix(pattern[2..].to_owned());
                    }
                }
                '*' => {
                    regex.push_str("[^/]*");
                    glob = true;
                }
                '?' => {
                    regex.push_str("[^/]");
                    glob = true;
                }
                '\\' => {
                    let escaped = chars.next().ok_or("it ends with a backslash")?;
                    regex.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
                    glob = true;
                }
                '[' => {
                    class(&mut chars, &mut regex)?;
                    glob = true;
                }
                other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
            first = false;
        }
        if !glob {
            return Ok(kind);
        }
        regex.push('$');
        regex::RegexBuilder::new(&regex)
            .dot_matches_new_line(true)
            .size_limit(1 << 20)
            .build()
            .map(Self::Glob)
            .map_err(|_| "it is too large or its character class is out of order".to_owned())
    }
}

/// Copies a character class, up to and with its `]`, as a regular expression.
fn class(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    regex: &mut String,
) -> Result<(), String> {
    let unclosed = || "a \"[\" is not closed".to_owned();
    regex.push('[');
    if chars.next_if_eq(&'^').is_some() {
        regex.push('^');
    }
    let mut empty = true;
    loop {
        let c = chars.next().ok_or_else(unclosed)?;
        match c {
            ']' if !empty => break,
            ']' => return Err("a character class is empty".to_owned()),
            '-' if !empty => regex.push('-'),
            '\\' => push_literal(regex, chars.next().ok_or_else(unclosed)?),
            other => push_literal(regex, other),
        }
        empty = false;
    }
    regex.push(']');
    Ok(())
}

/// Adds a character to a class so that it stands for itself only.
fn push_literal(regex: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        regex.push('\\');
    }
    regex.push(c);
}

/// Removes empty and `.` names and resolves `..`, without looking at any file.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => match names.last() {
                Some(&last) if last != ".." => {
                    names.pop();
                }
                _ if rooted => {}
                _ => names.push(".."),
            },
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks which of some paths a file leaves out.
    fn check(text: &str, excluded: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(text).expect("valid file");
        for path in excluded {
            assert!(ignore.excludes(path), "{text:?} should leave out {path}");
        }
        for path in kept {
            assert!(!ignore.excludes(path), "{text:?} should keep {path}");
        }
    }

    #[test]
    fn plain_names_are_anchored_and_cover_what_is_below() {
        check(
            "target",
            &["target", "target/a/b"],
            &["src/target", "target2"],
        );
        check("/target/", &["target", "target/a"], &["x/target"]);
        check("a/./b/../c//d", &["a/c/d"], &["a/b", "a/c"]);
    }

    #[test]
    fn comments_blanks_and_byte_order_mark() {
        check(
            "\u{feff}# not a pattern\r\n\r\n  spaced  \r\n #literal",
            &["spaced", "#literal"],
            &["# not a pattern"],
        );
    }

    #[test]
    fn wildcards() {
        check("*.md", &["README.md"], &["docs/a.md", "md"]);
        check(
            "*/temp*",
            &["a/temporary", "a/temp/x"],
            &["temp", "a/b/temp"],
        );
        check("temp?", &["tempa"], &["temp", "temp/"]);
        check("[a-c].txt", &["b.txt"], &["d.txt", "-.txt"]);
        check("[^a-c].txt", &["d.txt"], &["b.txt"]);
        check(r"a\*b", &["a*b"], &["axb"]);
        check("a.b+c(d)|{e}$", &["a.b+c(d)|{e}$"], &["aXb+c(d)|{e}$"]);
    }

    #[test]
    fn double_stars() {
        check("**", &["a", "a/b"], &[]);
        check(
            "**/foo",
            &["foo", "a/foo", "a/b/foo", "a/foo/x"],
            &["xfoo", "a/xfoo"],
        );
        check("**/*.go", &["a.go", "x/y/a.go"], &["a.got"]);
        check("a/**", &["a/b", "a/b/c"], &["a", "ab"]);
        check("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a/zz", "z"]);
        check("**/a/**", &["a/b", "x/a/b"], &["x/a", "b"]);
    }

    #[test]
    fn order_decides_and_exceptions_take_back() {
        check("*.md\n!README.md", &["a.md"], &["README.md"]);
        check("!README.md\n*.md", &["README.md"], &[]);
        check(
            "*\n!src\nsrc/secret",
            &["x", "src/secret/k"],
            &["src", "src/a"],
        );
        check(
            "dir\n!dir/keep",
            &["dir", "dir/other"],
            &["dir/keep", "dir/keep/x"],
        );
        check("**\n!**/*.rs", &["a", "a/b.c"], &["a/b/c.rs"]);
    }

    #[test]
    fn directories_are_entered_only_where_an_exception_could_match() {
        let keeps =
            |text: &str, dir: &str| Ignore::parse(text).expect("valid file").keeps_below(dir);
        assert!(!keeps("dir", "dir"));
        assert!(keeps("dir\n!dir/a/b", "dir"));
        assert!(keeps("dir\n!dir/a/b", "dir/a"));
        assert!(!keeps("dir\n!dir/a/b", "dir/c"));
        assert!(!keeps("*\n!docs/*.md", "node_modules"));
        assert!(keeps("*\n!docs/*.md", "docs"));
        assert!(keeps("*\n!**/*.md", "node_modules"));
    }

    #[test]
    fn malformed_patterns_are_named_with_their_line() {
        let error = |text: &str| Ignore::parse(text).expect_err("malformed").to_string();
        assert!(error("a\n!").starts_with("line 2: "));
        assert!(error("x[").contains("not closed"));
        assert!(error("x[]y]").contains("empty"));
        assert!(error("x\\").contains("backslash"));
        assert!(error("[z-a]").contains("out of order"));
    }
}
