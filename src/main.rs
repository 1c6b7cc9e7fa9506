//! Composition root: arguments, adapters, one front.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place that meets the process: its arguments, environment and exit status"
)]

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use pipewright::adapters::advisories::{self, AdvisoryStore};
use pipewright::adapters::argocd::ArgoCd;
use pipewright::adapters::aws::services::AwsServices;
use pipewright::adapters::aws::{AwsSecrets, Clouds, EcrRegistry};
use pipewright::adapters::clock::SystemClock;
use pipewright::adapters::docker::{DeclaredEngines, Docker};
use pipewright::adapters::doorbell::HttpDoorbell;
use pipewright::adapters::files::HostFiles;
use pipewright::adapters::forge::Forges;
use pipewright::adapters::git::{self, GitRemotes, GitWorkspace};
use pipewright::adapters::http::Http;
use pipewright::adapters::kubernetes::{Connections, Kubernetes};
use pipewright::adapters::memory_store::MemoryStore;
use pipewright::adapters::process::HostProcesses;
use pipewright::adapters::registry::{DockerConfig, HttpRegistry};
use pipewright::adapters::scanner::Scanners;
use pipewright::adapters::sim::{SimOptions, SimWorld};
use pipewright::adapters::sqlite::SqliteStore;
use pipewright::adapters::webhook::WebHook;
use pipewright::base::{Commit, LateSecrets, Secret, Timestamp};
use pipewright::cli::args::{Cli, Color};
use pipewright::cli::{
    AdvisoryDatabase, App, Exit, Failure, Screen, Worlds, dispatch, dispatch_quick,
};
use pipewright::ports::clock::Clock;
use pipewright::ports::doorbell::Doorbell;
use pipewright::ports::scanner::Scanner;
use pipewright::ports::store::{Pruned, Retention, Store, StoreReader as _};
use pipewright::ports::{Readers, World};
use pipewright::report::{Style, Tone};
use pipewright::stage::Scenery;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = screen(cli.global.color);
    let errors = style(cli.global.color, std::io::stderr().is_terminal());
    let exit = run(&cli, screen).unwrap_or_else(|failure| {
        let mut err = std::io::stderr().lock();
        // Nobody is left to tell if this fails.
        let _ = writeln!(
            err,
            "{} {}",
            errors.paint(Tone::Bad, "error:"),
            failure.message
        );
        if let Some(help) = failure.help {
            let _ = writeln!(err, "{} {help}", errors.paint(Tone::Same, " help:"));
        }
        failure.exit
    });
    ExitCode::from(exit.0)
}

fn run(cli: &Cli, screen: Screen) -> Result<Exit, Failure> {
    let started = std::env::current_dir()
        .map_err(|error| Failure::internal(format!("the present directory is gone: {error}")))?;
    let here = match &cli.global.dir {
        Some(dir) => started.join(dir).canonicalize().map_err(|error| {
            Failure::usage(
                format!("{}: {error}", dir.display()),
                "name a directory that exists",
            )
        })?,
        None => started,
    };
    let app = App {
        global: &cli.global,
        here,
        files: &HostFiles,
        worlds: &Host,
        screen,
        now: || SystemClock.now(),
        processors: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
    };
    if let Some(result) = dispatch_quick(&app, &cli.command) {
        return result;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
    let result = runtime.block_on(dispatch(&app, &cli.command));
    // Whatever still waits for a network answer must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}

fn screen(color: Color) -> Screen {
    let terminal = std::io::stdout().is_terminal();
    Screen {
        out: || Box::new(std::io::BufWriter::new(std::io::stdout())),
        style: style(color, terminal),
        terminal,
        size: || {
            terminal_size::terminal_size().map_or((80, 24), |(width, height)| {
                (width.0.into(), height.0.into())
            })
        },
    }
}

fn style(color: Color, terminal: bool) -> Style {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let colour = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            terminal
                && !set("NO_COLOR")
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    // Without a locale the output most likely goes to a log, which takes UTF-8.
    let unicode = locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    Style::new(colour, unicode)
}

/// The world of this host.
struct Host;

#[async_trait::async_trait]
impl Worlds for Host {
    fn existing(&self, state: &Path) -> Option<Arc<dyn Store>> {
        SqliteStore::open_existing(state).map(|store| Arc::new(store) as Arc<dyn Store>)
    }

    fn prune(&self, state: &Path, policy: &Retention) -> Result<Option<Pruned>, Failure> {
        let Some(store) = SqliteStore::open_existing(state) else {
            return Ok(None);
        };
        let mut pruned = store.prune(policy)?;
        // A run that is known keeps what it left; one whose row cannot be read may be known.
        let known = |name: &str| {
            name.parse().is_ok_and(|run| {
                !pruned.runs.contains(&run) && store.run(&run).map_or(true, |row| row.is_some())
            })
        };
        // A cache may be old and in use all the same.
        let busy = store
            .unfinished()?
            .iter()
            .any(|row| store.is_held(&row.run).unwrap_or(true));
        let unused = policy.before.filter(|_| !busy);
        let forgotten = git::forget(state, known, unused, policy.dry)?;
        pruned.bytes += forgotten.bytes;
        pruned.caches = forgotten.caches;
        Ok(Some(pruned))
    }

    fn real(&self, root: &Path, state: &Path) -> Result<World, Failure> {
        let workspace = Arc::new(GitWorkspace::open(root, state)?);
        let store = Arc::new(SqliteStore::open(state)?);
        let http = Http::new();
        let engine = Arc::new(engine()?);
        let engines = Arc::new(DeclaredEngines::from_env());
        let late = LateSecrets::default();
        let clouds = Clouds::new(http.clone(), late.clone());
        let registry = HttpRegistry::new(http.clone(), DockerConfig::from_env());
        let registry = Arc::new(EcrRegistry::new(registry, clouds.clone()));
        let vcs = Arc::new(GitRemotes::new(state, http.clone()));
        let forge = Arc::new(Forges::new(http.clone(), late.clone()));
        let services = Arc::new(AwsServices::new(Arc::new(clouds.clone())));
        let gitops = Arc::new(ArgoCd::new(http.clone(), late.clone()));
        let connections = Arc::new(Connections::new(late.clone(), now));
        let clusters = Arc::new(Kubernetes::new(connections));
        Ok(World {
            readers: Readers {
                clock: Arc::new(SystemClock),
                workspace: workspace.clone(),
                engine: engine.clone(),
                engines: engines.clone(),
                registry: registry.clone(),
                vcs: vcs.clone(),
                forge: forge.clone(),
                services: services.clone(),
                gitops: gitops.clone(),
                clusters: clusters.clone(),
                secrets: Arc::new(AwsSecrets::new(clouds.clone())),
                buckets: Arc::new(clouds.clone()),
                cloud: Arc::new(clouds.clone()),
                late,
                store: store.clone(),
            },
            workspace,
            engine: engine.clone(),
            engines,
            registry,
            vcs,
            forge,
            host: Arc::new(HostProcesses::new()),
            notifier: Arc::new(WebHook::new(http)),
            scanner: Arc::new(scanners(Docker::clone(&engine), state)),
            services,
            gitops,
            clusters,
            buckets: Arc::new(clouds),
            store,
        })
    }

    fn advisories(&self, directory: Option<&Path>) -> Result<AdvisoryDatabase, Failure> {
        let place = match directory {
            Some(directory) => directory.to_owned(),
            None => advisories_of_user().ok_or_else(|| {
                Failure::usage(
                    "there is no home directory for the database of advisories",
                    "name one with --database DIR",
                )
            })?,
        };
        let store = Arc::new(AdvisoryStore::new(place.clone(), Http::new(), now));
        Ok(AdvisoryDatabase {
            place,
            reader: store.clone(),
            writer: store,
        })
    }

    fn scanner(&self, state: &Path) -> Result<Arc<dyn Scanner>, Failure> {
        Ok(Arc::new(scanners(engine()?, state)))
    }

    async fn listen(
        &self,
        address: std::net::SocketAddr,
        secret: Secret,
    ) -> Result<Arc<dyn Doorbell>, Failure> {
        let doorbell = HttpDoorbell::listen(address, secret).await;
        let doorbell = doorbell.map_err(|error| {
            Failure::usage(
                format!("cannot listen at {address}: {error}"),
                "name an address of this host whose port is free",
            )
        })?;
        Ok(Arc::new(doorbell))
    }

    fn simulated(&self, commit: Commit, files: Vec<(String, String)>, around: Scenery) -> World {
        let options = SimOptions {
            commit,
            files: files.into_iter().collect(),
            containers: around.containers,
            keys: around.keys,
            start: Some(now()),
            ..SimOptions::for_show()
        };
        SimWorld::new(options).world(Arc::new(MemoryStore::new()))
    }
}

fn engine() -> Result<Docker, Failure> {
    Docker::connect().map_err(|error| {
        Failure::usage(
            format!("DOCKER_HOST: {error}"),
            "set DOCKER_HOST to an address",
        )
    })
}

/// Where the database of advisories of this user is.
fn advisories_of_user() -> Option<PathBuf> {
    advisories::default_directory(|name| std::env::var_os(name))
}

fn scanners(engine: Docker, state: &Path) -> Scanners {
    Scanners::from_env()
        .with_engine(engine, state.join("scan"))
        .with_builtin(advisories_of_user(), Http::new(), now)
}

fn now() -> Timestamp {
    SystemClock.now()
}
