//! `logs --follow`.

use std::collections::HashMap;
use std::time::Duration;

use super::app::{App, Exit, Failure};
use super::args::Logs;
use super::look;
use crate::base::StageId;
use crate::event::RunState;
use crate::journal::replay;

/// How often the state directory is looked at.
const POLL: Duration = Duration::from_millis(250);

/// Prints what stages print until their run has ended.
pub(super) async fn logs(app: &App<'_>, args: &Logs) -> Result<Exit, Failure> {
    let store = app.store()?;
    let run = app.find(&*store, &args.run)?;
    let mut offsets: HashMap<StageId, u64> = HashMap::new();
    let mut shown: Option<StageId> = None;
    loop {
        let state = RunState::of(&replay(&*store, &run)?);
        let ended = state.outcome.is_some();
        let stages = look::stages(&state, args.stage.as_deref())?;
        for stage in &stages {
            let offset = offsets.entry(stage.clone()).or_default();
            loop {
                let bytes = store.log(&run, &stage.file_name(), *offset, 1 << 20)?;
                if bytes.is_empty() {
                    break;
                }
                *offset += bytes.len() as u64;
                let head = stages.len() > 1 && shown.as_ref() != Some(stage);
                shown = Some(stage.clone());
                app.write(|out| {
                    if head {
                        writeln!(out, "── {stage}")?;
                    }
                    look::emit(app, out, &bytes)
                })?;
            }
        }
        if ended {
            return Ok(Exit::SUCCESS);
        }
        if !store.is_held(&run)? && state.attempt > 0 {
            return Err(Failure::usage(
                format!("no process works on run {run}; this is all there is"),
                format!("go on with it by `pipewright run --resume {}`", run.short()),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}
