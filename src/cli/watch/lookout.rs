//! What `watch`, `images` and `plan --event watch` have in common: finding out where the watched
//! images are, and what was started for them before.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{Commit, Digest, RunId, Timestamp};
use crate::cli::app::Failure;
use crate::cli::undo::takes_back;
use crate::event::{Chosen, Event, Trigger};
use crate::pipeline::{Pipeline, Project, Watch};
use crate::plan::watch::{
    Cache, LookError, Memory, Place, Sight, Stop, Way, WentBack, look, places,
};
use crate::plan::{Origin, build};
use crate::ports::Readers;
use crate::ports::store::StoreReader;
use crate::ports::workspace::{WorkspaceError, WorkspaceReader};

/// Newest runs among which rollbacks are looked for.
const RUNS: usize = 1_000;
/// Names of branches that are the default one where no remote says which is.
const DEFAULT: [&str; 4] = ["main", "master", "trunk", "develop"];

/// A pipeline of a project, at a commit, ready to look.
pub(in crate::cli) struct Lookout<'a> {
    pub(in crate::cli) pipeline: &'a Pipeline,
    pub(in crate::cli) watch: &'a Watch,
    pub(in crate::cli) places: Vec<Place>,
    pub(in crate::cli) memory: Memory,
}

impl<'a> Lookout<'a> {
    /// Finds out where the images are. Fetches the secrets of their registries anew, so that a login
    /// that was replaced is used at the next look.
    pub(in crate::cli) async fn new(
        project: &Project,
        pipeline: &'a Pipeline,
        watch: &'a Watch,
        readers: &Readers,
        commit: Commit,
    ) -> Result<Self, Failure> {
        let origin = origin(commit, BTreeMap::new());
        let plan = build(project, &pipeline.name.value, origin)?;
        let secrets = plan.fetch_for_images(readers, watch.names()).await?;
        let vars = plan.vars(readers).await;
        let values = plan.values(RunId::new(0, 0), readers, vars, secrets, false);
        let places = places(watch, &values).await;
        let places = places.map_err(|error| Failure::internal(error.to_string()))?;
        let memory = recall(&*readers.store, &pipeline.name.value, watch)?;
        Ok(Self {
            pipeline,
            watch,
            places,
            memory,
        })
    }

    /// Looks once.
    pub(in crate::cli) async fn look(
        &self,
        readers: &Readers,
        cache: &Cache,
        lists: bool,
    ) -> Result<Sight, LookError> {
        let past = self.memory.past();
        let registry = &*readers.registry;
        look(self.watch, &self.places, registry, cache, &past, lists).await
    }
}

/// What is remembered, with the rollbacks since.
pub(in crate::cli) fn recall(
    store: &dyn StoreReader,
    pipeline: &str,
    watch: &Watch,
) -> Result<Memory, Failure> {
    let mut memory = Memory::read(store, pipeline, watch)?;
    if !memory.sets.is_empty() {
        memory.learn(rollbacks(store, memory.until)?);
    }
    Ok(memory)
}

/// Runs that went back, as the journal tells.
fn rollbacks(store: &dyn StoreReader, after: Timestamp) -> Result<Vec<WentBack>, Failure> {
    let mut found = Vec::new();
    for row in store.runs(None, RUNS)? {
        if row.created <= after {
            break;
        }
        let Some(first) = store.events(&row.run, 0, 1)?.into_iter().next() else {
            continue;
        };
        let Ok(Event::RunCreated(created)) = serde_json::from_str(&first.json) else {
            continue;
        };
        if let Trigger::Rollback { of, to } = created.trigger {
            let root = store.run(&of)?.map_or(of, |row| row.root);
            // What was written is taken back from its own run; a deployment goes back to another's.
            let (wrote, deployed): (Vec<_>, Vec<_>) = to.values().partition(|to| takes_back(to));
            let from = (!wrote.is_empty()).then(|| Way::From(root.clone()));
            let to = (!deployed.is_empty()).then_some(Way::To(root));
            found.extend([to, from].into_iter().flatten().map(|way| WentBack {
                run: row.run.clone(),
                at: row.created,
                way,
            }));
        }
    }
    Ok(found)
}

/// What a run is made for that a watch starts.
pub(in crate::cli) fn origin(commit: Commit, watched: BTreeMap<String, Chosen>) -> Origin {
    Origin {
        commit,
        dirty: false,
        cause: Trigger::Watch,
        inputs: BTreeMap::new(),
        vars: BTreeMap::new(),
        watched,
        upstream: None,
        only: Vec::new(),
    }
}

/// What all watches of a pipeline would choose now.
pub(in crate::cli) async fn choose_now(
    project: &Project,
    pipeline: &str,
    readers: &Readers,
    commit: &Commit,
) -> Result<BTreeMap<String, Chosen>, Failure> {
    let mut chosen = BTreeMap::new();
    let Some(pipeline) = project.pipelines.get(pipeline) else {
        return Ok(chosen);
    };
    let cache = Cache::new(readers.store.clone());
    for watch in pipeline.watches() {
        let lookout = Lookout::new(project, pipeline, watch, readers, commit.clone()).await?;
        let sight = lookout.look(readers, &cache, false).await;
        let sight = sight.map_err(|error| Failure::internal(error.to_string()))?;
        match sight.set() {
            Ok(set) => chosen.extend(set),
            // What is delivered stays so.
            Err(Stop::Nothing(_)) if !lookout.memory.current.is_empty() => {
                chosen.extend(lookout.memory.current.clone());
            }
            Err(stop) => {
                return Err(Failure::usage(
                    format!("{}: {}", watch.describe(), stop.reason()),
                    "`pipewright images NAME` tells of each tag why it is not chosen",
                ));
            }
        }
    }
    Ok(chosen)
}

/// What the watches of a pipeline could choose, for a simulated run: no registry is asked.
pub(in crate::cli) fn pretend(project: &Project, pipeline: &str) -> BTreeMap<String, Chosen> {
    let pipeline = project.pipelines.get(pipeline);
    let watches = pipeline.into_iter().flat_map(Pipeline::watches);
    let chosen = watches.flat_map(|watch| {
        let tag = watch.example();
        watch.names().map(move |image| {
            let chosen = Chosen {
                tag: tag.clone(),
                digest: Digest::of(format!("{image}:{tag}").as_bytes()).to_string(),
                created: None,
            };
            (image.to_owned(), chosen)
        })
    });
    chosen.collect()
}

/// The tip of the default branch: what the remote calls so, as far as it was fetched; else `main` or
/// the like; else what is checked out.
pub(in crate::cli) async fn tip(
    workspace: &dyn WorkspaceReader,
    asked: Option<&str>,
) -> Result<Commit, WorkspaceError> {
    if asked.is_some() {
        return workspace.commit(asked).await;
    }
    let named = |mut commit: Commit, name: &str| {
        commit.branch = Some(name.to_owned());
        commit.reference = format!("refs/heads/{name}");
        commit
    };
    let checked_out = workspace.commit(None).await;
    let here = checked_out.as_ref().ok().and_then(|it| it.branch.clone());
    let names = || DEFAULT.into_iter().chain(here.as_deref());
    let head = workspace
        .commit(Some("refs/remotes/origin/HEAD"))
        .await
        .ok();
    for name in names() {
        let remote = format!("refs/remotes/origin/{name}");
        if let Ok(commit) = workspace.commit(Some(&remote)).await
            && head.as_ref().is_none_or(|head| head.sha == commit.sha)
        {
            return Ok(named(commit, name));
        }
    }
    if let Some(head) = head {
        return Ok(head);
    }
    for name in DEFAULT {
        let local = format!("refs/heads/{name}");
        if let Ok(commit) = workspace.commit(Some(&local)).await {
            return Ok(commit);
        }
    }
    checked_out
}

/// A cache on the store of a world.
pub(in crate::cli) fn cache(readers: &Readers) -> Arc<Cache> {
    Arc::new(Cache::new(readers.store.clone()))
}
