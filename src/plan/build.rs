//! Makes a plan: one pipeline, one commit, what was asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::graph::{Graph, Vertex, Why};
use crate::base::{Commit, RunId, Secret, StageId};
use crate::decl::{Decls, KeptIn, VarSource};
use crate::event::{Chosen, Outcome, Trigger as Cause, Upstream};
use crate::lang::Reference;
use crate::lang::suggest::suggest;
use crate::pipeline::{ChainOutcome, Input, Pipeline, Project, StageEntry, Trigger};
use crate::ports::Readers;
use crate::ports::secrets::{SecretSource, Stored, Vault};
use crate::stage::Values;
use crate::stage::common::Concurrency;

/// What a plan is made for.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The commit.
    pub commit: Commit,
    /// Use the working tree instead of the commit.
    pub dirty: bool,
    /// What started it.
    pub cause: Cause,
    /// Inputs given by hand.
    pub inputs: BTreeMap<String, String>,
    /// Variables, if they were resolved before (a resumed run).
    pub vars: BTreeMap<String, String>,
    /// What was chosen for images by watching their registries.
    pub watched: BTreeMap<String, Chosen>,
    /// The run it is chained from.
    pub upstream: Option<Upstream>,
    /// Only these stages, and what they use.
    pub only: Vec<String>,
}

impl Origin {
    /// The revision to which each stage goes back, if that is what the run is for.
    pub fn back(&self) -> Option<&BTreeMap<StageId, String>> {
        match &self.cause {
            Cause::Rollback { to, .. } => Some(to),
            _ => None,
        }
    }
}

/// A checked, resolved graph of stages.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pipeline.
    pub pipeline: String,
    /// Its stages, in declaration order.
    pub stages: Vec<StageEntry>,
    /// Who waits for whom.
    pub graph: Arc<Graph>,
    /// Declarations it sees.
    pub decls: Arc<Decls>,
    /// The group the run belongs to.
    pub concurrency: Option<Concurrency>,
    /// What it is made for.
    pub origin: Origin,
    /// Stages that will not run, and why.
    pub left_out: BTreeMap<usize, String>,
    /// Inputs, defaults included.
    pub inputs: BTreeMap<String, String>,
    /// The inputs it takes.
    pub takes: BTreeMap<String, Input>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl PlanError {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Makes a plan of a project that was checked and has no errors.
pub fn build(project: &Project, pipeline: &str, origin: Origin) -> Result<Plan, PlanError> {
    let pipeline = project.pipelines.get(pipeline).ok_or_else(|| {
        let names = project.pipelines.keys().map(String::as_str);
        let help = match suggest(pipeline, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
        };
        PlanError::new(format!("there is no pipeline `{pipeline}`"), help)
    })?;
    // Who goes back makes nothing and so needs nothing of what the other stages make.
    let back = origin.back();
    let stages: Vec<StageEntry> = match back {
        Some(to) => {
            let goes = |entry: &&StageEntry| to.contains_key(&entry.id);
            pipeline.stages.iter().filter(goes).cloned().collect()
        }
        None => pipeline.stages.clone(),
    };
    let (graph, dangling) = Graph::build(&stages, &pipeline.decls);
    if let (Some(dangling), None) = (dangling.first(), back) {
        return Err(PlanError::new(
            format!("there is no stage `{}`", dangling.what),
            "run `pipewright check`",
        ));
    }
    if graph.cycle().is_some() {
        return Err(PlanError::new(
            "stages wait for each other in a circle",
            "run `pipewright check`",
        ));
    }
    let inputs = inputs(pipeline, &origin.inputs)?;
    let mut left_out = BTreeMap::new();
    if !origin.only.is_empty() {
        leave_out_others(&stages, &graph, &origin.only, &mut left_out)?;
    }
    if origin.dirty {
        for (at, stage) in stages.iter().enumerate() {
            if stage.kind.effect {
                left_out.insert(
                    at,
                    "the working tree is no commit (--dirty), and this would leave it".to_owned(),
                );
            }
        }
    }
    Ok(Plan {
        pipeline: pipeline.name.value.clone(),
        stages,
        graph: Arc::new(graph),
        decls: pipeline.decls.clone(),
        concurrency: pipeline.concurrency.clone(),
        origin,
        left_out,
        inputs,
        takes: pipeline.inputs.clone(),
    })
}

fn inputs(
    pipeline: &Pipeline,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, PlanError> {
    let mut inputs = BTreeMap::new();
    for (name, value) in given {
        let Some(input) = pipeline.inputs.get(name) else {
            let names = pipeline.inputs.keys().map(String::as_str);
            let help = match suggest(name, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if pipeline.inputs.is_empty() => "the pipeline takes no inputs".to_owned(),
                None => format!("it takes {}", names.collect::<Vec<_>>().join(", ")),
            };
            let message = format!("pipeline `{}` has no input `{name}`", pipeline.name.value);
            return Err(PlanError::new(message, help));
        };
        input.accepts(value).map_err(|why| {
            PlanError::new(format!("input `{name}`: {why}"), "give a value of its type")
        })?;
        inputs.insert(name.clone(), value.clone());
    }
    for (name, input) in &pipeline.inputs {
        if let Some(default) = &input.default {
            inputs
                .entry(name.clone())
                .or_insert_with(|| default.clone());
        }
    }
    Ok(inputs)
}

/// Keeps the stages asked for and, transitively, those whose data they use.
fn leave_out_others(
    stages: &[StageEntry],
    graph: &Graph,
    only: &[String],
    left_out: &mut BTreeMap<usize, String>,
) -> Result<(), PlanError> {
    let mut keep = BTreeSet::new();
    for name in only {
        let found: Vec<usize> = stages
            .iter()
            .enumerate()
            .filter(|(_, stage)| {
                stage.id.as_str() == name
                    || stage.kind.name() == name
                    || stage
                        .instance_of
                        .as_ref()
                        .is_some_and(|base| base.as_str() == name)
            })
            .map(|(at, _)| at)
            .collect();
        if found.is_empty() {
            let names = stages.iter().map(|stage| stage.id.as_str());
            let help = match suggest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "stages are named `kind.name`".to_owned(),
            };
            return Err(PlanError::new(format!("there is no stage `{name}`"), help));
        }
        keep.extend(found);
    }
    let mut open: Vec<usize> = keep.iter().copied().collect();
    let mut seen = BTreeSet::new();
    while let Some(at) = open.pop() {
        for (from, why) in graph.awaited(at) {
            if !matches!(why, Why::Data(_) | Why::Gate | Why::Part) || !seen.insert(from) {
                continue;
            }
            match graph.vertex(from) {
                Vertex::Stage(stage) => {
                    keep.insert(*stage);
                    open.push(*stage);
                }
                // Only what stands for the instances of a matrix is data.
                Vertex::All(_) if matches!(why, Why::Data(_)) => open.push(from),
                Vertex::All(_) => {}
            }
        }
    }
    for at in 0..stages.len() {
        if !keep.contains(&at) {
            left_out.insert(at, "not asked for (--only)".to_owned());
        }
    }
    Ok(())
}

impl Plan {
    /// Positions of the stages by name.
    pub fn index(&self) -> BTreeMap<StageId, usize> {
        self.stages
            .iter()
            .enumerate()
            .map(|(at, stage)| (stage.id.clone(), at))
            .collect()
    }

    /// Names of the secrets its stages read.
    pub fn secrets(&self) -> BTreeSet<String> {
        (0..self.stages.len())
            .filter(|at| !self.left_out.contains_key(at))
            .flat_map(|at| self.secrets_of(&self.stages[at]))
            .collect()
    }

    /// Names of the secrets that the registries of images need.
    pub fn secrets_of_images<'a>(&self, images: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let names = RefCell::new(BTreeSet::new());
        self.note_registries(
            &names,
            images.filter_map(|image| self.registry_of(image)).collect(),
            BTreeSet::new(),
        );
        names.into_inner()
    }

    /// Names of the secrets a stage reads, by itself or for the registries it uses.
    pub fn secrets_of(&self, stage: &StageEntry) -> BTreeSet<String> {
        let names = RefCell::new(BTreeSet::new());
        let mut registries = BTreeSet::new();
        let mut accounts = BTreeSet::new();
        note(&names, stage.body.templates());
        for read in stage.body.reads() {
            use crate::stage::Want;
            if let Want::Image(image) | Want::Built(image) | Want::Gate(image) = &read.what {
                registries.extend(self.registry_of(image));
            }
        }
        for template in stage.body.templates() {
            for reference in template.references() {
                if let Reference::Image(image, _) = &reference.value {
                    registries.extend(self.registry_of(image));
                }
            }
        }
        registries.extend(self.registry_of(stage.id.name()));
        accounts.extend(stage.body.accounts());
        note(&names, stage.body.keys(&self.decls));
        self.note_registries(&names, registries, accounts);
        names.into_inner()
    }

    /// Notes the secrets that open registries and accounts, and the accounts secrets are kept in.
    fn note_registries(
        &self,
        names: &RefCell<BTreeSet<String>>,
        registries: BTreeSet<String>,
        mut accounts: BTreeSet<String>,
    ) {
        let note = |templates: Vec<&crate::lang::Template>| note(names, templates);
        for name in registries {
            if let Some(registry) = self.decls.registries.get(&name) {
                note(registry.value.templates());
                accounts.extend(registry.value.aws.as_ref().map(|aws| aws.value.clone()));
            }
        }
        // Secrets that are kept in accounts need what opens those.
        for name in names.borrow().iter() {
            let secret = self.decls.secrets.get(name);
            accounts
                .extend(secret.and_then(|secret| Some(secret.value.aws.as_ref()?.value.clone())));
        }
        for name in accounts {
            if let Some(account) = self.decls.aws.get(&name) {
                note(account.value.templates());
            }
        }
    }

    fn registry_of(&self, image: &str) -> Option<String> {
        let image = self.decls.images.get(image)?;
        Some(image.value.registry.as_ref()?.value.clone())
    }

    /// Reads the variables the pipeline declares. Those that are not there have no value, which
    /// is an error only where one is read.
    pub async fn vars(&self, readers: &Readers) -> BTreeMap<String, String> {
        let mut vars = BTreeMap::new();
        for (name, decl) in &self.decls.vars {
            if let Some(value) = self.origin.vars.get(name) {
                vars.insert(name.clone(), value.clone());
                continue;
            }
            let value = match source(&decl.value.from) {
                Found::Written(text) => Some(text),
                Found::Here(source) => readers
                    .secrets
                    .read(&source)
                    .await
                    .ok()
                    .map(|value| value.expose().to_owned()),
                Found::Kept(_) => None,
            };
            if let Some(value) = value.or_else(|| decl.value.default.clone()) {
                vars.insert(name.clone(), value);
            }
        }
        vars
    }

    /// Fetches the secrets the stages read.
    pub async fn fetch(&self, readers: &Readers) -> Result<BTreeMap<String, Secret>, PlanError> {
        let (secrets, missing) = self.fetch_some(readers, false).await;
        all_there(secrets, missing)
    }

    /// Fetches the secrets that the registries of images need.
    pub async fn fetch_for_images<'a>(
        &self,
        readers: &Readers,
        images: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Secret>, PlanError> {
        let names = self.secrets_of_images(images);
        let (secrets, missing) = self.fetch_named(readers, names, false).await;
        all_there(secrets, missing)
    }

    /// Fetches those of the secrets that can be had, and says of the others why they cannot.
    /// Offline, only those of this host can.
    pub(super) async fn fetch_some(
        &self,
        readers: &Readers,
        offline: bool,
    ) -> (BTreeMap<String, Secret>, BTreeMap<String, String>) {
        self.fetch_named(readers, self.secrets(), offline).await
    }

    async fn fetch_named(
        &self,
        readers: &Readers,
        names: BTreeSet<String>,
        offline: bool,
    ) -> (BTreeMap<String, Secret>, BTreeMap<String, String>) {
        let mut secrets = BTreeMap::new();
        let mut missing = BTreeMap::new();
        let mut kept = Vec::new();
        for name in names {
            let Some(decl) = self.decls.secrets.get(&name) else {
                continue;
            };
            match source(&decl.value.from) {
                Found::Here(source) => match readers.secrets.read(&source).await {
                    Ok(secret) => drop(secrets.insert(name, secret)),
                    Err(error) => drop(missing.insert(name, error.to_string())),
                },
                Found::Kept(_) if offline => {
                    let why = "the account it is kept in is not asked offline";
                    missing.insert(name, why.to_owned());
                }
                Found::Kept(place) => kept.push((name, place, decl.value.aws.clone())),
                Found::Written(_) => {}
            }
        }
        if kept.is_empty() {
            return (secrets, missing);
        }
        // What opens the accounts is there by now.
        let vars = self.vars(readers).await;
        let values = self.values(RunId::new(0, 0), readers, vars, secrets.clone(), false);
        for (name, place, aws) in kept {
            let aws = aws.map(|aws| aws.value).unwrap_or_default();
            let secret = match values.account(&aws).await {
                Ok(account) => {
                    let account = Arc::new(account);
                    let source = SecretSource::Stored { account, place };
                    let secret = readers.secrets.read(&source).await;
                    secret.map_err(|error| error.to_string())
                }
                Err(unknown) => Err(format!("aws `{aws}`: {unknown}")),
            };
            match secret {
                Ok(secret) => drop(secrets.insert(name, secret)),
                Err(why) => drop(missing.insert(name, why)),
            }
        }
        (secrets, missing)
    }

    /// The values its references stand for.
    pub fn values(
        &self,
        run: RunId,
        readers: &Readers,
        vars: BTreeMap<String, String>,
        secrets: BTreeMap<String, Secret>,
        offline: bool,
    ) -> Values {
        Values {
            commit: self.origin.commit.clone(),
            run,
            pipeline: self.pipeline.clone(),
            vars,
            inputs: self.inputs.clone(),
            secrets,
            decls: self.decls.clone(),
            watched: self.origin.watched.clone(),
            upstream: self.origin.upstream.clone(),
            pull_request: match self.origin.cause {
                Cause::PullRequest { number, .. } => Some(number),
                _ => None,
            },
            dirty: self.origin.dirty,
            stages: Arc::new(self.index()),
            back: self.origin.back().cloned().unwrap_or_default(),
            registry: readers.registry.clone(),
            cloud: readers.cloud.clone(),
            forge: readers.forge.clone(),
            workspace: readers.workspace.clone(),
            offline,
            ended: Default::default(),
            outcome: Default::default(),
        }
    }

    /// The directory stages read the commit's files from.
    pub async fn tree(&self, readers: &Readers) -> Result<PathBuf, PlanError> {
        if self.origin.dirty {
            return Ok(readers.workspace.root().to_owned());
        }
        readers
            .workspace
            .tree(&self.origin.commit.sha)
            .await
            .map_err(|error| {
                PlanError::new(
                    error.to_string(),
                    "fetch the commit, or name another with --ref",
                )
            })
    }
}

fn all_there(
    secrets: BTreeMap<String, Secret>,
    missing: BTreeMap<String, String>,
) -> Result<BTreeMap<String, Secret>, PlanError> {
    match missing.into_iter().next() {
        Some((name, why)) => Err(PlanError::new(
            format!("secret `{name}`: {why}"),
            "set it where its declaration says it comes from",
        )),
        None => Ok(secrets),
    }
}

/// Notes the secrets that templates mention.
fn note(names: &RefCell<BTreeSet<String>>, templates: Vec<&crate::lang::Template>) {
    for template in templates {
        for reference in template.references() {
            if let Reference::Secret(name) = &reference.value {
                names.borrow_mut().insert(name.clone());
            }
        }
    }
}

/// Where a value is.
enum Found {
    /// On this host.
    Here(SecretSource),
    /// In an account.
    Kept(Stored),
    /// In the pipeline itself.
    Written(String),
}

fn source(from: &VarSource) -> Found {
    match from {
        VarSource::Env(name) => Found::Here(SecretSource::Env(name.clone())),
        VarSource::File(path) => Found::Here(SecretSource::File(PathBuf::from(path))),
        VarSource::Value(text) => Found::Written(text.clone()),
        VarSource::Kept(kept) => Found::Kept(Stored {
            store: match kept.store {
                KeptIn::SecretsManager => Vault::SecretsManager,
                KeptIn::Ssm => Vault::ParameterStore,
            },
            name: kept.name.clone(),
            key: kept.key.clone(),
            version: kept.version.clone(),
            version_id: kept.version_id.clone(),
        }),
    }
}

/// Pipelines that a run of `pipeline` with `outcome` starts, in order of their names.
pub fn chained_by<'a>(project: &'a Project, pipeline: &str, outcome: Outcome) -> Vec<&'a Pipeline> {
    let matches = |wanted: ChainOutcome| match wanted {
        ChainOutcome::Any => true,
        ChainOutcome::Succeeded => outcome.is_success(),
        ChainOutcome::Failed => matches!(
            outcome,
            Outcome::Failed | Outcome::Errored | Outcome::TimedOut
        ),
    };
    project
        .pipelines
        .values()
        .filter(|candidate| {
            candidate.upstreams().any(|trigger| match &trigger.value {
                Trigger::Pipeline { name, outcome } => name.value == pipeline && matches(*outcome),
                _ => false,
            })
        })
        .collect()
}
