//! The gate: what a report may hold for its image to pass. A pure decision.

use super::{Finding, Rating, Report};

/// What a report may hold without failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Lowest rating that fails.
    pub fail_on: Rating,
    /// Leave out findings that no version fixes yet.
    pub ignore_unfixed: bool,
    /// Advisories to leave out.
    pub ignore: Vec<Ignore>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
/// An advisory that somebody decided to live with.
pub struct Ignore {
    /// Its id or an alias.
    pub id: String,
    /// Last day it is ignored, `2027-01-31`.
    pub until: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What a gate makes of a report.
#[derive(Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// Findings that fail.
    pub against: Vec<&'a Finding>,
    /// Number left out because nothing fixes them.
    pub unfixed: usize,
    /// Number left out because somebody said so.
    pub ignored: usize,
    /// Entries whose day is over.
    pub expired: Vec<&'a Ignore>,
    /// Entries that name nothing found.
    pub unused: Vec<&'a Ignore>,
}

impl Gate {
    /// Judges a report on a day (`2026-06-01`).
    pub fn judge<'a>(&'a self, report: &'a Report, today: &str) -> Judgement<'a> {
        let mut judgement = Judgement {
            against: Vec::new(),
            unfixed: 0,
            ignored: 0,
            expired: Vec::new(),
            unused: Vec::new(),
        };
        let mut used = vec![false; self.ignore.len()];
        for finding in &report.findings {
            if finding.rating < self.fail_on {
                continue;
            }
            if self.ignore_unfixed && finding.fixed.is_none() {
                judgement.unfixed += 1;
                continue;
            }
            let entry = self
                .ignore
                .iter()
                .position(|ignore| finding.advisory.is(&ignore.id));
            match entry {
                Some(at) => {
                    used[at] = true;
                    // Dates in this form compare like text.
                    if self.ignore[at]
                        .until
                        .as_deref()
                        .is_some_and(|until| until < today)
                    {
                        judgement.against.push(finding);
                    } else {
                        judgement.ignored += 1;
                    }
                }
                None => judgement.against.push(finding),
            }
        }
        for (ignore, used) in self.ignore.iter().zip(used) {
            if ignore.until.as_deref().is_some_and(|until| until < today) {
                judgement.expired.push(ignore);
            } else if !used {
                judgement.unused.push(ignore);
            }
        }
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Tool;

    fn finding(id: &str, rating: Rating, fixed: Option<&str>) -> Finding {
        let mut finding = Finding::new(id, "openssl", "3.0.1", rating);
        finding.advisory.aliases = vec![format!("GHSA-{id}")];
        finding.fixed = fixed.map(str::to_owned);
        finding
    }

    fn check(gate: Gate, expected: &[&str]) {
        let report = Report {
            findings: vec![
                finding("CVE-1", Rating::Critical, Some("3.0.2")),
                finding("CVE-2", Rating::High, None),
                finding("CVE-3", Rating::Medium, Some("3.0.2")),
            ],
            packages: 1,
            ..Report::new(Tool::named("test"), "sha256:0")
        };
        let judgement = gate.judge(&report, "2026-06-01");
        let ids: Vec<&str> = judgement
            .against
            .iter()
            .map(|finding| finding.advisory.id.as_str())
            .collect();
        assert_eq!(ids, expected);
    }

    fn gate() -> Gate {
        Gate {
            fail_on: Rating::High,
            ignore_unfixed: false,
            ignore: Vec::new(),
        }
    }

    fn ignore(id: &str, until: &str) -> Vec<Ignore> {
        vec![Ignore {
            id: id.to_owned(),
            until: Some(until.to_owned()),
            reason: None,
        }]
    }

    #[test]
    fn severity_is_a_threshold() {
        check(gate(), &["CVE-1", "CVE-2"]);
        check(
            Gate {
                fail_on: Rating::Critical,
                ..gate()
            },
            &["CVE-1"],
        );
    }

    #[test]
    fn unfixed_can_be_left_out() {
        check(
            Gate {
                ignore_unfixed: true,
                ..gate()
            },
            &["CVE-1"],
        );
    }

    #[test]
    fn ignoring_works_by_alias_and_ends() {
        check(
            Gate {
                ignore: ignore("ghsa-cve-1", "2026-06-01"),
                ..gate()
            },
            &["CVE-2"],
        );
        check(
            Gate {
                ignore: ignore("CVE-1", "2026-05-31"),
                ..gate()
            },
            &["CVE-1", "CVE-2"],
        );
    }
}
