//! Layers on top of each other: what of each is still there in the end.
//!
//! Of a layer only what was read is kept, and hashes of its paths to tell what it hides of the
//! layers below. Layers may be read in any order; the join knows theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::contents::{Contents, Item, Unread};
use super::files::{FileKind, recognise};
use super::paths::{PathHasher, ancestors, follow};
use crate::formats::purl::Purl;
use crate::scan::{Distro, Inventory, Location, Package, PackageKind, Uncovered};

/// Links of one layer that are remembered. Those of directories and of well-known files stand
/// near the root.
const MAX_LINKS: usize = 20_000;
/// Depth to which links are remembered.
const LINK_DEPTH: usize = 4;
/// Links that are followed for one path.
const HOPS: usize = 40;
/// Places that are told of one package or one thing not covered.
const PLACES: usize = 100;

/// What was read of one layer.
#[derive(Clone, Debug, Default)]
pub struct LayerContents {
    files: BTreeMap<String, Arc<Contents>>,
    links: BTreeMap<String, String>,
    /// Everything but directories: it hides what was there, and below.
    others: Vec<u64>,
    directories: Vec<u64>,
    whiteouts: Vec<u64>,
    /// Directories of which nothing lower shows.
    opaque: Vec<u64>,
}

impl LayerContents {
    /// Notes a directory.
    pub fn directory(&mut self, path: &str, hasher: &PathHasher) {
        self.forget(path);
        self.directories.push(hasher.hash(path));
    }

    /// Notes anything else but a directory; its contents may follow.
    pub fn other(&mut self, path: &str, hasher: &PathHasher) {
        self.forget(path);
        self.others.push(hasher.hash(path));
    }

    /// Notes where a symbolic link leads.
    pub fn link(&mut self, path: &str, target: &str, hasher: &PathHasher) {
        self.other(path, hasher);
        let depth = path.matches('/').count();
        if depth < LINK_DEPTH && target.len() < 1000 && self.links.len() < MAX_LINKS {
            self.links.insert(path.to_owned(), target.to_owned());
        }
    }

    /// Notes a second name of a file of this layer.
    pub fn hard_link(&mut self, path: &str, target: &str, hasher: &PathHasher) {
        let contents = self.files.get(target).cloned();
        self.other(path, hasher);
        match (contents, recognise(path)) {
            (Some(contents), _) => {
                self.files.insert(path.to_owned(), contents);
            }
            (None, Some(kind)) => {
                let why = "it is a second name of a file that was not read";
                self.read(path, Contents::unread(kind.what(), why));
            }
            (None, None) => {}
        }
    }

    /// Notes that a path of a lower layer is gone.
    pub fn whiteout(&mut self, path: &str, hasher: &PathHasher) {
        self.whiteouts.push(hasher.hash(path));
    }

    /// Notes that nothing of lower layers shows in a directory.
    pub fn opaque(&mut self, path: &str, hasher: &PathHasher) {
        self.opaque.push(hasher.hash(path));
    }

    /// Keeps what a file tells, if it tells anything.
    pub fn read(&mut self, path: &str, contents: Contents) {
        if !contents.is_empty() {
            self.files.insert(path.to_owned(), Arc::new(contents));
        }
    }

    /// To be called after the last entry of the layer.
    pub fn seal(&mut self) {
        for hashes in [
            &mut self.others,
            &mut self.directories,
            &mut self.whiteouts,
            &mut self.opaque,
        ] {
            hashes.sort_unstable();
            hashes.dedup();
            hashes.shrink_to_fit();
        }
    }

    /// A later entry of the same path replaces an earlier one.
    fn forget(&mut self, path: &str) {
        self.files.remove(path);
        self.links.remove(path);
    }

    /// Whether this layer hides a path of a lower one.
    fn hides(&self, path: &HashedPath) -> bool {
        let among = |hashes: &[u64], hash: &u64| hashes.binary_search(hash).is_ok();
        let gone = |hash: &u64| among(&self.others, hash) || among(&self.whiteouts, hash);
        gone(&path.own)
            || among(&self.directories, &path.own)
            || path
                .above
                .iter()
                .any(|hash| gone(hash) || among(&self.opaque, hash))
    }
}

/// Hashes of a path and of the directories above it, with the root.
struct HashedPath {
    own: u64,
    above: Vec<u64>,
}

impl HashedPath {
    fn new(path: &str, hasher: &PathHasher) -> Self {
        let above = ancestors(path).chain([""]);
        Self {
            own: hasher.hash(path),
            above: above.map(|path| hasher.hash(path)).collect(),
        }
    }
}

/// A file that shows.
struct Shown {
    hashed: HashedPath,
    contents: Arc<Contents>,
    /// The layer it is of.
    layer: usize,
    /// The layer that brought each of the packages.
    since: Vec<usize>,
}

/// Puts layers on top of each other, the lowest first, each with its digest.
pub fn join(
    image: String,
    layers: Vec<(Option<String>, LayerContents)>,
    hasher: &PathHasher,
) -> Inventory {
    let mut digests = Vec::new();
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    let mut links: BTreeMap<String, (HashedPath, String)> = BTreeMap::new();
    for (index, (digest, layer)) in layers.into_iter().enumerate() {
        digests.push(digest);
        links.retain(|_, (path, _)| !layer.hides(path));
        let hidden = |(_, file): &(&String, &Shown)| layer.hides(&file.hashed);
        let hidden: Vec<String> = shown
            .iter()
            .filter(hidden)
            .map(|(path, _)| path.clone())
            .collect();
        let mut replaced: HashMap<String, Shown> = hidden
            .into_iter()
            .filter_map(|path| shown.remove_entry(&path))
            .collect();
        for (path, target) in layer.links {
            let hashed = HashedPath::new(&path, hasher);
            links.insert(path, (hashed, target));
        }
        for (path, contents) in layer.files {
            let path = real_path(path, &links);
            let before = shown.remove(&path).or_else(|| replaced.remove(&path));
            let since = since(&contents, before.as_ref(), index);
            let file = Shown {
                hashed: HashedPath::new(&path, hasher),
                contents,
                layer: index,
                since,
            };
            shown.insert(path, file);
        }
    }
    leave_out_locks(&mut shown);
    let distro = distro(&shown, &links);
    let owners = owners(&shown, hasher);
    Inventory {
        packages: packages(&shown, &owners, distro.as_ref(), &digests),
        uncovered: uncovered(&shown, &owners, &digests),
        image,
        distro,
        layers: digests.into_iter().map(Option::unwrap_or_default).collect(),
    }
}

/// The layer that brought each package of a file: an earlier one, if a file it replaces had it.
fn since(contents: &Contents, before: Option<&Shown>, index: usize) -> Vec<usize> {
    fn key(item: &Item) -> (&str, &str, Option<&str>, Option<&str>) {
        let (arch, within) = (item.arch.as_deref(), item.within.as_deref());
        (&item.name, &item.version, arch, within)
    }
    let earlier: HashMap<_, usize> = before
        .into_iter()
        .flat_map(|file| file.contents.items.iter().zip(&file.since))
        .map(|(item, since)| (key(item), *since))
        .collect();
    let items = contents.items.iter();
    items
        .map(|item| earlier.get(&key(item)).copied().unwrap_or(index))
        .collect()
}

/// The path with the links of its directories followed.
fn real_path(path: String, links: &BTreeMap<String, (HashedPath, String)>) -> String {
    let mut path = path;
    for _ in 0..HOPS {
        // The nearest to the root first: what lies below is within it.
        let above: Vec<&str> = ancestors(&path).collect();
        let found = above
            .into_iter()
            .rev()
            .find_map(|above| Some((above, &links.get(above)?.1)));
        let Some((link, target)) = found else {
            return path;
        };
        let rest = &path[link.len()..];
        path = format!("{}{rest}", follow(link, target));
        path = path.trim_start_matches('/').to_owned();
    }
    // A circle: it is somewhere, and as good here.
    path
}

/// A lock file beside installed packages tells nothing they do not tell better.
fn leave_out_locks(shown: &mut BTreeMap<String, Shown>) {
    let is_lock = |path: &str| recognise(path).is_some_and(FileKind::is_node_lock);
    let locks: Vec<String> = shown.keys().filter(|path| is_lock(path)).cloned().collect();
    for lock in locks {
        let directory = lock.rsplit_once('/').map_or("", |(directory, _)| directory);
        let beside = match directory {
            "" => "node_modules/".to_owned(),
            directory => format!("{directory}/node_modules/"),
        };
        let mut after = shown.range(beside.clone()..);
        if after
            .next()
            .is_some_and(|(path, _)| path.starts_with(&beside))
        {
            shown.remove(&lock);
        }
    }
}

/// The distribution: `/etc/os-release`, or what that leads to, else the one below `/usr/lib`.
fn distro(
    shown: &BTreeMap<String, Shown>,
    links: &BTreeMap<String, (HashedPath, String)>,
) -> Option<Distro> {
    let told = |path: &str| {
        shown
            .get(path)
            .and_then(|file| file.contents.distro.clone())
    };
    let mut path = "etc/os-release".to_owned();
    for _ in 0..HOPS {
        path = real_path(path, links);
        if let Some(distro) = told(&path) {
            return Some(distro);
        }
        let Some((_, target)) = links.get(&path) else {
            break;
        };
        path = follow(&path, target);
    }
    told("usr/lib/os-release")
}

/// The packages of the distribution that installed files of ours, by path.
type Owners = HashMap<String, String>;

fn owners(shown: &BTreeMap<String, Shown>, hasher: &PathHasher) -> Owners {
    let mut wanted: HashMap<u64, &str> = HashMap::new();
    for (path, file) in shown {
        let distribution = |item: &Item| is_distribution(item.kind);
        if file.contents.owned.is_empty() && !file.contents.items.iter().any(distribution) {
            wanted.insert(hasher.hash(path), path);
            // Lists have the paths of before `/usr` was merged.
            let other = match path.strip_prefix("usr/") {
                Some(short) => hasher.hash(short),
                None => hasher.hash(&format!("usr/{path}")),
            };
            wanted.entry(other).or_insert(path);
        }
    }
    let mut owners = Owners::new();
    for file in shown.values() {
        for (hash, owner) in &file.contents.owned {
            let owner = usize::try_from(*owner).ok();
            let owner = owner.and_then(|at| file.contents.owners.get(at));
            if let (Some(path), Some(owner)) = (wanted.get(hash), owner) {
                owners.insert((*path).to_owned(), owner.clone());
            }
        }
    }
    owners
}

fn is_distribution(kind: PackageKind) -> bool {
    matches!(kind, PackageKind::Deb | PackageKind::Apk | PackageKind::Rpm)
}

/// What makes two finds one package: kind, name, version, architecture, owner.
type Identity = (PackageKind, String, String, Option<String>, Option<String>);

/// One package for all its places, in order.
fn packages(
    shown: &BTreeMap<String, Shown>,
    owners: &Owners,
    distro: Option<&Distro>,
    digests: &[Option<String>],
) -> Vec<Package> {
    let mut found: BTreeMap<Identity, Package> = BTreeMap::new();
    for (path, file) in shown {
        for (item, since) in file.contents.items.iter().zip(&file.since) {
            let owner = match is_distribution(item.kind) {
                true => None,
                false => owners.get(path).cloned(),
            };
            let location = location(path, item.within.as_deref(), digests.get(*since));
            let key = (
                item.kind,
                item.name.clone(),
                item.version.clone(),
                item.arch.clone(),
                owner.clone(),
            );
            let package = found.entry(key).or_insert_with(|| Package {
                kind: item.kind,
                name: item.name.clone(),
                version: item.version.clone(),
                arch: item.arch.clone(),
                source: item.source.clone(),
                owner,
                licenses: item.licenses.clone(),
                purl: purl(item, distro),
                locations: Vec::new(),
            });
            if package.locations.len() < PLACES && !package.locations.contains(&location) {
                package.locations.push(location);
            }
        }
    }
    found.into_values().collect()
}

fn location(path: &str, within: Option<&str>, layer: Option<&Option<String>>) -> Location {
    Location {
        path: match within {
            Some(within) => format!("{path}!{within}"),
            None => path.to_owned(),
        },
        layer: layer.cloned().flatten(),
    }
}

/// What was seen and not read, each once, with the first of its places.
fn uncovered(
    shown: &BTreeMap<String, Shown>,
    owners: &Owners,
    digests: &[Option<String>],
) -> Vec<Uncovered> {
    let mut places: BTreeMap<(&str, &str), (Location, BTreeSet<String>)> = BTreeMap::new();
    for (path, file) in shown {
        // What a package of the distribution brought is covered by that.
        if owners.contains_key(path) || is_part_of_package(path) && is_program(&file.contents) {
            continue;
        }
        for Unread { what, why, within } in &file.contents.unread {
            let since = file.since.first().copied().unwrap_or(file.layer);
            let location = location(path, within.as_deref(), digests.get(since));
            let entry = places.entry((what, why));
            let (_, more) = entry.or_insert_with(|| (location.clone(), BTreeSet::new()));
            more.insert(location.path);
        }
    }
    places
        .into_iter()
        .map(|((what, why), (location, places))| Uncovered {
            what: what.to_owned(),
            why: match places.len() {
                1 => why.to_owned(),
                count => format!("{why} ({count} files)"),
            },
            location,
        })
        .collect()
}

fn is_program(contents: &Contents) -> bool {
    let [unread] = contents.unread.as_slice() else {
        return false;
    };
    unread.what == super::program::NAMELESS
}

/// Whether a file came with a package of a language, which is read by itself.
fn is_part_of_package(path: &str) -> bool {
    let parts = ["node_modules", "site-packages", "dist-packages"];
    path.split('/').any(|part| parts.contains(&part))
}

/// The package URL, with the qualifiers that advisories of distributions want.
fn purl(item: &Item, distro: Option<&Distro>) -> String {
    let id = distro.map_or("", |distro| distro.id.as_str());
    let release = distro.map_or(String::new(), |distro| match distro.version.as_str() {
        "" => distro.id.clone(),
        version => format!("{}-{version}", distro.id),
    });
    let arch = item.arch.as_deref().unwrap_or_default();
    let upstream = upstream(item);
    let (before, last) = item.name.rsplit_once('/').unwrap_or(("", &item.name));
    match item.kind {
        PackageKind::Deb | PackageKind::Apk => {
            let kind = if item.kind == PackageKind::Deb {
                "deb"
            } else {
                "apk"
            };
            Purl::new(kind, &item.name)
                .namespace(id)
                .version(&item.version)
                .qualifier("arch", arch)
                .qualifier("distro", &release)
                .qualifier("upstream", &upstream)
                .build()
        }
        PackageKind::Rpm => {
            let (epoch, version) = item.version.split_once(':').unwrap_or(("", &item.version));
            Purl::new("rpm", &item.name)
                .namespace(id)
                .version(version)
                .qualifier("arch", arch)
                .qualifier("distro", &release)
                .qualifier("epoch", epoch)
                .qualifier("upstream", &upstream)
                .build()
        }
        PackageKind::Npm => Purl::new("npm", last)
            .namespace(before)
            .version(&item.version)
            .build(),
        PackageKind::Golang => {
            // What was built from a checkout has no version.
            let version = if item.version == "(devel)" {
                ""
            } else {
                &item.version
            };
            Purl::new("golang", last)
                .namespace(before)
                .version(version)
                .build()
        }
        PackageKind::Maven => {
            let (group, artifact) = item.name.split_once(':').unwrap_or(("", &item.name));
            Purl::new("maven", artifact)
                .namespace(group)
                .version(&item.version)
                .build()
        }
        PackageKind::Cargo => Purl::new("cargo", &item.name)
            .version(&item.version)
            .build(),
        PackageKind::Pypi => Purl::new("pypi", &item.name).version(&item.version).build(),
    }
}

/// The source package: its name, with its version where that differs; for rpm its file.
fn upstream(item: &Item) -> String {
    match &item.source {
        None => String::new(),
        Some(source) if item.kind == PackageKind::Rpm => {
            format!("{}-{}.src.rpm", source.name, source.version)
        }
        Some(source) if source.version == item.version => source.name.clone(),
        Some(source) => format!("{}@{}", source.name, source.version),
    }
}

#[cfg(test)]
mod tests;
