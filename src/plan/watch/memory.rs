//! What a watch remembers of the sets it started runs for, kept as a fact of the store: the fact
//! and the run it speaks of are written in one transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::choose::Past;
use crate::base::{Digest, RunId, Timestamp};
use crate::event::Chosen;
use crate::pipeline::Watch;
use crate::ports::store::{Change, StoreError, StoreReader};

/// The scope of facts that tell what watches have started.
pub const WATCHED: &str = "watch";

/// Sets that are remembered. Older ones cannot come back where tags have an order.
const SETS: usize = 500;
const HELD: usize = 1_000;

/// What one watch of one pipeline remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Memory {
    /// Sets a run was started for, oldest first.
    pub sets: Vec<Started>,
    /// What runs now, by image.
    pub current: BTreeMap<String, Chosen>,
    /// What was rolled back and is not chosen again by itself.
    pub held: Vec<Held>,
    /// Rollbacks up to this moment are accounted for.
    pub until: Timestamp,
}

/// A set and the run that was started for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The run.
    pub run: RunId,
    /// When it was started.
    pub at: Timestamp,
    /// The set.
    pub set: BTreeMap<String, Chosen>,
}

/// A choice that somebody took back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The image.
    pub image: String,
    /// Its tag.
    pub tag: String,
    /// What the tag stood for.
    pub digest: String,
    /// The run that took it back.
    pub by: RunId,
}

/// A run that went back to what an earlier one had delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// The run.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// What it meant by that.
    pub way: Way,
}

/// The two ways back. Each names the first run of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To what this run had deployed: all that was started since is held.
    To(RunId),
    /// Away from what this run had written: that alone is held.
    From(RunId),
}

impl Memory {
    /// What is remembered for a watch of a pipeline.
    pub fn read(
        store: &dyn StoreReader,
        pipeline: &str,
        watch: &Watch,
    ) -> Result<Self, StoreError> {
        let key = key(pipeline, watch);
        let Some(text) = store.fact(WATCHED, &key)? else {
            return Ok(Self::default());
        };
        // Whoever forgets would start everything again.
        serde_json::from_str(&text).map_err(|error| {
            StoreError::Broken(format!(
                "what watch {key} remembers cannot be read: {error}"
            ))
        })
    }

    /// The change that keeps it.
    pub fn keep(&self, pipeline: &str, watch: &Watch) -> Change {
        Change::SetFact {
            scope: WATCHED.to_owned(),
            key: key(pipeline, watch),
            value: serde_json::to_string(self).expect("names and numbers can always be written"),
        }
    }

    /// The run that was started for a set of digests, if one was.
    pub fn started(&self, set: &BTreeMap<String, Chosen>) -> Option<&RunId> {
        let same = |started: &&Started| {
            started.set.len() == set.len()
                && started
                    .set
                    .iter()
                    .zip(set)
                    .all(|((a, x), (b, y))| a == b && x.digest == y.digest)
        };
        self.sets
            .iter()
            .rev()
            .find(same)
            .map(|started| &started.run)
    }

    /// Remembers that a run is started for a set.
    pub fn start(&mut self, run: RunId, at: Timestamp, set: BTreeMap<String, Chosen>) {
        self.current.clone_from(&set);
        self.sets.push(Started { run, at, set });
        let surplus = self.sets.len().saturating_sub(SETS);
        self.sets.drain(..surplus);
    }

    /// Takes rollbacks into account: what they went back from is held. True if any of them is about
    /// this watch.
    pub fn learn(&mut self, mut rollbacks: Vec<WentBack>) -> bool {
        rollbacks.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.run.cmp(&b.run)));
        // Two of one moment are two all the same.
        let until = self.until;
        let mut changed = false;
        for back in rollbacks {
            if back.at <= until {
                continue;
            }
            self.until = back.at;
            changed |= match &back.way {
                Way::To(run) => self.go_to(run, &back),
                Way::From(run) => self.go_from(run, &back),
            };
        }
        let surplus = self.held.len().saturating_sub(HELD);
        self.held.drain(..surplus);
        changed
    }

    fn position(&self, run: &RunId) -> Option<usize> {
        self.sets.iter().position(|started| started.run == *run)
    }

    fn go_to(&mut self, run: &RunId, back: &WentBack) -> bool {
        let Some(at) = self.position(run) else {
            return false;
        };
        let target = self.sets[at].set.clone();
        let later: Vec<Started> = self.sets[at + 1..]
            .iter()
            .filter(|started| started.at <= back.at)
            .cloned()
            .collect();
        for started in later {
            self.hold(started.set, &target, &back.run);
        }
        self.current.extend(target);
        true
    }

    fn go_from(&mut self, run: &RunId, back: &WentBack) -> bool {
        let Some(at) = self.position(run) else {
            return false;
        };
        let taken = self.sets[at].set.clone();
        // What is there now: the newest set before it of which nothing was taken back.
        let before = self.sets[..at].iter().rev().find(|started| {
            let mut chosen = started.set.iter();
            !chosen.any(|(image, chosen)| self.holds(image, chosen))
        });
        let before = before.map(|started| started.set.clone());
        let before = before.unwrap_or_default();
        for (image, chosen) in &taken {
            if self.current.get(image) != Some(chosen) {
                continue;
            }
            match before.get(image) {
                Some(earlier) => self.current.insert(image.clone(), earlier.clone()),
                None => self.current.remove(image),
            };
        }
        self.hold(taken, &before, &back.run);
        true
    }

    fn holds(&self, image: &str, chosen: &Chosen) -> bool {
        self.held.iter().any(|held| {
            held.image == image && held.tag == chosen.tag && held.digest == chosen.digest
        })
    }

    /// Holds what is in a set and not in the one that was gone back to.
    fn hold(&mut self, set: BTreeMap<String, Chosen>, kept: &BTreeMap<String, Chosen>, by: &RunId) {
        for (image, chosen) in set {
            let stays = kept
                .get(&image)
                .is_some_and(|to| to.digest == chosen.digest && to.tag == chosen.tag);
            if !stays && !self.holds(&image, &chosen) {
                self.held.push(Held {
                    image,
                    tag: chosen.tag,
                    digest: chosen.digest,
                    by: by.clone(),
                });
            }
        }
    }

    /// What a choice has to know of it.
    pub fn past(&self) -> Past {
        let held = self.held.iter().map(|held| {
            (
                held.image.clone(),
                held.tag.clone(),
                held.digest.clone(),
                held.by.clone(),
            )
        });
        Past {
            current: self.current.clone(),
            held: held.collect(),
        }
    }
}

/// Pipeline and images: at most one watch of a pipeline has the same. Many images make a long name.
fn key(pipeline: &str, watch: &Watch) -> String {
    let images: Vec<&str> = watch.names().collect();
    let images = images.join(" ");
    if images.len() <= 200 {
        return format!("{pipeline} {images}");
    }
    let digest = Digest::of(images.as_bytes());
    format!("{pipeline} {}", digest.hex())
}
