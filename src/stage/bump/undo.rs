//! Taking back what an earlier run of a bump wrote: at the places it changed, on the present tip.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::KEY;
use super::edits::{Edit, Edits, short_commit};
use super::guard::Change;
use crate::event::EffectState;
use crate::stage::Failure;

/// What is to be taken back. It is kept as text in the run that does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undo {
    /// The commit that wrote it.
    pub(super) commit: String,
    /// The branch it went to.
    #[serde(default)]
    pub(super) branch: String,
    /// First line of its message.
    #[serde(default)]
    pub(super) subject: String,
    /// What it changed.
    pub(super) changes: Vec<Change>,
}

impl Undo {
    /// What a run left to be taken back, from what it recorded. `pushed` says that the stage ended
    /// well, which it only does once its last intent is true.
    pub(super) fn of(effects: &[EffectState], pushed: bool) -> Option<Self> {
        let effect = effects.iter().find(|effect| effect.key == KEY)?;
        if effect.result.is_none() && !pushed {
            return None;
        }
        let changes = recorded(&effect.intent)?;
        (!changes.is_empty()).then(|| Self {
            commit: effect.intent.get("commit").cloned().unwrap_or_default(),
            branch: effect.intent.get("branch").cloned().unwrap_or_default(),
            subject: effect.intent.get("subject").cloned().unwrap_or_default(),
            changes,
        })
    }

    pub(super) fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| {
            Failure::failed(format!("what is to be taken back is unknown: {error}"))
        })
    }

    /// The edits that do it.
    pub(super) fn edits(&self) -> Result<Edits, Failure> {
        if let Some(added) = self.changes.iter().find(|change| change.added) {
            return Err(Failure::failed(format!(
                "{} {}: it was added by {}, and there is no value to go back to; nothing was written: remove it by hand",
                added.file,
                added.path,
                short_commit(&self.commit)
            )));
        }
        let edits: Result<Vec<Edit>, Failure> = self
            .changes
            .iter()
            .map(|change| Edit::at(change, &change.before))
            .collect();
        Ok(Edits {
            edits: edits?,
            left_out: Vec::new(),
        })
    }

    /// The message of the commit that does it.
    pub(super) fn message(&self) -> String {
        let short = short_commit(&self.commit);
        let subject = match self.subject.as_str() {
            "" => format!("Revert {short}"),
            subject => format!("Revert \"{subject}\""),
        };
        format!(
            "{subject}\n\nThis takes back what commit {} wrote.",
            self.commit
        )
    }
}

/// What an intent or effect recorded of what it changed.
pub(super) fn recorded(detail: &BTreeMap<String, String>) -> Option<Vec<Change>> {
    serde_json::from_str(detail.get("changes")?).ok()
}
