//! Whether an application has come to where it should be: decided from what it tells of itself.
//! Asks nobody and waits for nothing.
//!
//! Done means: no operation is pending, the last one has ended well, the application was compared
//! with its repository after that, it is synced to our revision or a descendant of it, and healthy.
//! Answers may be older than those before them, so what is gone must be gone several times.

use crate::base::Timestamp;
use crate::ports::gitops::{AppState, Filter, Operation, Resource};

/// How often something must be missing or broken until that counts.
const GONE: u32 = 3;
const BROKEN: u32 = 5;
/// Most resources that are named.
const NAMED: usize = 5;

/// The word by which our operations are found again.
pub(super) const INFO: &str = "pipewright";

/// Where an application is to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Goal {
    /// The revision; what it follows if absent.
    pub(super) revision: Option<String>,
    /// The resources that were asked for; all if empty.
    pub(super) only: Vec<Filter>,
    /// How we start it.
    pub(super) way: Way,
    /// It was degraded before.
    pub(super) degraded: bool,
    /// When the last operation before ours began.
    pub(super) before: Option<Timestamp>,
}

/// Who moves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// The application itself; we wait.
    #[default]
    Itself,
    /// Our operation, which was told this.
    Ours(String),
    /// Our rollback.
    Back,
}

/// How a revision that the application is at relates to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// Ours, or there is none that it must be.
    Same,
    /// Made on top of ours.
    Descendant,
    /// Another, as far as we can tell.
    Other,
}

/// What was seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    missing: u32,
    broken: u32,
    /// It was degraded before, and is not any more.
    healed: bool,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// On its way, and what is still missing.
    Waiting(String),
    /// It is there, at this revision.
    Done,
    /// It came to nothing, and why.
    Failed(String),
}

/// Whether two names of a revision are the same: one may be short.
pub(super) fn same(wanted: &str, found: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    wanted == found
        || (wanted.len() >= 7
            && found.len() >= 7
            && hex(wanted)
            && hex(found)
            && (wanted.starts_with(found) || found.starts_with(wanted)))
}

/// Whether it is there before anything was done.
pub(super) fn is_there(goal: &Goal, app: &AppState, kin: Kin) -> bool {
    let calm = app.operation.as_ref().is_none_or(|op| !op.is_running());
    calm && app.pending.is_none()
        && app.health == "Healthy"
        && kin != Kin::Other
        && out_of_sync(goal, app).is_empty()
        && (app.sync == "Synced" || !goal.only.is_empty())
        && compared(app)
}

/// Whether it was compared after its last operation ended.
fn compared(app: &AppState) -> bool {
    match app.operation.as_ref().and_then(|op| op.finished) {
        Some(finished) => app.reconciled.is_some_and(|at| at >= finished),
        None => true,
    }
}

/// Decides.
pub(super) fn judge(goal: &Goal, app: Option<&AppState>, kin: Kin, seen: &mut Seen) -> Stand {
    let Some(app) = app else {
        seen.missing += 1;
        return match seen.missing {
            GONE.. => Stand::Failed("the application was deleted meanwhile".to_owned()),
            _ => waiting("the application is not told of"),
        };
    };
    seen.missing = 0;
    if app.deleting {
        return Stand::Failed("somebody deletes the application".to_owned());
    }
    seen.healed |= app.health != "Degraded" && !app.health.is_empty();
    if let Some(operation) = &app.operation
        && let Some(stand) = operating(goal, app, operation, kin)
    {
        return stand;
    }
    if app.pending.is_some() {
        return waiting("an operation is about to begin");
    }
    if let Some(why) = broken(app) {
        seen.broken += 1;
        return match seen.broken {
            BROKEN.. => Stand::Failed(why),
            _ => Stand::Waiting(why),
        };
    }
    seen.broken = 0;
    if !compared(app) {
        return waiting("it is not compared with the repository yet");
    }
    settled(goal, app, kin, seen)
}

/// What the operation says; `None` if it has ended well, or is not about us.
fn operating(goal: &Goal, app: &AppState, operation: &Operation, kin: Kin) -> Option<Stand> {
    let newer = operation.started > goal.before;
    let ours = match &goal.way {
        Way::Ours(marker) => operation.was_told(INFO, marker),
        Way::Back => newer,
        Way::Itself => newer && brings(goal, operation),
    };
    if operation.is_running() {
        return Some(waiting(&match (ours, operation.message.as_str()) {
            (true, "") => "its operation is at work".to_owned(),
            (true, message) => message.to_owned(),
            (false, _) => "another operation is at work".to_owned(),
        }));
    }
    if ours {
        return (operation.phase != "Succeeded").then(|| Stand::Failed(why_failed(operation)));
    }
    match goal.way {
        // An answer from before our operation.
        Way::Ours(_) if !newer => Some(waiting("our operation is not told of yet")),
        Way::Ours(_) if app.pending.is_some() => None,
        Way::Ours(_) if kin == Kin::Other || operation.phase != "Succeeded" => {
            let to = operation.revisions.join(", ");
            Some(Stand::Failed(format!(
                "somebody else's operation to {} took the place of ours",
                if to.is_empty() {
                    "another revision"
                } else {
                    &to
                }
            )))
        }
        _ => None,
    }
}

/// Whether an operation brings our revision.
fn brings(goal: &Goal, operation: &Operation) -> bool {
    match &goal.revision {
        Some(wanted) => operation.revisions.iter().any(|found| same(wanted, found)),
        None => true,
    }
}

/// Why an operation failed: the hooks and resources that did, else its own words.
pub(super) fn why_failed(operation: &Operation) -> String {
    let mut parts = Vec::new();
    for result in &operation.results {
        let name = format!("{} {}", result.kind, result.name);
        let words = result.message.trim().trim_end_matches('.');
        let part = match (&result.hook, result.phase.as_str(), result.status.as_str()) {
            (Some(hook), "Failed" | "Error", _) => format!("{hook} hook {name} failed: {words}"),
            (None, _, "SyncFailed") => format!("{name} was not synced: {words}"),
            _ => continue,
        };
        parts.push(part.trim_end_matches(": ").to_owned());
    }
    if parts.is_empty() {
        let words = operation.message.trim().trim_end_matches('.');
        return format!("the sync ended as {}: {words}", operation.phase);
    }
    listed(parts, "; ")
}

/// What keeps it from being compared at all.
fn broken(app: &AppState) -> Option<String> {
    let error = app.conditions.iter().find(|(kind, _)| {
        matches!(
            kind.as_str(),
            "ComparisonError" | "InvalidSpecError" | "UnknownError"
        )
    })?;
    let (kind, message) = error;
    let message = message.trim().trim_end_matches('.');
    let lower = message.to_lowercase();
    let hint = if lower.contains("connection refused") || lower.contains("unavailable") {
        " (its repo-server cannot be reached)"
    } else if lower.contains("unable to resolve") || lower.contains("revision") {
        " (does the repository have that revision?)"
    } else {
        ""
    };
    Some(format!("{kind}: {message}{hint}"))
}

fn settled(goal: &Goal, app: &AppState, kin: Kin, seen: &Seen) -> Stand {
    // What was brought may be another revision than what it is compared with: it follows a branch
    // that has moved on, or we went back.
    let brought = app.operation.as_ref().is_some_and(|op| {
        op.phase == "Succeeded"
            && goal.revision.is_some()
            && brings(goal, op)
            && match &goal.way {
                Way::Ours(marker) => op.was_told(INFO, marker),
                Way::Back => op.started > goal.before,
                Way::Itself => false,
            }
    });
    let elsewhere = brought && !at_ours(goal, app);
    if !elsewhere {
        if kin == Kin::Other {
            return Stand::Waiting(format!(
                "it is at {}, not yet at ours",
                match app.revisions.as_slice() {
                    [] => "no revision".to_owned(),
                    revisions => revisions.join(", "),
                }
            ));
        }
        let missing = out_of_sync(goal, app);
        if !missing.is_empty() {
            return Stand::Waiting(format!("out of sync: {}", listed(missing, ", ")));
        }
        if app.sync != "Synced" && goal.only.is_empty() {
            return Stand::Waiting(format!("it is {}", word(&app.sync, "not compared")));
        }
    }
    match app.health.as_str() {
        "Healthy" => Stand::Done,
        "Degraded" if goal.degraded && !seen.healed => {
            Stand::Waiting(format!("still degraded, as before{}", unhealthy(app)))
        }
        "Degraded" => Stand::Failed(format!("it is degraded{}", unhealthy(app))),
        "Suspended" => Stand::Waiting(format!(
            "it is suspended: a rollout is paused and waits for somebody{}",
            unhealthy(app)
        )),
        health => Stand::Waiting(format!(
            "its health is {}{}",
            word(health, "not known").to_lowercase(),
            unhealthy(app)
        )),
    }
}

/// Whether what it is compared with is our revision.
fn at_ours(goal: &Goal, app: &AppState) -> bool {
    match &goal.revision {
        Some(wanted) => app.revisions.iter().any(|found| same(wanted, found)),
        None => true,
    }
}

fn word<'a>(word: &'a str, none: &'a str) -> &'a str {
    if word.is_empty() { none } else { word }
}

/// Resources that are out of sync, of those we asked for.
fn out_of_sync(goal: &Goal, app: &AppState) -> Vec<String> {
    let asked = |one: &&Resource| {
        goal.only.is_empty()
            || goal.only.iter().any(|filter| {
                filter.kind == one.kind && filter.name == one.name && filter.group == one.group
            })
    };
    app.resources
        .iter()
        .filter(|one| one.sync == "OutOfSync" && !one.hook)
        .filter(asked)
        .map(|one| format!("{} {}", one.kind, one.name))
        .collect()
}

fn unhealthy(app: &AppState) -> String {
    let bad = |one: &&Resource| !matches!(one.health.as_str(), "" | "Healthy");
    let mut parts: Vec<String> = app
        .resources
        .iter()
        .filter(bad)
        .map(|one| {
            let words = one.message.trim().trim_end_matches('.');
            let health = one.health.to_lowercase();
            match words {
                "" => format!("{} {} is {health}", one.kind, one.name),
                words => format!("{} {} is {health}: {words}", one.kind, one.name),
            }
        })
        .collect();
    if parts.is_empty() && !app.health_message.is_empty() {
        parts.push(app.health_message.clone());
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!(" ({})", listed(parts, "; ")),
    }
}

fn listed(mut parts: Vec<String>, between: &str) -> String {
    let more = parts.len().saturating_sub(NAMED);
    parts.truncate(NAMED);
    let mut text = parts.join(between);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn waiting(why: &str) -> Stand {
    Stand::Waiting(why.to_owned())
}
