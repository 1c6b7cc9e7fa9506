//! Reads events back.

use serde::Deserialize;

use super::JournalError;
use crate::base::RunId;
use crate::event::{self, Event, Recorded};
use crate::ports::store::{StoreReader, StoredEvent};

/// Events read from the store at once.
pub(super) const PAGE: usize = 2048;

/// Types this version knows; see the test beside [`decode`].
const TYPES: [&str; 12] = [
    "run-created",
    "run-started",
    "stage-started",
    "intent",
    "effect",
    "stage-retried",
    "stage-waiting",
    "stage-finished",
    "warning",
    "cancel-requested",
    "chain-created",
    "run-finished",
];

/// All events of a run, oldest first.
pub fn replay(store: &dyn StoreReader, run: &RunId) -> Result<Vec<Recorded>, JournalError> {
    let events = tail(store, run, 0)?;
    if events.is_empty() {
        return Err(JournalError::NoRun(run.clone()));
    }
    Ok(events)
}

/// The events of a run after a place in the journal, oldest first; none at its present end.
pub fn tail(
    store: &dyn StoreReader,
    run: &RunId,
    after: u64,
) -> Result<Vec<Recorded>, JournalError> {
    let mut events = Vec::new();
    let mut after = after;
    loop {
        let page = page(store, run, after)?;
        let Some(last) = page.last() else {
            return Ok(events);
        };
        after = last.seq;
        let complete = page.len() < PAGE;
        events.extend(page);
        if complete {
            return Ok(events);
        }
    }
}

/// The next events of a run, at most [`PAGE`].
pub(super) fn page(
    store: &dyn StoreReader,
    run: &RunId,
    after: u64,
) -> Result<Vec<Recorded>, JournalError> {
    let stored = store.events(run, after, PAGE)?;
    stored.into_iter().map(decode).collect()
}

/// What every version's events have.
#[derive(Deserialize)]
struct Outline {
    #[serde(rename = "type")]
    kind: String,
    version: Option<u64>,
}

fn decode(stored: StoredEvent) -> Result<Recorded, JournalError> {
    let StoredEvent { seq, at, run, json } = stored;
    match serde_json::from_str::<Event>(&json) {
        Ok(Event::RunCreated(created)) if created.version > event::VERSION => {
            Err(too_new(run, u64::from(created.version)))
        }
        Ok(event) => Ok(Recorded {
            seq,
            at,
            run,
            event,
        }),
        Err(error) => Err(explain(run, seq, &json, &error)),
    }
}

/// Why an event cannot be read: a newer version, or damage.
fn explain(run: RunId, seq: u64, json: &str, error: &serde_json::Error) -> JournalError {
    match serde_json::from_str::<Outline>(json) {
        Ok(Outline {
            version: Some(found),
            ..
        }) if found > u64::from(event::VERSION) => too_new(run, found),
        Ok(Outline { kind, .. }) if !TYPES.contains(&kind.as_str()) => JournalError::UnknownEvent {
            run,
            seq,
            kind: kind.chars().take(80).collect(),
        },
        _ => JournalError::Damaged {
            run,
            seq,
            message: error.to_string(),
        },
    }
}

fn too_new(run: RunId, found: u64) -> JournalError {
    JournalError::TooNew {
        run,
        found,
        known: event::VERSION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    fn stored(json: &str) -> StoredEvent {
        StoredEvent {
            seq: 7,
            at: Timestamp(1),
            run: RunId::new(1, 1),
            json: json.to_owned(),
        }
    }

    #[track_caller]
    fn check(json: &str, expect: &str) {
        let error = decode(stored(json)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert!(error.contains(RunId::new(1, 1).as_str()), "{error}");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        check(
            r#"{"type":"stage-teleported","stage":"a"}"#,
            "unknown type \"stage-teleported\"",
        );
        check(
            r#"{"type":"run-created","version":99,"whole":"different"}"#,
            "format 99",
        );
        check(r#"{"type":"run-started"}"#, "event 7");
        check(r#"{"type":"run-st"#, "damaged");
        check("", "damaged");
    }

    #[test]
    fn the_known_types_are_all_types() {
        for kind in TYPES {
            let json = format!(r#"{{"type":"{kind}"}}"#);
            let error = serde_json::from_str::<Event>(&json)
                .unwrap_err()
                .to_string();
            assert!(!error.contains("unknown variant"), "{error}");
        }
        let error = serde_json::from_str::<Event>(r#"{"type":"?"}"#).unwrap_err();
        let listed = error.to_string().matches('`').count() / 2 - 1;
        assert_eq!(listed, TYPES.len(), "{error}");
    }
}
