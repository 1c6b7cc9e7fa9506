//! Everything a simulated world remembers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::bucket::Stored;
use super::call::Call;
use super::cluster::Objects;
use super::container::Container;
use super::disk::{Disk, Files};
use super::fault::{Fault, FaultRule, matches};
use super::forge::PullRequests;
use super::gitops::Apps;
use super::image::{Image, Repository};
use super::ledger::{Effect, Rule, Violation};
use super::network::Net;
use super::play::Play;
use super::remote::Remotes;
use super::services::Cloud;
use crate::base::Commit;
use crate::ports::engine::{Health, LocalImage};
use crate::ports::secrets::SecretSource;
use crate::scan::Report;

/// Everything a simulated world remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The life of the process at hand.
    pub(super) life: u32,
    pub(super) crashed: bool,
    /// Number of the effect before or after which the process dies.
    pub(super) crash_before: Option<usize>,
    pub(super) crash_after: Option<usize>,
    pub(super) ledger: Vec<Effect>,
    pub(super) violations: Vec<Violation>,
    pub(super) calls: Vec<Call>,
    pub(super) faults: Vec<FaultRule>,
    pub(super) dice: u64,
    /// For ids and addresses that an engine counts up.
    pub(super) counter: u64,

    pub(super) disk: Disk,
    /// Oldest first; the last is checked out.
    pub(super) commits: Vec<(Commit, Files)>,
    /// By run and stage.
    pub(super) artifacts: BTreeMap<(String, String), Files>,

    /// The engine that the following is about: its address, or none for the local one.
    pub(super) engine: Option<String>,
    /// Images by id.
    pub(super) images: BTreeMap<String, Image>,
    /// Tags in full form: as given, and the image's id.
    pub(super) tags: BTreeMap<String, (String, String)>,
    /// By id.
    pub(super) containers: BTreeMap<String, Container>,
    /// Ids and names of containers that were removed.
    pub(super) removed: BTreeSet<String>,
    /// By name.
    pub(super) networks: BTreeMap<String, Net>,
    /// What the other engines hold.
    pub(super) elsewhere: BTreeMap<Option<String>, Holding>,

    /// Scripted verdicts: pattern, verdict, time until it is given.
    pub(super) verdicts: Vec<(String, Health, std::time::Duration)>,

    /// By host and repository.
    pub(super) registries: BTreeMap<(String, String), Repository>,
    /// Patterns of `host/repository:tag` that must not move.
    pub(super) immutable: Vec<String>,

    pub(super) remotes: Remotes,
    pub(super) cloud: Cloud,
    pub(super) apps: Apps,
    pub(super) objects: Objects,
    pub(super) pulls: PullRequests,
    pub(super) buckets: Stored,

    /// Commands on their way.
    pub(super) plays: BTreeMap<u64, Play>,
    /// Those of `plays` that have not ended.
    pub(super) running: BTreeSet<u64>,
    /// Keys of `fail-once` that have failed.
    pub(super) failed: BTreeSet<String>,
    /// Markers of host processes, by play.
    pub(super) markers: BTreeMap<u64, String>,

    pub(super) messages: Vec<String>,
    /// Pattern of an image reference, and what a scan of it finds.
    pub(super) reports: Vec<(String, Report)>,
    pub(super) secrets: HashMap<SecretSource, String>,
    /// Values that must not show up anywhere.
    pub(super) known: BTreeSet<Arc<str>>,
}

/// What one engine holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    images: BTreeMap<String, Image>,
    tags: BTreeMap<String, (String, String)>,
    containers: BTreeMap<String, Container>,
    removed: BTreeSet<String>,
    networks: BTreeMap<String, Net>,
}

impl State {
    /// Makes another engine the one at hand.
    pub(super) fn turn_to(&mut self, engine: Option<&str>) {
        if self.engine.as_deref() == engine {
            return;
        }
        let next = engine.map(str::to_owned);
        let holding = self.elsewhere.remove(&next).unwrap_or_default();
        let left = Holding {
            images: std::mem::replace(&mut self.images, holding.images),
            tags: std::mem::replace(&mut self.tags, holding.tags),
            containers: std::mem::replace(&mut self.containers, holding.containers),
            removed: std::mem::replace(&mut self.removed, holding.removed),
            networks: std::mem::replace(&mut self.networks, holding.networks),
        };
        let engine = std::mem::replace(&mut self.engine, next);
        self.elsewhere.insert(engine, left);
    }

    /// Records a breach of a rule.
    pub(super) fn violate(&mut self, rule: Rule, call: &Call, message: impl Into<String>) {
        self.violations.push(Violation {
            rule,
            call: call.name.to_owned(),
            subject: call.subject().to_owned(),
            message: message.into(),
        });
    }

    /// Counts a call and takes the faults that are meant for it.
    pub(super) fn meet(&mut self, call: &Call) -> Vec<Fault> {
        self.calls.push(call.clone());
        let mut taken: Vec<Fault> = Vec::new();
        for rule in &mut self.faults {
            if rule.left == Some(0) || !rule.pattern.matches(call) {
                continue;
            }
            let ends =
                |fault: &Fault| matches!(fault, Fault::Fail { .. } | Fault::LoseAnswer { .. });
            if ends(&rule.fault) && taken.iter().any(ends) {
                continue;
            }
            rule.met = true;
            rule.left = rule.left.map(|left| left - 1);
            taken.push(rule.fault.clone());
        }
        taken
    }

    /// Moves every command on to now.
    pub(super) fn advance(&mut self, now: Instant) {
        let Self {
            plays,
            running,
            disk,
            failed,
            ..
        } = self;
        running.retain(|id| {
            let Some(play) = plays.get_mut(id) else {
                return false;
            };
            play.advance(now, disk, failed);
            play.status.is_none()
        });
    }

    /// Puts a command on its way.
    pub(super) fn begin(&mut self, play: Play) -> u64 {
        let id = self.count();
        self.plays.insert(id, play);
        self.running.insert(id);
        self.advance(Instant::now());
        id
    }

    /// The next of the numbers an engine counts up.
    pub(super) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Notes a secret in texts that are stored or shown.
    pub(super) fn check_leaks<'a>(
        &mut self,
        call: &Call,
        what: &str,
        texts: impl IntoIterator<Item = &'a str>,
    ) {
        let leaks = texts.into_iter().any(|text| {
            self.known
                .iter()
                .any(|secret| secret.len() > 3 && text.contains(&**secret))
        });
        if leaks {
            self.violate(Rule::SecretLeak, call, format!("a secret stands in {what}"));
        }
    }

    /// The tags of an image, as they were given.
    pub(super) fn tags_of(&self, id: &str) -> Vec<String> {
        self.tags
            .values()
            .filter(|(_, image)| image == id)
            .map(|(given, _)| given.clone())
            .collect()
    }

    pub(super) fn local(&self, image: &Image) -> LocalImage {
        image.local(self.tags_of(image.id()))
    }

    /// The verdict scripted for any of some names.
    pub(super) fn verdict(&self, names: &[&str]) -> Option<(Health, std::time::Duration)> {
        self.verdicts
            .iter()
            .rev()
            .find(|(pattern, _, _)| names.iter().any(|name| matches(pattern, name)))
            .map(|(_, health, after)| (*health, *after))
    }
}
