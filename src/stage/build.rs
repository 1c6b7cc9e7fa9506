//! `build`: builds an image with BuildKit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::context::INPUTS_LABEL;
use super::found::{Found, in_registry, resolved, short};
use super::uses::{USES, Uses};
use super::{
    CheckContext, Done, Failure, Forecast, ImageFacts, Kind, Lowering, Missing, PlanContext, Read,
    Stage, StageContext, Values, Verdict,
};
use crate::base::{Diagnostic, Digest, Spanned, human_bytes};
use crate::decl;
use crate::formats::dockerfile;
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::ports::Readers;
use crate::ports::engine::{BuildRequest, ContextFacts, EngineError, EngineReader};
use crate::stage_children;

const CONTEXT: NodeSpec = NodeSpec::field(
    "context",
    Type::Path,
    "Directory that is sent to the build; the root if absent.",
);
const DOCKERFILE: NodeSpec = NodeSpec::field(
    "dockerfile",
    Type::Path,
    "Dockerfile, relative to the repository root; `Dockerfile` in the context if absent.",
);
const TARGET: NodeSpec =
    NodeSpec::field("target", Type::Text, "Stage of the Dockerfile to stop at.");
const ARG: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("name", Type::Literal),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    ..NodeSpec::new(
        "arg",
        "Build argument. Stays visible in the image, so it cannot hold a secret.",
    )
};
const SECRET: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("id", Type::Literal),
        ArgSpec::new("value", Type::SecretText),
    ]),
    many: true,
    ..NodeSpec::new(
        "secret",
        "Build secret for `RUN --mount=type=secret,id=…`; never part of the image.",
    )
};
const LABEL: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("key", Type::Literal),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    ..NodeSpec::new("label", "Label of the image.")
};
const PLATFORM: NodeSpec = NodeSpec::field(
    "platform",
    Type::Text,
    "Platform, such as \"linux/amd64\"; the engine's own if absent.",
);
const CACHE: NodeSpec = NodeSpec {
    args: Args::one(Type::OneOf(&["registry"]), "where"),
    props: &[PropSpec::new(
        "from",
        Type::Text,
        "tag to take the cache from; the first alias, else `cache`",
    )],
    ..NodeSpec::new(
        "cache",
        "Keep the layer cache in the image's repository, for engines that have none of their own.",
    )
};

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "image"),
        many: true,
        children: stage_children![
            &USES,
            &CONTEXT,
            &DOCKERFILE,
            &TARGET,
            &ARG,
            &SECRET,
            &LABEL,
            &PLATFORM,
            &CACHE
        ],
        ..NodeSpec::new("build", "Builds declared images with BuildKit.")
    },
    effect: false,
    outputs: &[("id", "image id on the engine")],
    lower,
};

#[derive(Debug)]
struct Build {
    image: Spanned<String>,
    uses: Uses,
    context: Option<Template>,
    dockerfile: Option<Template>,
    target: Option<Template>,
    args: Vec<(String, Template)>,
    secrets: Vec<(String, Template)>,
    labels: Vec<(String, Template)>,
    platform: Option<Template>,
    cache: Option<Option<Template>>,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    Arc::new(Build {
        image: Spanned::new(cx.member.to_owned(), node.head()),
        uses: Uses::lower(cx),
        context: cx.child_template(node, "context"),
        dockerfile: cx.child_template(node, "dockerfile"),
        target: cx.child_template(node, "target"),
        args: cx.pairs(node, "arg"),
        secrets: cx.pairs(node, "secret"),
        labels: cx.pairs(node, "label"),
        platform: cx.child_template(node, "platform"),
        cache: node
            .child("cache")
            .map(|cache| cache.prop("from").map(|value| cx.template(value))),
    })
}

/// What is to be built, with everything resolved but the secrets.
struct Plan {
    facts: ImageFacts,
    directory: PathBuf,
    dockerfile: PathBuf,
    target: Option<String>,
    platform: Option<String>,
    args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    seen: ContextFacts,
    inputs: Digest,
}

impl Build {
    async fn resolve(
        &self,
        values: &Values,
        engine: &dyn EngineReader,
        tree: &Path,
        offline: bool,
    ) -> Result<Plan, Failure> {
        let facts = values.image(&self.image.value).await?;
        let (directory, dockerfile) = self.paths(values).await?;
        let directory = tree.join(directory);
        let seen = engine
            .context(&directory, &dockerfile)
            .await
            .map_err(|error| match error {
                EngineError::Refused { message, .. } => Failure::failed(message),
                other => other.into(),
            })?;
        let target = optional(values, self.target.as_ref()).await?;
        let platform = optional(values, self.platform.as_ref()).await?;
        let args = all(values, &self.args).await?;
        let mut labels = annotations(values, &self.image.value);
        labels.extend(all(values, &self.labels).await?);
        let bases = if offline {
            Vec::new()
        } else {
            bases(engine, &seen.dockerfile, &args).await
        };
        let inputs = inputs(&seen, &target, &platform, &args, &self.labels, &bases);
        labels.insert(INPUTS_LABEL.to_owned(), inputs.to_string());
        Ok(Plan {
            facts,
            directory,
            dockerfile,
            target,
            platform,
            args,
            labels,
            seen,
            inputs,
        })
    }

    /// Context directory and Dockerfile, the latter relative to the former.
    async fn paths(&self, values: &Values) -> Result<(PathBuf, PathBuf), Failure> {
        let clean = |text: String| -> Result<PathBuf, Failure> {
            let mut path = PathBuf::new();
            for part in Path::new(&text).components() {
                match part {
                    std::path::Component::Normal(part) => path.push(part),
                    std::path::Component::CurDir => {}
                    _ => {
                        return Err(Failure::failed(format!(
                            "path \"{text}\" leads outside the repository"
                        )));
                    }
                }
            }
            Ok(path)
        };
        let context = clean(
            optional(values, self.context.as_ref())
                .await?
                .unwrap_or_default(),
        )?;
        let dockerfile = match optional(values, self.dockerfile.as_ref()).await? {
            None => PathBuf::from("Dockerfile"),
            Some(path) => {
                let path = clean(path)?;
                match path.strip_prefix(&context) {
                    Ok(inside) => inside.to_owned(),
                    Err(_) => {
                        return Err(Failure::failed(format!(
                            "dockerfile {} is outside the build context {}; widen `context`",
                            path.display(),
                            context.display()
                        )));
                    }
                }
            }
        };
        Ok((context, dockerfile))
    }

    /// Looks for an image that makes building unnecessary.
    async fn look(
        &self,
        plan: &Plan,
        values: &Values,
        readers: &Readers,
        offline: bool,
    ) -> Result<Option<Found>, Failure> {
        let immutable = values
            .decls
            .images
            .get(&self.image.value)
            .is_some_and(|decl| decl.value.immutable);
        if !offline {
            match in_registry(
                &*readers.registry,
                &plan.facts,
                Some(&plan.inputs),
                immutable,
            )
            .await
            {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                // Whether a push will work is the push's affair, unless skipping the build hangs on it.
                Err(error) if immutable => return Err(error),
                Err(_) => {}
            }
        }
        let local = readers
            .engine
            .images_labelled(INPUTS_LABEL, plan.inputs.as_str())
            .await?;
        let revision = plan.labels.get(REVISION);
        Ok(local
            .into_iter()
            .find(|image| image.labels.get(REVISION) == revision)
            .map(|image| Found {
                evidence: format!("the engine has {} with the same inputs", short(&image.id)),
                id: image.id,
                digest: None,
                warning: None,
            }))
    }
}

const REVISION: &str = "org.opencontainers.image.revision";
const CREATED: &str = "org.opencontainers.image.created";

/// The OCI annotations every image gets. None of them differs between two runs at one commit.
fn annotations(values: &Values, image: &str) -> BTreeMap<String, String> {
    let commit = &values.commit;
    let mut labels = BTreeMap::from([
        (
            "org.opencontainers.image.title".to_owned(),
            image.to_owned(),
        ),
        (REVISION.to_owned(), commit.sha.clone()),
        (CREATED.to_owned(), commit.time.rfc3339()),
    ]);
    if let Some(origin) = &commit.origin {
        labels.insert("org.opencontainers.image.source".to_owned(), origin.clone());
    }
    if let Some(version) = commit.version() {
        labels.insert(
            "org.opencontainers.image.version".to_owned(),
            version.to_owned(),
        );
    }
    labels
}

/// Ids of base images the engine has: a base that changes makes the image out of date.
async fn bases(
    engine: &dyn EngineReader,
    text: &str,
    args: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut ids = Vec::new();
    for image in base_images(text, args) {
        if let Ok(Some(local)) = engine.image(&image).await {
            ids.push(format!("{image} {}", local.id));
        }
    }
    ids
}

/// Images a Dockerfile starts from, with build arguments put in.
fn base_images(text: &str, args: &BTreeMap<String, String>) -> Vec<String> {
    let file = dockerfile::parse(text);
    let lookup = |name: &str| {
        let declared = file.args.iter().find(|arg| arg.name.value == name)?;
        let default = || {
            declared
                .default
                .as_ref()
                .map(|default| default.value.clone())
        };
        args.get(name).cloned().or_else(default)
    };
    (0..file.stages.len())
        .filter_map(|stage| match file.base(stage)? {
            dockerfile::Base::Image(image) => Some(image.to_owned()),
            dockerfile::Base::Variable(word) => dockerfile::expand(word, file.escape, &lookup).ok(),
            dockerfile::Base::Scratch | dockerfile::Base::Stage(_) => None,
        })
        .filter(|image| !image.is_empty() && image != "scratch")
        .collect()
}

fn inputs(
    seen: &ContextFacts,
    target: &Option<String>,
    platform: &Option<String>,
    args: &BTreeMap<String, String>,
    labels: &[(String, Template)],
    bases: &[String],
) -> Digest {
    let own: Vec<(&str, String)> = labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.to_string()))
        .collect();
    let text = serde_json::json!({
        "version": 1,
        "context": seen.digest,
        "target": target,
        "platform": platform,
        "args": args,
        "labels": own,
        "bases": bases,
    });
    Digest::of(text.to_string().as_bytes())
}

pub(super) async fn optional(
    values: &Values,
    template: Option<&Template>,
) -> Result<Option<String>, Missing> {
    match template {
        Some(template) => values.plain(template).await.map(Some),
        None => Ok(None),
    }
}

async fn all(
    values: &Values,
    pairs: &[(String, Template)],
) -> Result<BTreeMap<String, String>, Missing> {
    let mut map = BTreeMap::new();
    for (key, template) in pairs {
        map.insert(key.clone(), values.plain(template).await?);
    }
    Ok(map)
}

#[async_trait]
impl Stage for Build {
    fn reads(&self) -> Vec<Read> {
        self.uses.reads()
    }

    fn templates(&self) -> Vec<&Template> {
        let single = [
            &self.context,
            &self.dockerfile,
            &self.target,
            &self.platform,
        ];
        let pairs = [&self.args, &self.secrets, &self.labels];
        single
            .into_iter()
            .flatten()
            .chain(self.cache.iter().flatten())
            .chain(pairs.into_iter().flatten().map(|(_, template)| template))
            .collect()
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        decl::require(
            &cx.decls.images,
            "image",
            &self.image,
            cx.source,
            diagnostics,
        );
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        if let Some(stage) = self.uses.first() {
            let later = Missing::Later {
                reference: "the build context".to_owned(),
                stage: stage.clone(),
            };
            return Forecast::missing(&later);
        }
        let plan = match self
            .resolve(cx.values, &*cx.readers.engine, &cx.tree, cx.offline)
            .await
        {
            Ok(plan) => plan,
            Err(failure) => return Forecast::new(Verdict::Fail, failure.message),
        };
        let seen = format!(
            "{} files, {}",
            plan.seen.entries,
            human_bytes(plan.seen.bytes)
        );
        match self.look(&plan, cx.values, cx.readers, cx.offline).await {
            Ok(Some(found)) => {
                Forecast::new(Verdict::UpToDate, found.evidence).output("id", found.id)
            }
            Ok(None) => Forecast::new(
                Verdict::Run,
                format!(
                    "builds {} from {} ({seen})",
                    plan.facts.reference(),
                    plan.dockerfile.display()
                ),
            ),
            Err(failure) => Forecast::new(
                Verdict::Unknown,
                format!(
                    "builds {} ({seen}) unless it is there already: {}",
                    plan.facts.reference(),
                    failure.message
                ),
            ),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let world = cx.world;
        let scratch = if self.uses.is_empty() {
            None
        } else {
            let scratch = world
                .workspace
                .scratch(cx.run.as_str(), &cx.stage.file_name(), Some(&cx.tree))
                .await?;
            self.uses.restore(cx, &scratch).await?;
            Some(scratch)
        };
        let tree = scratch.as_ref().map_or(&cx.tree, |scratch| &scratch.path);
        let done = self.build(cx, tree).await;
        if let Some(scratch) = scratch {
            world.workspace.discard(scratch).await;
        }
        done
    }
}

impl Build {
    async fn build(&self, cx: &StageContext<'_>, tree: &Path) -> Result<Done, Failure> {
        let world = cx.world;
        let plan = self
            .resolve(cx.values, &*world.readers.engine, tree, false)
            .await?;
        if let Some(found) = self.look(&plan, cx.values, &world.readers, false).await? {
            let mut done = Done::up_to_date(found.evidence).output("id", found.id);
            done.warnings.extend(found.warning);
            return Ok(done);
        }
        let mut secrets = BTreeMap::new();
        for (id, template) in &self.secrets {
            secrets.insert(id.clone(), cx.values.text(template).await?.into_secret());
        }
        let cache_from = match &self.cache {
            None => Vec::new(),
            Some(tag) => {
                let tag = match tag {
                    Some(tag) => cx.values.plain(tag).await?,
                    None => self
                        .first_alias(cx.values)
                        .await?
                        .unwrap_or_else(|| "cache".to_owned()),
                };
                vec![format!("{}:{tag}", plan.facts.name())]
            }
        };
        let request = BuildRequest {
            context: plan.directory,
            dockerfile: plan.dockerfile,
            target: plan.target,
            platform: plan.platform,
            args: plan.args,
            secrets,
            labels: plan.labels,
            tags: vec![plan.facts.reference()],
            inline_cache: self.cache.is_some(),
            cache_from,
            epoch: cx.values.commit.time,
            registries: vec![resolved(&*world.readers.registry, plan.facts.target.clone()).await?],
        };
        cx.say(format!(
            "building {} from {} ({} files, {})",
            plan.facts.reference(),
            request.dockerfile.display(),
            plan.seen.entries,
            human_bytes(plan.seen.bytes)
        ));
        let id = world.engine.build(&request, cx.output, &cx.cancel).await?;
        Ok(Done::succeeded(format!("built {}", short(&id))).output("id", id))
    }

    async fn first_alias(&self, values: &Values) -> Result<Option<String>, Missing> {
        let alias = values
            .decls
            .images
            .get(&self.image.value)
            .and_then(|decl| decl.value.aliases.first());
        optional(values, alias).await
    }
}
