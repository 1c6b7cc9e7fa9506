//! An advisory as OSV (schema 1.x) publishes it, as far as matching needs it.
//!
//! The reader is generous: fields that are missing or null count as empty, unknown ones are
//! passed over. What must hold is that it is JSON, has an id, and is of a bounded size.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

/// Longest record that is read, in bytes. Records of kernels run to a few MiB.
pub const LONGEST_RECORD: usize = 16 << 20;
/// Longest id that is believed to be one.
const LONGEST_ID: usize = 128;

/// One advisory.
#[derive(Debug, Deserialize)]
pub struct Record<'a> {
    /// `GHSA-…`, `DSA-…`, `CVE-…`.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// When it last changed, RFC 3339.
    #[serde(borrow, default)]
    pub modified: Option<Cow<'a, str>>,
    /// When it was taken back, if it was.
    #[serde(borrow, default)]
    pub withdrawn: Option<Cow<'a, str>>,
    /// Ids of the very same problem.
    #[serde(borrow, default, deserialize_with = "list")]
    pub aliases: Vec<Cow<'a, str>>,
    /// Ids of the problems that this advisory of a distribution is about.
    #[serde(borrow, default, deserialize_with = "list")]
    pub upstream: Vec<Cow<'a, str>>,
    /// Ids that have something to do with it.
    #[serde(borrow, default, deserialize_with = "list")]
    pub related: Vec<Cow<'a, str>>,
    /// One line.
    #[serde(borrow, default)]
    pub summary: Option<Cow<'a, str>>,
    /// The whole story.
    #[serde(borrow, default)]
    pub details: Option<Cow<'a, str>>,
    /// How bad it is.
    #[serde(borrow, default, deserialize_with = "list")]
    pub severity: Vec<SeverityEntry<'a>>,
    /// Packages and versions.
    #[serde(borrow, default, deserialize_with = "list")]
    pub affected: Vec<AffectedEntry<'a>>,
    /// Where to read on.
    #[serde(borrow, default, deserialize_with = "list")]
    pub references: Vec<Reference<'a>>,
    /// What the database adds.
    #[serde(default)]
    pub database_specific: Option<Extra>,
}

/// A rating of some kind.
#[derive(Debug, Deserialize)]
pub struct SeverityEntry<'a> {
    /// `CVSS_V3`, `Ubuntu`.
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    /// A vector or a word.
    #[serde(borrow, default)]
    pub score: Cow<'a, str>,
}

/// A place to read on.
#[derive(Debug, Deserialize)]
pub struct Reference<'a> {
    /// `ADVISORY`, `WEB`.
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    /// Where.
    #[serde(borrow, default)]
    pub url: Cow<'a, str>,
}

/// A package and which versions of it have the problem.
#[derive(Debug, Deserialize)]
pub struct AffectedEntry<'a> {
    /// The package; advisories about sources alone have none.
    #[serde(borrow, default)]
    pub package: Option<PackageEntry<'a>>,
    /// Ranges of versions.
    #[serde(borrow, default, deserialize_with = "list")]
    pub ranges: Vec<RangeEntry<'a>>,
    /// Versions one by one.
    #[serde(borrow, default, deserialize_with = "list")]
    pub versions: Vec<Cow<'a, str>>,
    /// How bad it is in this package.
    #[serde(borrow, default, deserialize_with = "list")]
    pub severity: Vec<SeverityEntry<'a>>,
    /// What the ecosystem adds.
    #[serde(default)]
    pub ecosystem_specific: Option<Extra>,
    /// What the database adds.
    #[serde(default)]
    pub database_specific: Option<Extra>,
}

/// A package.
#[derive(Debug, Deserialize)]
pub struct PackageEntry<'a> {
    /// `Debian:12`, `npm`.
    #[serde(borrow, default)]
    pub ecosystem: Cow<'a, str>,
    /// Its name there.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
}

/// A range of versions.
#[derive(Debug, Deserialize)]
pub struct RangeEntry<'a> {
    /// `SEMVER`, `ECOSYSTEM` or `GIT`.
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    /// Where it begins and ends.
    #[serde(borrow, default, deserialize_with = "list")]
    pub events: Vec<EventEntry<'a>>,
}

/// Where a range begins or ends; one of the fields is set.
#[derive(Debug, Deserialize)]
pub struct EventEntry<'a> {
    /// First version with the problem; `0` for all from the beginning.
    #[serde(borrow, default)]
    pub introduced: Option<Cow<'a, str>>,
    /// First version without it.
    #[serde(borrow, default)]
    pub fixed: Option<Cow<'a, str>>,
    /// Last version with it.
    #[serde(borrow, default)]
    pub last_affected: Option<Cow<'a, str>>,
    /// The range says nothing from here on.
    #[serde(borrow, default)]
    pub limit: Option<Cow<'a, str>>,
}

/// Fields that databases add, of which few are understood. Their types are not the schema's to
/// say, so anything but a text counts as absent.
#[derive(Debug, Default)]
pub struct Extra {
    /// `severity`: GitHub's, Red Hat's and others' rating.
    pub severity: Option<String>,
    /// `urgency`: Debian's rating.
    pub urgency: Option<String>,
    /// `priority` or `ubuntu_priority`: Ubuntu's rating.
    pub priority: Option<String>,
}

impl<'a> Record<'a> {
    /// Reads a record.
    pub fn parse(json: &'a [u8]) -> Result<Self, String> {
        if json.len() > LONGEST_RECORD {
            return Err(format!("it is longer than {LONGEST_RECORD} bytes"));
        }
        let record: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let id = record.id.trim();
        if id.is_empty() || id.len() > LONGEST_ID || id.contains(char::is_control) {
            return Err("its id is empty, too long or has control characters".to_owned());
        }
        Ok(record)
    }
}

/// A list that may be null.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = Extra;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<Extra, M::Error> {
                let mut extra = Extra::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let field = match key.as_ref() {
                        "severity" => &mut extra.severity,
                        "urgency" => &mut extra.urgency,
                        "priority" | "ubuntu_priority" => &mut extra.priority,
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value: serde_json::Value = map.next_value()?;
                    *field = value.as_str().map(str::to_owned);
                }
                Ok(extra)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_null_is_empty() {
        let json =
            br#"{"id": "X-1", "aliases": null, "affected": [{"package": null, "ranges": null,
            "database_specific": {"severity": ["odd"], "urgency": "low", "other": {"a": [1]}}}],
            "new_field": {"of": "a later schema"}}"#;
        let record = Record::parse(json).expect("a record");
        assert_eq!(record.id, "X-1");
        let extra = record.affected[0].database_specific.as_ref();
        let extra = extra.expect("what the database adds");
        assert_eq!(
            (extra.severity.as_deref(), extra.urgency.as_deref()),
            (None, Some("low"))
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let long = format!(r#"{{"id": "{}"}}"#, "x".repeat(200));
        for (json, why) in [
            ("", "EOF"),
            ("[]", "invalid length"),
            ("{}", "missing field `id`"),
            (r#"{"id": " "}"#, "its id"),
            (long.as_str(), "its id"),
            (r#"{"id": "X", "affected": {}}"#, "invalid type"),
        ] {
            let error = Record::parse(json.as_bytes()).expect_err("it is no record");
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
