//! How bad an advisory is: vectors of CVSS scored, words of databases rated, and which decides.
//!
//! The distribution that made a package knows how it built it, so its own rating decides; then the
//! rating of the database (a person's judgement, such as GitHub's); then the base score of CVSS 4,
//! of CVSS 3, and of CVSS 2. Of equals the worse decides.

use std::cmp::Reverse;
use std::str::FromStr;

use cvss::Cvss;
use serde::{Deserialize, Serialize};

use crate::scan::{Rating, Severity};

/// What weighs more comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Weight {
    /// The distribution's own rating.
    #[serde(rename = "d")]
    Distribution,
    /// The database's.
    #[serde(rename = "w")]
    Database,
    /// A vector of CVSS 4.
    #[serde(rename = "4")]
    Cvss4,
    /// A vector of CVSS 3.
    #[serde(rename = "3")]
    Cvss3,
    /// A vector of CVSS 2.
    #[serde(rename = "2")]
    Cvss2,
}

/// A severity and what it weighs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed(pub Weight, pub Severity);

/// The severities of one problem, the decisive first, each once.
pub fn sort(mut all: Vec<Weighed>) -> Vec<Severity> {
    all.sort_by_key(|Weighed(weight, severity)| {
        let unknown = severity.rating == Rating::Unknown;
        (
            unknown,
            *weight,
            Reverse(severity.rating),
            Reverse(severity.score),
        )
    });
    let mut sorted: Vec<Severity> = Vec::with_capacity(all.len());
    for Weighed(_, severity) in all {
        if !sorted.contains(&severity) {
            sorted.push(severity);
        }
    }
    sorted
}

/// The rating a word means; none if it means nothing or not yet.
pub fn word(text: &str) -> Option<Rating> {
    let text = text.trim().to_ascii_lowercase();
    Some(match text.as_str() {
        "critical" => Rating::Critical,
        "high" | "important" => Rating::High,
        "medium" | "moderate" => Rating::Medium,
        "low" | "minor" | "negligible" | "unimportant" | "none" => Rating::Low,
        _ => return None,
    })
}

/// A vector of CVSS with its base score. A vector that is broken says nothing about the problem,
/// so it is kept for people, not rated.
pub fn vector(source: &str, text: &str) -> Option<Weighed> {
    let text = text.trim();
    if text.is_empty() || text.len() > 300 {
        return None;
    }
    let weight = match text.strip_prefix("CVSS:") {
        Some(rest) if rest.starts_with("4.") => Weight::Cvss4,
        Some(rest) if rest.starts_with("3.") => Weight::Cvss3,
        Some(_) => return None,
        None => Weight::Cvss2,
    };
    let score = base_score(weight, text);
    let severity = Severity {
        source: source.to_owned(),
        rating: score.map_or(Rating::Unknown, |score| rating(weight, score)),
        vector: Some(text.to_owned()),
        score,
    };
    Some(Weighed(weight, severity))
}

/// The base score in tenths. Metrics of time and place are left out: they are somebody else's.
fn base_score(weight: Weight, text: &str) -> Option<u8> {
    const V4: &[&str] = &[
        "AV", "AC", "AT", "PR", "UI", "VC", "VI", "VA", "SC", "SI", "SA",
    ];
    const V3: &[&str] = &["AV", "AC", "PR", "UI", "S", "C", "I", "A"];
    const V2: &[&str] = &["AV", "AC", "Au", "C", "I", "A"];
    let base = match weight {
        Weight::Cvss4 => V4,
        Weight::Cvss3 => V3,
        _ => V2,
    };
    let text = text.trim_matches(['(', ')']);
    let metrics = text.split('/').filter(|metric| {
        let name = metric.split(':').next().unwrap_or(metric);
        name == "CVSS" || base.contains(&name)
    });
    let metrics: Vec<&str> = metrics.collect();
    // A base metric that is missing is not worth nothing: the vector is broken.
    let prefix = usize::from(weight != Weight::Cvss2);
    if metrics.len() != base.len() + prefix {
        return None;
    }
    let base = metrics;
    let cvss = match weight {
        Weight::Cvss2 => Cvss::CvssV20(cvss::v2::Vector::from_str(&base.join("/")).ok()?),
        _ => Cvss::from_str(&base.join("/")).ok()?,
    };
    let tenths = (cvss.score() * 10.0).round();
    // The cast is of a number between 0 and 100.
    (0.0..=100.0).contains(&tenths).then_some(tenths as u8)
}

/// CVSS's own scale; its second version had no critical.
fn rating(weight: Weight, tenths: u8) -> Rating {
    match tenths {
        90.. if weight != Weight::Cvss2 => Rating::Critical,
        70.. => Rating::High,
        40.. => Rating::Medium,
        _ => Rating::Low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(text: &str) -> Option<(Weight, u8, Rating)> {
        let Weighed(weight, severity) = vector("cvss", text)?;
        Some((weight, severity.score?, severity.rating))
    }

    /// Scores that the specifications' examples and the national database publish.
    #[test]
    fn published_vectors_have_their_scores() {
        for (text, tenths) in [
            // CVSS 3.1 examples of FIRST and scores of the NVD.
            ("CVSS:3.1/AV:N/AC:L/PR:L/UI:R/S:C/C:L/I:L/A:N", 54),
            ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 64),
            ("CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 31),
            ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 78),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 100),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 98),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 75),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0),
            ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 75),
            (
                "CVSS:3.0/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N/E:P/RL:O/RC:C",
                31,
            ),
            // CVSS 4.0: all worst, and none at all.
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H",
                100,
            ),
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
                93,
            ),
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N",
                87,
            ),
            (
                "CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
                85,
            ),
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N",
                0,
            ),
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N/E:U",
                93,
            ),
            // CVSS 2: the three examples of its guide.
            ("AV:N/AC:L/Au:N/C:N/I:N/A:C", 78),
            ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 100),
            ("(AV:L/AC:H/Au:N/C:C/I:C/A:C)", 62),
        ] {
            assert_eq!(score(text).map(|found| found.1), Some(tenths), "{text}");
        }
        for broken in [
            "",
            "CVSS:5.0/AV:N",
            "CVSS:3.1/AV:N/AC:L",
            "7.5",
            "CVSS:3.1/AV:X",
        ] {
            assert_eq!(score(broken), None, "{broken}");
        }
    }

    #[test]
    fn who_knows_best_decides() {
        let word = |weight, rating| {
            let severity = Severity {
                source: "x".to_owned(),
                rating,
                vector: None,
                score: None,
            };
            Weighed(weight, severity)
        };
        let cvss3 = vector("x", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H").expect("a vector");
        let all = vec![
            cvss3.clone(),
            word(Weight::Database, Rating::Medium),
            word(Weight::Distribution, Rating::Unknown),
            word(Weight::Database, Rating::High),
            cvss3,
        ];
        let ratings: Vec<Rating> = sort(all.clone()).iter().map(|one| one.rating).collect();
        assert_eq!(
            ratings,
            [
                Rating::High,
                Rating::Medium,
                Rating::Critical,
                Rating::Unknown
            ]
        );
        let mut all = all;
        all.push(word(Weight::Distribution, Rating::Low));
        assert_eq!(sort(all)[0].rating, Rating::Low);
    }
}
