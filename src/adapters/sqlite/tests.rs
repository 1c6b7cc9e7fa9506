//! What is particular to the state directory. The common contract is in `store_contract`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::base::Timestamp;
use crate::ports::store::{LAST_SUCCESS, Retention, RunRow, StoreReader};

fn store() -> (tempfile::TempDir, SqliteStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("state")).unwrap();
    (dir, store)
}

fn run(number: u64) -> RunId {
    RunId::new(number, 0)
}

fn create(number: u64, pipeline: &str) -> Change {
    Change::CreateRun(RunRow {
        run: run(number),
        pipeline: pipeline.into(),
        created: Timestamp(number as i64),
        finished: None,
        outcome: None,
        sha: String::new(),
        reference: String::new(),
        upstream: None,
        root: run(number),
    })
}

fn finish(number: u64, outcome: &str) -> Change {
    Change::FinishRun {
        run: run(number),
        at: Timestamp(1),
        outcome: outcome.into(),
    }
}

fn sql(store: &SqliteStore, text: &str) {
    rusqlite::Connection::open(store.dir().join(DATABASE))
        .unwrap()
        .execute_batch(text)
        .unwrap();
}

#[test]
fn opening_makes_a_private_ignored_directory_and_is_quick() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/state");
    let quickest = (0..5)
        .map(|_| {
            let began = Instant::now();
            drop(SqliteStore::open(&state).unwrap());
            began.elapsed()
        })
        .min()
        .unwrap();
    assert!(quickest.as_millis() < 3, "{quickest:?}");
    assert_eq!(fs::read_to_string(state.join(".gitignore")).unwrap(), "*\n");
    let mode = fs::metadata(&state).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(!state.join(DATABASE).exists());
}

#[test]
fn a_reader_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert!(SqliteStore::open_existing(&state).is_none());
    assert!(!state.exists());
    fs::create_dir(&state).unwrap();
    assert!(SqliteStore::open_existing(&state).is_none());
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);

    let writer = SqliteStore::open(&state).unwrap();
    writer.append(&[], &[create(1, "p")]).unwrap();
    let reader = SqliteStore::open_existing(&state).unwrap();
    assert_eq!(reader.runs(None, 9).unwrap().len(), 1);
    // `cancel` only finds a state; it writes all the same.
    reader.request_cancel(&run(1), "me").unwrap();
    assert_eq!(
        writer.cancel_requested(&run(1)).unwrap().as_deref(),
        Some("me")
    );
}

#[test]
fn newer_foreign_and_damaged_databases_are_refused() {
    let (_dir, store) = store();
    store.append(&[], &[create(1, "p")]).unwrap();
    sql(&store, "PRAGMA user_version = 99");
    let reopened = SqliteStore::open(store.dir()).unwrap();
    let error = reopened.runs(None, 1).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooNew {
                found: 99,
                known: db::KNOWN
            }
        ),
        "{error}"
    );

    sql(&store, "PRAGMA user_version = 1; PRAGMA application_id = 5");
    let error = reopened.runs(None, 1).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");

    let (_dir, store) = self::store();
    fs::write(
        store.dir().join(DATABASE),
        "this is no database at all ".repeat(400),
    )
    .unwrap();
    let error = store.append(&[], &[create(1, "p")]).unwrap_err();
    assert!(error.to_string().contains("move it away"), "{error}");
}

#[test]
fn many_openers_make_one_schema() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let state = &state;
            scope.spawn(move || {
                let store = SqliteStore::open(state).unwrap();
                for number in 0..20 {
                    let number = thread * 100 + number;
                    let event = NewEvent {
                        at: Timestamp(0),
                        run: run(number),
                        json: "{}".into(),
                    };
                    store.append(&[event], &[create(number, "p")]).unwrap();
                }
            });
        }
    });
    let store = SqliteStore::open(&state).unwrap();
    assert_eq!(store.runs(None, 999).unwrap().len(), 160);
    let mut seqs: Vec<u64> = (0..800)
        .flat_map(|number| store.events(&run(number), 0, 9).unwrap())
        .map(|event| event.seq)
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=160).collect::<Vec<u64>>());
}

#[test]
fn silent_stages_make_no_file_and_short_ones_a_small_one() {
    let (_dir, store) = store();
    for number in 0..200 {
        let mut writer = store
            .log_writer(&run(1), &format!("run.s{number}"))
            .unwrap();
        writer.write(b"").unwrap();
        writer.flush().unwrap();
    }
    assert!(!store.logs().exists());
    let mut writer = store.log_writer(&run(1), "run.short").unwrap();
    writer.write(b"a few lines\n").unwrap();
    drop(writer);
    let files: Vec<_> = fs::read_dir(store.logs().join(run(1).as_str()))
        .unwrap()
        .collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].as_ref().unwrap().metadata().unwrap().len() < 100);
}

#[test]
fn log_names_cannot_leave_their_directory() {
    let (_dir, store) = store();
    for name in ["", "..", "a/b", ".hidden", "a\0b", &"x".repeat(300)] {
        assert!(store.log_writer(&run(1), name).is_err(), "{name}");
        assert!(store.log(&run(1), name, 0, 1).is_err(), "{name}");
    }
}

#[test]
fn shared_pieces_and_copied_ones_keep_their_order() {
    let (_dir, store) = store();
    let total = 8_000_000;
    let text = Bytes::from(pattern(0, total));
    let mut writer = store.log_writer(&run(1), "run.flood").unwrap();
    let mut at = 0;
    for step in [1, 100, 140_000, 131_071, 131_072, 3, 262_144, 700_001]
        .iter()
        .cycle()
    {
        let end = (at + step).min(total);
        let piece = text.slice(at..end);
        if step % 3 == 0 {
            writer.write(&piece).unwrap();
        } else {
            writer.write_shared(&piece).unwrap();
        }
        at = end;
        if at == total {
            break;
        }
    }
    writer.flush().unwrap();
    assert!(store.log(&run(1), "run.flood", 0, total).unwrap() == text);
    let middle = store.log(&run(1), "run.flood", 5_000_001, 1_000).unwrap();
    assert_eq!(middle, pattern(5_000_001, 1_000));
    let file = fs::read(store.logs().join(run(1).as_str()).join("run.flood.zst")).unwrap();
    let plain = zstd::stream::decode_all(&file[..]).unwrap();
    assert!(plain == text, "any zstd reads it");
}

/// Bytes that tell their own offset.
fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from / 8..(from + length).div_ceil(8) + 1)
        .flat_map(|number| format!("{number:07}\n").into_bytes())
        .skip(from % 8)
        .take(length)
        .collect()
}

#[test]
fn long_logs_are_seekable_and_standard_zstd() {
    let (_dir, store) = store();
    let total = 5_000_000;
    let mut writer = store.log_writer(&run(1), "run.long").unwrap();
    let mut at = 0;
    for step in (1..).map(|n: usize| n * 7919 % 90_000 + 1) {
        if at == total {
            break;
        }
        let step = step.min(total - at);
        writer.write(&pattern(at, step)).unwrap();
        at += step;
        if step % 5 == 0 {
            writer.flush().unwrap();
            assert_eq!(
                store.log(&run(1), "run.long", at as u64 - 1, 9).unwrap(),
                pattern(at - 1, 1)
            );
        }
    }
    drop(writer);
    let log = store.log_path(&run(1), "run.long").unwrap();
    assert!(frame::index_path(&log).exists());
    for offset in [0, 1, 262_143, 262_144, 1 << 20, 3_333_333, total - 10] {
        let expect = pattern(offset, 300_000.min(total - offset));
        assert!(
            store
                .log(&run(1), "run.long", offset as u64, 300_000)
                .unwrap()
                == expect,
            "{offset}"
        );
    }
    let file = fs::read(frame::data_path(&log)).unwrap();
    assert!(file.len() < total / 2);
    assert!(zstd::stream::decode_all(&file[..]).unwrap() == pattern(0, total));

    // The index is a hint: without it, or with a wrong one, the log reads the same.
    for index in [&b""[..], &[7; 1600]] {
        fs::write(frame::index_path(&log), index).unwrap();
        assert_eq!(
            store.log(&run(1), "run.long", 4_000_000, 50).unwrap(),
            pattern(4_000_000, 50)
        );
    }
}

#[test]
fn a_torn_log_is_read_to_its_last_whole_frame_and_goes_on_there() {
    for (cut, garbage) in [(1, 0), (40, 0), (0, 10), (0, 4000), (5, 3)] {
        let (_dir, store) = store();
        let path = frame::data_path(&store.log_path(&run(1), "a").unwrap());
        let mut writer = store.log_writer(&run(1), "a").unwrap();
        for line in ["first\n", "second\n"] {
            writer.write(line.as_bytes()).unwrap();
            writer.flush().unwrap();
        }
        drop(writer);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - cut);
        bytes.extend(vec![0; garbage]);
        fs::write(&path, &bytes).unwrap();
        let whole = if cut == 0 {
            "first\nsecond\n"
        } else {
            "first\n"
        };
        assert_eq!(
            store.log(&run(1), "a", 0, 99).unwrap(),
            whole.as_bytes(),
            "{cut} {garbage}"
        );
        let mut writer = store.log_writer(&run(1), "a").unwrap();
        writer.write(b"third\n").unwrap();
        drop(writer);
        let text = String::from_utf8(store.log(&run(1), "a", 0, 99).unwrap()).unwrap();
        assert_eq!(text, format!("{whole}third\n"), "{cut} {garbage}");
    }
}

#[test]
fn a_damaged_log_says_where() {
    let (_dir, store) = store();
    let mut writer = store.log_writer(&run(1), "a").unwrap();
    writer.write(&pattern(0, 700_000)).unwrap();
    drop(writer);
    let path = frame::data_path(&store.log_path(&run(1), "a").unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let second = frame::Header::at(&fs::File::open(&path).unwrap(), 0, u64::MAX)
        .unwrap()
        .unwrap()
        .whole();
    for byte in &mut bytes[second as usize + 40..second as usize + 90] {
        *byte ^= 0x55;
    }
    fs::write(&path, bytes).unwrap();
    assert_eq!(
        store.log(&run(1), "a", 0, 1 << 20).unwrap().len(),
        frame::LARGEST
    );
    let error = store
        .log(&run(1), "a", frame::LARGEST as u64, 10)
        .unwrap_err();
    assert!(error.to_string().contains("from byte 262144"), "{error}");
}

#[test]
fn pruning_keeps_what_it_must() {
    let (_dir, store) = store();
    let event = |number| NewEvent {
        at: Timestamp(0),
        run: run(number),
        json: "x".repeat(1000),
    };
    let outcomes = [
        "succeeded",
        "failed",
        "up-to-date",
        "failed",
        "succeeded",
        "failed",
    ];
    for (number, outcome) in (1..).zip(outcomes) {
        store
            .append(&[event(number)], &[create(number, "p")])
            .unwrap();
        store.append(&[], &[finish(number, outcome)]).unwrap();
        let mut log = store.log_writer(&run(number), "a").unwrap();
        log.write(b"text").unwrap();
    }
    store.append(&[event(7)], &[create(7, "p")]).unwrap();
    let held = store.hold_run(&run(2)).unwrap();
    let left = || -> Vec<RunId> {
        store
            .runs(None, 99)
            .unwrap()
            .into_iter()
            .map(|row| row.run)
            .collect()
    };

    let nothing = Retention::default();
    assert_eq!(store.prune(&nothing).unwrap().runs, []);
    let old = Retention {
        before: Some(Timestamp(5)),
        successes: 2,
        ..nothing
    };
    let dry = store.prune(&Retention { dry: true, ..old }).unwrap();
    assert_eq!(dry.runs, [run(1), run(4)]);
    assert_eq!(left().len(), 7);
    let pruned = store.prune(&old).unwrap();
    // 2 is held, 3 is one of the last two successes.
    assert_eq!(left(), [run(7), run(6), run(5), run(3), run(2)]);
    assert_eq!(pruned.runs, dry.runs);
    assert!(pruned.bytes > 2000, "{pruned:?}");
    assert!(store.events(&run(1), 0, 9).unwrap().is_empty());
    assert!(!store.logs().join(run(1).as_str()).exists());

    drop(held);
    store
        .prune(&Retention {
            runs: Some(3),
            ..nothing
        })
        .unwrap();
    assert_eq!(left(), [run(7), run(6), run(5)]);
    store
        .prune(&Retention {
            bytes: Some(2500),
            ..nothing
        })
        .unwrap();
    assert_eq!(left(), [run(7), run(6)]);
    // An unfinished run stays whatever the policy.
    store
        .prune(&Retention {
            runs: Some(0),
            ..nothing
        })
        .unwrap();
    assert_eq!(left(), [run(7)]);
    // No number is used twice.
    assert_eq!(store.append(&[event(7)], &[]).unwrap(), [8]);
}

#[test]
fn pruning_drops_blobs_nobody_mentions() {
    let (_dir, store) = store();
    let used = store.put_blob(b"used").unwrap();
    let fact = store.put_blob(b"in a fact").unwrap();
    let unused = store.put_blob(b"unused").unwrap();
    sql(&store, "UPDATE blob SET put_at = 1");
    let young = store.put_blob(b"young").unwrap();
    let event = NewEvent {
        at: Timestamp(0),
        run: run(1),
        json: format!("{{\"definition\":\"{used}\"}}"),
    };
    let set = Change::SetFact {
        scope: "s".into(),
        key: "k".into(),
        value: fact.clone(),
    };
    store.append(&[event], &[create(1, "p"), set]).unwrap();
    store.prune(&Retention::default()).unwrap();
    for digest in [&used, &fact, &young] {
        assert!(store.blob(digest).unwrap().is_some());
    }
    assert!(store.blob(&unused).unwrap().is_none());
}

#[test]
fn pruning_keeps_the_last_success_of_every_branch() {
    let (_dir, store) = store();
    let on = |number: u64, reference: &str| {
        let Change::CreateRun(row) = create(number, "p") else {
            panic!("it creates a run");
        };
        let reference = reference.to_owned();
        Change::CreateRun(RunRow { reference, ..row })
    };
    for (number, reference) in (1..).zip(["main", "v1", "main", "next", "v2"]) {
        store.append(&[], &[on(number, reference)]).unwrap();
        store.append(&[], &[finish(number, "succeeded")]).unwrap();
        let key = match reference.strip_prefix('v') {
            Some(tag) => format!("p refs/tags/v{tag}"),
            None => format!("p {reference}"),
        };
        let fact = Change::SetFact {
            scope: LAST_SUCCESS.to_owned(),
            key,
            value: "sha".to_owned(),
        };
        store.append(&[], &[fact]).unwrap();
    }
    let policy = Retention {
        runs: Some(0),
        successes: 1,
        ..Retention::default()
    };
    let pruned = store.prune(&policy).unwrap();
    assert_eq!(pruned.runs, [run(1), run(2)]);
    assert!(store.fact(LAST_SUCCESS, "p main").unwrap().is_some());
}
