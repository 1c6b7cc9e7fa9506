//! `plan` and `graph`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::app::{App, Exit, Failure};
use super::args::{EventArg, For, Graph, GraphFormat, Plan, PlanFormat};
use super::project;
use super::watch::lookout::{choose_now, tip};
use crate::base::Commit;
use crate::event::{Chosen, Outcome, RunState, Trigger, Upstream};
use crate::journal::replay;
use crate::pipeline::Project;
use crate::plan::{self, Origin, build, chained_by, forecast};
use crate::ports::store::StoreReader;
use crate::ports::workspace::WorkspaceReader;
use crate::report::{Tone, text};

/// `plan`.
pub(super) async fn run(app: &App<'_>, args: &Plan) -> Result<Exit, Failure> {
    let project = project::sound(app)?;
    let world = app.worlds.real(&app.root(), &app.state_dir())?;
    let readers = &world.readers;
    let mut origin = origin(
        app,
        &*readers.workspace,
        &*readers.store,
        &args.what,
        false,
        Vec::new(),
    )
    .await?;
    if origin.cause == Trigger::Watch {
        if args.what.reference.is_none() {
            origin.commit = tip(&*readers.workspace, None).await?;
        }
        if !args.offline {
            let commit = &origin.commit;
            origin.watched = choose_now(&project, &args.pipeline, readers, commit).await?;
        }
    }
    let plan = build(&project, &args.pipeline, origin)?;
    let chained = names(&project, &args.pipeline);
    let chained: Vec<&str> = chained.iter().map(String::as_str).collect();
    let text = match args.format {
        PlanFormat::Dot => plan::dot(&plan),
        PlanFormat::Mermaid => plan::mermaid(&plan),
        PlanFormat::Text => {
            let forecasts = forecast(&plan, readers, args.offline).await?;
            painted(app, &plan::text(&plan, &forecasts, &chained))
        }
        PlanFormat::Json => {
            let forecasts = forecast(&plan, readers, args.offline).await?;
            format!("{:#}\n", plan::json(&plan, Some(&forecasts), &chained))
        }
    };
    app.print(&text)
}

/// A plan's text made safe to show, in colours: each line's first sign says what it is.
pub(super) fn painted(app: &App<'_>, text: &str) -> String {
    let style = app.screen.style;
    let mut page = String::new();
    for line in text.lines() {
        let line = text::clean(line);
        let inner = line.trim_start();
        let depth = line.len() - inner.len();
        let tone = match (depth, inner.as_bytes().first()) {
            (0, Some(b'+')) => Tone::Good,
            (0, Some(b'=')) => Tone::Same,
            (0, Some(b'!')) => Tone::Bad,
            (0, Some(b'?')) => Tone::Held,
            (0, Some(b'-')) => Tone::Dim,
            // The lines of a diff.
            (6.., Some(b'+')) => Tone::Good,
            (6.., Some(b'-')) => Tone::Bad,
            (6.., Some(b'@')) => Tone::Same,
            _ if inner.starts_with("after ") => Tone::Dim,
            (0, _) => Tone::Strong,
            _ => Tone::Plain,
        };
        page.push_str(&style.paint(tone, &line));
        page.push('\n');
    }
    page
}

/// Pipelines that follow one, directly or over others, in the order they would run.
fn names(project: &Project, pipeline: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut open = vec![pipeline.to_owned()];
    while let Some(at) = open.pop() {
        for next in chained_by(project, &at, Outcome::Succeeded) {
            let name = next.name.value.clone();
            if !all.contains(&name) {
                all.push(name.clone());
                open.push(name);
            }
        }
    }
    all
}

/// `graph`: needs neither a repository nor a commit.
pub(super) fn graph(app: &App<'_>, args: &Graph) -> Result<Exit, Failure> {
    let project = project::sound(app)?;
    let origin = Origin {
        commit: Commit::default(),
        dirty: false,
        cause: Trigger::Manual,
        inputs: BTreeMap::new(),
        vars: BTreeMap::new(),
        watched: BTreeMap::new(),
        upstream: None,
        only: Vec::new(),
    };
    let plan = build(&project, &args.pipeline, origin)?;
    app.print(&match args.format {
        GraphFormat::Dot => plan::dot(&plan),
        GraphFormat::Mermaid => plan::mermaid(&plan),
        GraphFormat::Text => plan::outline(&plan),
    })
}

/// What a plan is made for, from the arguments.
pub(super) async fn origin(
    app: &App<'_>,
    workspace: &dyn WorkspaceReader,
    store: &dyn StoreReader,
    what: &For,
    dirty: bool,
    only: Vec<String>,
) -> Result<Origin, Failure> {
    let event = match &what.event {
        Some(EventArg::File(path)) => Some(read_event(app, path)?),
        _ => None,
    };
    let reference = what
        .reference
        .clone()
        .or_else(|| event.as_ref().and_then(|event| event.reference.clone()));
    let commit = workspace.commit(reference.as_deref()).await?;
    let (upstream, watched) = match &what.upstream {
        Some(run) => {
            let (upstream, watched) = upstream(store, app.find(store, run)?)?;
            (Some(upstream), watched)
        }
        None => (None, BTreeMap::new()),
    };
    let cause = match (&what.event, event) {
        (_, Some(event)) => event.cause(),
        (Some(EventArg::Push | EventArg::Tag), _) => Trigger::Push { before: None },
        (Some(EventArg::PullRequest), _) => Trigger::PullRequest {
            base: "main".to_owned(),
            number: 0,
        },
        (Some(EventArg::Schedule), _) => Trigger::Schedule,
        (Some(EventArg::Watch), _) => Trigger::Watch,
        (Some(EventArg::Pipeline), _) => Trigger::Pipeline,
        _ if upstream.is_some() => Trigger::Pipeline,
        _ => Trigger::Manual,
    };
    if matches!(what.event, Some(EventArg::Tag)) && commit.tag.is_none() {
        return Err(Failure::usage(
            "a push of a tag needs to know which",
            "name it with `--ref TAG`",
        ));
    }
    Ok(Origin {
        commit,
        dirty,
        cause,
        inputs: what
            .inputs
            .iter()
            .map(|input| (input.name.clone(), input.value.clone()))
            .collect(),
        vars: BTreeMap::new(),
        watched,
        upstream,
        only,
    })
}

/// A finished run as the upstream of another, and what was chosen for it.
fn upstream(
    store: &dyn StoreReader,
    run: crate::base::RunId,
) -> Result<(Upstream, BTreeMap<String, Chosen>), Failure> {
    let state = RunState::of(&replay(store, &run)?);
    let (Some(created), Some(outcome)) = (&state.created, state.outcome) else {
        return Err(Failure::usage(
            format!("run {run} has not ended"),
            "name one that has; `pipewright runs` lists them",
        ));
    };
    let outputs = state.stages().iter().flat_map(|stage| {
        stage
            .outputs
            .iter()
            .map(|(name, value)| (format!("{}.{name}", stage.id), value.clone()))
    });
    let upstream = Upstream {
        run,
        attempt: state.attempt,
        pipeline: created.pipeline.clone(),
        outcome,
        outputs: outputs.collect(),
    };
    Ok((upstream, created.watched.clone()))
}

/// The parts of a forge's push or pull request event that matter here.
#[derive(Debug, Deserialize)]
struct RecordedEvent {
    #[serde(rename = "ref")]
    reference: Option<String>,
    before: Option<String>,
    number: Option<u64>,
    pull_request: Option<PullRequest>,
}

#[derive(Debug, Deserialize)]
struct PullRequest {
    base: Base,
}

#[derive(Debug, Deserialize)]
struct Base {
    #[serde(rename = "ref")]
    reference: String,
}

impl RecordedEvent {
    fn cause(self) -> Trigger {
        match self.pull_request {
            Some(pull) => Trigger::PullRequest {
                base: pull.base.reference,
                number: self.number.unwrap_or(0),
            },
            // An all-zero object name means that there was nothing before.
            None => Trigger::Push {
                before: self
                    .before
                    .filter(|sha| sha.bytes().any(|byte| byte != b'0')),
            },
        }
    }
}

fn read_event(app: &App<'_>, path: &std::path::Path) -> Result<RecordedEvent, Failure> {
    let path = app.here.join(path);
    let text = app.files.read(&path, 8 << 20)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(
            format!("{}: not an event: {error}", path.display()),
            "give the JSON body of a push or pull request webhook",
        )
    })
}
