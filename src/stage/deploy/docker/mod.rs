//! `deploy docker`: replaces a container on an engine.
//!
//! The new version is first started beside the old one, without its published ports, and must
//! get healthy; only then the old one is stopped and the new one takes its name and ports. If it
//! does not get healthy there either, the old one is started again.
//!
//! Every step is found again by name after a crash: `NAME` runs, `NAME.candidate` is on trial,
//! `NAME.next` waits for its turn, `NAME.previous` is kept until the new one is healthy.

mod before;
mod replace;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::{Diagnostic, Spanned};
use crate::decl;
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::ports::engine::{ContainerState, Health};
use crate::ports::engines::EngineSite;
use crate::stage::common::duration;
use crate::stage::found::resolved;
use crate::stage::{
    CheckContext, Done, Failure, Forecast, Lowering, PlanContext, Read, Stage, StageContext,
    Verdict, Want,
};

use replace::Place;
use wanted::Wanted;

const ENV: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("name", Type::Literal),
        ArgSpec::new("value", Type::SecretText),
    ]),
    many: true,
    ..NodeSpec::new("env", "Environment variable.")
};
const MOUNT: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("source", Type::Text),
        ArgSpec::new("target", Type::Literal),
    ]),
    many: true,
    ..NodeSpec::new(
        "mount",
        "Volume or absolute directory of the host, and where it goes.",
    )
};
const COMMAND: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "argument"),
    ..NodeSpec::new("command", "Replaces the image's command.")
};
const READY: NodeSpec = NodeSpec::field(
    "ready",
    Type::Script,
    "Command, run in the container, that succeeds once it is healthy; the image's health check if absent.",
);
const HEALTHY_WITHIN: NodeSpec = NodeSpec::field(
    "healthy-within",
    Type::Duration,
    "Longest wait until it is healthy; \"1m\" if absent.",
);
const TIMEOUT: NodeSpec = NodeSpec::field(
    "timeout",
    Type::Duration,
    "Longest time it may take; \"10m\" if absent.",
);
const CONTAINER: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    props: &[
        PropSpec::required("image", Type::Decl("image"), "image to run"),
        PropSpec::new(
            "publish",
            Type::Text,
            "ports: `[[ADDRESS:]HOST:]CONTAINER`, several separated by commas",
        ),
        PropSpec::new("network", Type::Text, "network of the engine to join"),
        PropSpec::new("user", Type::Text, "user to run as"),
    ],
    children: &[&ENV, &MOUNT, &COMMAND, &READY, &HEALTHY_WITHIN],
    required: true,
    ..NodeSpec::new("container", "The container: its name and its image.")
};
const BEFORE: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    props: &[PropSpec::new(
        "image",
        Type::Decl("image"),
        "image to run; the container's if absent",
    )],
    children: &[&COMMAND, &ENV, &TIMEOUT],
    many: true,
    ..NodeSpec::new(
        "before",
        "One-off container that must succeed before traffic moves, such as a migration.",
    )
};

pub(in crate::stage::deploy) const SPEC: NodeSpec = NodeSpec {
    props: &[PropSpec::new(
        "engine",
        Type::Decl("engine"),
        "engine; `local` if absent",
    )],
    children: &[&CONTAINER, &BEFORE],
    ..NodeSpec::new("docker", "A container on an engine.")
};

/// Label that ties a container to the deployment that made it.
const DEPLOY_LABEL: &str = "dev.pipewright.deploy";
/// Label that holds the digest of everything the container was made from.
const CONFIG_LABEL: &str = "dev.pipewright.config";
/// Label that holds the image, by digest.
const IMAGE_LABEL: &str = "dev.pipewright.image";

#[derive(Debug)]
struct Docker {
    /// The name of its engine, where one is written.
    engine: Option<Spanned<String>>,
    site: EngineSite,
    name: String,
    image: Spanned<String>,
    publish: Option<Template>,
    network: Option<Template>,
    user: Option<Template>,
    env: Vec<(String, Template)>,
    mounts: Vec<(Template, String)>,
    command: Vec<Template>,
    ready: Option<String>,
    healthy_within: Duration,
    before: Vec<Before>,
}

#[derive(Debug)]
struct Before {
    name: String,
    image: Spanned<String>,
    command: Vec<Template>,
    env: Vec<(String, Template)>,
    timeout: Duration,
}

pub(in crate::stage::deploy) fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let empty = || Spanned::new(String::new(), cx.node.head());
    let docker = cx.node.child("docker");
    let container = docker.and_then(|node| node.child("container"));
    let command = |node: &crate::lang::Node| -> Vec<Template> {
        node.child("command")
            .map(|command| {
                command
                    .args
                    .iter()
                    .map(|value| cx.template(value))
                    .collect()
            })
            .unwrap_or_default()
    };
    let prop = |name: &str| container.and_then(|node| node.prop(name));
    let image = prop("image")
        .and_then(|value| cx.name(value))
        .unwrap_or_else(empty);
    let before = docker
        .into_iter()
        .flat_map(|node| node.children_named("before"))
        .filter_map(|node| {
            Some(Before {
                name: node.args.first()?.as_str()?.to_owned(),
                image: node
                    .prop("image")
                    .and_then(|value| cx.name(value))
                    .unwrap_or_else(|| image.clone()),
                command: command(node),
                env: cx.pairs(node, "env"),
                timeout: duration(node, "timeout").unwrap_or(Duration::from_secs(600)),
            })
        })
        .collect();
    let engine = docker
        .and_then(|node| node.prop("engine"))
        .and_then(|value| cx.name(value));
    let site = engine
        .as_ref()
        .and_then(|name| cx.decls.engines.get(&name.value))
        .and_then(|engine| {
            Some(EngineSite::Declared {
                name: engine.name.value.clone(),
                address: engine.value.address.clone()?,
            })
        })
        .unwrap_or(EngineSite::Local);
    Arc::new(Docker {
        engine,
        site,
        name: container
            .and_then(|node| cx.name(node.args.first()?))
            .map(|name| name.value)
            .unwrap_or_default(),
        publish: prop("publish").map(|value| cx.template(value)),
        network: prop("network").map(|value| cx.template(value)),
        user: prop("user").map(|value| cx.template(value)),
        env: container
            .map(|node| cx.pairs(node, "env"))
            .unwrap_or_default(),
        mounts: container
            .into_iter()
            .flat_map(|node| node.children_named("mount"))
            .filter_map(|mount| match mount.args.as_slice() {
                [source, target] => Some((cx.template(source), target.as_str()?.to_owned())),
                _ => None,
            })
            .collect(),
        command: container.map(command).unwrap_or_default(),
        ready: container
            .and_then(|node| node.child_arg("ready"))
            .and_then(|value| value.as_str())
            .map(str::to_owned),
        healthy_within: container
            .and_then(|node| duration(node, "healthy-within"))
            .unwrap_or(Duration::from_secs(60)),
        before,
        image,
    })
}

/// Whether a container is what we want it to be.
fn runs(state: &ContainerState, wanted: &Wanted) -> bool {
    state.running
        && state.labels.get(CONFIG_LABEL) == Some(&wanted.config)
        && matches!(state.health, Health::Healthy | Health::NoCheck)
}

fn owned(state: &ContainerState) -> bool {
    state.labels.contains_key(DEPLOY_LABEL)
}

#[async_trait]
impl Stage for Docker {
    fn reads(&self) -> Vec<Read> {
        std::iter::once(&self.image)
            .chain(self.before.iter().map(|before| &before.image))
            .map(|image| Read {
                what: Want::Image(image.value.clone()),
                span: image.span,
                optional: false,
            })
            .collect()
    }

    fn templates(&self) -> Vec<&Template> {
        let single = [&self.publish, &self.network, &self.user];
        let before = self.before.iter().flat_map(|before| {
            before
                .command
                .iter()
                .chain(before.env.iter().map(|(_, value)| value))
        });
        single
            .into_iter()
            .flatten()
            .chain(&self.command)
            .chain(self.env.iter().map(|(_, value)| value))
            .chain(self.mounts.iter().map(|(source, _)| source))
            .chain(before)
            .collect()
    }

    fn variant(&self) -> Option<&'static str> {
        Some("docker")
    }

    fn engine(&self) -> Option<EngineSite> {
        Some(self.site.clone())
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        for image in
            std::iter::once(&self.image).chain(self.before.iter().map(|before| &before.image))
        {
            if !image.value.is_empty() {
                decl::require(&cx.decls.images, "image", image, cx.source, diagnostics);
            }
        }
        if let Some(engine) = &self.engine
            && engine.value != "local"
        {
            decl::require(&cx.decls.engines, "engine", engine, cx.source, diagnostics);
        }
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let on = match &self.site {
            EngineSite::Local => String::new(),
            EngineSite::Declared { name, .. } => format!(" on engine {name}"),
        };
        let effect = format!("replace container {}{on}", self.name);
        let wanted = match self.wanted(cx.values, cx.stage.as_str()).await {
            Ok(wanted) => wanted,
            Err(missing) => return Forecast::missing(&missing).effect(effect),
        };
        let found = match cx.readers.engine_at(&self.site) {
            Ok(engine) => engine.container(&self.name).await,
            Err(error) => return Forecast::new(Verdict::Fail, Failure::from(error).message),
        };
        match found {
            Err(error) => {
                Forecast::new(Verdict::Unknown, Failure::from(error).message).effect(effect)
            }
            Ok(Some(state)) if runs(&state, &wanted) => {
                let done = Done::up_to_date(format!("{} runs {}", self.name, wanted.pinned));
                Forecast::from_done(self.done(&state, &wanted.pinned, done))
            }
            Ok(Some(state)) if !owned(&state) => Forecast::new(Verdict::Fail, foreign(&self.name)),
            Ok(Some(state)) => {
                let old = state
                    .labels
                    .get(IMAGE_LABEL)
                    .map_or(state.image.as_str(), String::as_str);
                Forecast::new(Verdict::Run, format!("{} runs {old}", self.name)).effect(format!(
                    "replace container {}{on} by {}",
                    self.name, wanted.pinned
                ))
            }
            Ok(None) => Forecast::new(
                Verdict::Run,
                format!("there is no container {} yet", self.name),
            )
            .effect(format!(
                "start container {}{on} from {}",
                self.name, wanted.pinned
            )),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let wanted = self.wanted(cx.values, cx.stage.as_str()).await?;
        let engine = cx.world.engine_at(&self.site)?;
        let engine = &*engine;
        let place = Place::of(&self.name);
        self.tidy(engine, &place, &wanted).await?;
        let current = engine.container(&place.name).await?;
        if let Some(state) = &current {
            if runs(state, &wanted) {
                engine.remove(&place.previous).await?;
                let ours = cx.intended(&place.name).is_some();
                let note = format!("{} runs {}", self.name, wanted.pinned);
                let done = if ours {
                    Done::succeeded(note)
                } else {
                    Done::up_to_date(note)
                };
                return Ok(self.done(state, &wanted.pinned, done));
            }
            if !owned(state) {
                return Err(Failure::failed(foreign(&self.name)));
            }
        }
        let facts = cx.values.image(&self.image.value).await?;
        let target = resolved(&*cx.world.readers.registry, facts.target.clone()).await?;
        engine
            .pull(&wanted.pinned, Some(&target), cx.output, &cx.cancel)
            .await?;
        for before in &self.before {
            self.before(cx, engine, before).await?;
        }
        self.trial(cx, engine, &place, &wanted).await?;
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled(
                "cancelled: the old version keeps running",
            ));
        }
        let detail = BTreeMap::from([
            ("config".to_owned(), wanted.config.clone()),
            ("image".to_owned(), wanted.pinned.clone()),
        ]);
        cx.effects.intend(&place.name, detail.clone()).await?;
        let state = self
            .switch(cx, engine, &place, &wanted, current.is_some())
            .await?;
        cx.effects.done(&place.name, detail).await?;
        let note = format!("{} runs {}", self.name, wanted.pinned);
        Ok(self.done(&state, &wanted.pinned, Done::succeeded(note)))
    }
}

fn foreign(name: &str) -> String {
    format!(
        "container {name} exists and was not made by a deployment; remove it or choose another name"
    )
}
