//! Names of things that must not be mixed up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a stage in its pipeline: `build.app`, `run.test[go=1.22]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StageId(Arc<str>);

impl StageId {
    /// The id of the member `name` of a kind.
    pub fn new(kind: &str, name: &str) -> Self {
        Self(format!("{kind}.{name}").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first dot.
    pub fn kind(&self) -> &str {
        self.0.split_once('.').map_or(&*self.0, |(kind, _)| kind)
    }

    /// The part after the first dot.
    pub fn name(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, name)| name)
    }

    /// The id as part of a file or container name: letters, digits, `.`, `_` and `-` only,
    /// followed by a short hash where anything had to be replaced.
    pub fn file_name(&self) -> String {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.0.len() <= 100 && self.0.chars().all(safe) {
            return self.0.to_string();
        }
        let mut name: String = self
            .0
            .chars()
            .map(|c| if safe(c) { c } else { '_' })
            .take(80)
            .collect();
        name.push('-');
        name.push_str(&Digest::of(self.0.as_bytes()).hex()[..12]);
        name
    }
}

impl From<&str> for StageId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a run: 16 lowercase base-32 characters that sort by creation time.
///
/// Ten characters hold milliseconds since 1970, six hold randomness.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Arc<str>);

const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl RunId {
    /// Makes an id from a time in milliseconds since 1970 and 30 random bits.
    pub fn new(millis: u64, random: u32) -> Self {
        let mut text = [0u8; 16];
        let mut time = millis;
        for slot in text[..10].iter_mut().rev() {
            *slot = BASE32[(time & 31) as usize];
            time >>= 5;
        }
        let mut rest = random;
        for slot in text[10..].iter_mut().rev() {
            *slot = BASE32[(rest & 31) as usize];
            rest >>= 5;
        }
        Self(
            text.iter()
                .map(|byte| char::from(*byte))
                .collect::<String>()
                .into(),
        )
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last six characters, enough to tell recent runs apart on a screen.
    pub fn short(&self) -> &str {
        &self.0[self.0.len().saturating_sub(6)..]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no run id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a run id (16 lowercase letters and digits)")]
pub struct RunIdError(String);

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        if text.len() == 16 && text.bytes().all(|byte| BASE32.contains(&byte)) {
            Ok(Self(text.into()))
        } else {
            Err(RunIdError(text.to_owned()))
        }
    }
}

/// A SHA-256 content digest, written `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_hash(&sha2::Sha256::digest(bytes))
    }

    /// Wraps a finished SHA-256 hash.
    pub fn from_hash(hash: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in hash {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text.into())
    }

    /// The digest with its algorithm: `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hexadecimal part.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or(&*self.0, |(_, hex)| hex)
    }

    /// The algorithm and the first twelve digits.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(19)]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a digest (`sha256:` and 64 hexadecimal digits)")]
pub struct DigestError(String);

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("sha256:");
        let valid = |hex: &str| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match hex {
            Some(hex) if valid(hex) => Ok(Self(text.into())),
            _ => Err(DigestError(text.chars().take(100).collect())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time() {
        let early = RunId::new(1_700_000_000_000, u32::MAX);
        let late = RunId::new(1_700_000_000_001, 0);
        assert!(early < late, "{early} {late}");
        assert_eq!(early.as_str().parse(), Ok(early.clone()));
        assert!("../../etc/passwd".parse::<RunId>().is_err());
    }

    #[test]
    fn digests_are_checked() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
        assert!("sha256:12".parse::<Digest>().is_err());
    }

    #[test]
    fn stage_file_names_are_safe_and_distinct() {
        assert_eq!(StageId::new("build", "app").file_name(), "build.app");
        let a = StageId::from("run.test[go=1/2]").file_name();
        let b = StageId::from("run.test[go=1_2]").file_name();
        assert!(!a.contains('/') && a != b, "{a} {b}");
    }
}
