//! `watch`: looks at registries in the foreground and starts a run for each new set of digests.
//!
//! A look and what follows from it happen under one lock of the state directory, and the run is
//! created in the transaction that remembers its set: however many watch, and whenever they die,
//! a set has one run.

pub(super) mod lookout;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::lookout::{Lookout, origin, tip};
use self::tell::{Teller, Told};
use super::app::{App, Exit, Failure};
use super::args::{RunFormat, Watch as Args, WatchFormat};
use super::project;
use super::run::{Reports, Session, Start};
use crate::base::RunId;
use crate::engine::{NewRun, create_with};
use crate::event::{Chosen, Event, Trigger};
use crate::pipeline::{Project, Watch};
use crate::plan::build;
use crate::plan::watch::{Cache, LookError, Memory, Stop};
use crate::ports::World;
use crate::ports::doorbell::Doorbell;
use crate::ports::store::Hold;

/// How long another process's look is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
/// A look that takes longer is given up.
const LOOK: Duration = Duration::from_secs(600);
/// The shortest time between two looks, however often somebody rings.
const SPACING: Duration = Duration::from_secs(1);
/// The longest wait between looks that fail.
const LONGEST: Duration = Duration::from_secs(3600);

/// `watch`.
pub(super) async fn watch(app: &App<'_>, args: &Args) -> Result<Exit, Failure> {
    let world = app.worlds.real(&app.root(), &app.state_dir())?;
    let project = project::sound(app)?;
    let names: Vec<String> = watched(&project, &args.pipeline)?;
    let doorbell = match (args.listen, &args.listen_secret) {
        (Some(address), Some(file)) => Some(listen(app, address, file).await?),
        _ => None,
    };
    let mut teller = Teller::new(app, args.format, &args.pipeline);
    if let Some(doorbell) = &doorbell {
        teller.note(&format!("listening at {}", doorbell.address()))?;
    }
    let mut watcher = Watcher {
        app,
        args,
        cache: lookout::cache(&world.readers),
        world,
        failures: BTreeMap::new(),
        repositories: Mutex::default(),
        asked_to_stop: AtomicBool::new(false),
    };
    if !args.dry_run
        && let Some(exit) = watcher.resume().await?
        && exit == Exit::CANCELLED
    {
        return Ok(exit);
    }
    teller.begin(&names)?;
    let mut due: BTreeMap<String, Due> = BTreeMap::new();
    let mut worst = Exit::SUCCESS;
    let mut project = Some(project);
    loop {
        // What is written now counts, not what was when we began.
        let current = match project.take() {
            Some(project) => Ok(project),
            None => project::sound(app),
        };
        let mut next = Instant::now() + LONGEST;
        match current {
            Ok(current) => {
                for watch in watches(&current, &args.pipeline) {
                    let key = watch.describe();
                    let now = Instant::now();
                    let at = due.get(&key).map_or(now, |due| due.at);
                    if at <= now {
                        let pass = watcher.pass(&current, watch, &mut teller).await?;
                        if pass.exit == Exit::CANCELLED {
                            return Ok(pass.exit);
                        }
                        if pass.exit != Exit::SUCCESS {
                            worst = pass.exit;
                        }
                        if !args.once && watcher.asked_to_stop.load(Ordering::Relaxed) {
                            teller.note("stopped")?;
                            return Ok(Exit::SUCCESS);
                        }
                        due.insert(key.clone(), Due::after(&pass));
                    }
                    next = next.min(due[&key].at);
                }
            }
            Err(failure) if args.once => return Err(failure),
            Err(failure) => {
                teller.note(&format!("{}; trying again in a minute", failure.message))?;
                next = Instant::now() + Duration::from_secs(60);
            }
        }
        if args.once {
            return Ok(worst);
        }
        let host = &watcher.world.host;
        tokio::select! {
            _ = host.asked_to_stop() => {
                teller.note("stopped")?;
                return Ok(Exit::SUCCESS);
            }
            names = rung(doorbell.as_deref()) => {
                let about = watcher.is_about(&names);
                let names = names.join(", ");
                if about {
                    teller.note(&format!("told to look now at {names}"))?;
                    due.values_mut().for_each(Due::hurry);
                } else {
                    teller.note(&format!("told of {names}, which is not watched here"))?;
                }
            }
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

async fn rung(doorbell: Option<&dyn Doorbell>) -> Vec<String> {
    match doorbell {
        Some(doorbell) => doorbell.rung().await,
        None => std::future::pending().await,
    }
}

async fn listen(
    app: &App<'_>,
    address: std::net::SocketAddr,
    file: &std::path::Path,
) -> Result<std::sync::Arc<dyn Doorbell>, Failure> {
    let secret = app.files.read(&app.here.join(file), 4096)?;
    let secret = secret.trim();
    if secret.len() < 16 {
        return Err(Failure::usage(
            format!("the secret in {} is too short to be one", file.display()),
            "put at least 16 characters into it: `openssl rand -hex 32 > FILE`",
        ));
    }
    app.worlds
        .listen(address, crate::base::Secret::new(secret))
        .await
}

fn watches<'a>(project: &'a Project, pipeline: &str) -> Vec<&'a Watch> {
    let pipeline = project.pipelines.get(pipeline);
    pipeline.into_iter().flat_map(|it| it.watches()).collect()
}

/// What a pipeline watches, in words.
fn watched(project: &Project, pipeline: &str) -> Result<Vec<String>, Failure> {
    if !project.pipelines.contains_key(pipeline) {
        let names: Vec<&str> = project.pipelines.keys().map(String::as_str).collect();
        return Err(Failure::usage(
            format!("there is no pipeline `{pipeline}`"),
            format!("there are {}", names.join(", ")),
        ));
    }
    let all: Vec<String> = watches(project, pipeline)
        .into_iter()
        .map(Watch::describe)
        .collect();
    if all.is_empty() {
        return Err(Failure::usage(
            format!("pipeline `{pipeline}` watches no image"),
            "add a trigger: `on { watch IMAGE semver=\"*\" }`",
        ));
    }
    Ok(all)
}

/// What came of one look.
struct Pass {
    exit: Exit,
    wait: Duration,
    /// The registry itself asked to be left alone for so long.
    rest: bool,
}

/// When a watch looks next.
struct Due {
    at: Instant,
    /// When it may at the earliest.
    soonest: Instant,
}

impl Due {
    fn after(pass: &Pass) -> Self {
        let now = Instant::now();
        let at = now + pass.wait;
        let soonest = if pass.rest { at } else { now + SPACING };
        Self { at, soonest }
    }

    /// Somebody rang. Nobody's word stands above a registry's that asked for rest.
    fn hurry(&mut self) {
        self.at = self.at.min(self.soonest);
    }
}

struct Watcher<'a, 'b> {
    app: &'a App<'b>,
    args: &'a Args,
    world: World,
    cache: std::sync::Arc<Cache>,
    /// Looks in a row that failed, by watch.
    failures: BTreeMap<String, u32>,
    /// Registry and repository of what is watched.
    repositories: Mutex<BTreeSet<String>>,
    /// Somebody asked to stop while a run was coming to its end, who would not be heard twice.
    asked_to_stop: AtomicBool,
}

/// What to do after a look.
enum Found {
    Start(BTreeMap<String, Chosen>, Memory),
    Known(RunId, BTreeMap<String, Chosen>),
    Nothing(Stop),
}

impl Watcher<'_, '_> {
    /// Looks, and runs what is new.
    async fn pass(
        &mut self,
        project: &Project,
        watch: &Watch,
        teller: &mut Teller<'_, '_>,
    ) -> Result<Pass, Failure> {
        let key = watch.describe();
        let every = jittered(watch.every, self.world.readers.clock.random());
        let stop = self.world.host.asked_to_stop();
        let started = tokio::select! {
            _ = stop => return Ok(Pass { exit: Exit::CANCELLED, wait: every, rest: false }),
            started = tokio::time::timeout(LOOK, self.start(project, watch, teller)) => started,
        };
        let started = started.unwrap_or_else(|_| {
            Err(Trouble::Look(LookError {
                message: format!("the look took longer than {} minutes", LOOK.as_secs() / 60),
                after: None,
            }))
        });
        match started {
            Ok(run) => {
                self.failures.remove(&key);
                let exit = match run {
                    Some(run) => self.go(run).await?,
                    None => Exit::SUCCESS,
                };
                Ok(Pass {
                    exit,
                    wait: every,
                    rest: false,
                })
            }
            Err(Trouble::Fatal(failure)) => Err(failure),
            Err(Trouble::Look(error)) => {
                let failures = self.failures.entry(key).or_default();
                *failures = failures.saturating_add(1);
                let doubled = every
                    .saturating_mul(1 << (*failures - 1).min(6))
                    .min(LONGEST.max(every));
                let wait = error.after.map_or(doubled, |after| after.max(every));
                let again = (!self.args.once).then_some(wait);
                teller.tell(watch, &Told::Failed(&error.message, again))?;
                Ok(Pass {
                    exit: Exit::FAILED,
                    wait,
                    rest: error.after.is_some(),
                })
            }
        }
    }

    /// Looks, and creates a run for what is new. Nobody else looks meanwhile.
    async fn start(
        &self,
        project: &Project,
        watch: &Watch,
        teller: &mut Teller<'_, '_>,
    ) -> Result<Option<RunId>, Trouble> {
        let readers = &self.world.readers;
        let Some(_alone) = self.alone().await? else {
            teller.tell(watch, &Told::Busy)?;
            return Ok(None);
        };
        let commit = tip(&*readers.workspace, self.args.reference.as_deref()).await;
        let commit = commit.map_err(Failure::from)?;
        let Some(pipeline) = project.pipelines.get(&self.args.pipeline) else {
            return Ok(None);
        };
        let lookout = Lookout::new(project, pipeline, watch, readers, commit.clone()).await;
        let lookout = lookout.map_err(|failure| LookError {
            message: failure.message,
            after: None,
        })?;
        self.repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(lookout.places.iter().map(|place| place.name()));
        let sight = lookout.look(readers, &self.cache, false).await;
        if !self.args.dry_run {
            // What was read never changes, so it is kept whatever came of the look.
            let changes = self.cache.changes();
            if !changes.is_empty() {
                self.world
                    .store
                    .append(&[], &changes)
                    .map_err(Failure::from)?;
            }
        }
        let sight = sight?;
        for (images, choice) in &sight.choices {
            teller.waits(watch, images, choice)?;
        }
        let found = match sight.set() {
            Err(Stop::Blocked(why)) => {
                return Err(LookError {
                    message: why,
                    after: None,
                }
                .into());
            }
            Err(stop) => Found::Nothing(stop),
            Ok(set) => match lookout.memory.started(&set) {
                Some(run) => Found::Known(run.clone(), set),
                None => Found::Start(set, lookout.memory),
            },
        };
        match found {
            Found::Nothing(stop) => {
                teller.tell(watch, &Told::Nothing(stop.reason()))?;
                Ok(None)
            }
            Found::Known(run, set) => {
                teller.tell(watch, &Told::Known(&run, &set))?;
                Ok(None)
            }
            Found::Start(set, _) if self.args.dry_run => {
                teller.tell(watch, &Told::WouldStart(&set, &commit))?;
                Ok(None)
            }
            Found::Start(set, mut memory) => {
                let plan = build(
                    project,
                    &self.args.pipeline,
                    origin(commit.clone(), set.clone()),
                );
                let plan = plan.map_err(Failure::from)?;
                // A missing secret is found before anything is remembered.
                let fetched = plan.fetch(readers).await;
                fetched.map_err(|error| LookError {
                    message: error.message,
                    after: None,
                })?;
                let vars = plan.vars(readers).await;
                let session = self.session()?;
                let directory = project::directory(self.app);
                let new = NewRun {
                    project,
                    directory: &directory,
                    plan: &plan,
                    vars,
                    simulated: false,
                };
                let now = readers.clock.now();
                let remembered = set.clone();
                let run = create_with(&session.engine, new, |run| {
                    memory.start(run.clone(), now, remembered);
                    vec![memory.keep(&self.args.pipeline, watch)]
                });
                let run = run.await.map_err(Failure::from)?;
                session.end().await;
                teller.tell(watch, &Told::Started(&run, &set, &commit))?;
                Ok(Some(run))
            }
        }
    }

    /// Whether one of these repositories is watched here. Registries name theirs with or without
    /// their own name; before the first look everything may be.
    fn is_about(&self, names: &[String]) -> bool {
        let known = self.repositories.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let ends = |full: &str, name: &str| {
            let rest = full.strip_suffix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        known.is_empty()
            || names.iter().any(|name| {
                known
                    .iter()
                    .any(|full| ends(full, name) || ends(name, full))
            })
    }

    /// The only place from which the state directory's watches of this pipeline look.
    async fn alone(&self) -> Result<Option<Box<dyn Hold>>, Failure> {
        let store = &self.world.store;
        let group = format!("watch {}", self.args.pipeline);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(hold) = store.enter_group(&group, 1, "")? {
                return Ok(Some(hold));
            }
            if Instant::now() >= until {
                store.leave_group(&group, "");
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Goes on with what a watch had started when its process ended.
    async fn resume(&self) -> Result<Option<Exit>, Failure> {
        let store = &*self.world.readers.store;
        let mut exit = None;
        for row in store.unfinished()? {
            if row.pipeline != self.args.pipeline || store.is_held(&row.run)? {
                continue;
            }
            let first = store.events(&row.run, 0, 1)?.into_iter().next();
            let created = first.and_then(|event| serde_json::from_str(&event.json).ok());
            if let Some(Event::RunCreated(created)) = created
                && created.trigger == Trigger::Watch
                && !created.simulated
            {
                exit = Some(self.go(row.run).await?);
            }
        }
        Ok(exit)
    }

    fn session(&self) -> Result<Session<'_, '_>, Failure> {
        const NONE: &Reports<'static> = &Reports::of(None);
        const JSON: &Reports<'static> = &Reports::of(Some(RunFormat::Json));
        let reports = match self.args.format {
            WatchFormat::Text => NONE,
            WatchFormat::Json => JSON,
        };
        Session::new(
            self.app,
            self.world.clone(),
            self.app.processors,
            true,
            reports,
        )
    }

    /// Brings a run to its end. One that somebody else holds is theirs.
    async fn go(&self, run: RunId) -> Result<Exit, Failure> {
        let starts = vec![Start::of(run)];
        let (exit, asked) = self.session()?.go_and_hear(starts).await?;
        self.asked_to_stop.fetch_or(asked, Ordering::Relaxed);
        Ok(exit)
    }
}

/// Why a look came to nothing.
enum Trouble {
    Look(LookError),
    Fatal(Failure),
}

impl From<LookError> for Trouble {
    fn from(error: LookError) -> Self {
        Self::Look(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Fatal(failure)
    }
}

/// A tenth more or less, so that many watches do not look at once.
fn jittered(every: Duration, random: u64) -> Duration {
    let fraction = (random >> 11) as f64 / (1u64 << 53) as f64;
    every.mul_f64(0.9 + 0.2 * fraction)
}
