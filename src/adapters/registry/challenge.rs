//! What a registry demands in `WWW-Authenticate`. Parses only.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants us to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password in each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// Address of the token server.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
        /// What a token must allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best challenge of an answer that we can meet: Bearer before Basic.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut found: Vec<Self> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect();
        let bearer = found.iter().position(|one| *one != Self::Basic);
        match bearer {
            Some(at) => Some(found.swap_remove(at)),
            None => found.pop(),
        }
    }
}

/// Splits a header value into its challenges. What it does not understand is left out.
fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word = token(rest);
        if word.is_empty() {
            break;
        }
        let after = rest[word.len()..].trim_start();
        // `name=value` belongs to the scheme before it; a word without `=` is a new scheme. A
        // token68 (`Negotiate abc==`) looks like a name with an empty value and is harmless.
        if let Some(value) = after.strip_prefix('=') {
            let Some((value, next)) = parameter(value.trim_start()) else {
                break;
            };
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = next;
        } else {
            challenges.push((word.to_ascii_lowercase(), Vec::new()));
            rest = after;
        }
    }
    challenges
        .into_iter()
        .filter_map(|(scheme, parameters)| {
            let get = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone())
            };
            match scheme.as_str() {
                "basic" => Some(Challenge::Basic),
                "bearer" => Some(Challenge::Bearer {
                    realm: get("realm")?,
                    service: get("service"),
                    scope: get("scope").filter(|scope| !scope.is_empty()),
                }),
                _ => None,
            }
        })
        .collect()
}

fn token(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~/".contains(c));
    &text[..end.unwrap_or(text.len())]
}

/// A quoted or bare value and what follows it; `None` if a quote is never closed.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges() {
        for (value, expected) in [
            (r#"Basic realm="a, b""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#,
                vec![bearer(
                    "https://auth.example/token",
                    Some("reg"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (
                r#"BEARER  Realm = "r\"q" , service=bare,error="invalid_token""#,
                vec![bearer("r\"q", Some("bare"), None)],
            ),
            (
                r#"Negotiate, Basic realm=x, Bearer realm="r",scope="""#,
                vec![Challenge::Basic, bearer("r", None, None)],
            ),
            (
                r#"Negotiate abc==, Basic realm="x""#,
                vec![Challenge::Basic],
            ),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="never closed"#, vec![]),
            (r#"Bearer realm="x\"#, vec![]),
            ("", vec![]),
            (",,, =", vec![]),
            ("Digest realm=\"x\"", vec![]),
        ] {
            assert_eq!(parse(value), expected, "{value}");
        }
    }

    #[test]
    fn bearer_is_preferred() {
        let mut headers = HeaderMap::new();
        assert_eq!(Challenge::of(&headers), None);
        for value in ["Basic realm=\"x\"", "Bearer realm=\"r\"", "Digest"] {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        assert_eq!(Challenge::of(&headers), Some(bearer("r", None, None)));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_parser_fall(text in r#"([a-zA-Z ,="\\é]|Bearer |realm=){0,40}"#) {
            proptest::prop_assert!(parse(&text).len() <= text.len());
        }
    }
}
