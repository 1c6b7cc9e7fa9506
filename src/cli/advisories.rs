//! `advisories`: the database of the built-in scanner, filled and looked at.

use serde_json::{Value, json};

use super::app::{App, Exit, Failure};
use super::args::{Advisories, AdvisoriesCommand, Import, ListFormat};
use super::format::ago;
use crate::base::Timestamp;
use crate::ports::advisories::{
    Family, ImportError, ImportReport, ImportRequest, ImportSource, ReadError,
};
use crate::report::{Tone, text};

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        Self::internal(error.to_string()).help("what the database had is unchanged")
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::internal(error.to_string())
    }
}

/// `advisories`.
pub(super) async fn run(app: &App<'_>, args: &Advisories) -> Result<Exit, Failure> {
    let database = app.worlds.advisories(args.database.as_deref())?;
    match &args.command {
        AdvisoriesCommand::Import(args) => {
            let report = database.writer.import(request(app, args)?).await?;
            app.print(&imported(app, &report))?;
            match report.broken_count == 0 && report.refused.is_empty() {
                true => Ok(Exit::SUCCESS),
                false => Ok(Exit::FAILED),
            }
        }
        AdvisoriesCommand::Status(args) => {
            let families = database.reader.families()?;
            let place = database.place.display().to_string();
            app.print(&match args.format {
                ListFormat::Text => status(app, &place, &families),
                ListFormat::Json => status_json(&place, &families),
            })
        }
    }
}

fn request(app: &App<'_>, args: &Import) -> Result<ImportRequest, Failure> {
    let sources = args
        .sources
        .iter()
        .map(|source| match source.split_once("://") {
            Some(("https" | "http", _)) => Ok(ImportSource::Url(source.clone())),
            Some((scheme, _)) => Err(Failure::usage(
                format!("{scheme}:// is not fetched from"),
                "give an https address, a file or a directory",
            )),
            None => Ok(ImportSource::Path(app.here.join(source))),
        });
    Ok(ImportRequest {
        sources: sources.collect::<Result<_, _>>()?,
        only: args.only.clone(),
        allow_fewer: args.allow_fewer,
    })
}

/// What came of an import, in lines.
fn imported(app: &App<'_>, report: &ImportReport) -> String {
    let style = app.screen.style;
    let mut page = String::new();
    for imported in &report.imported {
        let family = &imported.family;
        let before = match imported.before {
            Some(before) => format!(" (before {before})"),
            None => String::new(),
        };
        let withdrawn = match family.withdrawn {
            0 => String::new(),
            withdrawn => format!(", {withdrawn} withdrawn ones left out"),
        };
        page.push_str(&format!(
            "{} {}: {} {}{before}{withdrawn}, newest of {}\n",
            style.paint(Tone::Good, "imported"),
            text::one_line(&family.name),
            family.records,
            if family.records == 1 {
                "record"
            } else {
                "records"
            },
            date(family.newest),
        ));
    }
    for refused in &report.refused {
        page.push_str(&format!(
            "{} {}: it has {} records and this would leave {}; if that is right, say --allow-fewer\n",
            style.paint(Tone::Bad, "not replaced"),
            text::one_line(&refused.family),
            refused.has,
            refused.offered,
        ));
    }
    if !report.left_out.is_empty() {
        let families = report
            .left_out
            .iter()
            .map(|(family, records)| format!("{} ({records})", text::one_line(family)));
        let families: Vec<String> = families.collect();
        page.push_str(&format!(
            "{} {}: these records name them, but are not all there are, or nothing here matches them\n",
            style.paint(Tone::Dim, "left out"),
            families.join(", "),
        ));
    }
    for broken in &report.broken {
        page.push_str(&format!(
            "{} {}: {}\n",
            style.paint(Tone::Bad, "broken"),
            text::one_line(&broken.name),
            text::one_line(&broken.why),
        ));
    }
    let more = report
        .broken_count
        .saturating_sub(report.broken.len() as u64);
    if more > 0 {
        page.push_str(&format!("… and {more} more broken records\n"));
    }
    page
}

fn date(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "no known date".to_owned(), |time| time.rfc3339())
}

/// What the database has, for people.
fn status(app: &App<'_>, place: &str, families: &[Family]) -> String {
    if families.is_empty() {
        return format!(
            "no advisories in {place}; `pipewright advisories import` reads OSV's archives\n"
        );
    }
    let style = app.screen.style;
    let now = (app.now)();
    let heads = [
        "FAMILY",
        "RECORDS",
        "WITHDRAWN",
        "DATA OF",
        "IMPORTED",
        "FROM",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(families.iter().map(|family| {
        [
            text::one_line(&family.name),
            family.records.to_string(),
            family.withdrawn.to_string(),
            family
                .dated()
                .map_or_else(|| "?".to_owned(), |then| ago(then, now)),
            ago(family.imported, now),
            text::one_line(&family.source),
        ]
    }));
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            rows.iter()
                .map(|row| text::width(&row[column]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut page = format!("{place}\n\n");
    for (at, row) in rows.iter().enumerate() {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - text::width(cell))));
        let cells: Vec<String> = cells.collect();
        let line = cells.join("  ");
        let tone = if at == 0 { Tone::Dim } else { Tone::Plain };
        page.push_str(&style.paint(tone, line.trim_end()));
        page.push('\n');
    }
    page
}

/// What the database has, for programs.
fn status_json(place: &str, families: &[Family]) -> String {
    let families: Vec<Value> = families
        .iter()
        .map(|family| {
            let ecosystems = family.ecosystems.iter();
            let ecosystems: Vec<Value> = ecosystems
                .map(|(name, records)| json!({"name": name, "records": records}))
                .collect();
            let time = |time: Option<Timestamp>| time.map(Timestamp::rfc3339);
            json!({
                "name": family.name,
                "records": family.records,
                "withdrawn": family.withdrawn,
                "broken": family.broken,
                "dated": time(family.dated()),
                "newest": time(family.newest),
                "published": time(family.published),
                "imported": family.imported.rfc3339(),
                "source": family.source,
                "ecosystems": ecosystems,
            })
        })
        .collect();
    let page = json!({"schema": 1, "directory": place, "families": families});
    format!("{page:#}\n")
}
