//! How a stage or a run ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a stage or a run ended. Ordered by how much it weighs in a run's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its condition was false, or a producer was skipped.
    Skipped,
    /// There was nothing to do; its outputs are there.
    UpToDate,
    /// It did its work.
    Succeeded,
    /// Something it waits for did not succeed. Never a run's outcome.
    Blocked,
    /// The work said no.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// The infrastructure said no.
    Errored,
    /// Somebody stopped it.
    Cancelled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Skipped,
        Self::UpToDate,
        Self::Succeeded,
        Self::Blocked,
        Self::Failed,
        Self::TimedOut,
        Self::Errored,
        Self::Cancelled,
    ];

    /// The word used in files and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::UpToDate => "up-to-date",
            Self::Succeeded => "succeeded",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Errored => "errored",
            Self::Cancelled => "cancelled",
        }
    }

    /// Succeeded or up-to-date: its outputs are there.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::UpToDate)
    }

    /// Failed, errored, timed out, blocked or cancelled.
    pub const fn is_bad(self) -> bool {
        matches!(
            self,
            Self::Blocked | Self::Failed | Self::TimedOut | Self::Errored | Self::Cancelled
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or(())
    }
}
