//! The container engine goes away in the middle of the work and comes back.

use crate::support::delivery::{Delivery, wait_for};
use crate::support::second_engine::SecondEngine;

const PIPELINE: &str = r##"
pipeline work {
    build app {
        dockerfile "build/slow"
        retry 7 { backoff "250ms" }
    }
    run boxed {
        needs build.app
        container "pipewright-test-base:latest" network=none
        // An engine that shuts down kills its containers first: to the stage that is a failure.
        retry 7 { backoff "250ms"; on failed errored }
        script "trap 'exit 9' TERM; echo in the box; busybox sleep 3 & wait; echo out of the box"
    }
}
"##;

/// Ends the engine by a signal in the middle of a build, and again in the middle of a container,
/// and starts it again.
fn ended_in_the_middle(test: &str, signal: &str) -> (Delivery, SecondEngine) {
    let mut delivery = Delivery::start(test);
    let mut engine = SecondEngine::start();
    delivery.set("DOCKER_HOST", &engine.address());
    delivery.source.write(&[(
        "build/slow",
        "FROM pipewright-test-base:latest\nCOPY app/ /app/\n\
         RUN [\"/bin/sh\", \"-c\", \"echo first step; busybox sleep 3; echo last step\"]\n",
    )]);
    let sha = delivery.pipeline(PIPELINE);

    let started = delivery.begin(&["run", "work"]);
    wait_for("the build", || {
        started.out().contains("first step\n").then_some(())
    });
    engine.restart(signal);
    wait_for("the container", || {
        started
            .out()
            .contains("[run.boxed] in the box")
            .then_some(())
    });
    engine.restart(signal);
    let answer = started.finish().expect(0);
    answer.says("last step").says("out of the box");
    let retried = delivery.show().to_string();
    assert!(
        answer.out.matches("first step\n").count() >= 2,
        "{}",
        answer.out
    );
    assert!(retried.contains("succeeded"), "{retried}");
    let image = format!("{}/app-repo:{sha}", delivery.host());
    let labels = engine.docker(&["inspect", "--format", "{{json .Config.Labels}}", &image]);
    assert!(labels.contains(&sha), "{labels}");
    let left = engine.docker(&["ps", "-aq", "--filter", "label=dev.pipewright.run"]);
    assert_eq!(left, "");
    (delivery, engine)
}

/// Killed, it leaves the build's process and the container to themselves, and cleans up after its
/// former self before it answers.
#[test]
fn an_engine_killed_in_the_middle_of_the_work_is_tried_again() {
    ended_in_the_middle("killed", "KILL");
}

#[test]
fn an_engine_restarted_in_the_middle_of_the_work_is_tried_again() {
    let (delivery, mut engine) = ended_in_the_middle("restart", "TERM");

    // Gone for good: said in words that help, and the run can go on later.
    engine.stop("TERM");
    delivery.source.commit("more", &[("app/more", "more\n")]);
    let answer = delivery.pipewright(&["run", "work"]);
    assert!(matches!(answer.status.code(), Some(1 | 3)), "{answer:?}");
    answer.says("start a container engine, or point DOCKER_HOST at one");
    engine.restart("TERM");
    delivery
        .pipewright(&["rerun", "last", "--failed"])
        .expect(0);
}
