//! What a bump's commit says beside its files: message, trailers, identity, signature.

use std::collections::BTreeMap;

use super::Bump;
use crate::base::Timestamp;
use crate::decl::SignBy;
use crate::lang::Template;
use crate::ports::vcs::{NewCommit, Signing};
use crate::stage::{Failure, Values};

/// Everything about a commit that does not depend on the tip.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub(super) identity: (String, String),
    /// With its trailers.
    pub(super) message: String,
    signing: Option<Signing>,
}

impl Words {
    /// A commit on top of another.
    pub(super) fn commit(
        &self,
        parent: String,
        files: BTreeMap<String, Vec<u8>>,
        time: Timestamp,
    ) -> NewCommit {
        NewCommit {
            parent,
            files,
            identity: self.identity.clone(),
            message: self.message.clone(),
            time,
            signing: self.signing.clone(),
        }
    }

    pub(super) fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or("")
    }
}

/// Who a trailer names: name and address.
pub(super) type Person = (Template, Template);

impl Bump {
    /// The words of a commit with a message.
    pub(super) async fn words(&self, values: &Values, message: String) -> Result<Words, Failure> {
        let repo = self.declared.as_ref().ok_or_else(|| {
            Failure::failed(format!("repo `{}` is not declared", self.repo.value))
        })?;
        let identity = (
            values.plain(&repo.identity.0).await?,
            values.plain(&repo.identity.1).await?,
        );
        let mut trailers = Vec::new();
        for (name, email) in &self.co_authors {
            let (name, email) = (values.plain(name).await?, values.plain(email).await?);
            trailers.push(trailer("Co-authored-by", &name, &email)?);
        }
        if self.sign_off {
            trailers.push(trailer("Signed-off-by", &identity.0, &identity.1)?);
        }
        let signing = match &repo.sign {
            None => None,
            Some((by, key)) => {
                let key = values.text(key).await?.into_secret();
                Some(match by {
                    SignBy::Ssh => Signing::Ssh(key),
                    SignBy::OpenPgp => Signing::OpenPgp(key),
                })
            }
        };
        Ok(Words {
            identity,
            message: with_trailers(&message, &trailers),
            signing,
        })
    }
}

/// A trailer that is one line and names one person.
fn trailer(key: &str, name: &str, email: &str) -> Result<String, Failure> {
    let bad = |text: &str| {
        text.trim().is_empty()
            || text
                .chars()
                .any(|c| c.is_control() || matches!(c, '<' | '>'))
    };
    if bad(name) || bad(email) {
        return Err(Failure::failed(format!(
            "{name:?} <{email:?}> cannot be named in a {key} line: a name and an address on one line, without < and >"
        )));
    }
    Ok(format!("{key}: {} <{}>", name.trim(), email.trim()))
}

/// A message with trailers at its end, in one paragraph with those it has, none twice.
fn with_trailers(message: &str, trailers: &[String]) -> String {
    let message = message.trim_end();
    let last = message.rsplit("\n\n").next().unwrap_or("");
    // The subject is no block of trailers, even if it looks like one.
    let has_block = last.len() < message.len() && last.lines().all(is_trailer);
    let known: Vec<&str> = if has_block {
        last.lines().collect()
    } else {
        Vec::new()
    };
    let mut text = message.to_owned();
    let mut first = !has_block;
    for (at, trailer) in trailers.iter().enumerate() {
        if known.contains(&trailer.as_str()) || trailers[..at].contains(trailer) {
            continue;
        }
        text.push_str(if first { "\n\n" } else { "\n" });
        text.push_str(trailer);
        first = false;
    }
    text
}

fn is_trailer(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(key, value)| {
        !key.is_empty()
            && !value.trim().is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_one_paragraph_at_the_end() {
        let two = ["A-by: a <a@x>".to_owned(), "S-by: s <s@x>".to_owned()];
        for (message, trailers, expected) in [
            ("bump", &two[..], "bump\n\nA-by: a <a@x>\nS-by: s <s@x>"),
            ("bump: it\n", &two[..1], "bump: it\n\nA-by: a <a@x>"),
            (
                "bump\n\nwhy: it\nis so",
                &two[..1],
                "bump\n\nwhy: it\nis so\n\nA-by: a <a@x>",
            ),
            (
                "bump\n\nRefs: #1",
                &two[..1],
                "bump\n\nRefs: #1\nA-by: a <a@x>",
            ),
            (
                "bump\n\nA-by: a <a@x>",
                &two[..],
                "bump\n\nA-by: a <a@x>\nS-by: s <s@x>",
            ),
            ("bump", &[], "bump"),
        ] {
            assert_eq!(with_trailers(message, trailers), expected, "{message:?}");
        }
    }

    #[test]
    fn a_trailer_is_one_line() {
        trailer("K", "Ann", "a@example.com").expect("good");
        for (name, email) in [("", "a@x"), ("a\nb", "a@x"), ("a <b>", "c"), ("a", " ")] {
            assert!(trailer("K", name, email).is_err(), "{name:?} {email:?}");
        }
    }
}
