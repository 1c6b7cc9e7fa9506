//! Version constraints as image updaters write them: `~1.2`, `>=1.1 <2 || ^3`, `1.2 - 1.4`.
//!
//! Follows Masterminds/semver v3, on which Helm, Argo CD Image Updater and Flux rest. It differs
//! from Rust's `VersionReq` in what a partial version means, in wildcards and in prereleases, so that one
//! must not stand in for the other. It departs from its model in two cases that nobody means there:
//! `<=*` takes every version, `!=*` none. Knows nothing about registries or tags' metadata.

mod parse;
#[cfg(test)]
mod tests;
mod version;

pub use version::Version;

use version::Partial;

/// What a version has to satisfy: any of some groups, all of the comparators of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    groups: Vec<Vec<Comparator>>,
}

/// Why a text is no constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is not a version constraint: {why}")]
pub struct ConstraintError {
    /// The part that cannot be read.
    pub part: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Why a version does not satisfy a constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// A prerelease, and no comparator of the group names one.
    #[error("it is a prerelease, and `{0}` names none")]
    Prerelease(String),
    /// A comparator says no.
    #[error("it does not satisfy `{0}`")]
    Comparator(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    Tilde,
    Caret,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Comparator {
    operator: Operator,
    operand: Partial,
    /// As written, for messages.
    text: String,
}

impl Constraint {
    /// Reads a constraint. `||` is OR; a comma or space is AND; an empty text is `*`.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        parse::constraint(text)
    }

    /// Whether a version satisfies it.
    pub fn matches(&self, version: &Version) -> bool {
        self.judge(version).is_ok()
    }

    /// A version that satisfies it, for show: the lowest one of those that its text suggests.
    pub fn example(&self) -> Option<Version> {
        let operands = self.groups.iter().flatten().map(|it| &it.operand.version);
        let near = operands.flat_map(|version| {
            let [major, minor, patch] = version.numbers;
            let next = |number: u64| number.saturating_add(1);
            let numbers = [
                [1, 0, 0],
                [major, minor, patch],
                [major, minor, next(patch)],
                [major, next(minor), 0],
                [next(major), 0, 0],
                [0, 0, 0],
            ];
            let plain = numbers.map(|[major, minor, patch]| format!("{major}.{minor}.{patch}"));
            plain.into_iter().chain([version.to_string()])
        });
        let fitting = near
            .filter_map(|text| Version::parse(&text))
            .filter(|version| version.has_three_parts() && self.matches(version));
        fitting.min()
    }

    /// Why a version does not satisfy it: the reason of the group that came last.
    pub fn judge(&self, version: &Version) -> Result<(), Unmet> {
        let mut unmet = None;
        for group in &self.groups {
            match judge_group(group, version) {
                Ok(()) => return Ok(()),
                Err(reason) => unmet = Some(reason),
            }
        }
        unmet.map_or(Ok(()), Err)
    }
}

fn judge_group(group: &[Comparator], version: &Version) -> Result<(), Unmet> {
    let names_prerelease = group
        .iter()
        .any(|comparator| comparator.operand.version.is_prerelease());
    for comparator in group {
        // A plain `!=` only takes one version away; it does not ask for releases.
        let asks = comparator.operator != Operator::NotEqual || comparator.operand.is_partial();
        if version.is_prerelease() && !names_prerelease && asks {
            return Err(Unmet::Prerelease(comparator.text.clone()));
        }
        if !comparator.admits(version) {
            return Err(Unmet::Comparator(comparator.text.clone()));
        }
    }
    Ok(())
}

impl Comparator {
    fn admits(&self, version: &Version) -> bool {
        let operand = &self.operand;
        let bound = &operand.version;
        match self.operator {
            Operator::Equal if operand.is_partial() => operand.tilde(version),
            Operator::Equal => version == bound,
            Operator::NotEqual if operand.is_partial() => operand.differs(version),
            Operator::NotEqual => version != bound,
            Operator::Greater if operand.is_partial() => operand.below(version),
            Operator::Greater => version > bound,
            Operator::Less => version < bound,
            Operator::GreaterEqual => version >= bound,
            Operator::LessEqual if operand.is_partial() => operand.not_above(version),
            Operator::LessEqual => version <= bound,
            Operator::Tilde => operand.tilde(version),
            Operator::Caret => operand.caret(version),
        }
    }
}
