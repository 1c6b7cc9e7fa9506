//! Merges what several advisories say into problems: one problem counts once for each package,
//! however many databases write about it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::compile::Notice;
use super::severity::{self, Weighed};
use crate::scan::Advisory;

/// An advisory that applies to a package.
pub(super) struct Hit<'a> {
    /// What it says.
    pub notice: &'a Notice,
    /// How bad it is in this package.
    pub severities: &'a [Weighed],
}

/// Merges the advisories that apply to one package: each problem, and which of them are about it.
pub(super) fn merge(hits: &[Hit<'_>]) -> Vec<(Advisory, Vec<usize>)> {
    let mut ids = Ids::default();
    let mut sets = Vec::new();
    for (at, hit) in hits.iter().enumerate() {
        for problem in &hit.notice.problems {
            let numbers: Vec<usize> = problem.iter().map(|id| ids.number(id)).collect();
            let Some((first, others)) = numbers.split_first() else {
                continue;
            };
            for other in others {
                ids.join(*first, *other);
            }
            sets.push((*first, at));
        }
    }
    let mut groups: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (id, hit) in sets {
        groups.entry(ids.root(id)).or_default().insert(hit);
    }
    let names = ids.groups();
    groups
        .into_iter()
        .map(|(root, members)| {
            let members: Vec<usize> = members.into_iter().collect();
            let names = names.get(&root).cloned().unwrap_or_default();
            (advisory(hits, &members, names), members)
        })
        .collect()
}

fn advisory(hits: &[Hit<'_>], members: &[usize], mut names: BTreeSet<String>) -> Advisory {
    let notices: Vec<&Notice> = members.iter().map(|at| hits[*at].notice).collect();
    let cve = names.iter().find(|id| id.starts_with("CVE-")).cloned();
    let own = notices.iter().map(|notice| notice.id.clone()).min();
    let id = cve.or(own).unwrap_or_default();
    names.extend(notices.iter().map(|notice| notice.id.clone()));
    names.remove(&id);
    // An advisory about several problems at once tells less of each than one about this alone.
    let alone: Vec<usize> = members
        .iter()
        .copied()
        .filter(|at| hits[*at].notice.problems.len() == 1)
        .collect();
    let rated = |members: &[usize]| {
        let severities = members.iter().flat_map(|at| {
            let hit = &hits[*at];
            hit.severities.iter().chain(&hit.notice.severities).cloned()
        });
        severity::sort(severities.collect())
    };
    let mut severities = rated(&alone);
    if severities.is_empty() {
        severities = rated(members);
    }
    let best = |has: fn(&Notice) -> bool| {
        let mut notices: Vec<&&Notice> = notices.iter().filter(|notice| has(notice)).collect();
        notices.sort_by_key(|notice| (notice.problems.len(), notice.id != id));
        notices.first().map(|notice| **notice)
    };
    let title = best(|notice| !notice.title.is_empty());
    let url = best(|notice| notice.url.is_some()).and_then(|notice| notice.url.clone());
    Advisory {
        title: title.map(|notice| notice.title.clone()).unwrap_or_default(),
        url: url.or_else(|| Some(format!("https://osv.dev/vulnerability/{id}"))),
        aliases: names.into_iter().collect(),
        severities,
        id,
    }
}

/// Ids and which of them mean the same: a union-find.
#[derive(Default)]
struct Ids {
    numbers: HashMap<String, usize>,
    parents: Vec<usize>,
}

impl Ids {
    fn number(&mut self, id: &str) -> usize {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = self.parents.len();
        self.parents.push(number);
        self.numbers.insert(id.to_owned(), number);
        number
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.parents[at] != at {
            self.parents[at] = self.parents[self.parents[at]];
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller number stays, so that the result does not depend on the order of ids.
        self.parents[a.max(b)] = a.min(b);
    }

    /// The ids of each root.
    fn groups(mut self) -> HashMap<usize, BTreeSet<String>> {
        let mut groups: HashMap<usize, BTreeSet<String>> = HashMap::new();
        for (id, number) in std::mem::take(&mut self.numbers) {
            groups.entry(self.root(number)).or_default().insert(id);
        }
        groups
    }
}
