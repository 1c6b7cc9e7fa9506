//! Which of OSV's ecosystems know about a package: by the distribution of the image and its
//! release, or by the package's language.

use std::borrow::Cow;

use crate::formats::version::Scheme;
use crate::scan::{Distro, Ecosystem, Package, PackageKind};

/// Ecosystems without releases whose packages are languages'.
const LANGUAGES: [(&str, Scheme); 5] = [
    ("crates.io", Scheme::Semver),
    ("npm", Scheme::Semver),
    ("PyPI", Scheme::Pep440),
    ("Go", Scheme::Go),
    ("Maven", Scheme::Maven),
];

/// Distributions whose advisories OSV collects.
const DISTRIBUTIONS: [(&str, Scheme); 20] = [
    ("Debian", Scheme::Deb),
    ("Ubuntu", Scheme::Deb),
    ("Echo", Scheme::Deb),
    ("Alpine", Scheme::Apk),
    ("Wolfi", Scheme::Apk),
    ("Chainguard", Scheme::Apk),
    ("MinimOS", Scheme::Apk),
    ("Alpaquita", Scheme::Apk),
    ("BellSoft Hardened Containers", Scheme::Apk),
    ("CleanStart", Scheme::Apk),
    ("Red Hat", Scheme::Rpm),
    ("Rocky Linux", Scheme::Rpm),
    ("AlmaLinux", Scheme::Rpm),
    ("SUSE", Scheme::Rpm),
    ("openSUSE", Scheme::Rpm),
    ("openEuler", Scheme::Rpm),
    ("Mageia", Scheme::Rpm),
    ("Azure Linux", Scheme::Rpm),
    ("Photon OS", Scheme::Rpm),
    ("Docker Hardened Images", Scheme::Deb),
];

/// How the versions of a family are sorted; none for families that we cannot match.
pub fn scheme(family: &str) -> Option<Scheme> {
    let find = |table: &[(&str, Scheme)]| {
        let found = table.iter().find(|(name, _)| *name == family);
        found.map(|(_, scheme)| *scheme)
    };
    find(&LANGUAGES).or_else(|| find(&DISTRIBUTIONS))
}

/// Whether a family is a distribution's.
pub fn is_distribution(family: &str) -> bool {
    DISTRIBUTIONS.iter().any(|(name, _)| *name == family)
}

/// A package's name as the ecosystem compares it.
pub fn name<'a>(family: &str, name: &'a str) -> Cow<'a, str> {
    if family != "PyPI" {
        return Cow::Borrowed(name);
    }
    // PEP 503: case does not count, and runs of `-`, `_` and `.` are one hyphen.
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            other => normal.push(other.to_ascii_lowercase()),
        }
    }
    Cow::Owned(normal)
}

/// Where to look for advisories of packages, before it is known what was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The family: what is imported as one.
    pub family: &'static str,
    /// Names of the release, the usual first.
    names: Vec<String>,
    pick: Pick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    /// One of the names.
    Exact,
    /// Any product of Red Hat's Enterprise Linux of this release.
    RedHat,
    /// Any module of SUSE's Linux Enterprise of this release.
    Suse,
}

impl Target {
    fn exact(family: &'static str, names: &[String]) -> Self {
        Self {
            family,
            names: names.to_vec(),
            pick: Pick::Exact,
        }
    }

    /// Where packages that Ubuntu maintains for longer belong; their versions have `esm` in them.
    /// For everybody else those advisories only tell of fixes that cannot be had.
    pub fn extended(&self, version: &str) -> Option<Self> {
        if self.family != "Ubuntu" || !version.contains("esm") {
            return None;
        }
        let pro = |name: &String| name.replacen("Ubuntu:", "Ubuntu:Pro:", 1);
        Some(Self {
            names: self.names.iter().map(pro).collect(),
            ..self.clone()
        })
    }

    /// What to import if it is missing, as people know it.
    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem(
            self.names
                .first()
                .map_or(self.family, String::as_str)
                .to_owned(),
        )
    }

    /// Which of the ecosystems of an imported family it is. Empty if the release is not there.
    pub fn choose(&self, imported: &[Ecosystem]) -> Vec<Ecosystem> {
        let wanted = |ecosystem: &&Ecosystem| {
            let name = ecosystem.0.as_str();
            match self.pick {
                Pick::Exact => self.names.iter().any(|wanted| wanted == name),
                Pick::RedHat => self.names.iter().any(|prefix| {
                    name.strip_prefix(prefix.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '.']))
                }),
                Pick::Suse => self.names.iter().any(|suffix| {
                    name.starts_with("SUSE:Linux Enterprise") && name.ends_with(suffix.as_str())
                }),
            }
        };
        imported.iter().filter(wanted).cloned().collect()
    }
}

/// The ecosystem of a language's packages; none for packages of a distribution.
pub fn language(kind: PackageKind) -> Option<Target> {
    let family = match kind {
        PackageKind::Cargo => "crates.io",
        PackageKind::Npm => "npm",
        PackageKind::Pypi => "PyPI",
        PackageKind::Golang => "Go",
        PackageKind::Maven => "Maven",
        PackageKind::Deb | PackageKind::Apk | PackageKind::Rpm => return None,
    };
    Some(Target::exact(family, &[family.to_owned()]))
}

/// The ecosystem of a distribution's release; none if OSV has no advisories of it.
pub fn distribution(distro: &Distro) -> Option<Target> {
    let version = distro.version.as_str();
    let major = version.split('.').next().unwrap_or_default();
    let release = |family: &'static str, release: &str| {
        let name = if release.is_empty() {
            family.to_owned()
        } else {
            format!("{family}:{release}")
        };
        Some(Target::exact(family, &[name]))
    };
    match distro.id.as_str() {
        "debian" => {
            let codename = distro.codename.as_deref().unwrap_or_default();
            let number = if major.is_empty() {
                debian(codename)
            } else {
                major
            };
            release("Debian", number)
        }
        "ubuntu" => {
            let names = [format!("Ubuntu:{version}:LTS"), format!("Ubuntu:{version}")];
            Some(Target::exact("Ubuntu", &names))
        }
        "alpine" => {
            let mut parts = version.split('.');
            let minor = (parts.next(), parts.next());
            match minor {
                (Some(major), Some(minor)) if minor.bytes().all(|byte| byte.is_ascii_digit()) => {
                    release("Alpine", &format!("v{major}.{minor}"))
                }
                _ => release("Alpine", "edge"),
            }
        }
        "wolfi" => release("Wolfi", ""),
        "chainguard" => release("Chainguard", ""),
        "minimos" => release("MinimOS", ""),
        "echo" => release("Echo", ""),
        "alpaquita" => release(
            "Alpaquita",
            if version.is_empty() {
                "stream"
            } else {
                version
            },
        ),
        "rhel" => Some(Target {
            family: "Red Hat",
            names: vec![format!("Red Hat:enterprise_linux:{major}")],
            pick: Pick::RedHat,
        }),
        "rocky" => release("Rocky Linux", major),
        "almalinux" => release("AlmaLinux", major),
        "sles" | "sled" | "sle-micro" | "sle_hpc" => {
            let service_pack = match version.split_once('.') {
                Some((major, pack)) if major != "16" => format!(" {major} SP{pack}"),
                _ => format!(" {version}"),
            };
            Some(Target {
                family: "SUSE",
                names: vec![service_pack],
                pick: Pick::Suse,
            })
        }
        "opensuse-leap" => release("openSUSE", &format!("Leap {version}")),
        "opensuse-tumbleweed" => release("openSUSE", "Tumbleweed"),
        // `openEuler 24.03 (LTS-SP1)`: only the pretty name tells all.
        "openEuler" | "openeuler" => {
            let pretty = distro
                .name
                .trim_start_matches("openEuler ")
                .replace(" (", "-");
            release("openEuler", pretty.trim_end_matches(')'))
        }
        "mageia" => release("Mageia", major),
        "azurelinux" | "mariner" => {
            let names = [
                format!("Azure Linux:{major}"),
                format!("Azure Linux:{version}"),
            ];
            Some(Target::exact("Azure Linux", &names))
        }
        "photon" => release("Photon OS", version),
        _ => None,
    }
}

/// The number of a release of Debian that has no number yet.
fn debian(codename: &str) -> &str {
    match codename {
        "buster" => "10",
        "bullseye" => "11",
        "bookworm" => "12",
        "trixie" => "13",
        "forky" => "14",
        "duke" => "15",
        "" => "sid",
        other => other,
    }
}

/// A package under the name and with the version that advisories of a family use.
pub fn subjects<'a>(family: &str, package: &'a Package) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
    let binary = (
        name(family, &package.name),
        Cow::Borrowed(package.version.as_str()),
    );
    let Some(source) = &package.source else {
        return vec![binary];
    };
    let mut version = Cow::Borrowed(source.version.as_str());
    if version.is_empty() {
        version = Cow::Borrowed(package.version.as_str());
    }
    // The name of an rpm's source does not tell the epoch.
    if package.kind == PackageKind::Rpm
        && !version.contains(':')
        && let Some((epoch, _)) = package.version.split_once(':')
    {
        version = Cow::Owned(format!("{epoch}:{version}"));
    }
    let source = (name(family, &source.name), version);
    match family {
        "Red Hat" | "AlmaLinux" => vec![binary],
        // These name every package, also those built from another.
        "Wolfi" | "Chainguard" | "MinimOS" if source != binary => vec![source, binary],
        _ => vec![source],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Source;

    fn check(id: &str, version: &str, imported: &[&str], expected: &[&str]) {
        let distro = Distro {
            id: id.to_owned(),
            version: version.to_owned(),
            ..Distro::default()
        };
        let target = distribution(&distro).expect("a known distribution");
        let imported: Vec<Ecosystem> = imported
            .iter()
            .map(|name| Ecosystem((*name).to_owned()))
            .collect();
        let chosen = target.choose(&imported);
        let names: Vec<&str> = chosen
            .iter()
            .map(|ecosystem| ecosystem.0.as_str())
            .collect();
        assert_eq!(names, expected, "{id} {version}");
    }

    #[test]
    fn releases_are_those_of_osv() {
        check(
            "debian",
            "12",
            &["Debian:1", "Debian:12", "Debian:13"],
            &["Debian:12"],
        );
        check("debian", "12.5", &["Debian:12"], &["Debian:12"]);
        check(
            "ubuntu",
            "22.04",
            &["Ubuntu:22.04:LTS", "Ubuntu:Pro:22.04:LTS"],
            &["Ubuntu:22.04:LTS"],
        );
        check("ubuntu", "25.10", &["Ubuntu:25.10"], &["Ubuntu:25.10"]);
        check(
            "alpine",
            "3.19.1",
            &["Alpine:v3.19", "Alpine:v3.1"],
            &["Alpine:v3.19"],
        );
        check("alpine", "3.22_alpha20250108", &["Alpine:v3.22"], &[]);
        check("wolfi", "20230201", &["Wolfi"], &["Wolfi"]);
        check(
            "rhel",
            "9.4",
            &[
                "Red Hat:enterprise_linux:9::baseos",
                "Red Hat:enterprise_linux:9::appstream",
                "Red Hat:enterprise_linux:8::baseos",
                "Red Hat:rhel_eus:9.2::baseos",
            ],
            &[
                "Red Hat:enterprise_linux:9::baseos",
                "Red Hat:enterprise_linux:9::appstream",
            ],
        );
        check(
            "rhel",
            "10.0",
            &[
                "Red Hat:enterprise_linux:10.0",
                "Red Hat:enterprise_linux:1",
            ],
            &["Red Hat:enterprise_linux:10.0"],
        );
        check(
            "rocky",
            "9.3",
            &["Rocky Linux:8", "Rocky Linux:9"],
            &["Rocky Linux:9"],
        );
        check("almalinux", "9.3", &["AlmaLinux:9"], &["AlmaLinux:9"]);
        check(
            "sles",
            "15.5",
            &[
                "SUSE:Linux Enterprise Server 15 SP5",
                "SUSE:Linux Enterprise Module for Basesystem 15 SP5",
                "SUSE:Linux Enterprise Server 15 SP5-LTSS",
                "SUSE:Linux Enterprise Server 15 SP4",
            ],
            &[
                "SUSE:Linux Enterprise Server 15 SP5",
                "SUSE:Linux Enterprise Module for Basesystem 15 SP5",
            ],
        );
        check(
            "opensuse-leap",
            "15.5",
            &["openSUSE:Leap 15.5"],
            &["openSUSE:Leap 15.5"],
        );
        check("mariner", "2.0", &["Azure Linux:2"], &["Azure Linux:2"]);
        for unknown in ["fedora", "arch", "raspbian", ""] {
            let distro = Distro {
                id: unknown.to_owned(),
                ..Distro::default()
            };
            assert_eq!(distribution(&distro), None, "{unknown}");
        }
    }

    #[test]
    fn codenames_stand_for_numbers() {
        let distro = Distro {
            id: "debian".to_owned(),
            codename: Some("forky".to_owned()),
            ..Distro::default()
        };
        let target = distribution(&distro).expect("Debian");
        assert_eq!(target.ecosystem().0, "Debian:14");
    }

    #[test]
    fn names_of_python_are_normal() {
        assert_eq!(name("PyPI", "Zope.Interface__x"), "zope-interface-x");
        assert_eq!(name("npm", "JSONStream"), "JSONStream");
    }

    #[test]
    fn sources_carry_the_epoch() {
        let package = Package {
            kind: PackageKind::Rpm,
            name: "openssl-libs".to_owned(),
            version: "1:3.0.7-16.el9_2".to_owned(),
            arch: None,
            source: Some(Source {
                name: "openssl".to_owned(),
                version: "3.0.7-16.el9_2".to_owned(),
            }),
            owner: None,
            licenses: Vec::new(),
            purl: String::new(),
            locations: Vec::new(),
        };
        let subjects = subjects("Rocky Linux", &package);
        assert_eq!(subjects, [("openssl".into(), "1:3.0.7-16.el9_2".into())]);
    }
}
