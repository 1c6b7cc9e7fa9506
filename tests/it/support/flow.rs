//! Runs pipelines on the simulated world, over a store in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pipewright::adapters::memory_store::MemoryStore;
use pipewright::adapters::sim::{Latency, SimOptions, SimWorld};
use pipewright::base::{RunId, Source, StageId};
use pipewright::engine::{Cancel, Engine, EngineError, Feed, NewRun, create, execute};
use pipewright::event::{Outcome, RunState, Trigger, Upstream};
use pipewright::journal::{Journal, JournalTask, replay};
use pipewright::pipeline::{Project, load};
use pipewright::plan::{Origin, Plan, PlanError, build, check};
use pipewright::ports::Progress;
use pipewright::ports::cluster::Clusters;
use pipewright::ports::gitops::GitOps;
use pipewright::ports::services::Services;
use pipewright::ports::store::{Store, StoreReader};

/// Declarations that the tests' pipelines use.
pub const DECLS: &str = r#"
registry local "localhost:5000" { plain-http }
image app web registry=local { tag "${git.short-sha}" }
repo manifests "https://git.example.com/m" branch=main
webhook pager "https://pager.example.com/v1"
"#;

/// The address of [`DECLS`]' repository.
pub const MANIFESTS: &str = "https://git.example.com/m";

/// A project in a simulated world.
pub struct Flow {
    pub sim: SimWorld,
    pub store: MemoryStore,
    pub project: Project,
    pub feed: Arc<Seen>,
    pub chain: bool,
    pub jobs: usize,
    pub dirty: bool,
    pub only: Vec<String>,
    pub inputs: BTreeMap<String, String>,
    pub cause: Trigger,
    pub upstream: Option<Upstream>,
    /// Services that take the place of the simulated ones.
    pub services: Option<Arc<dyn Services>>,
    /// Argo CD in place of the simulated one.
    pub gitops: Option<Arc<dyn GitOps>>,
    /// Clusters that take the place of the simulated ones.
    pub clusters: Option<Arc<dyn Clusters>>,
}

/// What stages printed.
#[derive(Default)]
pub struct Seen(Mutex<Vec<u8>>);

impl Seen {
    pub fn text(&self) -> String {
        let bytes = self.0.lock().expect("no test panics while printing");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Feed for Seen {
    fn log(&self, _: &RunId, _: &StageId, bytes: &Bytes) {
        let mut seen = self.0.lock().expect("no test panics while printing");
        seen.extend_from_slice(bytes);
    }

    fn progress(&self, _: &RunId, _: &StageId, _: Progress) {}
}

/// One life of the process.
pub struct Life {
    pub engine: Engine,
    task: JournalTask,
}

impl Life {
    /// Ends as a process does that has nothing left to do.
    pub async fn end(self) {
        drop(self.engine);
        self.task.finished().await;
    }
}

/// Files of the source repository.
pub fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    files.iter().map(pair).collect()
}

/// A world without latency, with a Dockerfile.
pub fn options() -> SimOptions {
    SimOptions {
        seed: 7,
        files: files(&[
            ("Dockerfile", "FROM scratch\nCOPY . /\n"),
            ("app/main.c", "int main;\n"),
            ("web/index.html", "<p>\n"),
        ]),
        latency: Latency::none(),
        ..SimOptions::default()
    }
}

#[track_caller]
pub fn project(text: &str) -> Project {
    let (project, diagnostics) = load(vec![Source::new("p.kdl", text)]);
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    let findings: Vec<_> = check(&project)
        .into_iter()
        .filter(|diagnostic| diagnostic.is_error())
        .collect();
    assert!(findings.is_empty(), "{findings:#?}");
    project
}

impl Flow {
    /// One pipeline `p` with these stages.
    #[track_caller]
    pub fn new(stages: &str) -> Self {
        Self::of(&format!("pipeline p {{\n{stages}\n}}"), options())
    }

    /// These pipelines, beside [`DECLS`].
    #[track_caller]
    pub fn of(text: &str, options: SimOptions) -> Self {
        let sim = SimWorld::new(options);
        let values = files(&[("values.yaml", "tag: old\nweb: old\n")]);
        sim.remote(MANIFESTS, "main", &values);
        Self {
            sim,
            store: MemoryStore::new(),
            project: project(&format!("{DECLS}\n{text}")),
            feed: Arc::default(),
            chain: true,
            jobs: 4,
            dirty: false,
            only: Vec::new(),
            inputs: BTreeMap::new(),
            cause: Trigger::Manual,
            upstream: None,
            services: None,
            gitops: None,
            clusters: None,
        }
    }

    /// A process on this world and store.
    pub fn life(&self) -> Life {
        let mut world = self.sim.world(Arc::new(self.store.clone()));
        if let Some(services) = &self.services {
            world.services = services.clone();
            world.readers.services = services.clone();
        }
        if let Some(gitops) = &self.gitops {
            world.gitops = gitops.clone();
            world.readers.gitops = gitops.clone();
        }
        if let Some(clusters) = &self.clusters {
            world.clusters = clusters.clone();
            world.readers.clusters = clusters.clone();
        }
        let clock = world.readers.clock.clone();
        let (journal, task) = Journal::spawn(world.store.clone(), clock);
        let engine = Engine {
            world,
            journal,
            feed: self.feed.clone(),
            jobs: self.jobs,
            grace: Duration::from_secs(10),
            chain: self.chain,
        };
        Life { engine, task }
    }

    /// A plan at the head.
    pub async fn plan(&self, life: &Life, pipeline: &str) -> Result<Plan, PlanError> {
        let workspace = &life.engine.world.readers.workspace;
        let origin = Origin {
            commit: workspace.commit(None).await.expect("there is a head"),
            dirty: self.dirty,
            cause: self.cause.clone(),
            inputs: self.inputs.clone(),
            vars: BTreeMap::new(),
            watched: BTreeMap::new(),
            upstream: self.upstream.clone(),
            only: self.only.clone(),
        };
        build(&self.project, pipeline, origin)
    }

    pub async fn create(&self, life: &Life, pipeline: &str) -> RunId {
        let plan = self.plan(life, pipeline).await.expect("the plan is valid");
        // Ids sort by the millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let vars = plan.vars(&life.engine.world.readers).await;
        let new = NewRun {
            project: &self.project,
            directory: "pipelines",
            plan: &plan,
            vars,
            simulated: true,
        };
        create(&life.engine, new).await.expect("the run is created")
    }

    /// Brings a run and all that follows from it to an end; the first run's outcome.
    pub async fn go(&self, life: &Life, run: &RunId) -> Result<Outcome, EngineError> {
        self.go_with(life, run, &[], &Cancel::new()).await
    }

    pub async fn go_with(
        &self,
        life: &Life,
        run: &RunId,
        reset: &[StageId],
        cancel: &Cancel,
    ) -> Result<Outcome, EngineError> {
        let first = execute(&life.engine, run, reset, cancel).await?;
        let mut open: VecDeque<RunId> = first.chained.into_iter().map(|(run, _)| run).collect();
        while let Some(run) = open.pop_front() {
            let ended = execute(&life.engine, &run, &[], cancel).await?;
            open.extend(ended.chained.into_iter().map(|(run, _)| run));
        }
        Ok(first.outcome)
    }

    /// Creates a run and brings it to its end in a life of its own.
    pub async fn run(&self, pipeline: &str) -> RunId {
        let life = self.life();
        let run = self.create(&life, pipeline).await;
        self.go(&life, &run)
            .await
            .expect("the run comes to its end");
        life.end().await;
        run
    }

    pub fn state(&self, run: &RunId) -> RunState {
        RunState::of(&replay(&self.store, run).expect("the run is there"))
    }

    /// Runs of a pipeline, oldest first.
    pub fn runs(&self, pipeline: &str) -> Vec<RunId> {
        let rows = self.store.runs(Some(pipeline), 100).expect("it reads");
        rows.into_iter().rev().map(|row| row.run).collect()
    }

    /// What became of each stage, a line each, and of the run. Reasons are told of those only
    /// that did not do their work.
    pub fn told(&self, run: &RunId) -> Vec<String> {
        let state = self.state(run);
        let mut lines: Vec<String> = state
            .stages()
            .iter()
            .map(|stage| {
                let outcome = stage.outcome.map_or("unfinished", Outcome::as_str);
                let allowed = if stage.allowed { " (allowed)" } else { "" };
                let told = stage.outcome.is_some_and(|outcome| !outcome.is_success());
                let reason = match &stage.reason {
                    reason if told && !reason.is_empty() => format!(": {reason}"),
                    _ => String::new(),
                };
                format!("{} {outcome}{allowed}{reason}", stage.id)
            })
            .collect();
        let outcome = state.outcome.map_or("unfinished", Outcome::as_str);
        lines.push(format!("= {outcome}"));
        lines
    }

    /// Compares with one expected line per stage and one for the run; `…` at the end of a line
    /// stands for anything.
    #[track_caller]
    pub fn expect(&self, run: &RunId, expected: &str) {
        let told = self.told(run);
        let expected: Vec<&str> = expected
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let same = told.len() == expected.len()
            && told.iter().zip(&expected).all(|(line, expected)| {
                match expected.strip_suffix('…') {
                    Some(start) => line.starts_with(start),
                    None => line == expected,
                }
            });
        assert!(
            same,
            "got:\n{}\nexpected:\n{}",
            told.join("\n"),
            expected.join("\n")
        );
        self.clean();
    }

    #[track_caller]
    pub fn clean(&self) {
        assert_eq!(self.sim.violations(), []);
    }

    /// Calls and subjects of the effects so far.
    pub fn ledger(&self) -> Vec<String> {
        let effects = self.sim.ledger();
        effects
            .iter()
            .map(|effect| format!("{} {}", effect.call, effect.subject))
            .collect()
    }

    pub fn log(&self, run: &RunId, stage: &str) -> String {
        let name = StageId::from(stage).file_name();
        let bytes = self.store.log(run, &name, 0, 1 << 20).expect("it reads");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until something is true of a run's state.
    pub async fn until(&self, run: &RunId, what: impl Fn(&RunState) -> bool) {
        for _ in 0..10_000 {
            if what(&self.state(run)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it did not come true: {:#?}", self.told(run));
    }

    /// Asks for a run to be cancelled, as another process does.
    pub fn request_cancel(&self, run: &RunId, by: &str) {
        self.store
            .request_cancel(run, by)
            .expect("the run is there");
    }
}

/// Runs pipeline `p` with these stages and compares what came of it.
pub async fn run_and_expect(stages: &str, expected: &str) -> Flow {
    let flow = Flow::new(stages);
    let run = flow.run("p").await;
    flow.expect(&run, expected);
    flow
}
