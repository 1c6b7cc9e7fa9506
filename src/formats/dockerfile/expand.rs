//! Puts arguments into words of a Dockerfile.

/// Deepest nesting of defaults: `${A:-${B:-c}}`.
const MAX_DEPTH: usize = 8;
/// Longest result, in bytes.
const MAX_RESULT: usize = 64 << 10;

/// A word that cannot be expanded here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A brace is not closed, or there is no name.
    #[error("variable in {0:?} is not complete")]
    Incomplete(String),
    /// A form such as `${a#b}` that is not read here.
    #[error("`{0}` uses a form of substitution that is not supported")]
    Unsupported(String),
    /// Defaults are nested too deep or the result is too long.
    #[error("substitution is too deep or too long")]
    TooLarge,
}

/// Expands `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}` (and both without the colon)
/// and removes quotes. A variable without a value is empty, as it is for BuildKit.
/// `escape` is the escape character of the Dockerfile.
pub fn expand(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expansion = Expansion {
        escape,
        lookup,
        out: String::new(),
    };
    expansion.run(word, 0)?;
    Ok(expansion.out)
}

struct Expansion<'l> {
    escape: char,
    lookup: &'l dyn Fn(&str) -> Option<String>,
    out: String,
}

impl Expansion<'_> {
    fn run(&mut self, word: &str, depth: usize) -> Result<(), ExpandError> {
        if depth > MAX_DEPTH {
            return Err(ExpandError::TooLarge);
        }
        let mut quote = None;
        let mut rest = word;
        while let Some(c) = rest.chars().next() {
            if self.out.len() > MAX_RESULT {
                return Err(ExpandError::TooLarge);
            }
            rest = &rest[c.len_utf8()..];
            match (quote, c) {
                (Some('\''), '\'') => quote = None,
                (Some('\''), c) => self.out.push(c),
                (Some('"'), '"') => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                (_, c) if c == self.escape => {
                    let escaped = rest.chars().next();
                    rest = &rest[escaped.map_or(0, char::len_utf8)..];
                    self.out.extend(escaped);
                }
                (_, '$') => rest = self.variable(rest, depth)?,
                (_, c) => self.out.push(c),
            }
        }
        Ok(())
    }

    /// Expands what follows a `$` and gives the rest.
    fn variable<'a>(&mut self, rest: &'a str, depth: usize) -> Result<&'a str, ExpandError> {
        let incomplete = || ExpandError::Incomplete(format!("${rest}").chars().take(60).collect());
        let name_len = |text: &str| {
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            end.unwrap_or(text.len())
        };
        let Some(body) = rest.strip_prefix('{') else {
            let len = name_len(rest);
            if len == 0 {
                return Err(incomplete());
            }
            self.out
                .push_str(&(self.lookup)(&rest[..len]).unwrap_or_default());
            return Ok(&rest[len..]);
        };
        let end = closing(body).ok_or_else(incomplete)?;
        let (inner, after) = (&body[..end], &body[end + 1..]);
        let (name, form) = inner.split_at(name_len(inner));
        if name.is_empty() {
            return Err(incomplete());
        }
        let value = (self.lookup)(name);
        let is_full = value.as_deref().is_some_and(|value| !value.is_empty());
        // With a colon an empty value counts as none.
        let (form, is_there) = match form.strip_prefix(':') {
            Some(form) => (form, is_full),
            None => (form, value.is_some()),
        };
        match (form.split_at_checked(1), is_there) {
            (None, _) if inner == name => self.out.push_str(&value.unwrap_or_default()),
            (Some(("-", _)), true) => self.out.push_str(&value.unwrap_or_default()),
            (Some(("-", word)), false) | (Some(("+", word)), true) => self.run(word, depth + 1)?,
            (Some(("+", _)), false) => {}
            _ => {
                let shown = inner.chars().take(60).collect::<String>();
                return Err(ExpandError::Unsupported(format!("${{{shown}}}")));
            }
        }
        Ok(after)
    }
}

/// The brace that closes what is open, nested ones passed over.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        match name {
            "A" => Some("1.2".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in() {
        let cases = [
            ("golang:$A-alpine", "golang:1.2-alpine"),
            ("golang:${A}_x", "golang:1.2_x"),
            ("${B:-d}", "d"),
            ("${A:-d}", "1.2"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${B-a+b}", "a+b"),
            ("${A-a+b}", "1.2"),
            ("${A:-a+b}", "1.2"),
            ("${A:+x}", "x"),
            ("${B:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${B:-${C:-$A}}!", "1.2!"),
            ("x$B", "x"),
            ("'$A'\"$A\"\\$A", "$A1.2$A"),
            ("値${A}", "値1.2"),
        ];
        for (word, expected) in cases {
            assert_eq!(
                expand(word, '\\', &value).as_deref(),
                Ok(expected),
                "{word}"
            );
        }
    }

    #[test]
    fn what_cannot_be_expanded() {
        assert!(matches!(
            expand("${A", '\\', &value),
            Err(ExpandError::Incomplete(_))
        ));
        assert!(matches!(
            expand("$", '\\', &value),
            Err(ExpandError::Incomplete(_))
        ));
        assert!(matches!(
            expand("${}", '\\', &value),
            Err(ExpandError::Incomplete(_))
        ));
        assert!(matches!(
            expand("${A#1}", '\\', &value),
            Err(ExpandError::Unsupported(_))
        ));
        assert!(matches!(
            expand("${A:?no}", '\\', &value),
            Err(ExpandError::Unsupported(_))
        ));
        assert_eq!(expand("C:\\x`$A", '`', &value).as_deref(), Ok("C:\\x$A"));
        let deep = format!("{}x{}", "${B:-".repeat(20), "}".repeat(20));
        assert_eq!(expand(&deep, '\\', &value), Err(ExpandError::TooLarge));
        assert_eq!(
            expand(&"$A".repeat(60_000), '\\', &value),
            Err(ExpandError::TooLarge)
        );
    }
}
