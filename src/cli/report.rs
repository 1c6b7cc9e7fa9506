//! `report`: what scans of a run found, from the reports kept with it.

use super::app::{App, Exit, Failure};
use super::args::{Report as Args, ReportFormat};
use super::look;
use crate::base::StageId;
use crate::event::RunState;
use crate::journal::replay;
use crate::ports::store::StoreReader;
use crate::report::Tone;
use crate::scan::table::Meaning;
use crate::scan::{Rating, Report, markdown, sarif, table};

/// How a report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A table.
    Table,
    /// The report itself.
    Json,
    /// SARIF.
    Sarif,
    /// Markdown.
    Markdown,
}

/// A report kept by a stage.
pub(super) struct Kept {
    stage: StageId,
    report: Report,
    /// Digest of the bill of materials kept with it.
    sbom: Option<String>,
}

impl Kept {
    /// For job pages.
    pub(super) fn markdown(&self) -> String {
        let judged = self.report.judged.clone().unwrap_or_default();
        markdown::section(self.stage.as_str(), &self.report, &judged.of(&self.report))
    }
}

/// `report`.
pub(super) fn report(app: &App<'_>, args: &Args) -> Result<Exit, Failure> {
    let store = app.store()?;
    let run = app.find(&*store, &args.run)?;
    let mut all = Vec::new();
    for row in look::story(&*store, &run)? {
        let state = RunState::of(&replay(&*store, &row.run)?);
        all.extend(kept(&*store, &state)?);
    }
    let asked = |kept: &Kept| {
        let stage = &kept.stage;
        args.stage
            .as_ref()
            .is_none_or(|asked| stage.as_str() == asked || name(stage) == asked)
    };
    let names: Vec<String> = all.iter().map(|kept| kept.stage.to_string()).collect();
    all.retain(asked);
    let one = |what: &str| match all.as_slice() {
        [one] => Ok(one),
        [] => Err(none(&run.to_string(), args.stage.as_deref(), &names)),
        _ => Err(Failure::usage(
            format!(
                "{what} is of one stage, and {} kept a report",
                names.join(", ")
            ),
            "name the stage after the run",
        )),
    };
    let shown = match args.format {
        ReportFormat::CycloneDx => {
            let kept = one("a bill of materials")?;
            let bill = match &kept.sbom {
                Some(digest) => store.blob(digest)?,
                None => None,
            };
            let Some(bill) = bill else {
                return Err(Failure::usage(
                    format!("{} kept no bill of materials", kept.stage),
                    "`pipewright scan IMAGE --format cyclonedx` makes one",
                ));
            };
            return app.write(|out| out.write_all(&bill));
        }
        ReportFormat::Json | ReportFormat::Sarif => {
            let kept = one("such a document")?;
            let shown = match args.format {
                ReportFormat::Json => Shown::Json,
                _ => Shown::Sarif,
            };
            return app.print(&text(app, name(&kept.stage), &kept.report, shown));
        }
        ReportFormat::Table => Shown::Table,
        ReportFormat::Markdown => Shown::Markdown,
    };
    if all.is_empty() {
        return Err(none(&run.to_string(), args.stage.as_deref(), &names));
    }
    let mut whole = String::new();
    for (at, kept) in all.iter().enumerate() {
        if at > 0 {
            whole.push('\n');
        }
        if shown == Shown::Table {
            whole.push_str(&format!("── {}\n", kept.stage));
        }
        whole.push_str(&text(app, kept.stage.as_str(), &kept.report, shown));
    }
    app.print(&whole)
}

/// The part of a stage's name that is the image's.
fn name(stage: &StageId) -> &str {
    stage
        .as_str()
        .split_once('.')
        .map_or(stage.as_str(), |(_, name)| name)
}

fn none(run: &str, asked: Option<&str>, names: &[String]) -> Failure {
    let what = match asked {
        Some(stage) => format!("run {run} kept no report of {stage}"),
        None => format!("run {run} kept no report of a scan"),
    };
    Failure::usage(
        what,
        match names {
            [] => "`pipewright show` tells how its stages ended".to_owned(),
            names => format!("it has those of {}", names.join(", ")),
        },
    )
}

/// The reports that the stages of a run kept.
pub(super) fn kept(store: &dyn StoreReader, state: &RunState) -> Result<Vec<Kept>, Failure> {
    let mut all = Vec::new();
    for stage in state
        .stages()
        .iter()
        .filter(|stage| stage.id.kind() == "scan")
    {
        let Some(digest) = stage.outputs.get("report") else {
            continue;
        };
        let Some(bytes) = store.blob(digest)? else {
            continue;
        };
        let report: Report = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::internal(format!("the report of {} is damaged: {error}", stage.id))
        })?;
        all.push(Kept {
            stage: stage.id.clone(),
            report,
            sbom: stage.outputs.get("sbom").cloned(),
        });
    }
    Ok(all)
}

/// A report with what was made of it. What nobody judged counts whole.
pub(super) fn text(app: &App<'_>, name: &str, report: &Report, shown: Shown) -> String {
    let style = app.screen.style;
    let judgement = report.judged.clone().unwrap_or_default();
    let judgement = judgement.of(report);
    match shown {
        Shown::Table => table::render(report, &judgement, &|meaning, text| {
            let text = crate::report::text::one_line(text);
            style.paint(tone(meaning), &text).into_owned()
        }),
        Shown::Json => pretty(report),
        Shown::Sarif => pretty(&sarif::document(report, &judgement, name)),
        Shown::Markdown => markdown::section(name, report, &judgement),
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("it is data");
    text.push('\n');
    text
}

fn tone(meaning: Meaning) -> Tone {
    match meaning {
        Meaning::Rating(Rating::Critical | Rating::High) => Tone::Bad,
        Meaning::Rating(Rating::Medium) => Tone::Held,
        Meaning::Rating(_) | Meaning::Aside => Tone::Dim,
        Meaning::Package => Tone::Strong,
        Meaning::Fix => Tone::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;

    #[test]
    fn the_worst_stands_out() {
        let style = Style::new(true, true);
        let bad = style.paint(tone(Meaning::Rating(Rating::High)), "high");
        let aside = style.paint(tone(Meaning::Rating(Rating::Low)), "high");
        assert_ne!(bad, aside);
    }
}
