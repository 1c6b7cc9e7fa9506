//! RSA keys that sign JSON Web Tokens (RS256), and their public halves as JSON Web Keys.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::rand_core::{CryptoRng, Error, RngCore};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::base::Secret;

/// Bits of keys that are made here.
const BITS: usize = 2048;
/// Characters of a line of PEM.
const LINE: usize = 64;

/// A private key. Has no `Debug`: nothing of it is to be shown.
pub struct SigningKey {
    pair: RsaKeyPair,
}

impl SigningKey {
    /// Reads PEM: PKCS#1, as GitHub gives it out, or PKCS#8, as most other tools write it. What is
    /// wrong is said without a subject: "is no RSA private key in PEM".
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let mut lines = pem.lines().map(str::trim);
        let bad = || "is no RSA private key in PEM".to_owned();
        let label = lines
            .by_ref()
            .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
            .ok_or_else(bad)?;
        let text: String = lines
            .take_while(|line| !line.starts_with("-----END"))
            .collect();
        let der = STANDARD.decode(text).map_err(|_| bad())?;
        let pair = match label {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            _ => return Err(bad()),
        };
        let pair = pair.map_err(|why| format!("cannot be used: {why}"))?;
        Ok(Self { pair })
    }

    /// The public half as a JSON Web Key that verifies signatures.
    pub fn public(&self) -> Value {
        let (n, e) = self.components();
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": thumbprint(&n, &e),
            "n": n,
            "e": e,
        })
    }

    /// What it is called: its thumbprint.
    pub fn id(&self) -> String {
        let (n, e) = self.components();
        thumbprint(&n, &e)
    }

    /// A token that makes some claims; it names the key if whoever reads it has to choose one.
    pub fn token(&self, claims: &Value, name_key: bool) -> Result<Secret, String> {
        let mut head = json!({ "alg": "RS256", "typ": "JWT" });
        if name_key {
            head["kid"] = Value::String(self.id());
        }
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let random = SystemRandom::new();
        self.pair
            .sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
            .map_err(|_| "does not sign".to_owned())?;
        Ok(Secret::new(format!(
            "{text}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }

    fn components(&self) -> (String, String) {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.pair.public());
        (
            URL_SAFE_NO_PAD.encode(public.n),
            URL_SAFE_NO_PAD.encode(public.e),
        )
    }
}

/// The thumbprint of a key by RFC 7638: the hash of what it needs to have, in alphabetical order.
fn thumbprint(n: &str, e: &str) -> String {
    let text = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

/// Makes a key, as PEM of PKCS#8.
pub fn generate() -> Result<Secret, String> {
    let key = rsa::RsaPrivateKey::new(&mut Random(SystemRandom::new()), BITS)
        .map_err(|why| format!("no key can be made: {why}"))?;
    let der = key
        .to_pkcs8_der()
        .map_err(|why| format!("no key can be made: {why}"))?;
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    let text = STANDARD.encode(der.as_bytes());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(LINE.min(rest.len()));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(Secret::new(pem))
}

/// A value that no other token has.
pub fn unique() -> Result<String, String> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The system's random bytes, for a library that asks for them in its own way.
struct Random(SystemRandom);

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn fill_bytes(&mut self, into: &mut [u8]) {
        // A key from anything but random bytes would be worse than none.
        assert!(
            self.0.fill(into).is_ok(),
            "the system must give random bytes"
        );
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(into);
        Ok(())
    }
}

impl CryptoRng for Random {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638, section 3.1.
    #[test]
    fn a_thumbprint_is_that_of_the_standard() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        assert_eq!(
            thumbprint(n, "AQAB"),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn what_is_no_key_is_said_without_showing_it() {
        for text in [
            "",
            "nonsense",
            "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----\naGVsbG8=\n-----END EC PRIVATE KEY-----",
        ] {
            let Err(why) = SigningKey::from_pem(text) else {
                panic!("{text} is a key");
            };
            assert!(!why.contains("aGVsbG8"), "{why}");
        }
    }

    /// Verified by another implementation than the one that signed.
    #[test]
    fn a_key_that_is_made_here_signs() {
        use rsa::pkcs1v15::{Signature, VerifyingKey};
        use rsa::signature::Verifier as _;
        let key = SigningKey::from_pem(generate().unwrap().expose()).unwrap();
        let jwk = key.public();
        let number = |name: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap());
            rsa::BigUint::from_bytes_be(&bytes.unwrap())
        };
        let public = rsa::RsaPublicKey::new(number("n"), number("e")).unwrap();
        let token = key.token(&json!({ "iss": "us" }), true).unwrap();
        let (text, signature) = token.expose().rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let signature = Signature::try_from(signature.as_slice()).unwrap();
        let verifier = VerifyingKey::<rsa::sha2::Sha256>::new(public);
        verifier.verify(text.as_bytes(), &signature).unwrap();
        let other = format!("{text}x");
        assert!(verifier.verify(other.as_bytes(), &signature).is_err());
    }
}
