//! `images`: which tag of an image would be chosen, and why each other would not.

use serde_json::{Value, json};

use super::app::{App, Exit, Failure};
use super::args::{Images, ImagesFormat};
use super::format::ago;
use super::project;
use super::watch::lookout::{self, Lookout, tip};
use crate::base::Timestamp;
use crate::pipeline::{Pipeline, Project, Watch};
use crate::plan::watch::{Reading, Row, Sight, Wanted, read};
use crate::report::{Tone, text};

/// Rows that are shown at the most, whatever was asked for.
const MOST: usize = 1_000;

/// `images`.
pub(super) async fn images(app: &App<'_>, args: &Images) -> Result<Exit, Failure> {
    let project = project::sound(app)?;
    let (pipeline, watch) = watching(&project, args)?;
    let world = app.worlds.real(&app.root(), &app.state_dir())?;
    let readers = &world.readers;
    let commit = tip(&*readers.workspace, None).await?;
    let lookout = Lookout::new(&project, pipeline, watch, readers, commit).await?;
    let cache = lookout::cache(readers);
    let failed = |error: crate::plan::watch::LookError| Failure::internal(error.to_string());
    let mut sight = lookout.look(readers, &cache, true).await.map_err(failed)?;
    let limit = args.limit.min(MOST);
    let rows = rows(&sight, &args.image, limit);
    // The table says when each was built; only of what is shown, and only what is not known.
    let wanted: Vec<Wanted> = rows
        .iter()
        .map(|row| Wanted {
            image: args.image.clone(),
            tag: row.tag.clone(),
            facts: true,
        })
        .filter(|wanted| {
            let key = (wanted.image.clone(), wanted.tag.clone());
            !matches!(
                sight.readings.get(&key),
                Some(
                    Reading::Found { facts: Some(_), .. } | Reading::Gone | Reading::Unreadable(_)
                )
            )
        })
        .collect();
    let mut note = None;
    let mut readings = std::mem::take(&mut sight.readings);
    if let Err(error) = read(
        &wanted,
        &lookout.places,
        &*readers.registry,
        &cache,
        &mut readings,
    )
    .await
    {
        // The verdicts stand without it.
        note = Some(format!("not all of it could be read: {error}"));
    }
    sight.readings = readings;
    let changes = cache.changes();
    if !changes.is_empty() {
        world.store.append(&[], &changes)?;
    }
    let page = Page {
        app,
        args,
        lookout: &lookout,
        sight: &sight,
        rows: &rows,
        note,
    };
    app.print(&match args.format {
        ImagesFormat::Text => page.text(),
        ImagesFormat::Json => format!("{:#}\n", page.json()),
    })
}

/// The watch that somebody means.
fn watching<'a>(project: &'a Project, args: &Images) -> Result<(&'a Pipeline, &'a Watch), Failure> {
    let all: Vec<(&Pipeline, &Watch)> = project
        .pipelines
        .values()
        .filter(|it| {
            args.pipeline
                .as_ref()
                .is_none_or(|name| *name == it.name.value)
        })
        .flat_map(|pipeline| pipeline.watches().map(move |watch| (pipeline, watch)))
        .filter(|(_, watch)| watch.names().any(|name| name == args.image))
        .collect();
    match all.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::usage(
            format!("no pipeline watches an image `{}`", args.image),
            format!(
                "add a trigger: `on {{ watch {} semver=\"*\" }}`",
                args.image
            ),
        )),
        several => {
            let first = several[0].0;
            if several
                .iter()
                .all(|(pipeline, _)| std::ptr::eq(*pipeline, first))
            {
                return Ok(several[0]);
            }
            let names: Vec<&str> = several
                .iter()
                .map(|(pipeline, _)| pipeline.name.value.as_str())
                .collect();
            Err(Failure::usage(
                format!("several pipelines watch image `{}`", args.image),
                format!("choose one with --pipeline: {}", names.join(", ")),
            ))
        }
    }
}

fn rows(sight: &Sight, image: &str, limit: usize) -> Vec<Row> {
    let group = sight
        .choices
        .iter()
        .find(|(images, _)| images.iter().any(|name| name == image));
    let rows = group.into_iter().flat_map(|(_, choice)| &choice.rows);
    rows.take(limit).cloned().collect()
}

struct Page<'a, 'b> {
    app: &'a App<'b>,
    args: &'a Images,
    lookout: &'a Lookout<'a>,
    sight: &'a Sight,
    rows: &'a [Row],
    note: Option<String>,
}

impl Page<'_, '_> {
    fn reading(&self, tag: &str) -> (Option<&str>, Option<Timestamp>, &[String]) {
        let key = (self.args.image.clone(), tag.to_owned());
        match self.sight.readings.get(&key) {
            Some(Reading::Found { digest, facts }) => (
                Some(digest.as_str()),
                facts.as_ref().and_then(|facts| facts.created),
                facts.as_ref().map_or(&[], |facts| &facts.platforms),
            ),
            _ => (None, None, &[]),
        }
    }

    fn all(&self) -> usize {
        let group = self
            .sight
            .choices
            .iter()
            .find(|(images, _)| images.contains(&self.args.image));
        group.map_or(0, |(_, choice)| choice.rows.len())
    }

    fn place(&self) -> String {
        let places = &self.lookout.places;
        let place = places.iter().find(|place| place.image == self.args.image);
        place.map_or_else(String::new, |place| place.name())
    }

    /// What a watch would do now.
    fn verdict(&self) -> String {
        match self.sight.set() {
            Err(stop) => stop.reason().to_owned(),
            Ok(set) => match self.lookout.memory.started(&set) {
                Some(run) => format!("nothing new: run {run} was started for it"),
                None => "new: `pipewright watch` would start a run for it".to_owned(),
            },
        }
    }

    fn text(&self) -> String {
        let style = self.app.screen.style;
        let now = (self.app.now)();
        let mut page = format!(
            "{}, {} of pipeline {}\n\n",
            self.place(),
            self.lookout.watch.describe(),
            self.lookout.pipeline.name.value
        );
        let heads = ["TAG", "DIGEST", "CREATED", "PLATFORMS", "VERDICT"];
        let mut table = vec![heads.map(str::to_owned)];
        for row in self.rows {
            let (digest, created, platforms) = self.reading(&row.tag);
            let digest = digest.map_or("-", |it| it.trim_start_matches("sha256:"));
            let platforms = match platforms {
                [] => "-".to_owned(),
                platforms => platforms.join(","),
            };
            table.push([
                text::fit(&text::one_line(&row.tag), 40, style.ellipsis()).into_owned(),
                digest.get(..12).unwrap_or(digest).to_owned(),
                created.map_or("-".to_owned(), |at| ago(at, now)),
                text::fit(&text::one_line(&platforms), 40, style.ellipsis()).into_owned(),
                text::fit(
                    &text::one_line(&row.verdict.reason()),
                    200,
                    style.ellipsis(),
                )
                .into_owned(),
            ]);
        }
        let widths: Vec<usize> = (0..heads.len())
            .map(|at| {
                table
                    .iter()
                    .map(|row| text::width(&row[at]))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (line, row) in table.iter().enumerate() {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| text::pad(cell, *width));
            let cells: Vec<String> = cells.collect();
            let tone = match line.checked_sub(1).and_then(|at| self.rows.get(at)) {
                None => Tone::Dim,
                Some(row) => match row.verdict.word() {
                    "chosen" => Tone::Good,
                    "unread" => Tone::Bad,
                    "waits" | "held" | "behind" => Tone::Held,
                    _ => Tone::Plain,
                },
            };
            page.push_str(&style.paint(tone, cells.join("  ").trim_end()));
            page.push('\n');
        }
        let more = self.all() - self.rows.len();
        if more > 0 {
            page.push_str(&format!("… and {more} more; --limit shows them\n"));
        }
        page.push_str(&format!("\n{}\n", text::one_line(&self.verdict())));
        if let Some(note) = &self.note {
            page.push_str(&format!("note: {}\n", text::one_line(note)));
        }
        page
    }

    fn json(&self) -> Value {
        let tags = self.rows.iter().map(|row| {
            let (digest, created, platforms) = self.reading(&row.tag);
            json!({
                "tag": row.tag,
                "digest": digest,
                "created": created.map(Timestamp::rfc3339),
                "platforms": platforms,
                "verdict": row.verdict.word(),
                "reason": row.verdict.reason(),
            })
        });
        json!({
            "image": self.args.image,
            "repository": self.place(),
            "pipeline": self.lookout.pipeline.name.value,
            "strategy": self.lookout.watch.strategy.describe(),
            "same-tag": self.lookout.watch.same_tag,
            "verdict": self.verdict(),
            "chosen": self.sight.set().ok(),
            "tags": tags.collect::<Vec<_>>(),
            "more": self.all() - self.rows.len(),
            "note": self.note,
        })
    }
}
