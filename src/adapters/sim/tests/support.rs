//! A world to test in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::adapters::sim::{Latency, Rule, SimOptions, SimWorld};
use crate::base::{RunId, Text, Timestamp};
use crate::ports::engine::{BuildRequest, ContainerSpec, PushRequest};
use crate::ports::process::{ProcessSpec, Program};
use crate::ports::registry::{Login, Target};
use crate::ports::store::{
    Change, Hold, LogWriter, NewEvent, RunRow, Store, StoreError, StoreReader, StoredEvent,
};
use crate::ports::{Output, Progress, World};

pub(super) fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

pub(super) fn options() -> SimOptions {
    SimOptions {
        seed: 7,
        files: texts(&[
            (
                "Dockerfile",
                "FROM scratch\nCOPY . /\nRUN make\nHEALTHCHECK CMD true\n",
            ),
            ("src/main.c", "int main;\n"),
            ("other/Dockerfile", "FROM scratch\nCOPY x /x\n"),
            ("other/x", "x"),
        ]),
        latency: Latency::none(),
        ..SimOptions::default()
    }
}

/// A world without latency, and its first life.
pub(super) fn begin() -> (SimWorld, World) {
    let sim = SimWorld::new(options());
    let world = sim.world(Arc::new(Events::default()));
    (sim, world)
}

/// Asserts that exactly one rule was broken, once.
#[track_caller]
pub(super) fn broke(sim: &SimWorld, rule: Rule) {
    let found: Vec<_> = sim.violations().iter().map(|v| v.rule).collect();
    assert_eq!(found, [rule], "{:?}", sim.violations());
}

#[track_caller]
pub(super) fn clean(sim: &SimWorld) {
    assert_eq!(sim.violations(), []);
}

/// The calls that made the ledger.
pub(super) fn effects(sim: &SimWorld) -> Vec<&'static str> {
    sim.ledger().iter().map(|effect| effect.call).collect()
}

pub(super) fn never() -> CancellationToken {
    CancellationToken::new()
}

pub(super) fn target() -> Target {
    Target {
        host: "localhost:5000".to_owned(),
        plain_http: true,
        login: Login::Ambient,
    }
}

/// The tree of the head commit.
pub(super) async fn tree(world: &World) -> PathBuf {
    let commit = world.workspace.commit(None).await.expect("there is a head");
    world.workspace.tree(&commit.sha).await.expect("a tree")
}

pub(super) async fn request(world: &World) -> BuildRequest {
    BuildRequest {
        context: tree(world).await,
        dockerfile: "Dockerfile".into(),
        target: None,
        platform: None,
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        labels: BTreeMap::from([("stage".to_owned(), "build.app".to_owned())]),
        tags: vec!["app:1".to_owned()],
        cache_from: Vec::new(),
        inline_cache: false,
        epoch: Timestamp(0),
        registries: Vec::new(),
    }
}

/// Builds `app:1` and returns its id.
pub(super) async fn built(world: &World) -> String {
    let request = request(world).await;
    let id = world
        .engine
        .build(&request, &Log::default(), &never())
        .await;
    id.expect("it builds")
}

pub(super) fn push_of(id: &str, tag: &str) -> PushRequest {
    PushRequest {
        id: id.to_owned(),
        target: target(),
        repository: "acme/app".to_owned(),
        tag: tag.to_owned(),
    }
}

pub(super) fn container(name: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: "app:1".to_owned(),
        command: (!command.is_empty()).then(|| command.iter().map(|w| (*w).to_owned()).collect()),
        ..ContainerSpec::default()
    }
}

pub(super) fn process(workdir: PathBuf, script: &str) -> ProcessSpec {
    ProcessSpec {
        program: Program::Script(script.to_owned()),
        workdir,
        env: vec![("NAME".to_owned(), Text::Plain("value".to_owned()))],
        marker: "run/stage".to_owned(),
        grace: std::time::Duration::from_secs(10),
    }
}

/// An output that keeps everything.
#[derive(Default)]
pub(super) struct Log {
    bytes: Mutex<Vec<u8>>,
    progress: Mutex<Vec<Progress>>,
}

impl Log {
    pub(super) fn text(&self) -> String {
        let bytes = self.bytes.lock().expect("no test panics while logging");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn progress(&self) -> Vec<Progress> {
        let progress = self.progress.lock();
        progress.expect("no test panics while logging").clone()
    }
}

impl Output for Log {
    fn log(&self, bytes: &[u8]) {
        let mut log = self.bytes.lock().expect("no test panics while logging");
        log.extend_from_slice(bytes);
    }

    fn progress(&self, progress: Progress) {
        let mut all = self.progress.lock().expect("no test panics while logging");
        all.push(progress);
    }
}

/// A store that keeps events and nothing else.
#[derive(Default)]
pub(super) struct Events {
    kept: Mutex<Vec<StoredEvent>>,
}

impl Events {
    pub(super) fn texts(&self) -> Vec<String> {
        let kept = self.kept.lock().expect("no test panics while appending");
        kept.iter().map(|event| event.json.clone()).collect()
    }
}

fn not_here<T>() -> Result<T, StoreError> {
    Err(StoreError::Broken("not kept in this test".to_owned()))
}

impl StoreReader for Events {
    fn events(&self, _: &RunId, _: u64, _: usize) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(self.kept.lock().expect("no test panics").clone())
    }

    fn runs(&self, _: Option<&str>, _: usize) -> Result<Vec<RunRow>, StoreError> {
        not_here()
    }

    fn run(&self, _: &RunId) -> Result<Option<RunRow>, StoreError> {
        not_here()
    }

    fn runs_ending(&self, _: &str) -> Result<Vec<RunRow>, StoreError> {
        not_here()
    }

    fn chained(&self, _: &RunId) -> Result<Vec<RunRow>, StoreError> {
        not_here()
    }

    fn unfinished(&self) -> Result<Vec<RunRow>, StoreError> {
        not_here()
    }

    fn fact(&self, _: &str, _: &str) -> Result<Option<String>, StoreError> {
        not_here()
    }

    fn blob(&self, _: &str) -> Result<Option<Vec<u8>>, StoreError> {
        not_here()
    }

    fn is_held(&self, _: &RunId) -> Result<bool, StoreError> {
        not_here()
    }

    fn log(&self, _: &RunId, _: &str, _: u64, _: usize) -> Result<Vec<u8>, StoreError> {
        not_here()
    }
}

impl Store for Events {
    fn append(&self, events: &[NewEvent], _: &[Change]) -> Result<Vec<u64>, StoreError> {
        let mut kept = self.kept.lock().expect("no test panics while appending");
        let first = kept.len() as u64 + 1;
        kept.extend(events.iter().zip(first..).map(|(event, seq)| StoredEvent {
            seq,
            at: event.at,
            run: event.run.clone(),
            json: event.json.clone(),
        }));
        Ok((first..).take(events.len()).collect())
    }

    fn put_blob(&self, _: &[u8]) -> Result<String, StoreError> {
        not_here()
    }

    fn hold_run(&self, _: &RunId) -> Result<Box<dyn Hold>, StoreError> {
        not_here()
    }

    fn enter_group(&self, _: &str, _: u32, _: &str) -> Result<Option<Box<dyn Hold>>, StoreError> {
        not_here()
    }

    fn leave_group(&self, _: &str, _: &str) {}

    fn log_writer(&self, _: &RunId, _: &str) -> Result<Box<dyn LogWriter>, StoreError> {
        not_here()
    }

    fn request_cancel(&self, _: &RunId, _: &str) -> Result<(), StoreError> {
        not_here()
    }

    fn cancel_requested(&self, _: &RunId) -> Result<Option<String>, StoreError> {
        not_here()
    }
}
