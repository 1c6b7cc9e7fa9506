//! Stopping, being killed, and going on.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::program::{Program, poll};

/// A stage that tells its process id and then sleeps, and one that ends the run.
fn sleeper(first: &str, last: &str) -> Program {
    let program = Program::new("");
    let outside = program.outside().display();
    let text = format!(
        "var OUT value=\"{outside}\"
         pipeline p {{
             run a {{ env OUT \"${{var.OUT}}\"; script \"{first}\" }}
             run b {{ needs run.a; script \"true\" }}
             run z {{ finally; env OUT \"${{var.OUT}}\"; script \"{last}\" }}
         }}"
    );
    program
        .repo
        .commit("pipeline", &[("pipelines/p.kdl", &text)]);
    program
}

fn lives(pid: &str) -> bool {
    let output = Command::new("ps")
        .args(["-o", "stat=", "-p", pid.trim()])
        .output();
    let state = output.expect("the program `ps` must be installed").stdout;
    !state.is_empty() && !state.starts_with(b"Z")
}

const SLEEP: &str = "sleep 300 & echo $! > $OUT/pid; wait";
const LAST: &str = "echo done > $OUT/last";

#[test]
fn one_interrupt_stops_gently_and_cleans_up() {
    let program = sleeper(SLEEP, LAST);
    let run = program.start(&["run", "p"]);
    let pid = program.wait_for("pid");
    run.signal("INT");
    let ended = run.wait();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert_eq!(program.wait_for("last"), "done\n");
    assert!(!lives(&pid), "the sleeper is gone");
    let shown = program.expect(&["show", "last"], 0).out;
    assert!(shown.contains("cancelled by SIGINT"), "{shown}");
    assert!(!shown.contains("blocked"), "{shown}");
}

#[test]
fn the_second_interrupt_ends_at_once() {
    let program = sleeper(
        "trap '' TERM; echo $$ > $OUT/pid; while true; do sleep 1; done",
        "sleep 300",
    );
    let run = program.start(&["run", "p"]);
    let pid = program.wait_for("pid");
    let began = Instant::now();
    run.signal("INT");
    poll("the request", || {
        let shown = program.run(&["show", "last", "--format", "json"]);
        shown.out.contains("SIGINT").then_some(())
    });
    run.signal("INT");
    let ended = run.wait();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    assert!(!lives(&pid), "the deaf one is gone");
}

#[test]
fn another_process_can_cancel() {
    let program = sleeper(SLEEP, LAST);
    let run = program.start(&["run", "p"]);
    let pid = program.wait_for("pid");
    let asked = program.expect(&["cancel", "last"], 0).out;
    assert!(asked.contains("asked run"), "{asked}");
    let ended = run.wait();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(!lives(&pid));
    let shown = program.expect(&["show", "last"], 0).out;
    assert!(
        shown.contains("cancelled by `pipewright cancel`"),
        "{shown}"
    );
}

#[test]
fn a_killed_run_goes_on_where_it_was_cut_off() {
    let program = Program::new("");
    let outside = program.outside().display();
    let text = format!(
        "var OUT value=\"{outside}\"
         pipeline p {{
             run first {{ env OUT \"${{var.OUT}}\"; script \"echo x >> $OUT/first\" }}
             run a {{
                 needs run.first
                 env OUT \"${{var.OUT}}\"
                 script \"if test -e $OUT/pid; then exit 0; fi; sleep 300 & echo $! > $OUT/pid; wait\"
             }}
         }}"
    );
    program
        .repo
        .commit("pipeline", &[("pipelines/p.kdl", &text)]);
    let mut run = program.start(&["run", "p"]);
    let pid = program.wait_for("pid");
    // A host stage whose end is not yet in the journal runs again: the promise is for what is.
    poll("the journal to hold the first stage", || {
        let shown = program.run(&["show", "last", "--format", "json"]);
        shown
            .out
            .contains(r#""outcome": "succeeded""#)
            .then_some(())
    });
    run.signal("KILL");
    assert!(!run.status().success());
    let follow = program.expect(&["logs", "last", "-f"], 2);
    assert!(follow.err.contains("no process works on run"), "{follow:?}");
    let rerun = program.expect(&["rerun", "last", "--failed"], 2);
    assert!(rerun.err.contains("has not ended"), "{rerun:?}");
    let resumed = program.expect(&["run", "--resume", "last"], 0);
    assert!(
        !lives(&pid),
        "what the killed one left is gone: {resumed:?}"
    );
    assert_eq!(
        program.wait_for("first"),
        "x\n",
        "what had ended is not run again"
    );
    assert_eq!(program.runs().len(), 1);
    let again = program.expect(&["run", "--resume", "last"], 2);
    assert!(again.err.contains("has ended"), "{again:?}");
}

#[test]
fn a_cancelled_run_that_nobody_works_on_stops_when_it_is_resumed() {
    let program = sleeper(SLEEP, LAST);
    let mut run = program.start(&["run", "p"]);
    program.wait_for("pid");
    run.signal("KILL");
    run.status();
    let asked = program.expect(&["cancel", "last"], 0).out;
    assert!(asked.contains("as soon as it is resumed"), "{asked}");
    program.expect(&["run", "--resume", "last"], 130);
    assert_eq!(program.wait_for("last"), "done\n");
}
