//! What bumps wrote and what was taken back, as facts in the store, by place and value.
//!
//! The history of a shallow clone knows neither. One fact per place and per value taken back.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::guard::Change;
use crate::ports::store::{self, Store, StoreError, StoreReader};
use crate::ports::vcs::Remote;

/// Facts about what was written last at a place.
const WROTE: &str = "bump-wrote";
/// Facts about values that a rollback took away from a place.
const HELD: &str = "bump-held";

/// Facts about where we left a branch of ours.
const BRANCH: &str = "bump-branch";

/// The commit at which we left a branch of a pull request.
pub(super) fn left_at(
    store: &dyn StoreReader,
    branch: &Remote,
) -> Result<Option<String>, StoreError> {
    read(store, BRANCH, &format!("{}#{}", branch.url, branch.branch))
}

/// Notes where we left a branch of a pull request.
pub(super) fn leave_at(store: &dyn Store, branch: &Remote, commit: &str) -> Result<(), StoreError> {
    let key = format!("{}#{}", branch.url, branch.branch);
    set(store, fact(BRANCH, key, &commit).into_iter().collect())
}

/// What a bump wrote last at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrote {
    /// The run.
    pub run: String,
    /// Its commit.
    pub commit: String,
    /// The value it replaced.
    pub before: String,
    /// The value it wrote.
    pub after: String,
}

/// That a value was taken away from a place by a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The run that took it back.
    pub run: String,
    /// Its commit.
    pub commit: String,
}

/// Where a value stands.
fn place(remote: &Remote, change: &Change) -> String {
    format!(
        "{}#{}\n{}\n{}",
        remote.url, remote.branch, change.file, change.path
    )
}

fn read<T: DeserializeOwned>(
    store: &dyn StoreReader,
    scope: &str,
    key: &str,
) -> Result<Option<T>, StoreError> {
    // What cannot be read was written by another version, and is no reason to stop.
    let fact = store.fact(scope, key)?;
    Ok(fact.and_then(|fact| serde_json::from_str(&fact).ok()))
}

/// What was written last where a change would be made.
pub(super) fn wrote(
    store: &dyn StoreReader,
    remote: &Remote,
    change: &Change,
) -> Result<Option<Wrote>, StoreError> {
    read(store, WROTE, &place(remote, change))
}

/// Whether a rollback took away the value that a change would write (`after`): it must not be
/// written there again by itself, nor chosen by whoever watches a registry.
pub fn held(
    store: &dyn StoreReader,
    remote: &Remote,
    change: &Change,
) -> Result<Option<Held>, StoreError> {
    let key = format!("{}\n{}", place(remote, change), change.after);
    read(store, HELD, &key)
}

fn fact(scope: &str, key: String, value: &impl Serialize) -> Option<store::Change> {
    Some(store::Change::SetFact {
        scope: scope.to_owned(),
        key,
        value: serde_json::to_string(value).ok()?,
    })
}

/// Notes what a commit of a run wrote.
pub(super) fn note(
    store: &dyn Store,
    remote: &Remote,
    run: &str,
    commit: &str,
    changes: &[Change],
) -> Result<(), StoreError> {
    let facts = changes.iter().filter_map(|change| {
        let wrote = Wrote {
            run: run.to_owned(),
            commit: commit.to_owned(),
            before: change.before.clone(),
            after: change.after.clone(),
        };
        fact(WROTE, place(remote, change), &wrote)
    });
    set(store, facts.collect())
}

/// Notes that what an earlier run wrote was taken back.
pub(super) fn hold(
    store: &dyn Store,
    remote: &Remote,
    run: &str,
    commit: &str,
    undone: &[Change],
) -> Result<(), StoreError> {
    let held = Held {
        run: run.to_owned(),
        commit: commit.to_owned(),
    };
    let facts = undone.iter().filter_map(|change| {
        let key = format!("{}\n{}", place(remote, change), change.after);
        fact(HELD, key, &held)
    });
    set(store, facts.collect())
}

fn set(store: &dyn Store, facts: Vec<store::Change>) -> Result<(), StoreError> {
    if facts.is_empty() {
        return Ok(());
    }
    store.append(&[], &facts).map(drop)
}
