//! `run` and `rerun`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::app::{App, Exit, Failure};
use super::args::{Rerun, Run, RunFormat};
use super::screen::{self, Watch};
use super::watch::lookout::{choose_now, pretend};
use super::{look, plan as plan_command, project};
use crate::base::{RunId, StageId, human_bytes};
use crate::engine::{
    Cancel, Definition, Drawn, Ended, Engine, EngineError, NewRun, Taken, create,
    rerun as create_like, sites_of, take,
};
use crate::event::{Outcome, RunState};
use crate::journal::{Journal, replay};
use crate::pipeline::Project;
use crate::plan::{Origin, Plan, build};
use crate::ports::World;
use crate::ports::store::StoreReader;
use crate::report::{
    Json, Plain, Reporter, RunReport, Summary, Terminal, Tty, junit, markdown, summary,
};
use crate::stage::Scenery;
use crate::stage::context::RUN_LABEL;

/// Time a stage gets between being asked and being forced to stop.
const GRACE: Duration = Duration::from_secs(10);

/// What to report besides what is on the screen.
#[derive(Default)]
pub(super) struct Reports<'a> {
    format: Option<RunFormat>,
    junit: Option<&'a std::path::Path>,
    summary: Option<&'a std::path::Path>,
}

impl Reports<'_> {
    /// Nothing but the screen.
    pub(super) const fn of(format: Option<RunFormat>) -> Self {
        Self {
            format,
            junit: None,
            summary: None,
        }
    }
}

/// A run to begin or to go on with.
pub(super) struct Start {
    pub(super) run: RunId,
    pub(super) reset: Vec<StageId>,
    /// What it was created from, if that was just now.
    pub(super) drawn: Option<Drawn>,
}

impl Start {
    /// One that begins, or goes on where it was left.
    pub(super) fn of(run: RunId) -> Self {
        Self {
            run,
            reset: Vec::new(),
            drawn: None,
        }
    }
}

/// `run`.
pub(super) async fn run(app: &App<'_>, args: &Run) -> Result<Exit, Failure> {
    let reports = Reports {
        format: args.format,
        junit: args.junit.as_deref(),
        summary: args.summary.as_deref(),
    };
    let jobs = args
        .jobs
        .map_or(app.processors, std::num::NonZeroUsize::get);
    if let Some(resume) = &args.resume {
        let world = app.worlds.real(&app.root(), &app.state_dir())?;
        let run = app.find(&*world.readers.store, resume)?;
        let session = Session::new(app, world, jobs, !args.no_chain, &reports)?;
        let starts = unfinished(&*session.engine.world.readers.store, run)?;
        return session.go(starts).await;
    }
    let pipeline = args.pipeline.as_deref().unwrap_or_default();
    let project = project::sound(app)?;
    let real = app.worlds.real(&app.root(), &app.state_dir())?;
    let workspace = &*real.readers.workspace;
    let mut origin = plan_command::origin(
        app,
        workspace,
        &*real.readers.store,
        &args.what,
        args.dirty,
        args.only.clone(),
    )
    .await?;
    if origin.cause == crate::event::Trigger::Watch {
        let readers = &real.readers;
        origin.watched = match args.simulate {
            true => pretend(&project, pipeline),
            false => choose_now(&project, pipeline, readers, &origin.commit).await?,
        };
    }
    if !args.dirty && args.what.reference.is_none() && workspace.is_dirty().await? {
        tell(
            app,
            "uncommitted changes are not part of this run; --dirty would run them",
        );
    }
    let plan = build(&project, pipeline, origin)?;
    let world = if args.simulate {
        simulated(app, &project, &plan).await?
    } else {
        real
    };
    let vars = plan.vars(&world.readers).await;
    // A missing secret is found before anything runs, and leaves no half-made run behind.
    plan.fetch(&world.readers).await?;
    let session = Session::new(app, world, jobs, !args.no_chain, &reports)?;
    let directory = project::directory(app);
    let new = NewRun {
        project: &project,
        directory: &directory,
        plan: &plan,
        vars,
        simulated: args.simulate,
    };
    let run = create(&session.engine, new).await?;
    session
        .go(vec![Start {
            drawn: Some(Drawn { project, plan }),
            ..Start::of(run)
        }])
        .await
}

/// `rerun`.
pub(super) async fn rerun(app: &App<'_>, args: &Rerun) -> Result<Exit, Failure> {
    let world = app.worlds.real(&app.root(), &app.state_dir())?;
    let store = world.readers.store.clone();
    let mut run = app.find(&*store, &args.run)?;
    let mut state = RunState::of(&replay(&*store, &run)?);
    // What failed may be a run that followed from the one that is named.
    if args.failed && state.outcome.is_some_and(|outcome| !outcome.is_bad()) {
        for row in look::story(&*store, &run)? {
            let later = RunState::of(&replay(&*store, &row.run)?);
            if later.outcome.is_some_and(|outcome| outcome.is_bad()) {
                (run, state) = (row.run, later);
                break;
            }
        }
    }
    if state.outcome.is_none() {
        return Err(Failure::usage(
            format!("run {run} has not ended"),
            format!("go on with it by `pipewright run --resume {}`", run.short()),
        ));
    }
    let reports = Reports::default();
    let session = Session::new(app, world, app.processors, true, &reports)?;
    if args.fresh {
        return fresh(app, session, &state).await;
    }
    let start = if args.failed {
        let reset: Vec<StageId> = failed_stages(&session, &run, &state)?;
        if reset.is_empty() {
            return app.print(&format!(
                "every stage of run {run} succeeded; there is nothing to run again\n"
            ));
        }
        Start {
            reset,
            ..Start::of(run)
        }
    } else {
        Start::of(create_like(&session.engine, &run).await?)
    };
    session.go(vec![start]).await
}

/// Stages that did not succeed, and those that follow everything.
fn failed_stages(
    session: &Session<'_, '_>,
    run: &RunId,
    state: &RunState,
) -> Result<Vec<StageId>, Failure> {
    let bad: Vec<StageId> = state
        .stages()
        .iter()
        .filter(|stage| stage.outcome.is_none_or(|outcome| !outcome.is_success()))
        .map(|stage| stage.id.clone())
        .collect();
    if bad.is_empty() || state.outcome.is_some_and(|outcome| outcome.is_success()) {
        return Ok(Vec::new());
    }
    let Some(created) = &state.created else {
        return Ok(bad);
    };
    let store = &*session.engine.world.readers.store;
    let project = Definition::load(store, run, &created.definition)?;
    let Some(pipeline) = project.pipelines.get(&created.pipeline) else {
        return Ok(bad);
    };
    let last = pipeline
        .stages
        .iter()
        .filter(|entry| entry.is_last() && !bad.contains(&entry.id))
        .map(|entry| entry.id.clone());
    let mut reset: Vec<StageId> = last.collect();
    reset.extend(bad);
    Ok(reset)
}

/// Plans anew from the files of today, at the commit of an earlier run.
async fn fresh(
    app: &App<'_>,
    session: Session<'_, '_>,
    earlier: &RunState,
) -> Result<Exit, Failure> {
    let Some(created) = &earlier.created else {
        return Err(Failure::internal(
            "the earlier run has no record of its beginning",
        ));
    };
    let project = project::sound(app)?;
    let origin = Origin {
        commit: created.commit.clone(),
        dirty: created.dirty,
        cause: created.trigger.clone(),
        inputs: created.inputs.clone(),
        vars: Default::default(),
        watched: created.watched.clone(),
        upstream: created.upstream.clone(),
        only: created.only.clone(),
    };
    let plan = build(&project, &created.pipeline, origin)?;
    let vars = plan.vars(&session.engine.world.readers).await;
    plan.fetch(&session.engine.world.readers).await?;
    let directory = project::directory(app);
    let new = NewRun {
        project: &project,
        directory: &directory,
        plan: &plan,
        vars,
        simulated: false,
    };
    let run = create(&session.engine, new).await?;
    session
        .go(vec![Start {
            drawn: Some(Drawn { project, plan }),
            ..Start::of(run)
        }])
        .await
}

/// What is left of a run: itself, or the runs chained to it that were not brought to their end.
fn unfinished(store: &dyn StoreReader, run: RunId) -> Result<Vec<Start>, Failure> {
    let mut starts = Vec::new();
    let mut open = VecDeque::from([run.clone()]);
    while let Some(run) = open.pop_front() {
        match store.run(&run)? {
            Some(row) if row.outcome.is_none() => starts.push(Start::of(run)),
            Some(_) => open.extend(store.chained(&run)?.into_iter().map(|row| row.run)),
            None => {}
        }
    }
    if starts.is_empty() {
        return Err(Failure::usage(
            format!("run {run} has ended, and so has all that followed it"),
            "`pipewright rerun` runs it again",
        ));
    }
    Ok(starts)
}

/// The simulated world with the files of the commit, so that contexts and manifests are there.
async fn simulated(app: &App<'_>, project: &Project, plan: &Plan) -> Result<World, Failure> {
    const MAX_FILE: u64 = 1 << 20;
    let root = app.root();
    let mut files = Vec::new();
    for path in app.files.walk(&root, 12)? {
        // What is not text plays no part in the simulation.
        if let Ok(text) = app.files.read(&root.join(&path), MAX_FILE) {
            files.push((path, text));
        }
    }
    let mut around = Scenery::default();
    // Of the whole project: what follows runs in the same world.
    let pipelines = project.pipelines.values();
    for stage in pipelines.flat_map(|pipeline| &pipeline.stages) {
        let scenery = stage.body.scenery();
        around.containers.extend(scenery.containers);
        around.keys.extend(scenery.keys);
    }
    let commit = plan.origin.commit.clone();
    Ok(app.worlds.simulated(commit, files, around))
}

pub(super) fn tell(app: &App<'_>, text: &str) {
    // Standard output belongs to the report; a note that cannot be written is no failure.
    let _ = app.print(&format!("note: {text}\n"));
}

/// An engine with a reporter.
pub(super) struct Session<'a, 'b> {
    app: &'a App<'b>,
    pub(super) engine: Engine,
    task: crate::journal::JournalTask,
    watch: Arc<Watch>,
    shown: screen::Shown,
    format: RunFormat,
    reports: &'a Reports<'a>,
}

impl<'a, 'b> Session<'a, 'b> {
    pub(super) fn new(
        app: &'a App<'b>,
        world: World,
        jobs: usize,
        chain: bool,
        reports: &'a Reports<'a>,
    ) -> Result<Self, Failure> {
        let format = reports.format.unwrap_or(if app.screen.terminal {
            RunFormat::Tty
        } else {
            RunFormat::Plain
        });
        let now = app.now;
        let out = (app.screen.out)();
        let reporter: Box<dyn Reporter> = match format {
            RunFormat::Json => Box::new(Json::new(out)),
            RunFormat::Plain => Box::new(Plain::new(out, app.screen.style)),
            RunFormat::Tty => Box::new(Tty::new(
                Terminal {
                    out,
                    size: Box::new(app.screen.size),
                    now: Box::new(now),
                    style: app.screen.style,
                },
                HashMap::new(),
            )),
        };
        let (watch, shown) = screen::start(reporter);
        let (journal, task) = Journal::spawn(world.store.clone(), world.readers.clock.clone());
        let engine = Engine {
            world,
            journal,
            feed: watch.clone(),
            jobs,
            grace: GRACE,
            chain,
        };
        Ok(Self {
            app,
            engine,
            task,
            watch,
            shown,
            format,
            reports,
        })
    }

    /// Ends without running anything; what was written is all there.
    pub(super) async fn end(self) {
        let Self {
            engine,
            task,
            watch,
            shown,
            ..
        } = self;
        drop(engine);
        drop(watch);
        task.finished().await;
        shown.finish();
    }

    /// Brings runs and what follows from them to their end, and reports.
    pub(super) async fn go(self, starts: Vec<Start>) -> Result<Exit, Failure> {
        self.go_and_hear(starts).await.map(|(exit, _)| exit)
    }

    /// The same; and whether somebody asked to stop meanwhile, be it too late for a run to be cancelled
    /// by it.
    pub(super) async fn go_and_hear(self, starts: Vec<Start>) -> Result<(Exit, bool), Failure> {
        let cancel = Cancel::new();
        let runs: Arc<std::sync::Mutex<Vec<RunId>>> = Arc::default();
        let signals = tokio::spawn(on_signals(
            cancel.clone(),
            self.engine.clone(),
            runs.clone(),
        ));
        let result = self.follow_chains(starts, &cancel, &runs).await;
        signals.abort();
        let store = self.engine.world.readers.store.clone();
        let unseen = self.watch.unseen();
        let Self {
            app,
            engine,
            task,
            watch,
            shown,
            format,
            reports,
        } = self;
        drop(engine);
        drop(watch);
        let _ = signals.await;
        task.finished().await;
        shown.finish();
        let worst = result?;
        let runs = runs.lock().expect("no holder of this lock panics").clone();
        report(app, &*store, &runs, format, reports)?;
        if unseen > 0 {
            tell(
                app,
                &format!(
                    "{} of output came too fast to be shown; `pipewright logs` has all of it",
                    human_bytes(unseen)
                ),
            );
        }
        let exit = match worst {
            Outcome::Cancelled => Exit::CANCELLED,
            outcome if outcome.is_bad() => Exit::FAILED,
            _ => Exit::SUCCESS,
        };
        Ok((exit, cancel.is_requested()))
    }

    async fn follow_chains(
        &self,
        starts: Vec<Start>,
        cancel: &Cancel,
        runs: &std::sync::Mutex<Vec<RunId>>,
    ) -> Result<Outcome, Failure> {
        let mut open: VecDeque<Start> = starts.into();
        let mut worst = Outcome::Skipped;
        while let Some(start) = open.pop_front() {
            runs.lock()
                .expect("no holder of this lock panics")
                .push(start.run.clone());
            let follow = self.watch.follow(&self.engine.journal, &start.run);
            let ended = on_workers(&self.engine, start, cancel).await;
            if ended.is_ok() {
                // The last events are on their way to the reporter.
                let _ = follow.await;
            } else {
                follow.abort();
            }
            let ended = ended?;
            worst = worst.max(ended.outcome);
            open.extend(ended.chained.into_iter().map(|(run, _)| Start::of(run)));
            if cancel.is_requested() {
                break;
            }
        }
        Ok(worst)
    }
}

/// Brings a run to its end on the threads its stages run on: from the main thread every start and
/// every end of a stage would be a change of threads.
async fn on_workers(engine: &Engine, start: Start, cancel: &Cancel) -> Result<Ended, EngineError> {
    let (engine, cancel) = (engine.clone(), cancel.clone());
    let ready = match take(&engine, &start.run, start.reset.is_empty(), start.drawn)? {
        Taken::Over(ended) => return Ok(ended),
        Taken::Ready(ready) => ready,
    };
    let reset = start.reset;
    let work = tokio::spawn(async move { ready.execute(&engine, &reset, &cancel).await });
    match work.await {
        Ok(ended) => ended,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The first request asks gently; the second ends at once whatever the runs have started.
async fn on_signals(cancel: Cancel, engine: Engine, runs: Arc<std::sync::Mutex<Vec<RunId>>>) {
    let mut asked = 0;
    loop {
        let Some(by) = engine.world.host.asked_to_stop().await else {
            return;
        };
        asked += 1;
        if asked == 1 {
            cancel.request(&by);
            continue;
        }
        cancel.force(&by);
        let runs = runs.lock().expect("no holder of this lock panics").clone();
        for run in runs {
            engine.world.host.reap(&format!("{run}/")).await;
            let sites = sites_of(&*engine.world.readers.store, &run).unwrap_or_default();
            for site in sites {
                // An engine that does not answer must not keep us from ending.
                if let Ok(at) = engine.world.engine_at(&site) {
                    let _ = at.reap(RUN_LABEL, run.as_str()).await;
                }
            }
        }
    }
}

/// The summary on the screen, and the files asked for.
fn report(
    app: &App<'_>,
    store: &dyn StoreReader,
    runs: &[RunId],
    format: RunFormat,
    reports: &Reports<'_>,
) -> Result<(), Failure> {
    let states: Vec<RunState> = runs
        .iter()
        .map(|run| Ok(RunState::of(&replay(store, run)?)))
        .collect::<Result<_, Failure>>()?;
    let edges: Vec<Vec<(StageId, StageId)>> = runs
        .iter()
        .zip(&states)
        .map(|(run, state)| edges(store, run, state))
        .collect();
    let all: Vec<RunReport<'_>> = states
        .iter()
        .zip(&edges)
        .map(|(state, edges)| RunReport::with_edges(state, edges))
        .collect();
    let look = Summary {
        style: app.screen.style,
        now: (app.now)(),
    };
    if format != RunFormat::Json {
        app.write(|out| summary(out, &all, &look))?;
    }
    let render = |write: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| -> Result<String, Failure> {
        let mut bytes = Vec::new();
        write(&mut bytes).map_err(|error| Failure::internal(error.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    if let Some(path) = reports.junit {
        app.files
            .write(&app.here.join(path), &render(&|out| junit(out, &all))?)?;
    }
    if let Some(path) = reports.summary {
        let mut text = render(&|out| markdown(out, &all, &look))?;
        for state in &states {
            for kept in super::report::kept(store, state)? {
                text.push('\n');
                text.push_str(&kept.markdown());
            }
        }
        app.files.append(&app.here.join(path), &text)?;
    }
    Ok(())
}

/// Which stage waited for which, from the stored definition. Without it there is no critical
/// path, and nothing else is missing.
pub(super) fn edges(
    store: &dyn StoreReader,
    run: &RunId,
    state: &RunState,
) -> Vec<(StageId, StageId)> {
    let Some(created) = &state.created else {
        return Vec::new();
    };
    // Of a very large graph nobody reads the path, and it would cost more than the run's report.
    if created.stages.len() > 5000 {
        return Vec::new();
    }
    let Ok(project) = Definition::load(store, run, &created.definition) else {
        return Vec::new();
    };
    let Some(pipeline) = project.pipelines.get(&created.pipeline) else {
        return Vec::new();
    };
    let (graph, _) = crate::plan::Graph::build(&pipeline.stages, &pipeline.decls);
    let name = |vertex: usize| match graph.vertex(vertex) {
        crate::plan::Vertex::Stage(stage) => pipeline.stages[*stage].id.clone(),
        crate::plan::Vertex::All(what) => StageId::from(&**what),
    };
    (0..graph.vertices())
        .flat_map(|vertex| graph.waiting(vertex).map(move |(to, _)| (vertex, to)))
        .map(|(from, to)| (name(from), name(to)))
        .collect()
}
