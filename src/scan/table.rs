//! A report for a terminal or a log: grouped by package, each with the one fix to take.
//!
//! Bounded, whatever was found. Colours are the caller's: it is handed every piece that has one.

use super::gate::{Judgement, Why};
use super::group::{Group, groups};
use super::{Finding, Rating, Report, Status};
use crate::base::human_count;

/// Packages listed at most.
const PACKAGES: usize = 100;
/// Problems listed at most of one package.
const PROBLEMS: usize = 12;
/// Longest title, in characters.
const TITLE: usize = 72;

/// What a piece of a table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A rating.
    Rating(Rating),
    /// The name of a package.
    Package,
    /// A version to take.
    Fix,
    /// Of little weight.
    Aside,
}

/// Paints nothing.
pub fn plain(_: Meaning, text: &str) -> String {
    text.to_owned()
}

/// Draws a report as a gate judged it.
pub fn render(
    report: &Report,
    judgement: &Judgement<'_>,
    paint: &dyn Fn(Meaning, &str) -> String,
) -> String {
    let mut text = head(report);
    let groups = groups(&judgement.against);
    for group in groups.iter().take(PACKAGES) {
        group.draw(&mut text, paint);
    }
    if groups.len() > PACKAGES {
        let rest: usize = groups[PACKAGES..]
            .iter()
            .map(|group| group.findings.len())
            .sum();
        text.push_str(&format!(
            "… and {rest} more in {} packages; the report has all\n",
            groups.len() - PACKAGES
        ));
    }
    excused(judgement, &mut text, paint);
    for concern in &judgement.concerns {
        text.push_str(&format!("{}\n", concern.message));
    }
    for remark in &report.remarks {
        text.push_str(&format!("{remark}\n"));
    }
    text
}

/// Who looked, with what, and how much there is.
fn head(report: &Report) -> String {
    let mut text = report.tool.name.clone();
    if let Some(version) = &report.tool.version {
        text.push_str(&format!(" {version}"));
    }
    if let Some(updated) = report
        .database
        .as_ref()
        .and_then(|database| database.updated)
    {
        let day: String = updated.rfc3339().chars().take(10).collect();
        text.push_str(&format!(", advisories of {day}"));
    }
    if let Some(distro) = &report.distro {
        text.push_str(&format!(", {}", distro.name));
    }
    let counts: Vec<String> = Rating::ALL
        .into_iter()
        .map(|rating| (rating, report.count(rating)))
        .filter(|(rating, count)| *rating != Rating::Unknown || *count > 0)
        .map(|(rating, count)| format!("{count} {}", rating.word()))
        .collect();
    text.push_str(&format!(
        ": {}, {} ({})\n",
        report.packages_in_words(),
        human_count(report.findings.len(), "finding"),
        counts.join(", ")
    ));
    text
}

impl Group<'_> {
    fn draw(&self, text: &mut String, paint: &dyn Fn(Meaning, &str) -> String) {
        let Some(first) = self.findings.first() else {
            return;
        };
        let name = format!("{} {}", first.package, first.version);
        text.push_str(&format!("\n{}", paint(Meaning::Package, &name)));
        match self.advice() {
            Some((version, rest)) => {
                text.push_str(&format!("  take {}{rest}\n", paint(Meaning::Fix, &version)))
            }
            None => text.push_str("  no fix yet\n"),
        }
        let places: Vec<&str> = first
            .locations
            .iter()
            .map(|location| location.path.as_str())
            .filter(|path| !path.is_empty())
            .collect();
        if let Some(place) = places.first() {
            let more = match places.len() {
                1 => String::new(),
                several => format!(" and {} more", several - 1),
            };
            let place = format!("  in {place}{more}");
            text.push_str(&format!("{}\n", paint(Meaning::Aside, &place)));
        }
        for finding in self.findings.iter().take(PROBLEMS) {
            text.push_str(&line(finding, paint));
        }
        if self.findings.len() > PROBLEMS {
            text.push_str(&format!(
                "  … and {} more\n",
                self.findings.len() - PROBLEMS
            ));
        }
    }
}

fn line(finding: &Finding, paint: &dyn Fn(Meaning, &str) -> String) -> String {
    let rating = format!("{:<8}", finding.rating.word());
    let mut title: String = finding.advisory.title.chars().take(TITLE).collect();
    if finding.advisory.title.chars().count() > TITLE {
        title.push('…');
    }
    let fix = match (&finding.fixed, finding.status) {
        (Some(fixed), _) => format!("fixed in {fixed}"),
        (None, Some(status)) if status != Status::Fixed => status.words().to_owned(),
        (None, _) => Status::Affected.words().to_owned(),
    };
    let line = format!(
        "  {} {:<20} {fix}{}{title}",
        paint(Meaning::Rating(finding.rating), &rating),
        finding.advisory.id,
        if title.is_empty() { "" } else { "; " },
    );
    format!("{}\n", line.trim_end())
}

/// What does not count, and why: the reasons that people gave one by one, the others as numbers.
fn excused(judgement: &Judgement<'_>, text: &mut String, paint: &dyn Fn(Meaning, &str) -> String) {
    let stated = judgement
        .excused
        .iter()
        .filter(|(_, excuse)| matches!(excuse.why, Why::Ignored | Why::Stated));
    let stated: Vec<String> = stated
        .map(|(finding, excuse)| {
            format!(
                "  {} in {} {}: {}",
                finding.advisory.id, finding.package, finding.version, excuse.words
            )
        })
        .collect();
    let unfixed = judgement.excused_by(Why::Unfixed);
    let known = judgement.excused_by(Why::Known);
    if judgement.excused.is_empty() {
        return;
    }
    text.push_str("\nnot counted\n");
    for line in stated.iter().take(PACKAGES) {
        text.push_str(&format!("{}\n", paint(Meaning::Aside, line)));
    }
    if stated.len() > PACKAGES {
        text.push_str(&format!("  … and {} more\n", stated.len() - PACKAGES));
    }
    if unfixed > 0 {
        text.push_str(&format!("  {unfixed} that no version fixes yet\n"));
    }
    if known > 0 {
        text.push_str(&format!(
            "  {known} that the last successful run of the branch had\n"
        ));
    }
}

#[cfg(test)]
mod tests;
