//! The journal on a store in memory and on a real one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use super::*;
use crate::adapters::memory_store::MemoryStore;
use crate::adapters::sqlite::SqliteStore;
use crate::base::StageId;
use crate::event::{Outcome, RunState};
use crate::ports::store::{RunRow, StoreError};

/// A clock that jumps back once in a while.
#[derive(Default)]
struct Jumpy(AtomicI64);

impl Clock for Jumpy {
    fn now(&self) -> Timestamp {
        let ticks = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp(1_000 + ticks - (ticks % 7) * 3)
    }

    fn random(&self) -> u64 {
        4
    }
}

fn run(number: u64) -> RunId {
    RunId::new(number, 0)
}

fn create(run: &RunId) -> Change {
    Change::CreateRun(RunRow {
        run: run.clone(),
        pipeline: "release".into(),
        created: Timestamp(1),
        finished: None,
        outcome: None,
        sha: "0".repeat(40),
        reference: "main".into(),
        upstream: None,
        root: run.clone(),
    })
}

fn started(number: u32) -> Event {
    Event::StageStarted {
        stage: StageId::new("run", &format!("s{number}")),
        attempt: 1,
    }
}

async fn journal(store: Arc<dyn Store>, runs: &[RunId]) -> (Journal, JournalTask) {
    let (journal, task) = Journal::spawn(store, Arc::new(Jumpy::default()));
    let changes = runs.iter().map(create).collect();
    journal.commit(Vec::new(), changes).await.unwrap();
    (journal, task)
}

#[tokio::test]
async fn events_come_back_in_order_with_time_going_forward() {
    let store = Arc::new(MemoryStore::new());
    let (journal, task) = journal(store.clone(), &[run(1), run(2)]).await;
    for number in 0..100 {
        journal.record(&run(1 + u64::from(number) % 2), started(number));
    }
    let seq = journal.record_durable(&run(1), started(100)).await.unwrap();
    assert_eq!(seq, 101);
    drop(journal);
    task.finished().await;
    let events = replay(&*store, &run(1)).unwrap();
    assert_eq!(events.len(), 51);
    assert!(
        events
            .windows(2)
            .all(|two| two[0].seq < two[1].seq && two[0].at <= two[1].at)
    );
    assert_eq!(events[50].event, started(100));
    assert_eq!(RunState::of(&events).stages().len(), 51);
    assert_eq!(tail(&*store, &run(1), 99).unwrap().len(), 1);
    assert!(matches!(
        replay(&*store, &run(3)),
        Err(JournalError::NoRun(_))
    ));
}

#[tokio::test]
async fn a_commit_is_one_transaction() {
    let store = Arc::new(MemoryStore::new());
    let (journal, _task) = journal(store.clone(), &[run(1)]).await;
    // The second event's run does not exist.
    let events = vec![(run(1), started(1)), (run(9), started(2))];
    let error = journal.commit(events, vec![]).await.unwrap_err();
    assert!(error.to_string().contains("there is no run"), "{error}");
    assert!(tail(&*store, &run(1), 0).unwrap().is_empty());
}

#[tokio::test]
async fn after_a_failure_nothing_is_accepted_or_shown() {
    let store = Arc::new(MemoryStore::new());
    let (journal, task) = journal(store.clone(), &[run(1)]).await;
    journal.record_durable(&run(1), started(1)).await.unwrap();
    let mut seen = journal.subscribe(&run(1), 0);
    store.fail_after(0, StoreError::Full("no space left".into()));
    assert!(journal.failed().is_none());
    for number in 2..4 {
        let error = journal.record_durable(&run(1), started(number)).await;
        assert!(
            matches!(error, Err(JournalError::Store(StoreError::Full(_)))),
            "{error:?}"
        );
    }
    journal.record(&run(1), started(4));
    assert!(journal.flush().await.is_err());
    assert!(matches!(
        journal.failed(),
        Some(JournalError::Store(StoreError::Full(_)))
    ));
    drop(journal);
    task.finished().await;
    assert_eq!(seen.next().await.unwrap().unwrap().event, started(1));
    assert!(seen.next().await.unwrap().is_none());
}

#[tokio::test]
async fn subscribers_see_each_event_once_however_slow() {
    let store = Arc::new(MemoryStore::new());
    let (journal, task) = journal(store, &[run(1), run(2)]).await;
    let mut eager = journal.subscribe(&run(1), 0);
    let lazy = journal.subscribe(&run(1), 0);
    let forgotten = journal.subscribe(&run(1), 0);
    let first = journal.record_durable(&run(1), started(0)).await.unwrap();
    assert_eq!(eager.next().await.unwrap().unwrap().seq, first);
    // Several times what the ring holds, mixed with another run.
    let total = 3 * RING as u32;
    let reading = tokio::spawn(async move {
        let mut count = 1;
        while let Some(event) = eager.next().await.unwrap() {
            assert_eq!(event.event, started(count));
            count += 1;
        }
        count
    });
    for number in 1..total {
        journal.record(&run(1), started(number));
        journal.record(&run(2), started(number));
        if number % 100 == 0 {
            journal.flush().await.unwrap();
        }
    }
    let late = journal.subscribe(&run(1), first);
    drop(journal);
    task.finished().await;
    assert_eq!(reading.await.unwrap(), total);
    for (mut subscription, from) in [(lazy, 0), (late, 1)] {
        for number in from..total {
            assert_eq!(
                subscription.next().await.unwrap().unwrap().event,
                started(number)
            );
        }
        assert!(subscription.next().await.unwrap().is_none());
    }
    drop(forgotten);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_waits_for_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path().join("state")).unwrap());
    let began = tokio::time::Instant::now();
    let (journal, _task) = journal(store, &[run(1)]).await;
    let work = async {
        for number in 0..50 {
            journal
                .record_durable(&run(1), started(number))
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(1), work)
        .await
        .unwrap();
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test]
async fn thirty_thousand_events_are_quick() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path().join("state")).unwrap());
    let (journal, task) = journal(store.clone(), &[run(1)]).await;
    let began = Instant::now();
    for number in 0..30_000 {
        journal.record(
            &run(1),
            Event::StageFinished {
                stage: StageId::new("run", &format!("s{number}")),
                outcome: Outcome::Succeeded,
                reason: String::new(),
                outputs: Default::default(),
                allowed: false,
            },
        );
    }
    journal.flush().await.unwrap();
    let took = began.elapsed();
    drop(journal);
    task.finished().await;
    assert_eq!(replay(&*store, &run(1)).unwrap().len(), 30_000);
    // An unoptimized build on a busy machine; an optimized one takes a fraction.
    assert!(took.as_secs_f64() < 5.0, "{took:?}");
    eprintln!("30,000 events took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn events_of_a_busy_run_are_gathered_but_nobody_waits_for_it() {
    let store = Arc::new(MemoryStore::new());
    // Begins with a commit, so the journal is busy.
    let (journal, _task) = journal(store.clone(), &[run(1)]).await;
    let mut seen = journal.subscribe(&run(1), 0);
    let begin = tokio::time::Instant::now();
    journal.record(&run(1), started(1));
    journal.record(&run(1), started(2));
    assert_eq!(seen.next().await.unwrap().unwrap().event, started(1));
    assert_eq!(seen.next().await.unwrap().unwrap().event, started(2));
    assert_eq!(begin.elapsed().as_millis(), 10);

    journal.record(&run(1), started(3));
    journal.record_durable(&run(1), started(4)).await.unwrap();
    assert_eq!(begin.elapsed().as_millis(), 10, "who waits is not held up");

    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let later = tokio::time::Instant::now();
    journal.record(&run(1), started(5));
    for number in 3..=5 {
        assert_eq!(seen.next().await.unwrap().unwrap().event, started(number));
    }
    assert_eq!(
        later.elapsed().as_millis(),
        0,
        "one event alone is written at once"
    );
}
