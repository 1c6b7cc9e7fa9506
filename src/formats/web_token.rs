//! JSON Web Tokens: what one claims to be. Reading checks no signature; what a token claims is for
//! showing and comparing, never for trusting. How our own are signed is in `signing`.

pub mod signing;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::base::Timestamp;

/// Longest claim that is kept, in characters.
const LONGEST: usize = 300;

/// What a token claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who made it: an address.
    pub issuer: String,
    /// Whom it is about.
    pub subject: String,
    /// Whom it is for; several are joined by commas.
    pub audience: String,
}

impl Claims {
    /// The claims of a token, if it is one. A claim that is missing is `(none)`.
    pub fn of(token: &str) -> Option<Self> {
        let value = payload(token)?;
        let map = value.as_object()?;
        let text = |name: &str| match map.get(name) {
            Some(Value::String(text)) => shown(text),
            Some(Value::Array(several)) => {
                let several = several.iter().take(4).filter_map(Value::as_str);
                shown(&several.collect::<Vec<_>>().join(", "))
            }
            _ => "(none)".to_owned(),
        };
        Some(Self {
            issuer: text("iss"),
            subject: text("sub"),
            audience: text("aud"),
        })
    }

    /// The issuer as identity providers and conditions name it: without its scheme.
    pub fn provider(&self) -> &str {
        let host = self.issuer.strip_prefix("https://");
        host.unwrap_or(&self.issuer).trim_end_matches('/')
    }
}

/// When a token runs out, if it says so.
pub fn expiry(token: &str) -> Option<Timestamp> {
    let seconds = payload(token)?.get("exp")?.as_f64()?;
    // Whatever is out of range is no time.
    (0.0..1e11)
        .contains(&seconds)
        .then_some(Timestamp((seconds * 1000.0) as i64))
}

fn payload(token: &str) -> Option<Value> {
    let payload = token.trim().split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn claims_are_read_and_cleaned() {
        let claims = Claims::of(&token(
            r#"{"iss":"https://token.example.com/","sub":"repo:a/b\u001b[31m","aud":["sts.amazonaws.com","x"]}"#,
        ));
        let claims = claims.unwrap();
        assert_eq!(claims.provider(), "token.example.com");
        assert_eq!(claims.subject, "repo:a/b[31m");
        assert_eq!(claims.audience, "sts.amazonaws.com, x");
        let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(100_000));
        assert_eq!(Claims::of(&token(&long)).unwrap().subject.len(), LONGEST);
    }

    #[test]
    fn a_token_says_when_it_runs_out() {
        for (text, end) in [
            (r#"{"exp":1000000000}"#, Some(1_000_000_000_000)),
            (r#"{"exp":1.5}"#, Some(1500)),
            (r#"{"exp":1e300}"#, None),
            (r#"{"exp":-1}"#, None),
            (r#"{"exp":"soon"}"#, None),
            ("{}", None),
        ] {
            assert_eq!(expiry(&token(text)).map(|end| end.0), end, "{text}");
        }
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        for text in ["", "a", "a.b", "a.!!!.c", &token("[1]"), &token("nonsense")] {
            assert_eq!(Claims::of(text), None, "{text}");
        }
        let odd = Claims::of(&token(r#"{"iss":1}"#)).unwrap();
        assert_eq!(odd.issuer, "(none)");
    }
}
