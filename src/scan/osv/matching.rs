//! Which advisories apply to the packages of an inventory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::compile::{Affected, Notice};
use super::ecosystem::{self, Target};
use super::problem::{self, Hit};
use crate::base::Timestamp;
use crate::formats::version::Scheme;
use crate::scan::{
    Database, Distro, Ecosystem, Finding, Inventory, Package, PackageKind, Uncovered,
};

/// What matching asks of a store of advisories.
pub trait AdvisoryReader: Send + Sync {
    /// Every family that was imported, by name.
    fn families(&self) -> Result<Vec<Family>, ReadError>;

    /// A family; nothing if it was not imported.
    fn family(&self, name: &str) -> Result<Option<Family>, ReadError>;

    /// What is known of a package, by its name as the ecosystem compares it.
    fn affected(&self, ecosystem: &Ecosystem, package: &str) -> Result<Vec<Affected>, ReadError>;

    /// A notice of a family by its number.
    fn notice(&self, family: &str, number: u64) -> Result<Notice, ReadError>;
}

/// Why a store cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// Advisories that were imported as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Family {
    /// `Debian`, `npm`.
    pub name: String,
    /// Its ecosystems (releases, for a distribution), and how many records name each.
    pub ecosystems: Vec<(Ecosystem, u64)>,
    /// Records that can be matched.
    pub records: u64,
    /// Records that were taken back; they are not kept.
    pub withdrawn: u64,
    /// Records of which something could not be read.
    pub broken: u64,
    /// When the newest record changed.
    pub newest: Option<Timestamp>,
    /// When the whole was published, if the server it came from said so.
    pub published: Option<Timestamp>,
    /// When it was imported.
    pub imported: Timestamp,
    /// Where from.
    pub source: String,
}

impl Family {
    /// The day up to which the advisories tell what was known: when they were published, or when
    /// the newest of them changed. The day of the import says nothing of that.
    pub fn dated(&self) -> Option<Timestamp> {
        self.published.max(self.newest)
    }
}

/// What was found, and what could not be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    /// Findings, in the order of reports.
    pub findings: Vec<Finding>,
    /// The age of what was asked: the oldest of the families that were needed.
    pub database: Database,
    /// Ecosystems that packages belong to and the store lacks. Unless this is empty, having no
    /// findings means nothing.
    pub missing: Vec<Ecosystem>,
    /// Packages that no advisory can be matched with, and why.
    pub uncovered: Vec<Uncovered>,
}

/// Finds the advisories that apply to an inventory.
pub fn findings(inventory: &Inventory, reader: &dyn AdvisoryReader) -> Result<Matches, ReadError> {
    let mut search = Search {
        inventory,
        reader,
        release: inventory.distro.as_ref().and_then(ecosystem::distribution),
        families: BTreeMap::new(),
        known: HashMap::new(),
        notices: HashMap::new(),
        missing: BTreeSet::new(),
        unknown: BTreeMap::new(),
        uncovered: BTreeSet::new(),
    };
    let mut findings = Vec::new();
    for package in &inventory.packages {
        search.package(package, &mut findings)?;
    }
    Ok(search.finish(findings))
}

/// A family and the ecosystems of it that have been asked for.
type Asked = Option<(Family, Vec<Ecosystem>)>;

struct Search<'a> {
    inventory: &'a Inventory,
    reader: &'a dyn AdvisoryReader,
    release: Option<Target>,
    families: BTreeMap<&'static str, Asked>,
    known: HashMap<(Ecosystem, String), Vec<Affected>>,
    notices: HashMap<(&'static str, u64), Notice>,
    missing: BTreeSet<Ecosystem>,
    /// Packages of a distribution that OSV does not know, by kind.
    unknown: BTreeMap<PackageKind, (usize, &'a Package)>,
    uncovered: BTreeSet<Uncovered>,
}

impl<'a> Search<'a> {
    fn package(
        &mut self,
        package: &'a Package,
        findings: &mut Vec<Finding>,
    ) -> Result<(), ReadError> {
        let target = match ecosystem::language(package.kind) {
            Some(_) if self.is_answered_for(package)? => return Ok(()),
            Some(target) => target,
            None => match &self.release {
                Some(target) if fits(package.kind, target.family) => target.clone(),
                _ => {
                    self.unknown.entry(package.kind).or_insert((0, package)).0 += 1;
                    return Ok(());
                }
            },
        };
        let Some(scheme) = ecosystem::scheme(target.family) else {
            return Ok(());
        };
        let ecosystems = self.ecosystems(&target, &package.version)?;
        let mut affected: Vec<(&'static str, String, Affected)> = Vec::new();
        for (name, version) in ecosystem::subjects(target.family, package) {
            for ecosystem in &ecosystems {
                let known = self.known(ecosystem, &name)?;
                if known.is_empty() {
                    continue;
                }
                // Only now does it matter: what nobody warns of needs no version.
                if !scheme.reads(&version) {
                    self.uncovered.insert(undecided(package, &version));
                    continue;
                }
                let hits = known
                    .iter()
                    .filter(|one| is_affected(scheme, one, &version));
                let hits =
                    hits.map(|one| (target.family, version.clone().into_owned(), one.clone()));
                affected.extend(hits);
            }
        }
        if affected.is_empty() {
            return Ok(());
        }
        for (family, _, one) in &affected {
            self.read_notice(family, one.notice)?;
        }
        let hits: Vec<Hit<'_>> = affected
            .iter()
            .filter_map(|(family, _, one)| {
                Some(Hit {
                    notice: self.notices.get(&(*family, one.notice))?,
                    severities: &one.severities,
                })
            })
            .collect();
        for (advisory, members) in problem::merge(&hits) {
            let members: Vec<(&str, &Affected)> = members
                .into_iter()
                .map(|at| (affected[at].1.as_str(), &affected[at].2))
                .collect();
            findings.push(Finding {
                rating: advisory.rating(),
                advisory,
                package: package.name.clone(),
                version: package.version.clone(),
                kind: Some(package.kind),
                purl: Some(package.purl.clone()).filter(|purl| !purl.is_empty()),
                fixed: fix(scheme, &members),
                status: None,
                locations: package.locations.clone(),
            });
        }
        Ok(())
    }

    /// Whether the distribution answers for a language's package, because it came with one of its
    /// own and its advisories know that one: it fixes what it ships without a new version, so that
    /// a language's advisory would accuse what is fixed long since.
    ///
    /// A package from elsewhere (a vendor's `.deb`) is in the database of packages too, but not in
    /// the distribution's advisories, so nobody else answers for what it brings. Nor does anybody
    /// for what is linked into programs: distributions write about the program, not its modules.
    fn is_answered_for(&mut self, package: &Package) -> Result<bool, ReadError> {
        let is_linked_in = matches!(package.kind, PackageKind::Golang | PackageKind::Cargo);
        let (Some(owner), Some(target), false) =
            (&package.owner, self.release.clone(), is_linked_in)
        else {
            return Ok(false);
        };
        let mut installed = self.inventory.packages.iter();
        let owner = installed.find(|one| fits(one.kind, target.family) && one.name == *owner);
        let Some(owner) = owner else {
            return Ok(false);
        };
        let ecosystems = self.ecosystems(&target, &owner.version)?;
        for (name, _) in ecosystem::subjects(target.family, owner) {
            for ecosystem in &ecosystems {
                if !self.known(ecosystem, &name)?.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The imported ecosystems for a package; notes what is missing.
    fn ecosystems(&mut self, target: &Target, version: &str) -> Result<Vec<Ecosystem>, ReadError> {
        if !self.families.contains_key(target.family) {
            let family = self.reader.family(target.family)?;
            let asked = family.map(|family| {
                let names: Vec<Ecosystem> = family
                    .ecosystems
                    .iter()
                    .map(|(name, _)| name.clone())
                    .collect();
                (family, names)
            });
            self.families.insert(target.family, asked);
        }
        let imported = match self.families.get(target.family) {
            Some(Some((_, imported))) => imported.as_slice(),
            _ => &[],
        };
        if let Some(extended) = target.extended(version) {
            let chosen = extended.choose(imported);
            if !chosen.is_empty() {
                return Ok(chosen);
            }
        }
        let chosen = target.choose(imported);
        if chosen.is_empty() {
            self.missing.insert(target.ecosystem());
        }
        Ok(chosen)
    }

    fn known(&mut self, ecosystem: &Ecosystem, name: &str) -> Result<&[Affected], ReadError> {
        let key = (ecosystem.clone(), name.to_owned());
        if !self.known.contains_key(&key) {
            let affected = self.reader.affected(ecosystem, name)?;
            self.known.insert(key.clone(), affected);
        }
        Ok(self.known.get(&key).map_or(&[], Vec::as_slice))
    }

    fn read_notice(&mut self, family: &'static str, number: u64) -> Result<(), ReadError> {
        if !self.notices.contains_key(&(family, number)) {
            let notice = self.reader.notice(family, number)?;
            self.notices.insert((family, number), notice);
        }
        Ok(())
    }

    fn finish(mut self, mut findings: Vec<Finding>) -> Matches {
        for (kind, (count, first)) in &self.unknown {
            let why = unknown_release(*kind, self.inventory.distro.as_ref());
            if let Some(location) = first.locations.first() {
                self.uncovered.insert(Uncovered {
                    what: format!("advisories for {count} {} packages", word(*kind)),
                    location: location.clone(),
                    why,
                });
            }
        }
        findings.sort_by(|a, b| {
            b.rating
                .cmp(&a.rating)
                .then_with(|| a.package.cmp(&b.package))
                .then_with(|| a.version.cmp(&b.version))
                .then_with(|| a.advisory.id.cmp(&b.advisory.id))
        });
        let families = self.families.values().flatten();
        let dates: Vec<Option<Timestamp>> = families.map(|(family, _)| family.dated()).collect();
        // Of a family without a date nobody knows how old it is.
        let updated = match dates.iter().any(Option::is_none) {
            true => None,
            false => dates.into_iter().flatten().min(),
        };
        Matches {
            findings,
            database: Database {
                version: None,
                updated,
            },
            missing: self.missing.into_iter().collect(),
            uncovered: self.uncovered.into_iter().collect(),
        }
    }
}

/// Whether a version has the problem.
fn is_affected(scheme: Scheme, affected: &Affected, version: &str) -> bool {
    if !is_of_stream(scheme, affected, version) {
        return false;
    }
    affected
        .ranges
        .iter()
        .any(|range| range.holds(scheme, version))
        || affected
            .versions
            .iter()
            .any(|one| one == version || scheme.compare(one, version) == Ordering::Equal)
}

/// Red Hat and its kin build some packages as modules, in streams of their own. A fix for one
/// says nothing of packages that are not built so, and the other way round.
fn is_of_stream(scheme: Scheme, affected: &Affected, version: &str) -> bool {
    if scheme != Scheme::Rpm {
        return true;
    }
    let is_modular = |version: &str| version.contains(".module");
    let mut fixes = affected
        .ranges
        .iter()
        .flat_map(|range| range.fixes())
        .peekable();
    fixes.peek().is_none() || fixes.any(|fix| is_modular(fix) == is_modular(version))
}

/// The lowest version after the installed one that has the problem by none of the advisories.
/// Where one advisory knows of a fix and another does not, the one that knows is believed.
fn fix(scheme: Scheme, members: &[(&str, &Affected)]) -> Option<String> {
    let after = |installed: &str, fix: &str| scheme.compare(fix, installed) == Ordering::Greater;
    let mut fixes: Vec<&str> = members
        .iter()
        .flat_map(|(installed, affected)| {
            let inside = affected
                .ranges
                .iter()
                .filter(|range| range.holds(scheme, installed));
            let fixes = inside.flat_map(|range| range.fixes());
            fixes.filter(|fix| after(installed, fix))
        })
        .collect();
    fixes.sort_by(|a, b| scheme.compare(a, b));
    let clean = fixes.iter().find(|fix| {
        !members
            .iter()
            .any(|(_, affected)| is_affected(scheme, affected, fix))
    });
    clean.or(fixes.last()).map(|fix| (*fix).to_owned())
}

/// Whether packages of a kind can be those of a family.
fn fits(kind: PackageKind, family: &str) -> bool {
    let scheme = match kind {
        PackageKind::Deb => Scheme::Deb,
        PackageKind::Apk => Scheme::Apk,
        PackageKind::Rpm => Scheme::Rpm,
        _ => return false,
    };
    ecosystem::scheme(family) == Some(scheme)
}

fn word(kind: PackageKind) -> &'static str {
    match kind {
        PackageKind::Deb => "dpkg",
        PackageKind::Apk => "apk",
        PackageKind::Rpm => "rpm",
        PackageKind::Cargo => "Cargo",
        PackageKind::Npm => "npm",
        PackageKind::Pypi => "Python",
        PackageKind::Golang => "Go",
        PackageKind::Maven => "Maven",
    }
}

fn unknown_release(kind: PackageKind, distro: Option<&Distro>) -> String {
    match distro {
        None => "the image does not say which distribution it is".to_owned(),
        Some(distro) => {
            let name = if distro.name.is_empty() {
                &distro.id
            } else {
                &distro.name
            };
            let word = word(kind);
            format!("OSV has no advisories for {word} packages of {name}")
        }
    }
}

fn undecided(package: &Package, version: &str) -> Uncovered {
    let shown: String = version.chars().take(60).collect();
    Uncovered {
        what: format!("advisories for {}", package.name),
        location: package
            .locations
            .first()
            .cloned()
            .unwrap_or(crate::scan::Location {
                path: String::new(),
                layer: None,
            }),
        why: format!("its version `{shown}` cannot be compared"),
    }
}
