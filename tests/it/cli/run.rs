//! Runs of host stages, and what is known of them afterwards.

use std::process::Stdio;

use crate::support::program::{Program, poll};

const FLAKY: &str = r#"
pipeline p {
    run good { script "echo good; echo good >> ../../../../count" }
    run flaky {
        needs run.good
        env MARK "${var.MARK}"
        script "echo trying; test -e $MARK"
    }
    run after { needs run.flaky; script "echo after" }
}
"#;

/// A pipeline whose second stage fails until a file is there.
fn flaky() -> Program {
    let program = Program::new("");
    let outside = program.outside().display();
    let text = format!(
        "var MARK value=\"{outside}/mark\"\nvar COUNT value=\"{outside}/count\"\n{FLAKY}"
    )
    .replace(
        "run good { script \"echo good; echo good >> ../../../../count\" }",
        "run good { env COUNT \"${var.COUNT}\"; script \"echo good; echo good >> $COUNT\" }",
    );
    program
        .repo
        .commit("pipeline", &[("pipelines/p.kdl", &text)]);
    program
}

fn count(program: &Program) -> usize {
    program.wait_for("count").lines().count()
}

#[test]
fn statuses_tell_how_a_run_ended() {
    let program = flaky();
    let failed = program.expect(&["run", "p"], 1);
    assert!(failed.out.contains("run.flaky"), "{failed:?}");
    std::fs::write(program.outside().join("mark"), "").expect("it is writable");
    program.expect(&["run", "p"], 0);
    assert_eq!(program.runs().len(), 2);
}

#[test]
fn a_run_is_listed_shown_and_its_logs_are_kept() {
    let program = flaky();
    program.expect(&["run", "p"], 1);
    let runs = program.expect(&["runs"], 0).out;
    assert!(runs.contains('p') && runs.contains("failed"), "{runs}");
    let [id] = program.runs().try_into().expect("one run");
    for name in ["last", &id, &id[12..]] {
        let shown = program.expect(&["show", name], 0).out;
        assert!(
            shown.contains("run.flaky") && shown.contains("blocked"),
            "{shown}"
        );
    }
    let json = program.expect(&["show", "last", "--format", "json"], 0).out;
    assert!(
        serde_json::from_str::<serde_json::Value>(&json).is_ok(),
        "{json}"
    );
    let one = program.expect(&["logs", "last", "run.good"], 0).out;
    assert!(one.ends_with("good\n") && !one.contains("trying"), "{one}");
    let all = program.expect(&["logs", "last"], 0).out;
    assert!(
        all.contains("── run.good") && all.contains("trying"),
        "{all}"
    );
    assert_eq!(program.expect(&["logs", "last", "-f"], 0).out, all);
    let wrong = program.expect(&["logs", "last", "run.godo"], 2);
    assert!(wrong.err.contains("run.good"), "{wrong:?}");
    let ended = program.expect(&["cancel", "last"], 2);
    assert!(ended.err.contains("has ended: failed"), "{ended:?}");
}

#[test]
fn reruns_do_what_they_are_asked_to() {
    let program = flaky();
    program.expect(&["run", "p"], 1);
    program.expect(&["rerun", "last", "--failed"], 1);
    assert_eq!((count(&program), program.runs().len()), (1, 1));
    std::fs::write(program.outside().join("mark"), "").expect("it is writable");
    program.expect(&["rerun", "last", "--failed"], 0);
    assert_eq!((count(&program), program.runs().len()), (1, 1));
    let shown = program.expect(&["show", "last"], 0).out;
    assert!(
        shown.contains("succeeded") && !shown.contains("blocked"),
        "{shown}"
    );
    let nothing = program.expect(&["rerun", "last", "--failed"], 0).out;
    assert!(nothing.contains("nothing to run again"), "{nothing}");
    program.expect(&["rerun", "last"], 0);
    assert_eq!((count(&program), program.runs().len()), (2, 2));
    // The files of today count only for a fresh one.
    let other = r#"pipeline p { run other { script "echo other" } }"#;
    program.repo.write(&[("pipelines/p.kdl", other)]);
    program.expect(&["rerun", "last"], 0);
    let fresh = program.expect(&["rerun", "last", "--fresh"], 0).out;
    assert!(fresh.contains("run.other"), "{fresh}");
    assert_eq!(count(&program), 3);
}

const CHAIN: &str = r#"
pipeline first { run a { script "echo from first" } }
pipeline second {
    on { pipeline first }
    run b { env MARK "${var.MARK}"; script "echo from second; test -e $MARK" }
}
"#;

#[test]
fn what_followed_from_a_run_is_part_of_its_story() {
    let program = Program::new("");
    let mark = program.outside().join("mark");
    let text = format!("var MARK value=\"{}\"\n{CHAIN}", mark.display());
    program
        .repo
        .commit("pipelines", &[("pipelines/p.kdl", &text)]);
    program.expect(&["run", "first"], 1);
    let shown = program.expect(&["show", "last"], 0).out;
    assert!(
        shown.contains("run.a") && shown.contains("run.b"),
        "{shown}"
    );
    for args in [&["logs", "last"][..], &["logs", "last", "--follow"]] {
        let logs = program.expect(args, 0).out;
        assert!(logs.contains("── first run.a\n"), "{logs}");
        assert!(logs.contains("── second run.b\n"), "{logs}");
        assert!(
            logs.contains("from first\n") && logs.contains("from second\n"),
            "{logs}"
        );
    }
    let one = program.expect(&["logs", "last", "run.b"], 0).out;
    assert!(
        one.contains("from second") && !one.contains("from first"),
        "{one}"
    );
    // What failed is the second run, and only that is run again.
    std::fs::write(&mark, "").expect("it is writable");
    program.expect(&["rerun", "last", "--failed"], 0);
    assert_eq!(program.runs().len(), 2);
    let alone = program.expect(&["run", "first", "--no-chain"], 0).out;
    assert!(!alone.contains("run.b"), "{alone}");
    assert_eq!(program.runs().len(), 3);
}

#[test]
fn reports_are_written_and_events_streamed() {
    let program = flaky();
    let junit = program.outside().join("junit.xml");
    let summary = program.outside().join("summary.md");
    let args = [
        "run",
        "p",
        "--format",
        "json",
        "--junit",
        junit.to_str().expect("UTF-8"),
        "--summary",
        summary.to_str().expect("UTF-8"),
    ];
    let ended = program.expect(&args, 1);
    for line in ended.out.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
    let junit = std::fs::read_to_string(junit).expect("it was written");
    assert!(
        junit.contains("<testsuite") && junit.contains("run.flaky"),
        "{junit}"
    );
    let summary = std::fs::read_to_string(summary).expect("it was written");
    assert!(summary.contains("run.flaky"), "{summary}");
}

#[test]
fn secrets_are_hidden_also_where_they_are_cut_in_two() {
    let program = Program::new(
        r##"
        secret TOKEN env=PW_TEST_TOKEN
        pipeline p {
            run a {
                env T "${secret.TOKEN}"
                script #"""
                    printf '%s' "${T%%-*}"
                    sleep 0.3
                    printf '%s\n' "-${T#*-}"
                    printf '%s' "$T" | base64
                    """#
            }
            run leak { env T "${secret.TOKEN}"; script "echo $T > f"; output x from="f" }
        }
        "##,
    );
    let token = "first-half-of-a-token";
    let mut command = program.command(&["run", "p"]);
    let output = command
        .env("PW_TEST_TOKEN", token)
        .output()
        .expect("it starts");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(
        out.contains("secret TOKEN"),
        "the output is refused by name: {out}"
    );
    let log = program.expect(&["logs", "last", "run.a"], 0).out;
    assert!(log.contains("***"), "{log}");
    let shown = program.expect(&["show", "last", "--format", "json"], 0).out;
    let encoded = "Zmlyc3QtaGFsZi1vZi1hLXRva2Vu";
    for text in [&*out, &log, &shown] {
        assert!(!text.contains(token) && !text.contains(encoded), "{text}");
    }
    let missing = program.expect(&["run", "p"], 2);
    assert!(
        missing.err.contains("`PW_TEST_TOKEN` is not set"),
        "{missing:?}"
    );
    assert_eq!(program.runs().len(), 1, "nothing half-made is left");
}

#[test]
fn two_processes_share_a_state_directory() {
    let program = Program::new(
        r#"pipeline p { run a b c { script "for i in 1 2 3 4 5; do echo ${i}; done" } }"#,
    );
    let running: Vec<_> = (0..4).map(|_| program.start(&["run", "p"])).collect();
    for one in running {
        let ended = one.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!(program.runs().len(), 4);
    for id in program.runs() {
        let log = program.expect(&["logs", &id, "run.b"], 0).out;
        assert!(log.ends_with("1\n2\n3\n4\n5\n"), "{log}");
    }
}

#[test]
fn a_dirty_tree_is_pointed_out_and_runs_on_request() {
    let program = Program::new(r#"pipeline p { run a { script "cat file" } }"#);
    program.repo.commit("file", &[("file", "committed\n")]);
    program.repo.write(&[("file", "edited\n")]);
    let clean = program.expect(&["run", "p"], 0).out;
    assert!(
        clean.contains("committed") && clean.contains("--dirty"),
        "{clean}"
    );
    let dirty = program.expect(&["run", "p", "--dirty"], 0).out;
    assert!(dirty.contains("edited"), "{dirty}");
}

#[test]
fn following_shows_what_comes() {
    let program = Program::new("");
    let go = program.outside().join("go");
    let text = format!(
        "var GO value=\"{}\"\npipeline p {{ run a {{ env GO \"${{var.GO}}\"; script \"echo begin; while ! test -e $GO; do sleep 0.05; done; echo end\" }} }}",
        go.display()
    );
    program
        .repo
        .commit("pipeline", &[("pipelines/p.kdl", &text)]);
    let run = program.start(&["run", "p"]);
    poll("the first line", || {
        let logs = program.run(&["logs", "last"]);
        logs.out.contains("begin").then_some(())
    });
    let follower = program.start(&["logs", "last", "-f"]);
    std::fs::write(go, "").expect("it is writable");
    assert_eq!(run.wait().code, Some(0));
    let ended = follower.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("begin\nend\n"), "{ended:?}");
}

#[test]
fn a_run_goes_on_when_its_reader_goes_away() {
    let program = Program::new(
        r#"pipeline p { run a { script "for i in $(seq 2000); do echo line $i; done; sleep 0.5; echo end" } }"#,
    );
    let mut command = program.command(&["run", "p"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it can be awaited");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let log = program.expect(&["logs", "last"], 0).out;
    assert!(
        log.ends_with("line 2000\nend\n"),
        "{}",
        &log[log.len().saturating_sub(100)..]
    );
}

#[test]
fn old_runs_are_forgotten_with_all_they_left() {
    let text = r#"
    pipeline p {
        run make { cache ".cache"; script "mkdir -p out .cache; date > out/f; echo x > .cache/x"; produces "out" }
        run look { uses run.make; script "cat out/f" }
    }
    pipeline other { run a { script "echo other" } }
    "#;
    let program = Program::new(text);
    let nothing = program.expect(&["prune", "--keep", "1"], 0).out;
    assert_eq!(nothing, "nothing has run here yet\n");
    for pipeline in ["other", "p", "p", "p"] {
        program.expect(&["run", pipeline], 0);
    }
    let state = program.repo.path().join(".pipewright");
    let names = |kind: &str| -> Vec<String> {
        let entries = std::fs::read_dir(state.join(kind)).expect("it is there");
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.map(|it| it.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let (logs, artifacts) = (names("logs"), names("artifacts"));
    assert_eq!((logs.len(), artifacts.len()), (4, 3));
    let all = program.runs();

    let dry = program
        .expect(&["prune", "--keep", "0", "--dry-run"], 0)
        .out;
    assert!(dry.contains("would forget 2 runs"), "{dry}");
    assert!(logs[1..3].iter().all(|run| dry.contains(run)), "{dry}");
    assert_eq!((program.runs(), names("logs")), (all.clone(), logs.clone()));

    // Of each pipeline the last success stays, though it is as old as any.
    let done = program.expect(&["prune", "--keep", "0"], 0).out;
    assert!(done.starts_with("forgot 2 runs, "), "{done}");
    assert_eq!(program.runs().len(), 2);
    assert_eq!(names("logs"), [logs[0].clone(), logs[3].clone()]);
    assert_eq!(names("artifacts"), [artifacts[2].clone()]);
    let shown = program.expect(&["logs", "last", "run.look"], 0).out;
    assert!(!shown.is_empty());
    program.expect(&["show", &logs[1]], 2);

    // A cache that was used lately stays, one that was not goes.
    let older = |age: &str| program.expect(&["prune", "--older-than", age], 0).out;
    assert_eq!(older("1h"), "forgot 0 runs, 0 B\n");
    let [cache] = names("cache").try_into().expect("one cache");
    let age = std::fs::File::open(state.join("cache").join(&cache)).expect("a directory");
    age.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .expect("a time can be set");
    let done = older("1h");
    assert!(
        done.starts_with("forgot 0 runs and 1 unused cache, "),
        "{done}"
    );
    assert!(names("cache").is_empty());
    program.expect(&["run", "p"], 0);
    assert_eq!(names("cache"), [cache]);
}

#[test]
fn a_run_that_may_go_on_is_not_forgotten() {
    let program = Program::new("");
    let began = program.outside().join("began");
    let text = format!(
        "pipeline p {{ run a {{ script \"echo 1 > {}; sleep 600\" }} }}",
        began.display()
    );
    program
        .repo
        .commit("pipelines", &[("pipelines/p.kdl", &text)]);
    let mut running = program.start(&["run", "p"]);
    program.wait_for("began");
    for _ in ["at work", "cut off"] {
        let args = ["prune", "--keep", "0", "--older-than", "0s"];
        let done = program.expect(&args, 0).out;
        assert!(done.starts_with("forgot 0 runs"), "{done}");
        assert_eq!(program.runs().len(), 1);
        running.kill();
    }
    // Ends what was left of it.
    program.expect(&["cancel", "last"], 0);
    program.expect(&["run", "--resume", "last"], 130);
}
