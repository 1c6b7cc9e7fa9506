//! OpenVEX: what somebody states about whether a problem applies to a product.
//!
//! Reads documents of version 0.2 and of the forms before it. A statement excuses a finding if it
//! names the problem, by any of its ids, and the product: the package itself, or the image and, if
//! subcomponents are named, the package among them. Of several statements about the same the latest
//! decides. A document that breaks the rules of the format is refused as a whole: half of what
//! somebody states is not what they state.

mod purl;

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use self::purl::Purl;
use super::Finding;
use super::report::is_of_one_problem;
use crate::base::Timestamp;

/// Largest document, in bytes.
pub const MAX_BYTES: u64 = 8 << 20;

/// What an image is called, for matching statements about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// References, such as `localhost:5000/app:1`.
    pub names: Vec<String>,
    /// Digests of its manifest and of its configuration, `sha256:…`.
    pub digests: Vec<String>,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The file it came from.
    name: String,
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    /// Ids of the problem, in lower case.
    ids: Vec<String>,
    products: Vec<Component>,
    status: Status,
    /// Why, in the author's words or a word of the format.
    because: String,
    time: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Component {
    names: Vec<String>,
    purls: Vec<Purl>,
    hashes: Vec<String>,
    subcomponents: Vec<Component>,
}

/// What a statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does not apply.
    NotAffected,
    /// It applies.
    Affected,
    /// It does not apply any more.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
}

impl Status {
    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "not_affected" => Self::NotAffected,
            "affected" => Self::Affected,
            "fixed" => Self::Fixed,
            "under_investigation" => Self::UnderInvestigation,
            _ => return None,
        })
    }

    /// As the format writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAffected => "not_affected",
            Self::Affected => "affected",
            Self::Fixed => "fixed",
            Self::UnderInvestigation => "under_investigation",
        }
    }
}

/// A statement that excuses a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// `not_affected` or `fixed`.
    pub status: Status,
    /// Why.
    pub because: &'a str,
    /// The file it stands in.
    pub document: &'a str,
}

impl Verdict<'_> {
    /// In a sentence.
    pub fn words(&self) -> String {
        let mut text = format!("{} says {}", self.document, self.status.word());
        if !self.because.is_empty() {
            text.push_str(&format!(": {}", self.because));
        }
        text
    }
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "@context")]
    context: String,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    last_updated: Option<String>,
    statements: Vec<RawStatement>,
}

#[derive(Deserialize)]
struct RawStatement {
    vulnerability: RawVulnerability,
    #[serde(default)]
    products: Vec<RawComponent>,
    status: String,
    #[serde(default)]
    justification: String,
    #[serde(default)]
    impact_statement: String,
    #[serde(default)]
    status_notes: String,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    last_updated: Option<String>,
}

/// Before 0.2 a problem was a bare id.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawVulnerability {
    Id(String),
    Named {
        name: String,
        #[serde(default)]
        aliases: Vec<String>,
    },
}

/// Before 0.2 a product was a bare id.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawComponent {
    Id(String),
    Named {
        #[serde(default, rename = "@id")]
        id: String,
        #[serde(default)]
        identifiers: HashMap<String, Value>,
        #[serde(default)]
        hashes: HashMap<String, String>,
        #[serde(default)]
        subcomponents: Vec<RawComponent>,
    },
}

impl Document {
    /// Reads a document; says what is wrong with it.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let raw: RawDocument = serde_json::from_slice(bytes)
            .map_err(|error| format!("{name} is no OpenVEX document: {error}"))?;
        if !raw.context.starts_with("https://openvex.dev/ns") {
            return Err(format!(
                "{name} is no OpenVEX document: its @context is {:?}",
                raw.context.chars().take(80).collect::<String>()
            ));
        }
        let whole = time(raw.last_updated.as_ref().or(raw.timestamp.as_ref()));
        let mut statements = Vec::with_capacity(raw.statements.len());
        for (at, raw) in raw.statements.into_iter().enumerate() {
            let statement = Statement::of(raw, whole)
                .map_err(|why| format!("{name}: statement {} {why}", at + 1))?;
            statements.push(statement);
        }
        Ok(Self {
            name: name.to_owned(),
            statements,
        })
    }
}

impl Statement {
    fn of(raw: RawStatement, whole: Option<Timestamp>) -> Result<Self, String> {
        let status = Status::of_word(&raw.status)
            .ok_or_else(|| format!("has the unknown status {:?}", short(&raw.status)))?;
        let reasons = [raw.justification, raw.impact_statement];
        let mut because = reasons
            .into_iter()
            .filter(|reason| !reason.is_empty())
            .collect::<Vec<_>>()
            .join(", ");
        if status == Status::NotAffected && because.is_empty() {
            return Err("says not_affected without a justification or an impact_statement".into());
        }
        if because.is_empty() {
            because = raw.status_notes;
        }
        if raw.products.is_empty() {
            return Err("names no product".to_owned());
        }
        let (name, aliases) = match raw.vulnerability {
            RawVulnerability::Id(id) => (id, Vec::new()),
            RawVulnerability::Named { name, aliases } => (name, aliases),
        };
        // An advisory that several problems share would excuse more than was stated.
        let aliases = aliases.into_iter().filter(|id| is_of_one_problem(id));
        let mut ids: Vec<String> = std::iter::once(name)
            .chain(aliases)
            .map(|id| id.trim().to_ascii_lowercase())
            .filter(|id| !id.is_empty())
            .collect();
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return Err("names no vulnerability".to_owned());
        }
        Ok(Self {
            ids,
            products: raw.products.into_iter().map(Component::of).collect(),
            status,
            because: short(&because),
            time: time(raw.last_updated.as_ref().or(raw.timestamp.as_ref())).or(whole),
        })
    }

    fn applies(&self, package: Option<&Purl>, product: &Product) -> bool {
        self.products.iter().any(|named| {
            let within = |package: &Purl| {
                let parts = &named.subcomponents;
                parts.is_empty() || parts.iter().any(|part| part.is_package(package))
            };
            let image = named.is_image(product)
                && match package {
                    Some(package) => within(package),
                    None => named.subcomponents.is_empty(),
                };
            image || package.is_some_and(|package| named.is_package(package) && within(package))
        })
    }
}

impl Component {
    fn of(raw: RawComponent) -> Self {
        let (id, identifiers, hashes, subcomponents) = match raw {
            RawComponent::Id(id) => (id, HashMap::new(), HashMap::new(), Vec::new()),
            RawComponent::Named {
                id,
                identifiers,
                hashes,
                subcomponents,
            } => (id, identifiers, hashes, subcomponents),
        };
        let others = identifiers
            .into_iter()
            .filter(|(kind, _)| kind == "purl")
            .filter_map(|(_, value)| Some(value.as_str()?.to_owned()));
        let names: Vec<String> = std::iter::once(id)
            .chain(others)
            .filter(|name| !name.is_empty())
            .collect();
        let hashes = hashes
            .into_iter()
            .filter(|(kind, _)| kind.eq_ignore_ascii_case("sha-256"))
            .map(|(_, hash)| format!("sha256:{}", hash.to_ascii_lowercase()));
        Self {
            purls: names.iter().filter_map(|name| Purl::read(name)).collect(),
            hashes: hashes.collect(),
            // Nesting ends here: the format knows parts of products, not parts of parts.
            subcomponents: subcomponents
                .into_iter()
                .map(|part| Self {
                    subcomponents: Vec::new(),
                    ..Self::of(part)
                })
                .collect(),
            names,
        }
    }

    fn is_package(&self, package: &Purl) -> bool {
        self.purls.iter().any(|purl| purl.covers(package))
    }

    fn is_image(&self, product: &Product) -> bool {
        let called = |name: &String| product.names.contains(name) || product.digests.contains(name);
        self.names.iter().any(called)
            || self
                .hashes
                .iter()
                .any(|hash| product.digests.contains(hash))
            || self.purls.iter().any(|purl| is_image(purl, product))
    }
}

/// Whether a `pkg:oci/…` URL is about an image.
fn is_image(purl: &Purl, product: &Product) -> bool {
    if purl.kind != "oci" {
        return false;
    }
    if let Some(version) = &purl.version
        && !product.digests.contains(version)
    {
        return false;
    }
    let wanted = |key: &str| purl.qualifiers.get(key);
    product.names.iter().any(|reference| {
        let name = reference.split('@').next().unwrap_or(reference);
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        let last = repository.rsplit('/').next().unwrap_or(repository);
        let above = repository
            .strip_suffix(last)
            .unwrap_or("")
            .trim_end_matches('/');
        // Both forms are in use: the repository, and what stands above its last part.
        let same_place =
            wanted("repository_url").is_none_or(|url| url == repository || url == above);
        let same_tag = wanted("tag").is_none_or(|wanted| tag == Some(wanted));
        last == purl.name && same_place && same_tag
    })
}

fn time(text: Option<&String>) -> Option<Timestamp> {
    Timestamp::of_rfc3339(text?)
}

fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(300).collect()
}

/// Statements of several documents by the problems they are about.
pub(super) struct Index<'a> {
    /// With their order: of the same time the last one decides.
    by_id: HashMap<&'a str, Vec<(usize, &'a Document, &'a Statement)>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(documents: &'a [Document]) -> Self {
        let mut by_id: HashMap<&str, Vec<_>> = HashMap::new();
        let all = documents
            .iter()
            .flat_map(|document| document.statements.iter().map(move |one| (document, one)));
        for (at, (document, statement)) in all.enumerate() {
            for id in &statement.ids {
                let about = by_id.entry(id.as_str()).or_default();
                about.push((at, document, statement));
            }
        }
        Self { by_id }
    }

    /// The statement that excuses a finding, if the last word about it does.
    pub(super) fn verdict(&self, finding: &Finding, product: &Product) -> Option<Verdict<'a>> {
        if self.by_id.is_empty() {
            return None;
        }
        let package = finding.purl.as_deref().and_then(Purl::read);
        let advisory = &finding.advisory;
        let ids: HashSet<String> = std::iter::once(&advisory.id)
            .chain(&advisory.aliases)
            .map(|id| id.to_ascii_lowercase())
            .collect();
        let (_, document, statement) = ids
            .iter()
            .filter_map(|id| self.by_id.get(id.as_str()))
            .flatten()
            .filter(|(_, _, statement)| statement.applies(package.as_ref(), product))
            .max_by_key(|(at, _, statement)| (statement.time, *at))?;
        matches!(statement.status, Status::NotAffected | Status::Fixed).then_some(Verdict {
            status: statement.status,
            because: &statement.because,
            document: &document.name,
        })
    }
}

#[cfg(test)]
mod tests;
