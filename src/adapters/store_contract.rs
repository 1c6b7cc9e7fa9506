//! What every store must do, checked on each of them.

use std::sync::Arc;

use super::memory_store::MemoryStore;
use super::sqlite::SqliteStore;
use crate::base::{RunId, Timestamp};
use crate::ports::store::{Change, NewEvent, RunRow, Store, StoreError};

fn on_every_store(check: impl Fn(Arc<dyn Store>)) {
    check(Arc::new(MemoryStore::new()));
    let dir = tempfile::tempdir().unwrap();
    check(Arc::new(
        SqliteStore::open(dir.path().join("state")).unwrap(),
    ));
}

fn run(number: u64) -> RunId {
    RunId::new(1_700_000_000_000 + number, number as u32)
}

fn row(number: u64) -> RunRow {
    RunRow {
        run: run(number),
        pipeline: if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        }
        .into(),
        created: Timestamp(number as i64),
        finished: None,
        outcome: None,
        sha: "f".repeat(40),
        reference: "main".into(),
        upstream: (number > 2).then(|| run(1)),
        root: run(1),
    }
}

fn event(number: u64, json: &str) -> NewEvent {
    NewEvent {
        at: Timestamp(5),
        run: run(number),
        json: json.into(),
    }
}

fn names(rows: Vec<RunRow>) -> Vec<RunId> {
    rows.into_iter().map(|row| row.run).collect()
}

#[test]
fn events_are_kept_in_order_for_each_run() {
    on_every_store(|store| {
        let events = [event(1, "a"), event(2, "b"), event(1, "c")];
        let changes = [Change::CreateRun(row(1)), Change::CreateRun(row(2))];
        assert_eq!(store.append(&events, &changes).unwrap(), [1, 2, 3]);
        assert_eq!(store.append(&[event(1, "d")], &[]).unwrap(), [4]);
        assert!(store.append(&[], &[]).unwrap().is_empty());
        let read = store.events(&run(1), 0, 10).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|event| (event.seq, event.json.as_str()))
            .collect();
        assert_eq!(read, [(1, "a"), (3, "c"), (4, "d")]);
        assert_eq!(store.events(&run(1), 1, 1).unwrap()[0].seq, 3);
        assert!(store.events(&run(1), u64::MAX, 1).unwrap().is_empty());
        assert!(store.events(&run(7), 0, usize::MAX).unwrap().is_empty());
    });
}

#[test]
fn a_refused_batch_leaves_nothing() {
    on_every_store(|store| {
        store.append(&[], &[Change::CreateRun(row(1))]).unwrap();
        let fact = Change::SetFact {
            scope: "s".into(),
            key: "k".into(),
            value: "v".into(),
        };
        for (events, change) in [
            (vec![event(1, "a"), event(9, "b")], fact.clone()),
            (vec![event(1, "a")], Change::CreateRun(row(1))),
            (vec![event(1, "a")], Change::ReopenRun(run(9))),
        ] {
            let error = store.append(&events, &[fact.clone(), change]).unwrap_err();
            assert!(matches!(error, StoreError::Broken(_)), "{error}");
        }
        assert!(store.events(&run(1), 0, 10).unwrap().is_empty());
        assert_eq!(store.fact("s", "k").unwrap(), None);
        assert_eq!(store.append(&[event(1, "a")], &[fact]).unwrap(), [1]);
        assert_eq!(store.fact("s", "k").unwrap().as_deref(), Some("v"));
    });
}

#[test]
fn runs_are_listed_and_found() {
    on_every_store(|store| {
        let changes: Vec<Change> = (1..=14).map(|n| Change::CreateRun(row(n))).collect();
        store.append(&[], &changes).unwrap();
        assert_eq!(
            names(store.runs(None, 3).unwrap()),
            [run(14), run(13), run(12)]
        );
        assert_eq!(
            names(store.runs(Some("odd"), 2).unwrap()),
            [run(13), run(11)]
        );
        assert_eq!(store.run(&run(3)).unwrap(), Some(row(3)));
        assert_eq!(store.run(&run(99)).unwrap(), None);
        assert_eq!(
            names(store.chained(&run(1)).unwrap())[..2],
            [run(3), run(4)]
        );
        assert_eq!(names(store.runs_ending(run(5).short()).unwrap()), [run(5)]);
        assert_eq!(names(store.runs_ending(run(5).as_str()).unwrap()), [run(5)]);
        assert_eq!(store.runs_ending("").unwrap().len(), 10);
        for wrong in ["%", "zzzzzz", &format!("0{}", run(5)), "'"] {
            assert!(store.runs_ending(wrong).unwrap().is_empty(), "{wrong}");
        }
        assert_eq!(store.unfinished().unwrap().len(), 14);
        let finish = Change::FinishRun {
            run: run(1),
            at: Timestamp(77),
            outcome: "failed".into(),
        };
        store.append(&[], &[finish]).unwrap();
        assert_eq!(names(store.unfinished().unwrap())[0], run(2));
        let finished = store.run(&run(1)).unwrap().unwrap();
        assert_eq!(
            (finished.finished, finished.outcome.as_deref()),
            (Some(Timestamp(77)), Some("failed"))
        );
        store.append(&[], &[Change::ReopenRun(run(1))]).unwrap();
        assert_eq!(store.run(&run(1)).unwrap(), Some(row(1)));
    });
}

#[test]
fn the_first_cancel_counts_until_the_run_is_reopened() {
    on_every_store(|store| {
        assert!(store.request_cancel(&run(1), "me").is_err());
        store.append(&[], &[Change::CreateRun(row(1))]).unwrap();
        assert_eq!(store.cancel_requested(&run(1)).unwrap(), None);
        store.request_cancel(&run(1), "alice").unwrap();
        store.request_cancel(&run(1), "bob").unwrap();
        assert_eq!(
            store.cancel_requested(&run(1)).unwrap().as_deref(),
            Some("alice")
        );
        store.append(&[], &[Change::ReopenRun(run(1))]).unwrap();
        assert_eq!(store.cancel_requested(&run(1)).unwrap(), None);
    });
}

#[test]
fn blobs_are_kept_by_content() {
    on_every_store(|store| {
        let bytes = b"definition".repeat(1000);
        let digest = store.put_blob(&bytes).unwrap();
        assert_eq!(digest.len(), 64);
        assert_eq!(store.put_blob(&bytes).unwrap(), digest);
        assert_eq!(store.blob(&digest).unwrap().as_deref(), Some(&bytes[..]));
        let empty = store.put_blob(b"").unwrap();
        assert_eq!(store.blob(&empty).unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(store.blob("no digest").unwrap(), None);
    });
}

#[test]
fn a_run_is_held_once() {
    on_every_store(|store| {
        assert!(!store.is_held(&run(1)).unwrap());
        let hold = store.hold_run(&run(1)).unwrap();
        assert!(store.is_held(&run(1)).unwrap());
        let error = store.hold_run(&run(1)).map(drop).unwrap_err();
        assert!(
            matches!(&error, StoreError::Held(text) if text.contains("pipewright cancel")),
            "{error}"
        );
        let _other = store.hold_run(&run(2)).unwrap();
        drop(hold);
        assert!(!store.is_held(&run(1)).unwrap());
        drop(store.hold_run(&run(1)).unwrap());
    });
}

#[test]
fn a_group_admits_in_order() {
    on_every_store(|store| {
        let enter = |order: &str| store.enter_group("prod/../x", 1, order).unwrap();
        let first = enter("5").unwrap();
        assert!(enter("7").is_none());
        assert!(enter("3").is_none());
        assert!(enter("7").is_none());
        drop(first);
        // 7 came first, but 3 goes first.
        assert!(enter("7").is_none());
        let third = enter("3").unwrap();
        assert!(enter("4").is_none());
        drop(third);
        assert!(enter("7").is_none());
        store.leave_group("prod/../x", "4");
        store.leave_group("prod/../x", "4");
        drop(enter("7").unwrap());
        assert!(store.enter_group("other", 1, "9").unwrap().is_some());
    });
}

#[test]
fn the_smallest_limit_of_a_group_holds() {
    on_every_store(|store| {
        let enter = |limit, order: &str| store.enter_group("g", limit, order).unwrap();
        let a = enter(3, "a").unwrap();
        let b = enter(3, "b").unwrap();
        // There is a third place, but not for one who accepts only two.
        assert!(enter(2, "c").is_none());
        // And while that one waits, for nobody else.
        assert!(enter(3, "d").is_none());
        store.leave_group("g", "c");
        let d = enter(3, "d").unwrap();
        assert!(enter(0, "e").is_none());
        drop((a, b));
        assert!(enter(0, "e").is_none());
        drop(d);
        assert!(enter(0, "e").is_some());
    });
}

#[test]
fn a_log_is_read_from_any_offset() {
    on_every_store(|store| {
        assert!(store.log(&run(1), "run.test", 0, 10).unwrap().is_empty());
        let mut writer = store.log_writer(&run(1), "run.test").unwrap();
        writer.flush().unwrap();
        writer.write(b"one\n").unwrap();
        writer.flush().unwrap();
        assert_eq!(store.log(&run(1), "run.test", 0, 10).unwrap(), b"one\n");
        writer.write(b"two\n").unwrap();
        drop(writer);
        let mut writer = store.log_writer(&run(1), "run.test").unwrap();
        writer.write(b"three\n").unwrap();
        writer.flush().unwrap();
        assert_eq!(store.log(&run(1), "run.test", 2, 5).unwrap(), b"e\ntwo");
        assert_eq!(store.log(&run(1), "run.test", 8, 99).unwrap(), b"three\n");
        assert!(store.log(&run(1), "run.test", 14, 9).unwrap().is_empty());
        assert!(
            store
                .log(&run(1), "run.test", u64::MAX, 9)
                .unwrap()
                .is_empty()
        );
        assert!(store.log(&run(1), "run.other", 0, 9).unwrap().is_empty());
    });
}

#[test]
fn a_store_in_memory_can_be_full() {
    let store = MemoryStore::new();
    store.fail_after(1, StoreError::Full("no space".into()));
    store.append(&[], &[Change::CreateRun(row(1))]).unwrap();
    let error = store.append(&[event(1, "a")], &[]).unwrap_err();
    assert!(matches!(error, StoreError::Full(_)));
    assert!(store.put_blob(b"x").is_err());
    let mut log = store.log_writer(&run(1), "x").unwrap();
    log.write(b"x").unwrap();
    assert!(log.flush().is_err());
}
