//! Findings by the package they are in, and the one fix to take for all of them.

use std::collections::BTreeMap;

use super::fix::highest;
use super::{Finding, Rating};

/// The findings in one package.
pub(super) struct Group<'a> {
    /// The worst first.
    pub(super) findings: Vec<&'a Finding>,
}

/// Groups findings by package: the worst first, and of those the ones with most problems.
pub(super) fn groups<'a>(findings: &[&'a Finding]) -> Vec<Group<'a>> {
    let mut by_package: BTreeMap<(&str, &str, _), Group<'_>> = BTreeMap::new();
    for finding in findings {
        let key = (
            finding.package.as_str(),
            finding.version.as_str(),
            finding.kind,
        );
        let group = by_package.entry(key).or_insert_with(|| Group {
            findings: Vec::new(),
        });
        group.findings.push(finding);
    }
    let mut groups: Vec<Group<'_>> = by_package.into_values().collect();
    for group in &mut groups {
        group.findings.sort_by(|a, b| {
            b.rating
                .cmp(&a.rating)
                .then_with(|| a.advisory.id.cmp(&b.advisory.id))
        });
    }
    groups.sort_by_key(|group| std::cmp::Reverse((group.worst(), group.findings.len())));
    groups
}

impl Group<'_> {
    /// The worst rating in it.
    pub(super) fn worst(&self) -> Rating {
        let ratings = self.findings.iter().map(|finding| finding.rating);
        ratings.max().unwrap_or_default()
    }

    /// The version to take, and what is left then.
    pub(super) fn advice(&self) -> Option<(String, String)> {
        let fixes = self.findings.iter().filter_map(|f| f.fixed.as_deref());
        let fixes: Vec<&str> = fixes.collect();
        let kind = self.findings.first().and_then(|finding| finding.kind);
        let version = highest(kind, &fixes)?;
        let all = self.findings.len();
        let rest = match fixes.len() {
            fixed if fixed == all => String::new(),
            fixed => format!(" (fixes {fixed} of {all})"),
        };
        Some((version.to_owned(), rest))
    }
}
