//! The gate: what a report may hold for its image to pass. A pure decision.
//!
//! A finding at or above the threshold fails unless something excuses it, and every excuse is kept
//! beside it. What makes a report less than a whole answer (a database that is old, packages that
//! were not read) is a concern of its own: it never hides a finding, and a finding never hides it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::is_of_one_problem;
use super::vex::{self, Product};
use super::{Finding, Rating, Report};
use crate::base::Timestamp;

/// Older databases are remarked on where no limit is given.
const OLD: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 3600;
/// What a concern names one by one.
const NAMED: usize = 3;

/// What a report may hold without failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Lowest rating that fails.
    pub fail_on: Rating,
    /// Leave out findings that no version fixes yet.
    pub ignore_unfixed: bool,
    /// Advisories to leave out.
    pub ignore: Vec<Ignore>,
    /// Statements about what does not apply.
    pub vex: Vec<vex::Document>,
    /// What packages mean that the image has and the scanner did not read.
    pub not_covered: Otherwise,
    /// How old the advisory database may be.
    pub max_age: Option<MaxAge>,
    /// What was known before, and does not fail again.
    pub baseline: Option<Baseline>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            fail_on: Rating::High,
            ignore_unfixed: false,
            ignore: Vec::new(),
            vex: Vec::new(),
            not_covered: Otherwise::Error,
            max_age: None,
            baseline: None,
        }
    }
}

/// An advisory that somebody decided to live with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignore {
    /// Its id or an alias.
    pub id: String,
    /// Last day it is ignored, `2027-01-31`.
    pub until: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What something means that makes a report less than a whole answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// The scan did not work: `errored`.
    #[default]
    Error,
    /// The image does not pass: `failed`.
    Fail,
    /// It is remarked on.
    Warn,
    /// It is said in the log.
    Ignore,
}

impl Otherwise {
    /// As they are written in files.
    pub const WORDS: &'static [&'static str] = &["error", "fail", "warn", "ignore"];

    /// The one of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "error" => Self::Error,
            "fail" => Self::Fail,
            "warn" => Self::Warn,
            "ignore" => Self::Ignore,
            _ => return None,
        })
    }
}

/// How old an advisory database may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge {
    /// The limit.
    pub age: Duration,
    /// What a database means that is older, tells no date or is missing.
    pub otherwise: Otherwise,
}

/// What an earlier report found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Ids by package.
    known: HashMap<String, BTreeSet<String>>,
}

impl Baseline {
    /// What a report found.
    pub fn of(report: &Report) -> Self {
        let mut known: HashMap<String, BTreeSet<String>> = HashMap::new();
        for finding in &report.findings {
            let ids = known.entry(finding.package.clone()).or_default();
            let advisory = &finding.advisory;
            ids.extend(names(advisory).map(str::to_ascii_lowercase));
        }
        Self { known }
    }

    /// Whether it has the problem of a finding in a package of that name, wherever it was and in
    /// whichever version. An advisory of a distribution may be about several problems, so that
    /// sharing one of those is not enough.
    pub fn has(&self, finding: &Finding) -> bool {
        self.known.get(&finding.package).is_some_and(|ids| {
            names(&finding.advisory)
                .filter(|id| *id == finding.advisory.id || is_of_one_problem(id))
                .any(|id| ids.contains(&id.to_ascii_lowercase()))
        })
    }
}

fn names(advisory: &super::Advisory) -> impl Iterator<Item = &str> {
    std::iter::once(advisory.id.as_str()).chain(advisory.aliases.iter().map(String::as_str))
}

/// What a gate makes of a report.
#[derive(Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// Findings that fail.
    pub against: Vec<&'a Finding>,
    /// Findings at or above the threshold that do not fail, and why.
    pub excused: Vec<(&'a Finding, Excuse)>,
    /// Entries whose day is over.
    pub expired: Vec<Ignore>,
    /// Entries that name nothing found.
    pub unused: Vec<Ignore>,
    /// What makes the report less than a whole answer.
    pub concerns: Vec<Concern>,
}

/// A judgement as it is kept with its report: findings by their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    against: Vec<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    excused: Vec<(usize, Excuse)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    expired: Vec<Ignore>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unused: Vec<Ignore>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    concerns: Vec<Concern>,
}

/// Why a finding does not fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excuse {
    /// The kind of reason.
    pub why: Why,
    /// The reason, in a sentence.
    pub words: String,
}

/// A kind of reason for which a finding does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// Nothing fixes it yet.
    Unfixed,
    /// Somebody decided to live with it.
    Ignored,
    /// A statement says that it does not apply.
    Stated,
    /// It was there before.
    Known,
}

impl Excuse {
    fn of(why: Why, words: impl Into<String>) -> Self {
        Self {
            why,
            words: words.into(),
        }
    }

    fn ignored(ignore: &Ignore) -> Self {
        let mut words = "ignored".to_owned();
        if let Some(until) = &ignore.until {
            words.push_str(&format!(" until {until}"));
        }
        if let Some(reason) = &ignore.reason {
            words.push_str(&format!(": {reason}"));
        }
        Self::of(Why::Ignored, words)
    }
}

/// Something that makes a report less than a whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concern {
    /// What, in a sentence.
    pub message: String,
    /// What it means.
    pub otherwise: Otherwise,
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Passed(String),
    /// It does not.
    Failed(String),
    /// The report does not tell.
    Errored(String),
}

impl Gate {
    /// Judges a report about an image at a time.
    pub fn judge<'a>(
        &'a self,
        report: &'a Report,
        product: &Product,
        now: Timestamp,
    ) -> Judgement<'a> {
        let today: String = now.rfc3339().chars().take(10).collect();
        // Dates in this form compare like text.
        let over = |ignore: &Ignore| ignore.until.as_ref().is_some_and(|until| *until < today);
        let statements = vex::Index::new(&self.vex);
        let mut judgement = Judgement {
            against: Vec::new(),
            excused: Vec::new(),
            expired: self
                .ignore
                .iter()
                .filter(|one| over(one))
                .cloned()
                .collect(),
            unused: Vec::new(),
            concerns: self.concerns(report, now),
        };
        let mut used = vec![false; self.ignore.len()];
        for finding in &report.findings {
            let entry = self
                .ignore
                .iter()
                .position(|ignore| finding.advisory.is(&ignore.id));
            if let Some(at) = entry {
                used[at] = true;
            }
            if finding.rating < self.fail_on {
                continue;
            }
            let ignored = entry.map(|at| &self.ignore[at]).filter(|one| !over(one));
            let excuse = if let Some(verdict) = statements.verdict(finding, product) {
                Some(Excuse::of(Why::Stated, verdict.words()))
            } else if let Some(ignore) = ignored {
                Some(Excuse::ignored(ignore))
            } else if self.ignore_unfixed && finding.fixed.is_none() {
                Some(Excuse::of(Why::Unfixed, "no version fixes it yet"))
            } else if self.baseline.as_ref().is_some_and(|b| b.has(finding)) {
                Some(Excuse::of(
                    Why::Known,
                    "the last successful run of the branch had it",
                ))
            } else {
                None
            };
            match excuse {
                Some(excuse) => judgement.excused.push((finding, excuse)),
                None => judgement.against.push(finding),
            }
        }
        for (ignore, used) in self.ignore.iter().zip(used) {
            if !used && !over(ignore) {
                judgement.unused.push(ignore.clone());
            }
        }
        judgement
    }

    fn concerns(&self, report: &Report, now: Timestamp) -> Vec<Concern> {
        let mut concerns = Vec::new();
        let told = report
            .database
            .as_ref()
            .and_then(|database| database.updated);
        let tool = &report.tool.name;
        let age = told.map(|updated| now.since(updated));
        let days = |age: Duration| format!("{} days", age.as_secs() / DAY);
        match (age, self.max_age) {
            (Some(age), Some(limit)) if age > limit.age => concerns.push(Concern {
                message: format!(
                    "the advisory database of {tool} is {} old, which is more than max-db-age allows",
                    days(age)
                ),
                otherwise: limit.otherwise,
            }),
            (None, Some(limit)) => concerns.push(Concern {
                message: format!("{tool} does not tell how old its advisory database is"),
                otherwise: limit.otherwise,
            }),
            (Some(age), None) if age > OLD => concerns.push(Concern {
                message: format!("the advisory database of {tool} is {} old", days(age)),
                otherwise: Otherwise::Warn,
            }),
            _ => {}
        }
        if !report.uncovered.is_empty() {
            let named = report.uncovered.iter().take(NAMED).map(|uncovered| {
                match uncovered.location.path.as_str() {
                    "" => format!("{} ({})", uncovered.what, uncovered.why),
                    path => format!("{} at {path} ({})", uncovered.what, uncovered.why),
                }
            });
            let mut message = named.collect::<Vec<_>>().join("; ");
            let rest = report.uncovered.len().saturating_sub(NAMED);
            if rest > 0 {
                message.push_str(&format!("; and {rest} more"));
            }
            concerns.push(Concern {
                message: format!("not covered by {tool}: {message}"),
                otherwise: self.not_covered,
            });
        }
        concerns
    }
}

impl Judged {
    /// The judgement of the report it was kept with.
    pub fn of<'a>(&self, report: &'a Report) -> Judgement<'a> {
        let find = |at: usize| report.findings.get(at);
        let excused = self.excused.iter();
        Judgement {
            against: self.against.iter().filter_map(|at| find(*at)).collect(),
            excused: excused
                .filter_map(|(at, excuse)| Some((find(*at)?, excuse.clone())))
                .collect(),
            expired: self.expired.clone(),
            unused: self.unused.clone(),
            concerns: self.concerns.clone(),
        }
    }
}

impl Judgement<'_> {
    /// Number of findings that are excused for a kind of reason.
    pub fn excused_by(&self, why: Why) -> usize {
        let excused = self.excused.iter();
        excused.filter(|(_, excuse)| excuse.why == why).count()
    }

    /// What is kept of it with its report.
    pub fn kept(&self, report: &Report) -> Judged {
        let numbers: HashMap<*const Finding, usize> = report
            .findings
            .iter()
            .enumerate()
            .map(|(at, finding)| (std::ptr::from_ref(finding), at))
            .collect();
        let number = |finding: &Finding| numbers.get(&std::ptr::from_ref(finding)).copied();
        let excused = self.excused.iter();
        Judged {
            against: self.against.iter().filter_map(|f| number(f)).collect(),
            excused: excused
                .filter_map(|(finding, excuse)| Some((number(finding)?, excuse.clone())))
                .collect(),
            expired: self.expired.clone(),
            unused: self.unused.clone(),
            concerns: self.concerns.clone(),
        }
    }

    /// What becomes of the image. What is found is certain however old the database is, so a
    /// finding decides before a concern does.
    pub fn verdict(&self, report: &Report) -> Verdict {
        if let Some(expired) = self.expired.first() {
            let reason = expired.reason.as_deref();
            return Verdict::Failed(format!(
                "ignoring {} ended on {}{}; decide again",
                expired.id,
                expired.until.as_deref().unwrap_or("-"),
                reason.map(|why| format!(" ({why})")).unwrap_or_default()
            ));
        }
        if let Some(worst) = self.against.iter().max_by_key(|finding| finding.rating) {
            let fixed = worst.fixed.as_deref();
            return Verdict::Failed(format!(
                "{} finding{} at or above the gate, such as {} in {} {}{}",
                self.against.len(),
                if self.against.len() == 1 { "" } else { "s" },
                worst.advisory.id,
                worst.package,
                worst.version,
                fixed
                    .map(|fixed| format!(" (fixed in {fixed})"))
                    .unwrap_or_default()
            ));
        }
        let concern = |wanted: Otherwise| {
            self.concerns
                .iter()
                .find(|concern| concern.otherwise == wanted)
                .map(|concern| concern.message.clone())
        };
        if let Some(message) = concern(Otherwise::Error) {
            return Verdict::Errored(message);
        }
        if let Some(message) = concern(Otherwise::Fail) {
            return Verdict::Failed(message);
        }
        let mut note = format!(
            "nothing at or above the gate in {}",
            report.packages_in_words()
        );
        let counts = [
            (Why::Unfixed, "unfixed"),
            (Why::Ignored, "ignored"),
            (Why::Stated, "not applicable by VEX"),
            (Why::Known, "known before"),
        ]
        .map(|(why, what)| (self.excused_by(why), what));
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !counts.is_empty() {
            note.push_str(&format!(" ({})", counts.join(", ")));
        }
        Verdict::Passed(note)
    }

    /// What is worth a remark although it decides nothing.
    pub fn warnings(&self, report: &Report) -> Vec<String> {
        let concerns = self
            .concerns
            .iter()
            .filter(|concern| concern.otherwise == Otherwise::Warn)
            .map(|concern| concern.message.clone());
        let unused = self
            .unused
            .iter()
            .map(|ignore| format!("ignoring {} has no effect: it is not found", ignore.id));
        let remarks = report.remarks.iter().cloned();
        concerns.chain(unused).chain(remarks).collect()
    }
}

#[cfg(test)]
mod tests;
