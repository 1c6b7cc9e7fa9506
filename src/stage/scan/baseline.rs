//! What the last successful run of the same pipeline and branch found.

use crate::base::{RunId, StageId};
use crate::event::Event;
use crate::ports::store::{RunRow, StoreError, StoreReader};
use crate::scan::Report;
use crate::scan::gate::Baseline;

/// Runs looked at, the newest first.
const RUNS: usize = 200;
/// Events read at once.
const PAGE: usize = 2048;
/// Events read of one run; larger runs are passed over.
const EVENTS: usize = 200_000;

/// Whom a scan compares itself with.
pub(super) struct Wanted<'a> {
    pub(super) run: &'a RunId,
    pub(super) stage: &'a StageId,
    pub(super) pipeline: &'a str,
    /// The branch, or the tag of a run for a tag.
    pub(super) reference: &'a str,
}

/// The report that the stage kept in the last successful run before this one, and that run. A run
/// in which the stage had nothing to scan says nothing; the one before it does.
pub(super) fn find(
    store: &dyn StoreReader,
    wanted: &Wanted<'_>,
) -> Result<Option<(RunId, Baseline)>, StoreError> {
    let succeeded = |row: &RunRow| {
        row.run != *wanted.run
            && row.reference == wanted.reference
            && matches!(row.outcome.as_deref(), Some("succeeded" | "up-to-date"))
    };
    let rows = store.runs(Some(wanted.pipeline), RUNS)?;
    for row in rows.into_iter().filter(succeeded) {
        let Some(kept) = report_of(store, &row.run, wanted.stage)? else {
            continue;
        };
        let Some(bytes) = store.blob(&kept)? else {
            continue;
        };
        // A report of another version of this program may have another form.
        if let Ok(report) = serde_json::from_slice::<Report>(&bytes)
            && report.schema == Report::SCHEMA
        {
            return Ok(Some((row.run, Baseline::of(&report))));
        }
    }
    Ok(None)
}

/// Where a run kept the report of a stage, if it ran the whole pipeline at a commit.
fn report_of(
    store: &dyn StoreReader,
    run: &RunId,
    stage: &StageId,
) -> Result<Option<String>, StoreError> {
    let (mut after, mut read, mut kept) = (0, 0, None);
    while read < EVENTS {
        let page = store.events(run, after, PAGE)?;
        let Some(last) = page.last() else {
            return Ok(kept);
        };
        after = last.seq;
        read += page.len();
        let complete = page.len() < PAGE;
        for stored in page {
            match serde_json::from_str::<Event>(&stored.json) {
                Ok(Event::RunCreated(created)) if created.dirty || !created.only.is_empty() => {
                    return Ok(None);
                }
                Ok(Event::StageFinished {
                    stage: ended,
                    outputs,
                    ..
                }) if ended == *stage => kept = outputs.get("report").cloned(),
                // Events of a newer version are none of our business here.
                _ => {}
            }
        }
        if complete {
            return Ok(kept);
        }
    }
    Ok(None)
}
