//! `run`: a script or a command, on the host or in a container.

mod bucket;
mod container;
mod host;
pub(super) mod kept;
mod outputs;
mod spec;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::grant::{Arns, Grant};
use super::uses::{USES, Uses};
use super::{
    CheckContext, Done, Failure, Forecast, Kind, Lowering, PlanContext, Read, Stage, StageContext,
    Values, Verdict,
};
use crate::base::{Diagnostic, Spanned, Text, parse_duration, parse_size};
use crate::decl::require;
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, Type};
use crate::ports::engines::EngineSite;
use crate::ports::process::Program;
use crate::stage_children;

use outputs::OutputSpec;
pub(super) use spec::ENV;
use spec::{
    CACHE, CHECKOUT, COMMAND, CONTAINER, FINALLY, GRACE, MATRIX, OUTPUT, PRODUCES, SCRIPT, SERVICE,
};

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "name"),
        many: true,
        children: stage_children![
            &SCRIPT, &COMMAND, &CONTAINER, &SERVICE, &ENV, &MATRIX, &CACHE, &USES, &PRODUCES,
            &OUTPUT, &FINALLY, &GRACE, &CHECKOUT,
        ],
        ..NodeSpec::new(
            "run",
            "Runs a script or a command, on the host or in a container, in a copy of the commit.",
        )
    },
    effect: false,
    outputs: &[],
    lower,
};

#[derive(Debug)]
struct Run {
    program: Option<ProgramSpec>,
    container: Option<Container>,
    services: Vec<Service>,
    env: Vec<(String, Template)>,
    caches: Vec<Cache>,
    uses: Uses,
    produces: Vec<String>,
    /// Where they are kept too.
    kept_in: Option<Spanned<String>>,
    /// Accounts of the buckets.
    accounts: Vec<String>,
    outputs: Vec<OutputSpec>,
    grace: Option<Duration>,
    empty: bool,
    matrix: Vec<(String, String)>,
}

/// Directories that are kept from run to run.
#[derive(Debug)]
struct Cache {
    path: String,
    key: Template,
    bucket: Option<Spanned<String>>,
    /// Patterns of the files that tell versions apart.
    hash: Vec<String>,
    fallback: Vec<Template>,
}

#[derive(Debug)]
enum ProgramSpec {
    Script(String),
    Command(Vec<Template>),
}

#[derive(Debug)]
struct Container {
    image: Template,
    user: Option<Template>,
    network: Option<String>,
    memory: Option<u64>,
}

#[derive(Debug)]
struct Service {
    name: String,
    image: Template,
    env: Vec<(String, Template)>,
    ready: Option<String>,
    timeout: Duration,
    command: Vec<Template>,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    let script = node.child_arg("script").and_then(|value| value.as_str());
    let command = node.child("command");
    let program = match (script, command) {
        (Some(script), None) => Some(ProgramSpec::Script(script.to_owned())),
        (None, Some(command)) => Some(ProgramSpec::Command(
            command
                .args
                .iter()
                .map(|value| cx.template(value))
                .collect(),
        )),
        (None, None) => {
            if !node.flag("script") {
                cx.error(
                    "PW0017",
                    "`run` does nothing",
                    node.head(),
                    "add `script \"…\"` or `command \"PROGRAM\" …`",
                );
            }
            None
        }
        (Some(_), Some(command)) => {
            cx.error(
                "PW0019",
                "`run` has a script and a command",
                command.head(),
                "keep one of the two",
            );
            None
        }
    };
    let container = node.child("container").and_then(|container| {
        Some(Container {
            image: cx.template(container.args.first()?),
            user: container.prop("user").map(|value| cx.template(value)),
            network: container
                .prop("network")
                .and_then(|value| value.as_str())
                .map(str::to_owned),
            memory: container
                .prop("memory")
                .and_then(|value| parse_size(value.as_str()?)),
        })
    });
    let services: Vec<Service> = node
        .children_named("service")
        .flat_map(|service| services(cx, service))
        .collect();
    if container.is_none()
        && let Some(service) = node.child("service")
    {
        cx.error(
            "PW0019",
            "a service can only be reached from a container",
            service.head(),
            "add `container \"IMAGE\"` to the stage",
        );
    }
    let caches = node
        .children_named("cache")
        .flat_map(|cache| cache.args.iter().map(move |path| (cache, path)))
        .filter_map(|(cache, path)| {
            let key = cache.prop("key").unwrap_or(path);
            let list = |name| {
                let child = cache.child(name).map(|child| child.args.as_slice());
                child.unwrap_or_default().iter()
            };
            Some(Cache {
                path: path.as_str()?.to_owned(),
                key: cx.template(key),
                bucket: cache.prop("bucket").and_then(|value| cx.name(value)),
                hash: list("hash")
                    .filter_map(|value| value.as_str().map(str::to_owned))
                    .collect(),
                fallback: list("fallback").map(|value| cx.template(value)).collect(),
            })
        })
        .collect::<Vec<_>>();
    let kept_in = node.child("produces").and_then(|produces| {
        let bucket = produces.prop("bucket")?;
        cx.name(bucket)
    });
    for cache in node.children_named("cache") {
        if let (None, Some(child)) = (
            cache.prop("bucket"),
            cache.child("hash").or(cache.child("fallback")),
        ) {
            cx.error(
                "PW0017",
                format!("`{}` is about a cache in a bucket", child.name.value),
                child.head(),
                "add `bucket=NAME` to the cache, or remove it; without one a cache goes on from what it held",
            );
        }
    }
    let buckets = caches.iter().filter_map(|cache| cache.bucket.as_ref());
    let accounts = buckets
        .chain(&kept_in)
        .filter_map(|name| Some(cx.decls.buckets.get(&name.value)?.value.aws.value.clone()))
        .collect();
    let produces = node
        .child("produces")
        .map(|produces| {
            produces
                .args
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default();
    Arc::new(Run {
        program,
        services,
        env: cx.pairs(node, "env"),
        caches,
        uses: Uses::lower(cx),
        produces,
        kept_in,
        accounts,
        outputs: node
            .children_named("output")
            .filter_map(OutputSpec::lower)
            .collect(),
        grace: super::common::duration(node, "grace"),
        empty: node.child_arg("checkout").and_then(|value| value.as_str()) == Some("none"),
        matrix: cx.matrix.to_vec(),
        container,
    })
}

fn services(cx: &Lowering<'_>, node: &crate::lang::Node) -> Vec<Service> {
    let Some(image) = node.prop("image") else {
        return Vec::new();
    };
    node.args
        .iter()
        .filter_map(|name| name.as_str())
        .map(|name| Service {
            name: name.to_owned(),
            image: cx.template(image),
            env: cx.pairs(node, "env"),
            ready: node
                .child_arg("ready")
                .and_then(|value| value.as_str())
                .map(str::to_owned),
            timeout: node
                .child_arg("timeout")
                .and_then(|value| parse_duration(value.as_str()?))
                .unwrap_or(Duration::from_secs(60)),
            command: node
                .child("command")
                .map(|command| {
                    command
                        .args
                        .iter()
                        .map(|value| cx.template(value))
                        .collect()
                })
                .unwrap_or_default(),
        })
        .collect()
}

#[async_trait]
impl Stage for Run {
    fn reads(&self) -> Vec<Read> {
        self.uses.reads()
    }

    fn templates(&self) -> Vec<&Template> {
        let command: &[Template] = match &self.program {
            Some(ProgramSpec::Command(command)) => command,
            _ => &[],
        };
        let container = self
            .container
            .iter()
            .flat_map(|c| std::iter::once(&c.image).chain(&c.user));
        let services = self.services.iter().flat_map(|service| {
            std::iter::once(&service.image)
                .chain(&service.command)
                .chain(service.env.iter().map(|(_, value)| value))
        });
        command
            .iter()
            .chain(container)
            .chain(services)
            .chain(self.env.iter().map(|(_, value)| value))
            .chain(
                self.caches
                    .iter()
                    .flat_map(|cache| std::iter::once(&cache.key).chain(&cache.fallback)),
            )
            .collect()
    }

    fn outputs(&self) -> Vec<String> {
        let own = self.outputs.iter().map(|output| output.name.clone());
        let kept = [kept::ARCHIVE, kept::ARCHIVE_DIGEST].map(str::to_owned);
        own.chain(self.kept_in.iter().flat_map(|_| kept.clone()))
            .collect()
    }

    fn accounts(&self) -> Vec<String> {
        self.accounts.clone()
    }

    fn grants(&self, arns: &Arns<'_>) -> Vec<Grant> {
        let caches = self.caches.iter().filter_map(|cache| cache.bucket.as_ref());
        let buckets: BTreeSet<&str> = caches
            .chain(&self.kept_in)
            .map(|bucket| bucket.value.as_str())
            .collect();
        let grants = buckets
            .into_iter()
            .filter_map(|name| bucket::grants(name, arns));
        grants.flatten().collect()
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let buckets = self.caches.iter().filter_map(|cache| cache.bucket.as_ref());
        for bucket in buckets.chain(&self.kept_in) {
            require(&cx.decls.buckets, "bucket", bucket, cx.source, diagnostics);
        }
        if self.kept_in.is_some() {
            let taken = [kept::ARCHIVE, kept::ARCHIVE_DIGEST];
            for output in &self.outputs {
                if taken.contains(&output.name.as_str()) {
                    let message =
                        format!("output `{}` says where files in a bucket are", output.name);
                    diagnostics.push(
                        Diagnostic::error("PW0019", message, cx.source, cx.span)
                            .help("give the output another name"),
                    );
                }
            }
        }
        for Cache { path, key, .. } in &self.caches {
            let absolute = path.starts_with('/');
            if absolute != self.container.is_some() {
                let (where_, want) = if absolute {
                    ("on the host", "relative")
                } else {
                    ("in a container", "absolute")
                };
                diagnostics.push(
                    Diagnostic::error("PW0015", format!("cache \"{path}\" must be {want} {where_}"), cx.source, key.span)
                        .help("paths in a container begin with `/`; on the host they are below the working directory"),
                );
            }
        }
    }

    fn engine(&self) -> Option<EngineSite> {
        self.container.is_some().then_some(EngineSite::Local)
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let place = match &self.container {
            Some(container) => format!("in {}", container.image),
            None => "on the host".to_owned(),
        };
        let forecast = Forecast::new(
            Verdict::Run,
            format!("runs {} {place}", self.program_name()),
        );
        match &self.kept_in {
            Some(bucket) => self.forecast_bucket(&bucket.value, forecast, cx).await,
            None => forecast,
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let workspace = &cx.world.workspace;
        let tree = (!self.empty).then_some(cx.tree.as_path());
        let scratch = workspace
            .scratch(cx.run.as_str(), &cx.stage.file_name(), tree)
            .await?;
        let done = self.in_scratch(cx, &scratch).await;
        match done {
            Ok(_) => cx.leftovers.discard(workspace, scratch).await,
            // Another attempt works at the same place.
            Err(_) => workspace.discard(scratch).await,
        }
        done
    }
}

/// The name under which this machine keeps a cache.
fn cache_key(values: &Values, name: &str) -> String {
    format!("{} {name}", values.pipeline)
}

impl Run {
    fn program_name(&self) -> String {
        match &self.program {
            Some(ProgramSpec::Command(command)) => command
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            _ => "a script".to_owned(),
        }
    }

    async fn in_scratch(
        &self,
        cx: &StageContext<'_>,
        scratch: &crate::ports::workspace::Scratch,
    ) -> Result<Done, Failure> {
        self.uses.restore(cx, scratch).await?;
        let mut warnings = Vec::new();
        let caches = self.fetch_caches(cx, scratch, &mut warnings).await?;
        let program = self.program(cx).await?;
        let env = self.env(cx, &self.env).await?;
        let grace = self.grace.unwrap_or(cx.grace);
        let code = match &self.container {
            None => host::run(self, cx, scratch.path.clone(), program, env, grace).await?,
            Some(container) => {
                container::run(
                    self,
                    container,
                    cx,
                    scratch.path.clone(),
                    program,
                    env,
                    grace,
                )
                .await?
            }
        };
        if code != 0 {
            return Err(Failure::failed(match code {
                126 => "exited with status 126: a program could not be executed".to_owned(),
                127 => "exited with status 127: a program was not found".to_owned(),
                137 => "killed by SIGKILL (status 137), often for using too much memory".to_owned(),
                129..160 => format!("ended by signal {} (status {code})", code - 128),
                _ => format!("exited with status {code}"),
            }));
        }
        let mut done = Done::succeeded(String::new());
        for output in &self.outputs {
            let value = output.read(cx, &scratch.path).await?;
            done = done.output(&output.name, value);
        }
        if !self.produces.is_empty() {
            let (files, bytes) = cx
                .world
                .workspace
                .collect(
                    cx.run.as_str(),
                    &cx.stage.file_name(),
                    scratch,
                    &self.produces,
                )
                .await?;
            if files == 0 {
                return Err(Failure::failed(format!(
                    "produced nothing that fits {}",
                    self.produces.join(" ")
                )));
            }
            cx.say(format!(
                "kept {files} files, {}",
                crate::base::human_bytes(bytes)
            ));
            match &self.kept_in {
                Some(_) if cx.values.dirty => {
                    cx.say("the working tree is no commit: its files stay on this machine");
                }
                Some(bucket) => {
                    let (place, digest) = self.store_files(&bucket.value, cx).await?;
                    done = done
                        .output(kept::ARCHIVE, place)
                        .output(kept::ARCHIVE_DIGEST, digest);
                }
                None => {}
            }
        }
        kept::store_caches(caches, cx, &mut warnings).await;
        done.warnings.extend(warnings);
        Ok(done)
    }

    async fn program(&self, cx: &StageContext<'_>) -> Result<Program, Failure> {
        match &self.program {
            Some(ProgramSpec::Script(script)) => Ok(Program::Script(script.clone())),
            Some(ProgramSpec::Command(command)) => {
                let mut argv = Vec::with_capacity(command.len());
                for template in command {
                    argv.push(cx.values.plain(template).await?);
                }
                Ok(Program::Command(argv))
            }
            None => Err(Failure::failed("there is nothing to run")),
        }
    }

    async fn env(
        &self,
        cx: &StageContext<'_>,
        pairs: &[(String, Template)],
    ) -> Result<Vec<(String, Text)>, Failure> {
        let mut env = vec![
            ("CI".to_owned(), Text::Plain("true".to_owned())),
            ("PIPEWRIGHT_RUN".to_owned(), Text::Plain(cx.run.to_string())),
        ];
        for (key, value) in &self.matrix {
            let key: String = key
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() {
                        c.to_ascii_uppercase()
                    } else {
                        '_'
                    }
                })
                .collect();
            env.push((format!("MATRIX_{key}"), Text::Plain(value.clone())));
        }
        for (key, template) in pairs {
            env.push((key.clone(), cx.values.text(template).await?));
        }
        Ok(env)
    }

    async fn cache_dirs(&self, cx: &StageContext<'_>) -> Result<Vec<(PathBuf, String)>, Failure> {
        let mut dirs = Vec::with_capacity(self.caches.len());
        for Cache { path, key, .. } in &self.caches {
            let key = cache_key(cx.values, &cx.values.plain(key).await?);
            dirs.push((cx.world.workspace.cache(&key).await?, path.clone()));
        }
        Ok(dirs)
    }
}
