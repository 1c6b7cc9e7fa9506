//! Licences as packages declare them, told apart: what is an SPDX expression, and what is a name.

/// Identifiers that packages declare most. Others are kept as names: a document that calls
/// something an identifier that is none is not valid.
const KNOWN: &[&str] = &[
    "0BSD",
    "AFL-2.1",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "Artistic-1.0-Perl",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDDL-1.0",
    "EPL-1.0",
    "EPL-2.0",
    "GFDL-1.3-only",
    "GFDL-1.3-or-later",
    "GPL-1.0-only",
    "GPL-1.0-or-later",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "HPND",
    "ISC",
    "LGPL-2.0-only",
    "LGPL-2.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "NCSA",
    "OFL-1.1",
    "OpenSSL",
    "PSF-2.0",
    "PostgreSQL",
    "Python-2.0",
    "Ruby",
    "SMLNJ",
    "Sleepycat",
    "UPL-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Vim",
    "W3C",
    "WTFPL",
    "X11",
    "Zlib",
    "ZPL-2.1",
    "bzip2-1.0.6",
    "curl",
    "zlib-acknowledgement",
];
const EXCEPTIONS: &[&str] = &[
    "Autoconf-exception-3.0",
    "Bison-exception-2.2",
    "Classpath-exception-2.0",
    "Font-exception-2.0",
    "GCC-exception-3.1",
    "LLVM-exception",
];
/// Longest name kept, in characters.
const NAME: usize = 200;

/// A declared licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Licence {
    /// An SPDX identifier.
    Id(&'static str),
    /// An SPDX expression of several.
    Expression(String),
    /// Anything else, in the declarer's words.
    Name(String),
}

impl Licence {
    /// Tells what a declared text is; `None` if it says nothing.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(id) = id(text) {
            return Some(Self::Id(id));
        }
        if let Some(expression) = expression(text) {
            return Some(Self::Expression(expression));
        }
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let name: String = plain.take(NAME).collect();
        (!name.trim().is_empty()).then_some(Self::Name(name))
    }
}

fn id(text: &str) -> Option<&'static str> {
    let known = KNOWN.iter();
    known
        .copied()
        .find(|known| known.eq_ignore_ascii_case(text))
}

/// An expression of known identifiers, in the case the list has them.
fn expression(text: &str) -> Option<String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    if words.len() > 60 {
        return None;
    }
    let (mut depth, mut wants_operand) = (0_u32, true);
    let mut written: Vec<&str> = Vec::with_capacity(words.len());
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        match word {
            "(" if wants_operand => {
                depth += 1;
                written.push("(");
            }
            ")" if !wants_operand => {
                depth = depth.checked_sub(1)?;
                written.push(")");
            }
            "AND" | "OR" if !wants_operand => {
                written.push(word);
                wants_operand = true;
            }
            "WITH" if !wants_operand => {
                let wanted = rest.next()?;
                let exception = EXCEPTIONS.iter().find(|e| e.eq_ignore_ascii_case(wanted))?;
                written.extend(["WITH", exception]);
            }
            word if wants_operand => {
                written.push(id(word)?);
                wants_operand = false;
            }
            _ => return None,
        }
    }
    let whole = depth == 0 && !wants_operand;
    whole.then(|| written.join(" ").replace("( ", "(").replace(" )", ")"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_is_told_apart() {
        for (text, expected) in [
            ("mit", Licence::Id("MIT")),
            (
                "MIT OR apache-2.0",
                Licence::Expression("MIT OR Apache-2.0".to_owned()),
            ),
            (
                "(MIT OR Apache-2.0) AND Unicode-3.0",
                Licence::Expression("(MIT OR Apache-2.0) AND Unicode-3.0".to_owned()),
            ),
            (
                "GPL-2.0-only WITH classpath-exception-2.0",
                Licence::Expression("GPL-2.0-only WITH Classpath-exception-2.0".to_owned()),
            ),
            ("GPL-2", Licence::Name("GPL-2".to_owned())),
            ("MIT OR", Licence::Name("MIT OR".to_owned())),
            ("MIT MIT", Licence::Name("MIT MIT".to_owned())),
            ("(MIT", Licence::Name("(MIT".to_owned())),
            ("MIT)", Licence::Name("MIT)".to_owned())),
            ("a\u{1b}b", Licence::Name("a b".to_owned())),
        ] {
            assert_eq!(Licence::of(text), Some(expected), "{text:?}");
        }
        assert_eq!(Licence::of("  "), None);
    }
}
