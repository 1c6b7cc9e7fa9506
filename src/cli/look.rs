//! `runs`, `show`, `logs` and `cancel`: what the state directory knows.

use std::io::Write;

use super::app::{App, Exit, Failure};
use super::args::{Cancel, ListFormat, Logs, Runs, Show};
use super::{format, run};
use crate::base::{RunId, StageId};
use crate::event::RunState;
use crate::journal::replay;
use crate::ports::store::{RunRow, StoreReader};
use crate::report::{RunReport, Summary, summary, text};

/// `runs`.
pub(super) fn runs(app: &App<'_>, args: &Runs) -> Result<Exit, Failure> {
    let store = app.store()?;
    let rows = store.runs(args.pipeline.as_deref(), args.limit.get())?;
    app.print(&match args.format {
        ListFormat::Text => format::runs_table(&rows, (app.now)(), app.screen.style),
        ListFormat::Json => format::runs_json(&rows),
    })
}

/// `show`: the run, and the story it is part of.
pub(super) fn show(app: &App<'_>, args: &Show) -> Result<Exit, Failure> {
    let store = app.store()?;
    let run = app.find(&*store, &args.run)?;
    let state = RunState::of(&replay(&*store, &run)?);
    if args.format == ListFormat::Json {
        return app.print(&format::show_json(&state));
    }
    let mut states = vec![(run.clone(), state)];
    for row in story(&*store, &run)?.into_iter().skip(1) {
        let state = RunState::of(&replay(&*store, &row.run)?);
        states.push((row.run, state));
    }
    let edges: Vec<Vec<(StageId, StageId)>> = states
        .iter()
        .map(|(run, state)| run::edges(&*store, run, state))
        .collect();
    let reports: Vec<RunReport<'_>> = states
        .iter()
        .zip(&edges)
        .map(|((_, state), edges)| RunReport::with_edges(state, edges))
        .collect();
    let look = Summary {
        style: app.screen.style,
        now: (app.now)(),
    };
    app.write(|out| {
        out.write_all(format::show_head(&states[0].1, look.now, look.style).as_bytes())?;
        out.write_all(b"\n")?;
        summary(out, &reports, &look)
    })
}

/// A run and all that followed from it, in order.
pub(super) fn story(store: &dyn StoreReader, run: &RunId) -> Result<Vec<RunRow>, Failure> {
    let mut rows = Vec::new();
    let mut open: Vec<RunRow> = store.run(run)?.into_iter().collect();
    while let Some(row) = open.pop() {
        let mut next = store.chained(&row.run)?;
        next.reverse();
        open.extend(next);
        rows.push(row);
    }
    Ok(rows)
}

/// `logs`.
pub(super) fn logs(app: &App<'_>, args: &Logs) -> Result<Exit, Failure> {
    let store = app.store()?;
    let run = app.find(&*store, &args.run)?;
    let all = printed(&*store, &run, args.stage.as_deref())?;
    let heads = all.iter().map(|(_, stages)| stages.len()).sum::<usize>() > 1;
    app.write(|out| {
        for (row, stages) in &all {
            for stage in stages {
                let head = heads.then(|| head(row, stage, all.len() > 1));
                one(app, &*store, out, &row.run, stage, head.as_deref())?;
            }
        }
        Ok(())
    })
}

/// The runs of a story with those of their stages whose logs were asked for.
pub(super) fn printed(
    store: &dyn StoreReader,
    run: &RunId,
    asked: Option<&str>,
) -> Result<Vec<(RunRow, Vec<StageId>)>, Failure> {
    let mut all = Vec::new();
    let mut none = None;
    for row in story(store, run)? {
        let state = RunState::of(&replay(store, &row.run)?);
        match stages(&state, asked) {
            Ok(stages) => all.push((row, stages)),
            Err(failure) => {
                none.get_or_insert(failure);
            }
        }
    }
    match none {
        Some(failure) if all.is_empty() => Err(failure),
        _ => Ok(all),
    }
}

/// What stands above a stage's log.
pub(super) fn head(row: &RunRow, stage: &StageId, several: bool) -> String {
    if several {
        format!("── {} {stage}", row.pipeline)
    } else {
        format!("── {stage}")
    }
}

/// The stages whose logs were asked for.
pub(super) fn stages(state: &RunState, asked: Option<&str>) -> Result<Vec<StageId>, Failure> {
    let all = state.stages().iter().map(|stage| stage.id.clone());
    let Some(asked) = asked else {
        return Ok(all.collect());
    };
    let found: Vec<StageId> = all
        .clone()
        .filter(|id| {
            id.as_str() == asked
                || id.as_str().starts_with(&format!("{asked}["))
                || id.kind() == asked
        })
        .collect();
    if found.is_empty() {
        let near = all.clone().collect::<Vec<_>>();
        let names: Vec<&str> = near.iter().map(StageId::as_str).take(20).collect();
        return Err(Failure::usage(
            format!("the run has no stage {asked}"),
            format!("it has {}", names.join(", ")),
        ));
    }
    Ok(found)
}

fn one(
    app: &App<'_>,
    store: &dyn StoreReader,
    out: &mut dyn Write,
    run: &RunId,
    stage: &StageId,
    head: Option<&str>,
) -> std::io::Result<()> {
    const PIECE: usize = 1 << 20;
    let mut offset = 0;
    loop {
        let bytes = store
            .log(run, &stage.file_name(), offset, PIECE)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        if bytes.is_empty() {
            return Ok(());
        }
        if let (Some(head), 0) = (head, offset) {
            writeln!(out, "{head}")?;
        }
        offset += bytes.len() as u64;
        emit(app, out, &bytes)?;
    }
}

/// Logs may hold anything. A terminal gets no control characters from them; a file gets the bytes.
pub(super) fn emit(app: &App<'_>, out: &mut dyn Write, bytes: &[u8]) -> std::io::Result<()> {
    if !app.screen.terminal {
        return out.write_all(bytes);
    }
    let text = String::from_utf8_lossy(bytes);
    for line in text.split_inclusive('\n') {
        let (line, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |line| (line, "\n"));
        out.write_all(text::clean_log(line, app.screen.style.has_colour()).as_bytes())?;
        out.write_all(end.as_bytes())?;
    }
    Ok(())
}

/// `cancel`.
pub(super) fn cancel(app: &App<'_>, args: &Cancel) -> Result<Exit, Failure> {
    let store = app.store()?;
    let asked = app.find(&*store, &args.run)?;
    let story = story(&*store, &asked)?;
    // What followed from a run that has ended may still be at work.
    let Some(run) = story.iter().find(|row| row.outcome.is_none()) else {
        let outcome = story.first().and_then(|row| row.outcome.as_deref());
        return Err(Failure::usage(
            format!("run {asked} has ended: {}", outcome.unwrap_or("unknown")),
            "there is nothing to cancel",
        ));
    };
    let run = run.run.clone();
    store.request_cancel(&run, "`pipewright cancel`")?;
    let held = store.is_held(&run)?;
    app.print(&if held {
        format!("asked run {run} to stop\n")
    } else {
        format!(
            "no process works on run {run}; it will stop as soon as it is resumed with `pipewright run --resume {}`\n",
            run.short()
        )
    })
}
