//! What an issuer of tokens publishes: where its keys are, and the keys.
//! After OpenID Connect Discovery 1.0 and RFC 7517.

use serde_json::{Value, json};

/// Where the description of an issuer is, below its address.
pub const DISCOVERY: &str = ".well-known/openid-configuration";
/// Where its keys are, below its address.
pub const KEYS: &str = "keys.json";
/// Longest address, in bytes; that of an identity provider of AWS.
const LONGEST: usize = 255;

/// Whether a text is the address of an issuer that AWS can trust; else what is wrong with it.
/// Tokens and identity providers name an issuer by its exact text, so there is one way to write it.
pub fn check(url: &str) -> Result<(), String> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("it does not begin with https://".to_owned());
    };
    if url.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    for (mark, what) in [('?', "a query"), ('#', "a fragment"), ('@', "a user")] {
        if rest.contains(mark) {
            return Err(format!("it has {what}"));
        }
    }
    if rest.ends_with('/') {
        return Err("it ends with a slash; leave that out, here and everywhere else".to_owned());
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains(':') {
        return Err("it has a port, which AWS does not accept".to_owned());
    }
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(fits)
    };
    if !host.split('.').all(label) {
        return Err(format!(
            "\"{}\" is no host: write it in lower-case letters, digits, dots and hyphens",
            shown(host)
        ));
    }
    let segment = |segment: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(fits)
    };
    if rest.contains('/') && !path.split('/').all(segment) {
        return Err(format!(
            "\"{}\" is no plain path: write names of letters, digits and -._~ between single slashes",
            shown(path)
        ));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The description of an issuer.
pub fn discovery(url: &str) -> Value {
    json!({
        "issuer": url,
        "jwks_uri": format!("{url}/{KEYS}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": [
            "iss", "sub", "aud", "iat", "nbf", "exp", "jti",
            "repository", "ref", "sha", "pipeline", "run",
        ],
    })
}

/// A set of keys with one more, which comes first. Keys that are there stay.
pub fn with_key(set: Option<&str>, key: Value) -> Result<Value, String> {
    let mut keys = vec![key];
    if let Some(set) = set {
        let set: Value =
            serde_json::from_str(set).map_err(|why| format!("it is no JSON: {why}"))?;
        let old = set["keys"].as_array();
        let old = old.ok_or_else(|| "it is no set of keys: it has no list `keys`".to_owned())?;
        for key in old {
            // Whoever put a private key here by mistake must not publish it once more with our help.
            if ["d", "p", "q", "dp", "dq", "qi", "k"]
                .iter()
                .any(|name| !key[*name].is_null())
            {
                return Err("it holds a private key, which everybody could read".to_owned());
            }
            if key["kid"] != keys[0]["kid"] {
                keys.push(key.clone());
            }
        }
    }
    Ok(json!({ "keys": keys }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_has_one_spelling() {
        for url in [
            "https://issuer.example.com",
            "https://bucket.s3.eu-west-1.amazonaws.com/ci/issuer",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for (url, says) in [
            ("http://issuer.example.com", "https://"),
            ("issuer.example.com", "https://"),
            ("https://", "no host"),
            ("https://issuer.example.com/", "slash"),
            ("https://issuer.example.com/a/", "slash"),
            ("https://issuer.example.com//a", "single slashes"),
            ("https://issuer.example.com/a/../b", "single slashes"),
            ("https://issuer.example.com/a%2fb", "single slashes"),
            ("https://issuer.example.com?x=1", "a query"),
            ("https://issuer.example.com/#x", "a fragment"),
            ("https://me:pass@issuer.example.com", "a user"),
            ("https://issuer.example.com:8443", "a port"),
            ("https://Issuer.example.com", "lower-case"),
            ("https://issuer..example.com", "no host"),
            ("https://issuer example.com", "no host"),
            ("https://issuer.example.com/a\nb", "no plain path"),
        ] {
            let why = check(url).expect_err(url);
            assert!(why.contains(says), "{url}: {why}");
            assert!(!why.contains("pass"), "{why}");
        }
        assert!(check(&format!("https://a.b/{}", "x".repeat(255))).is_err());
    }

    #[test]
    fn keys_that_are_there_stay() {
        let key = |id: &str| json!({ "kty": "RSA", "kid": id });
        let ids = |set: &Value| -> Vec<String> {
            let keys = set["keys"].as_array().unwrap().iter();
            keys.map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect()
        };
        let one = with_key(None, key("a")).unwrap();
        let two = with_key(Some(&one.to_string()), key("b")).unwrap();
        assert_eq!(ids(&two), ["b", "a"]);
        let again = with_key(Some(&two.to_string()), key("a")).unwrap();
        assert_eq!(ids(&again), ["a", "b"]);
        for (set, says) in [
            ("nonsense", "no JSON"),
            ("[]", "no set of keys"),
            (r#"{"keys":{}}"#, "no set of keys"),
            (r#"{"keys":[{"kid":"a","d":"x"}]}"#, "a private key"),
        ] {
            let why = with_key(Some(set), key("b")).unwrap_err();
            assert!(why.contains(says), "{set}: {why}");
        }
    }
}
