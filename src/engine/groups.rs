//! Concurrency groups: who may be in at once, across runs and processes.

use std::time::Duration;

use crate::base::{Digest, RunId};
use crate::ports::store::{Change, Hold, Store, StoreError};
use crate::stage::common::{Concurrency, Mode};
use tokio_util::sync::CancellationToken;

/// How often those who wait look again.
const POLL: Duration = Duration::from_millis(200);

/// A place in a group; given back when dropped.
pub(super) struct Place(#[expect(dead_code, reason = "held, not read")] Box<dyn Hold>);

/// How waiting for a group ended.
pub(super) enum Entry {
    /// In.
    Place(Place),
    /// A newer one came, and only the newest waits.
    Superseded(String),
    /// The run was cancelled meanwhile.
    Cancelled,
}

/// The facts by which processes tell each other who is who in a group.
const NEWEST: &str = "group-newest";
const HOLDER: &str = "group-holder";
const LAST: &str = "group-success";

/// Enters a group, waiting as its mode says. `wait` is called once if there is no place yet.
pub(super) async fn enter(
    store: &dyn Store,
    group: &Concurrency,
    run: &RunId,
    root: &RunId,
    ticket: &str,
    cancel: &CancellationToken,
    mut wait: impl FnMut(),
) -> Result<Entry, StoreError> {
    let name = &group.group.value;
    // Runs queue in the order their chains began; the ticket tells stages of one run apart.
    let age = format!("{root} {run}");
    let order = format!("{age} {}", &Digest::of(ticket.as_bytes()).hex()[..8]);
    // Stages of one run are equally new: none of them makes another pointless.
    if group.mode != Mode::Queue && store.fact(NEWEST, name)?.is_none_or(|newest| newest < age) {
        set(store, NEWEST, name, &age)?;
    }
    let mut waited = false;
    loop {
        if let Some(hold) = store.enter_group(name, group.limit, &order)? {
            set(store, HOLDER, name, run.as_str())?;
            return Ok(Entry::Place(Place(hold)));
        }
        if !std::mem::replace(&mut waited, true) {
            wait();
        }
        if group.mode != Mode::Queue
            && let Some(newest) = store.fact(NEWEST, name)?
            && newest > age
        {
            store.leave_group(name, &order);
            let newer = newest.split(' ').nth(1).unwrap_or(&newest);
            return Ok(Entry::Superseded(format!(
                "superseded by run {newer} in group {name}"
            )));
        }
        if group.mode == Mode::Cancel
            && let Some(holder) = store.fact(HOLDER, name)?
            && let Ok(holder) = holder.parse::<RunId>()
            && holder != *run
        {
            store.request_cancel(
                &holder,
                &format!("run {run}, which takes its place in group {name}"),
            )?;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = cancel.cancelled() => {
                store.leave_group(name, &order);
                return Ok(Entry::Cancelled);
            }
        }
    }
}

fn set(store: &dyn Store, scope: &str, key: &str, value: &str) -> Result<(), StoreError> {
    let change = Change::SetFact {
        scope: scope.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    store.append(&[], &[change]).map(drop)
}

/// The newer run whose success makes an older bump or deployment pointless, if there is one.
pub(super) fn superseded(
    store: &dyn Store,
    group: &str,
    stage: &str,
    root: &RunId,
) -> Result<Option<String>, StoreError> {
    let last = store.fact(LAST, &format!("{group} {stage}"))?;
    Ok(last.filter(|last| last.as_str() > root.as_str()))
}

/// The change that records a success in a group.
pub(super) fn success(group: &str, stage: &str, root: &RunId) -> Change {
    Change::SetFact {
        scope: LAST.to_owned(),
        key: format!("{group} {stage}"),
        value: root.to_string(),
    }
}
