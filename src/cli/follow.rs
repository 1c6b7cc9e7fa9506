//! `logs --follow`.

use std::collections::HashMap;
use std::time::Duration;

use super::app::{App, Exit, Failure};
use super::args::Logs;
use super::look;
use crate::base::{RunId, StageId};
use crate::ports::store::RunRow;

/// How often the state directory is looked at.
const POLL: Duration = Duration::from_millis(250);

/// How often in a row a run may be found without a process that works on it.
const PATIENCE: u32 = 4;

/// Prints what stages print until their run, and all that follows from it, has ended.
pub(super) async fn logs(app: &App<'_>, args: &Logs) -> Result<Exit, Failure> {
    let store = app.store()?;
    let run = app.find(&*store, &args.run)?;
    let mut offsets: HashMap<(RunId, StageId), u64> = HashMap::new();
    let mut shown: Option<(RunId, StageId)> = None;
    let mut idle = 0;
    loop {
        // Read before the logs: what is printed up to the end of a run is then all there.
        let story = look::story(&*store, &run)?;
        let open: Vec<&RunRow> = story.iter().filter(|row| row.outcome.is_none()).collect();
        let held = open.iter().map(|row| store.is_held(&row.run));
        let held = held.collect::<Result<Vec<bool>, _>>()?.contains(&true);
        let all = look::printed(&*store, &run, args.stage.as_deref())?;
        let several = all.iter().map(|(_, stages)| stages.len()).sum::<usize>() > 1;
        for (row, stages) in &all {
            for stage in stages {
                let place = (row.run.clone(), stage.clone());
                let offset = offsets.entry(place.clone()).or_default();
                loop {
                    let bytes = store.log(&row.run, &stage.file_name(), *offset, 1 << 20)?;
                    if bytes.is_empty() {
                        break;
                    }
                    *offset += bytes.len() as u64;
                    let head = (several && shown.as_ref() != Some(&place))
                        .then(|| look::head(row, stage, story.len() > 1));
                    shown = Some(place.clone());
                    app.write(|out| {
                        if let Some(head) = head {
                            writeln!(out, "{head}")?;
                        }
                        look::emit(app, out, &bytes)
                    })?;
                }
            }
        }
        let Some(next) = open.first() else {
            return Ok(Exit::SUCCESS);
        };
        // Between two runs of a chain nobody holds one for a moment.
        idle = if held { 0 } else { idle + 1 };
        if idle > PATIENCE {
            let run = &next.run;
            return Err(Failure::usage(
                format!("no process works on run {run}; this is all there is"),
                format!("go on with it by `pipewright run --resume {}`", run.short()),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}
