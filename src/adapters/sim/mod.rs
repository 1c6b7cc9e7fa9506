//! A strict simulated world: every port but the store, in memory, for `run --simulate`, for
//! documentation and for tests of the engine.
//!
//! - **Nothing real happens.** No file, process or socket is touched. All paths it hands out lie
//!   below `/sim` and mean something to this world only.
//! - **Deterministic.** Time is tokio's, and random numbers come from the seed. On one thread
//!   with a paused clock the same run gives the same ledger, digest by digest, at once.
//! - **Stricter than the real thing.** What a well-behaved caller never does is a [`Violation`]
//!   of a [`Rule`], whether the real world would mind or not. [`SimWorld::ledger`] lists every
//!   effect once, in order, so that a test can assert that none was made twice.
//! - **Mortal.** A crash before or after any effect freezes everything the process does,
//!   its journal too; what it left (containers, tags, commits, processes) stays.
//!   [`SimWorld::restart`] begins the next life.
//!
//! Commands in containers, on the host and in a Dockerfile's `RUN` succeed and print
//! `simulated: ` and their first line, unless all they say is in the vocabulary of the sim:
//! `echo TEXT [> PATH]`, `cat PATH`, `sleep 2`, `exit 3`, `true`, `false`, `fail-once`, `hang`,
//! `trap '' TERM`. A container without a command serves until it is stopped; one that restarts
//! with the engine serves once its command has run through, unless that says `exit`.
//!
//! Under `--simulate` the world is lenient about what lies outside the repository: a manifest
//! repository nobody declared springs up with the branch it is first asked for, and every file
//! asked for holds a short document in its format (`simulated: true`, or an empty
//! `Kustomization`). It does not hold the keys that a stage wants to set: the caller, who knows
//! the pipeline, declares such files with [`SimWorld::remote`], or the edit says `create`.

mod archive;
mod bucket;
mod build;
mod call;
mod cloud;
mod cluster;
mod container;
mod disk;
mod dockerfile;
mod engine;
mod fault;
mod follow;
mod forge;
mod gitops;
mod host;
mod image;
mod ledger;
mod made_up;
mod network;
mod options;
mod play;
mod reference;
mod registry;
mod remote;
mod script;
mod services;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod workspace;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use self::call::{Call, Life, Shared};
use self::disk::{Files, Kind};
pub use self::fault::{CALLS, Failure, Fault};
use self::fault::{FaultRule, Pattern};
pub use self::ledger::{Effect, Rule, Violation};
pub use self::options::{Latency, SimOptions};
use self::reference::Reference;
use self::state::State;
use self::store::MortalStore;
use self::workspace::WORKING;
use crate::base::{Commit, Digest, Secret, Timestamp};
use crate::ports::engine::Health;
use crate::ports::secrets::SecretSource;
use crate::ports::store::Store;
use crate::ports::{Readers, World};
use crate::scan::Report;

/// A simulated world, and the view from above that its inhabitants do not have.
#[derive(Clone)]
pub struct SimWorld {
    shared: Arc<Shared>,
}

impl fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimWorld")
            .field("seed", &self.shared.options.seed)
            .finish_non_exhaustive()
    }
}

impl SimWorld {
    /// A world in which nothing has happened yet.
    pub fn new(mut options: SimOptions) -> Self {
        let files = files(&options.files);
        options.commit = completed(options.commit, options.seed, &files);
        let mut state = State {
            life: 1,
            dice: options.seed,
            cloud: services::Cloud::new(&options.containers),
            buckets: bucket::Stored::new(&options.objects, options.lenient_buckets),
            ..State::default()
        };
        state
            .disk
            .put(Path::new(WORKING), Kind::Working, files.clone());
        state.commits.push((options.commit.clone(), files));
        Self {
            shared: Arc::new(Shared::new(options, state)),
        }
    }

    /// The ports of the process's present life, beside a store. After a crash they are dead, and
    /// [`SimWorld::restart`] and another call give the next life's.
    pub fn world(&self, store: Arc<dyn Store>) -> World {
        let life = Arc::new(Life {
            shared: self.shared.clone(),
            number: self.state().life,
            engine: None,
        });
        let store = Arc::new(MortalStore {
            life: Life::clone(&life),
            inner: store,
        });
        World {
            readers: Readers {
                clock: life.clone(),
                workspace: life.clone(),
                engine: life.clone(),
                engines: life.clone(),
                registry: life.clone(),
                vcs: life.clone(),
                forge: life.clone(),
                cloud: life.clone(),
                buckets: life.clone(),
                secrets: life.clone(),
                services: life.clone(),
                gitops: life.clone(),
                clusters: life.clone(),
                late: Default::default(),
                store: store.clone(),
            },
            workspace: life.clone(),
            engine: life.clone(),
            engines: life.clone(),
            registry: life.clone(),
            vcs: life.clone(),
            forge: life.clone(),
            host: life.clone(),
            notifier: life.clone(),
            services: life.clone(),
            gitops: life.clone(),
            clusters: life.clone(),
            buckets: life.clone(),
            scanner: life,
            store,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state();
        state.turn_to(None);
        state
    }

    /// Every effect so far, in order.
    pub fn ledger(&self) -> Vec<Effect> {
        self.state().ledger.clone()
    }

    /// The effects that calls matching `port.call` or `port.call SUBJECT` made; `*` stands for
    /// any run of characters.
    pub fn effects(&self, pattern: &str) -> Vec<Effect> {
        let pattern = Pattern::new(pattern);
        let hit = |effect: &Effect| pattern.matches(&Call::one(effect.call, &effect.subject));
        self.state()
            .ledger
            .iter()
            .filter(|effect| hit(effect))
            .cloned()
            .collect()
    }

    /// Every breach of a rule so far, in order.
    pub fn violations(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }

    /// How many calls that match a pattern were made, with or without an effect.
    pub fn calls(&self, pattern: &str) -> usize {
        let pattern = Pattern::new(pattern);
        let state = self.state();
        state
            .calls
            .iter()
            .filter(|call| pattern.matches(call))
            .count()
    }

    /// Scripts a fault for calls that match `port.call` or `port.call SUBJECT` ([`CALLS`] lists
    /// them). Subjects are names of what a call is about: an image reference or id, a container's
    /// name or `label=value`, `URL#BRANCH`, a process's marker or first line. Of several faults
    /// that fail, the first scripted comes first; delays add up.
    pub fn on(&self, pattern: &str, fault: Fault) {
        let rule = FaultRule::new(pattern, fault);
        let mut state = self.state();
        if !rule.pattern.is_possible() {
            let call = Call::one("sim.on", pattern);
            state.violate(Rule::BadFault, &call, "there is no such call");
        }
        state.faults.push(rule);
    }

    /// Faults that no call met, or not as often as scripted: a test that expects them did not
    /// test what it thinks.
    pub fn unspent(&self) -> Vec<Fault> {
        self.state()
            .faults
            .iter()
            .filter(|rule| !rule.met || rule.left.is_some_and(|left| left > 0))
            .map(|rule| rule.fault.clone())
            .collect()
    }

    /// The process dies right before effect number `number` (from 1, over all lives) is made.
    pub fn crash_before(&self, number: usize) {
        self.state().crash_before = Some(number);
    }

    /// The process dies right after effect number `number` is made, before it hears of it.
    pub fn crash_after(&self, number: usize) {
        self.state().crash_after = Some(number);
    }

    /// Whether the process is dead.
    pub fn is_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Waits until the process is dead. Then drop all it consists of.
    pub async fn crashed(&self) {
        let mut crash = self.shared.crash.subscribe();
        // The sender lives in `self.shared`, so waiting cannot fail.
        let _ = crash.wait_for(|crashed| *crashed).await;
    }

    /// Begins the next life of the process, also while the present one lives: that one is cut
    /// off at once, as by `kill -9`. Crash points that were not reached are forgotten.
    pub fn restart(&self) {
        let mut state = self.state();
        state.life += 1;
        state.crashed = false;
        state.crash_before = None;
        state.crash_after = None;
        drop(state);
        self.shared.crash.send_replace(false);
    }

    /// Adds a commit to the source repository, on top, and checks it out.
    pub fn add_commit(&self, commit: Commit, texts: &BTreeMap<String, String>) -> Commit {
        let files = files(texts);
        let commit = completed(commit, self.shared.options.seed, &files);
        let mut state = self.state();
        state
            .disk
            .put(Path::new(WORKING), Kind::Working, files.clone());
        state.commits.push((commit.clone(), files));
        commit
    }

    /// Changes a file of the working tree without a commit.
    pub fn edit(&self, path: &str, text: &str) {
        let path = Path::new(WORKING).join(path);
        let written = self.state().disk.write(&path, text.as_bytes().into());
        debug_assert!(written.is_ok(), "{path:?} lies in the working tree");
    }

    /// Declares a manifest repository, or a branch of one, with exactly these files; returns the
    /// commit.
    pub fn remote(&self, url: &str, branch: &str, texts: &BTreeMap<String, String>) -> String {
        let files = files(texts);
        self.state().remotes.declare(url, branch, files, false)
    }

    /// Lets somebody else push a commit that changes some files; `None` without such a branch.
    pub fn foreign_commit(
        &self,
        url: &str,
        branch: &str,
        texts: &BTreeMap<String, String>,
    ) -> Option<String> {
        let files = files(texts);
        self.state().remotes.foreign(url, branch, files)
    }

    /// The commit a branch of a manifest repository stands at.
    pub fn remote_tip(&self, url: &str, branch: &str) -> Option<String> {
        self.state().remotes.tip(url, branch)
    }

    /// Number of commits in the history of a branch.
    pub fn remote_length(&self, url: &str, branch: &str) -> usize {
        self.state().remotes.length(url, branch)
    }

    /// A file at the tip of a branch.
    pub fn remote_file(&self, url: &str, branch: &str, path: &str) -> Option<Vec<u8>> {
        self.state().remotes.file(url, branch, path)
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        self.state().buckets.declare(name);
    }

    /// Addresses of all objects there are.
    pub fn objects(&self) -> Vec<String> {
        self.state().buckets.addresses()
    }

    /// Lets somebody else change the bytes of an object, whose notes stay.
    pub fn tamper(&self, address: &str, bytes: &[u8]) {
        if let Ok(place) = address.parse() {
            self.state().buckets.tamper(&place, bytes);
        }
    }

    /// Puts somebody else's image into a registry, to be found and pulled.
    ///
    /// # Errors
    /// Says what breaks the grammar of references.
    pub fn publish(&self, reference: &str) -> Result<Digest, String> {
        let reference = Reference::parse(reference)?;
        Ok(self.state().publish(&reference).manifest().digest)
    }

    /// What a tag of a registry stands at: `host/repository:tag`.
    pub fn tag(&self, reference: &str) -> Option<Digest> {
        let reference = Reference::parse(reference).ok()?;
        let key = (reference.host.clone(), reference.repository.clone());
        let state = self.state();
        state.registries.get(&key)?.resolve(&reference.wanted())
    }

    /// Makes tags that match `host/repository:tag` refuse to move.
    pub fn immutable(&self, pattern: &str) {
        self.state().immutable.push(pattern.to_owned());
    }

    /// Decides what the health check says of containers whose name or image matches, and when.
    pub fn health(&self, pattern: &str, verdict: Health, after: Duration) {
        self.state()
            .verdicts
            .push((pattern.to_owned(), verdict, after));
    }

    /// Decides what a scan of images with a matching tag or id finds.
    pub fn findings(&self, pattern: &str, report: Report) {
        self.state().reports.push((pattern.to_owned(), report));
    }

    /// Declares a secret. Seen in the clear anywhere it is a violation.
    pub fn secret(&self, source: SecretSource, value: &Secret) {
        let mut state = self.state();
        state.known.insert(value.expose().into());
        state.secrets.insert(source, value.expose().to_owned());
    }

    /// Declares a variable: read like a secret, but free to be shown.
    pub fn variable(&self, source: SecretSource, value: &str) {
        self.state().secrets.insert(source, value.to_owned());
    }

    /// Bodies of the messages sent so far.
    pub fn messages(&self) -> Vec<String> {
        self.state().messages.clone()
    }

    /// Names of the containers there are on the local engine, running or not, sorted.
    pub fn containers(&self) -> Vec<String> {
        Self::names(&self.state())
    }

    /// Names of the containers there are on the engine of an address, sorted.
    pub fn containers_at(&self, address: &str) -> Vec<String> {
        let mut state = self.shared.state();
        state.turn_to(Some(address));
        Self::names(&state)
    }

    fn names(state: &State) -> Vec<String> {
        let mut names: Vec<_> = state
            .containers
            .values()
            .map(|container| container.spec.name.clone())
            .collect();
        names.sort();
        names
    }
}

fn files(texts: &BTreeMap<String, String>) -> Files {
    texts
        .iter()
        .map(|(path, text)| (path.clone(), text.as_bytes().into()))
        .collect()
}

/// Fills in what a commit was given without.
fn completed(mut commit: Commit, seed: u64, files: &Files) -> Commit {
    if commit.message.is_empty() {
        "Simulated commit".clone_into(&mut commit.message);
    }
    if commit.author.is_empty() {
        "Simulated Author <author@example.invalid>".clone_into(&mut commit.author);
    }
    if commit.time == Timestamp::default() {
        // 2026-01-01T00:00:00Z
        commit.time = Timestamp(1_767_225_600_000);
    }
    if commit.branch.is_none() && commit.tag.is_none() && commit.reference.is_empty() {
        commit.branch = Some("main".to_owned());
    }
    if commit.sha.is_empty() {
        let mut text = format!("{seed} {}\n", commit.message);
        for (path, bytes) in files {
            text.push_str(&format!("{path} {}\n", Digest::of(bytes)));
        }
        Digest::of(text.as_bytes()).hex()[..40].clone_into(&mut commit.sha);
    }
    if commit.reference.is_empty() {
        commit.reference = match (&commit.branch, &commit.tag) {
            (_, Some(tag)) => format!("refs/tags/{tag}"),
            (Some(branch), None) => format!("refs/heads/{branch}"),
            (None, None) => commit.sha.clone(),
        };
    }
    commit
}
