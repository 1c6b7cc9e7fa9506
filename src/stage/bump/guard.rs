//! What a bump must not write although it could: an older version than is there, and what somebody
//! took away on purpose. Pure judgements over what would change.

use std::cmp::Ordering;

use super::memory::{Held, Wrote};
use crate::formats::constraint::Version;
use crate::ports::vcs::Touch;
use crate::stage::Failure;

/// One value that a bump replaces.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The file.
    pub file: String,
    /// The path in it.
    pub path: String,
    /// The value that was there; empty if there was none.
    pub before: String,
    /// The value that is there now.
    pub after: String,
    /// Whether the key was added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub added: bool,
    /// Whether it is written as a number, boolean or null, not as a string.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub literal: bool,
    /// How the file is written, by its name among the formats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// Refuses to replace a version by an older one.
pub(super) fn no_downgrade(changes: &[Change]) -> Result<(), Failure> {
    let Some(change) = changes
        .iter()
        .find(|change| is_older(&change.after, &change.before))
    else {
        return Ok(());
    };
    Err(Failure::failed(format!(
        "{} {}: {} is older than {}, which is there; nothing was written: write `allow-downgrade` if that is meant",
        change.file, change.path, change.after, change.before
    )))
}

/// Whether a value names an older version than another one of the same thing. Commits, dates and
/// other texts that are no versions are neither older nor newer.
fn is_older(new: &str, old: &str) -> bool {
    let ((new_name, new), (old_name, old)) = (version_of(new), version_of(old));
    if new_name != old_name {
        return false;
    }
    let (Some(new), Some(old)) = (Parts::of(new), Parts::of(old)) else {
        return false;
    };
    new.compare(&old) == Ordering::Less
}

/// The name and the version in `name:version@digest`; of anything else, all of it is the version.
fn version_of(value: &str) -> (&str, &str) {
    let value = value.split_once('@').map_or(value, |(tag, _)| tag);
    let slash = value.rfind('/').map_or(0, |at| at + 1);
    match value[slash..].rfind(':') {
        Some(colon) => (&value[..slash + colon], &value[slash + colon + 1..]),
        None => ("", value),
    }
}

/// A version, its prerelease apart.
struct Parts {
    core: Version,
    whole: Version,
    /// What follows the numbers; empty for a release.
    suffix: String,
}

impl Parts {
    fn of(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next().unwrap_or(text);
        // One number alone may as well be a date, a build or a commit that happens to be digits.
        if !core.contains('.') {
            return None;
        }
        let bare = text.split('+').next().unwrap_or(text);
        Some(Self {
            core: Version::parse(core)?,
            whole: Version::parse(text)?,
            suffix: bare
                .split_once('-')
                .map(|(_, suffix)| suffix.to_ascii_lowercase())
                .unwrap_or_default(),
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let order = self.core.cmp(&other.core);
        // A suffix may be a prerelease (`-rc.1`) or a flavour (`-alpine`), which has no order.
        if order != Ordering::Equal || !self.is_ordered() || !other.is_ordered() {
            return order;
        }
        self.whole.cmp(&other.whole)
    }

    fn is_ordered(&self) -> bool {
        let word = self
            .suffix
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or("");
        self.suffix.is_empty()
            || matches!(
                word,
                "alpha" | "beta" | "rc" | "pre" | "preview" | "dev" | "snapshot" | "nightly"
            )
    }
}

/// The failure if a value was taken back by a rollback.
pub(super) fn is_held(change: &Change, held: &Held) -> Failure {
    Failure::failed(format!(
        "{} {}: {} was taken back by the rollback {}; nothing was written: release another version, or put it there by hand",
        change.file, change.path, change.after, held.run
    ))
}

/// Whether a change would write anew what we wrote last and what was undone since.
pub(super) fn undoes_a_revert(change: &Change, wrote: &Wrote) -> bool {
    wrote.after == change.after && wrote.before == change.before
}

/// The failure if somebody took back what we wrote. `touches` are the commits since then that
/// changed the file, newest first, each with whether the value is still ours in it.
pub(super) fn was_reverted(change: &Change, wrote: &Wrote, touches: &[(Touch, bool)]) -> Failure {
    // The oldest of the newest that do not have it: the one that took it away for good.
    let culprit = touches
        .iter()
        .take_while(|(_, ours)| !ours)
        .last()
        .map(|(touch, _)| touch);
    let who = match culprit {
        Some(touch) => format!(
            "{} of {} (\"{}\") took it back",
            super::edits::short_commit(&touch.commit),
            touch.author,
            touch.subject
        ),
        None => "the branch was taken back since".to_owned(),
    };
    Failure::failed(format!(
        "{} {}: run {} wrote {} in {}, and {who}; nothing was written: release another version, or put it there by hand",
        change.file,
        change.path,
        wrote.run,
        wrote.after,
        super::edits::short_commit(&wrote.commit),
    ))
}

/// Refuses to take back what somebody has changed since.
pub(super) fn untouched(undone: &[Change], changes: &[Change]) -> Result<(), Failure> {
    for change in changes {
        let Some(ours) = undone
            .iter()
            .find(|ours| ours.file == change.file && ours.path == change.path)
        else {
            continue;
        };
        if change.before != ours.after {
            return Err(Failure::failed(format!(
                "{} {}: it is {} by now, not {} any more: somebody has changed it since; nothing was written",
                change.file, change.path, change.before, ours.after
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_versions() {
        for (new, old, older) in [
            ("1.2.3", "1.2.4", true),
            ("1.10.0", "1.9.0", false),
            ("v1.9", "v1.10", true),
            ("1.2", "1.2.0", false),
            ("1.2.3-rc.1", "1.2.3", true),
            ("1.2.3", "1.2.3-rc.1", false),
            ("1.2.3-rc.2", "1.2.3-rc.10", true),
            ("1.2.3-alpine", "1.2.3", false),
            ("1.2.2-alpine", "1.2.3-slim", true),
            ("1.2.3-5-gabc123", "1.2.3-7-gdef456", false),
            ("1.2.3+b1", "1.2.3+b2", false),
            // Neither commits nor dates nor builds are versions.
            ("0000001", "1234567", false),
            ("20240101", "20250101", false),
            ("abc1234", "def5678", false),
            ("latest", "1.2.3", false),
            ("1.2.3", "main", false),
            ("", "1.2.3", false),
            // In references to images, of the same image.
            (
                "r.example.com:5000/app:1.2.3",
                "r.example.com:5000/app:1.3.0",
                true,
            ),
            (
                "r.example.com/app:1.2.3@sha256:00",
                "r.example.com/app:1.3.0@sha256:11",
                true,
            ),
            (
                "r.example.com/app:1.2.3",
                "r.example.com/other:1.3.0",
                false,
            ),
            (
                "r.example.com:5000/app",
                "r.example.com:5000/app:1.0.0",
                false,
            ),
        ] {
            assert_eq!(is_older(new, old), older, "{new} after {old}");
        }
    }

    fn change(before: &str, after: &str) -> Change {
        Change {
            file: "f".to_owned(),
            path: ".a".to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            added: false,
            literal: false,
            format: None,
        }
    }

    #[test]
    fn who_took_it_back_is_named() {
        let wrote = Wrote {
            run: "r1".to_owned(),
            commit: "c".repeat(40),
            before: "1".to_owned(),
            after: "2".to_owned(),
        };
        let touch = |commit: &str, ours| {
            let touch = Touch {
                commit: commit.repeat(40),
                author: "A <a@example.com>".to_owned(),
                subject: "no".to_owned(),
                content: None,
            };
            (touch, ours)
        };
        assert!(undoes_a_revert(&change("1", "2"), &wrote));
        assert!(!undoes_a_revert(&change("0", "2"), &wrote), "another value");
        assert!(
            !undoes_a_revert(&change("1", "3"), &wrote),
            "a newer release"
        );
        let touches = [touch("d", false), touch("e", false), touch("f", true)];
        let failure = was_reverted(&change("1", "2"), &wrote, &touches);
        assert!(
            failure
                .message
                .contains("eeeeeeeeeeee of A <a@example.com> (\"no\")"),
            "{failure}"
        );
        let failure = was_reverted(&change("1", "2"), &wrote, &[]);
        assert!(
            failure.message.contains("the branch was taken back"),
            "{failure}"
        );
    }

    #[test]
    fn what_changed_since_is_not_taken_back() {
        let undone = [change("1", "2")];
        untouched(&undone, &[change("2", "1")]).expect("as we left it");
        untouched(&undone, &[]).expect("taken back already");
        let failure = untouched(&undone, &[change("3", "1")]).expect_err("changed");
        assert!(
            failure.message.contains("it is 3 by now, not 2"),
            "{failure}"
        );
    }
}
