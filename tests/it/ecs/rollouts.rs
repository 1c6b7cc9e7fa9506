//! How roll-outs end: a table of plots, and the outcome with its reason in words.

use super::{start, told};
use crate::support::fake_ecs::Beat::{self, *};

/// A plot, how the stage must end, and what its log must say.
struct Case {
    name: &'static str,
    plot: &'static [Beat],
    ends: &'static str,
    says: &'static [&'static str],
}

const BREAKER: &str = "ECS deployment circuit breaker: tasks failed to start";

const CASES: &[Case] = &[
    Case {
        name: "success",
        plot: &[
            Runs(0),
            Says("(service web) has started 1 tasks"),
            Runs(1),
            Completes,
        ],
        ends: "deploy.web succeeded",
        says: &[
            "registered web:2",
            "service web moves to web:2",
            "(service web) has started 1 tasks",
        ],
    },
    Case {
        name: "eventual consistency",
        plot: &[Stale, Stale, Stale, Stale, Runs(1), Stale, Completes],
        ends: "deploy.web succeeded",
        says: &[],
    },
    Case {
        name: "circuit breaker",
        plot: &[
            Runs(0),
            Dies(Some(1), "Error: no database"),
            GoesBack,
            IsBack,
        ],
        ends: "deploy.web failed: web:2 does not run in service web: it was rolled back to web:1: \
               ECS deployment circuit breaker: tasks failed to start",
        says: &[
            "stopped: EssentialContainerExited: Essential container in task exited; container web exited with status 1: Error: no database",
            "it is being rolled back to web:1",
            BREAKER,
        ],
    },
    Case {
        name: "a rollback that is over before it is seen",
        plot: &[GoesBack, GoesBack, IsBack],
        ends: "deploy.web failed: web:2 does not run in service web: it was rolled back to web:1: …",
        says: &[],
    },
    Case {
        name: "a rollback that fails too",
        plot: &[GoesBack, FailsBack],
        ends: "deploy.web failed: web:2 does not run in service web: it failed and so did its rollback to web:1: …",
        says: &[],
    },
    Case {
        name: "a breaker that does not go back",
        plot: &[Runs(1), GivesUp],
        ends: "deploy.web failed: web:2 does not run in service web: ECS deployment circuit breaker: tasks failed to start",
        says: &[],
    },
    Case {
        name: "somebody else",
        plot: &[Runs(1), Theirs],
        ends: "deploy.web failed: web:2 does not run in service web: somebody else's deployment ecs-svc/theirs of web:99 took its place",
        says: &[],
    },
    Case {
        name: "scale to zero",
        plot: &[Runs(1), Zero],
        ends: "deploy.web failed: web:2 does not run in service web: service web was scaled to zero while it rolled out: nothing runs of web:2",
        says: &[],
    },
    Case {
        name: "deleted",
        plot: &[Runs(1), Deleted],
        ends: "deploy.web failed: web:2 does not run in service web: the service vanished while it rolled out",
        says: &[],
    },
    Case {
        name: "gone for a moment",
        plot: &[Runs(1), Deleted, Deleted, Runs(2), Completes],
        ends: "deploy.web succeeded",
        says: &[],
    },
    Case {
        name: "stuck",
        plot: &[
            Runs(0),
            Says(
                "(service web) was unable to place a task because no container instance met all of its requirements.",
            ),
            Dies(None, "CannotPullContainerError: not found"),
            Runs(0),
        ],
        ends: "deploy.web timed-out: web:2 was not stable in service web within 30m00s; it goes on rolling out \
               (task 0000 stopped: EssentialContainerExited: Essential container in task exited; \
               container web did not run: CannotPullContainerError: not found)",
        says: &["was unable to place a task", "CannotPullContainerError"],
    },
    Case {
        name: "throttled for a while",
        plot: &[Throttled, Throttled, Runs(1), Lost, Throttled, Completes],
        ends: "deploy.web succeeded",
        says: &["limits our rate", "looking again"],
    },
    Case {
        name: "throttled for ever",
        plot: &[Throttled],
        ends: "deploy.web errored: aws `prod` limits our rate at DescribeServices; web:2 goes on rolling out",
        says: &[],
    },
];

/// Plots of a service that records its rollouts.
const RECORDED: &[Case] = &[
    Case {
        name: "success on record",
        plot: &[Runs(1), Completes],
        ends: "deploy.web succeeded",
        says: &[],
    },
    Case {
        name: "an alarm",
        plot: &[
            Record("ROLLBACK_REQUESTED", "Alarm went off."),
            Record("ROLLBACK_IN_PROGRESS", "Alarm went off."),
            Record("ROLLBACK_SUCCESSFUL", "Alarm went off."),
        ],
        ends: "deploy.web failed: web:2 does not run in service web: it was rolled back to web:1: Alarm went off",
        says: &["it is being rolled back to web:1: Alarm went off"],
    },
    Case {
        name: "a failed rollback",
        plot: &[
            Record("ROLLBACK_IN_PROGRESS", "Tasks failed."),
            Record("ROLLBACK_FAILED", "Tasks failed."),
        ],
        ends: "deploy.web failed: web:2 does not run in service web: it failed and so did its rollback to web:1: \
               Tasks failed; look at the service by hand",
        says: &[],
    },
    Case {
        name: "stopped by hand",
        plot: &[
            Record("STOP_REQUESTED", "Asked by an operator."),
            Record("STOPPED", "Asked by an operator."),
        ],
        ends: "deploy.web failed: web:2 does not run in service web: it was stopped: Asked by an operator",
        says: &["it is being stopped"],
    },
];

#[track_caller]
fn compare(case: &Case, line: &str, log: &str) {
    let fits = match case.ends.strip_suffix('…') {
        Some(start) => line.starts_with(start),
        None => line == case.ends,
    };
    assert!(
        fits,
        "{}:\n{line}\nexpected\n{}\n{log}",
        case.name, case.ends
    );
    for word in case.says {
        assert!(
            log.contains(word),
            "{}: `{word}` is not in\n{log}",
            case.name
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_plot_ends_with_its_outcome_and_a_reason() {
    for (records, cases) in [(false, CASES), (true, RECORDED)] {
        for case in cases {
            let (flow, fake) = start(case.plot, "");
            fake.state().records = records;
            let run = flow.run("release").await;
            let (line, log) = told(&flow, &run);
            compare(case, &line, &log);
            assert_eq!(
                fake.changes(),
                ["RegisterTaskDefinition", "UpdateService"],
                "{}",
                case.name
            );
            flow.clean();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn blue_green_goes_by_the_record() {
    let plot = [Runs(2), Record("IN_PROGRESS", ""), Record("SUCCESSFUL", "")];
    let (flow, fake) = start(&plot, "strategy blue-green");
    fake.state().records = true;
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    let state = fake.state();
    let configuration = &state.service["deploymentConfiguration"];
    assert_eq!(configuration["strategy"], "BLUE_GREEN");
    assert_eq!(
        configuration["deploymentCircuitBreaker"]["enable"], true,
        "the rest of it stays"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_may_not_be_asked_for_more_is_enough() {
    use crate::support::fake_ecs::Trouble;
    let (flow, fake) = start(&[Runs(0), Dies(Some(1), ""), Runs(1), Completes], "");
    fake.state().records = true;
    fake.trouble("DescribeServiceDeployments", Trouble::Denied);
    fake.trouble("ListTasks", Trouble::Denied);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert!(
        log.contains("going by the deployments of the service only"),
        "{log}"
    );
    assert!(log.contains("why tasks stop cannot be told"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_the_wait_and_not_the_roll_out() {
    let (flow, fake) = start(&[Runs(1)], "");
    let life = flow.life();
    let run = flow.create(&life, "release").await;
    let cancel = pipewright::engine::Cancel::new();
    let (ended, ()) = tokio::join!(flow.go_with(&life, &run, &[], &cancel), async {
        flow.until(&run, |state| {
            state.stages().iter().any(|stage| {
                stage
                    .effects
                    .iter()
                    .any(|effect| effect.key == "update" && effect.result.is_some())
            })
        })
        .await;
        flow.request_cancel(&run, "somebody");
    });
    ended.expect("the run comes to its end");
    let (line, _) = told(&flow, &run);
    assert_eq!(
        line,
        "deploy.web cancelled: cancelled by somebody: service web goes on rolling out web:2; nothing is rolled back"
    );
    assert_eq!(fake.changes(), ["RegisterTaskDefinition", "UpdateService"]);
}
