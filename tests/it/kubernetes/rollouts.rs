//! How roll-outs end: a table of plots, and the outcome with its reason in words.

use super::{start, start_with, told};
use crate::support::fake_kubernetes::Beat::{self, *};

/// A plot, how the stage must end, and what its log must say.
struct Case {
    name: &'static str,
    more: &'static str,
    plot: &'static [Beat],
    ends: &'static str,
    says: &'static [&'static str],
}

const PLAIN: Case = Case {
    name: "",
    more: "",
    plot: &[],
    ends: "",
    says: &[],
};

const FAILS: &str = "deploy.web failed: deployment front does not roll out: ";

const CASES: &[Case] = &[
    Case {
        name: "success",
        plot: &[New(0), New(1), Completes],
        ends: "deploy.web succeeded",
        says: &[
            "container app of deployment front gets localhost:5000/app@sha256:",
            "deployment front: 1 of 2 pods are new",
            "deployment front has rolled out",
        ],
        ..PLAIN
    },
    Case {
        name: "stale reads",
        plot: &[Stale, Stale, Stale, New(1), Stale, Completes],
        ends: "deploy.web succeeded",
        ..PLAIN
    },
    Case {
        name: "no image",
        plot: &[
            New(0),
            Waits("ErrImagePull", "not found: sha256:1"),
            Waits("ImagePullBackOff", "Back-off pulling image"),
        ],
        ends: "pod front-2-new: container app cannot start: ImagePullBackOff: Back-off pulling image",
        says: &["container app cannot start: ErrImagePull: not found: sha256:1"],
        ..PLAIN
    },
    Case {
        name: "no image for a moment",
        plot: &[
            Waits("ErrImagePull", "i/o timeout"),
            New(1),
            Heals,
            Completes,
        ],
        ends: "deploy.web succeeded",
        says: &["ErrImagePull: i/o timeout"],
        ..PLAIN
    },
    Case {
        name: "crash loop",
        plot: &[Crashes(3, "Error")],
        ends: "pod front-2-new: container app crashes again and again (CrashLoopBackOff): exited with status 3",
        says: &["  app: panic: no database"],
        ..PLAIN
    },
    Case {
        name: "out of memory",
        plot: &[Crashes(137, "OOMKilled")],
        ends: "pod front-2-new: container app crashes again and again (CrashLoopBackOff): exited with status 137: \
               it took more memory than its limit (OOMKilled)",
        ..PLAIN
    },
    Case {
        name: "bad configuration",
        plot: &[Waits(
            "CreateContainerConfigError",
            "secret \"db\" not found",
        )],
        ends: "pod front-2-new: container app cannot start: CreateContainerConfigError: secret \"db\" not found",
        ..PLAIN
    },
    Case {
        name: "evicted",
        plot: &[Evicted("The node was low on resource: memory")],
        ends: "pod front-2-new: it was evicted: The node was low on resource: memory",
        ..PLAIN
    },
    Case {
        name: "quota",
        plot: &[Quota(
            "pods \"front-2-x\" is forbidden: exceeded quota: compute",
        )],
        ends: "its pods: cannot be made: pods \"front-2-x\" is forbidden: exceeded quota: compute",
        ..PLAIN
    },
    Case {
        name: "unschedulable until our patience ends",
        plot: &[Unschedulable(
            "0/3 nodes are available: 3 Insufficient cpu.",
        )],
        ends: "deploy.web timed-out: deployment front of namespace main had not rolled out within 30m00s \
               (pod front-2-new: it cannot be scheduled: 0/3 nodes are available: 3 Insufficient cpu)",
        ..PLAIN
    },
    Case {
        name: "unschedulable until a node comes",
        plot: &[
            Unschedulable("0/3 nodes are available"),
            Unschedulable("0/3 nodes are available"),
            Completes,
        ],
        ends: "deploy.web succeeded",
        says: &["it cannot be scheduled: 0/3 nodes are available"],
        ..PLAIN
    },
    Case {
        name: "unschedulable until the cluster's patience ends",
        plot: &[Unschedulable("0/3 nodes are available"), Deadline],
        ends: "it exceeded its progress deadline: ReplicaSet \"front-2\" has timed out progressing \
               (pod front-2-new: it cannot be scheduled: 0/3 nodes are available)",
        ..PLAIN
    },
    Case {
        name: "a probe that fails",
        plot: &[
            Warns(
                "Unhealthy",
                "Readiness probe failed: HTTP probe failed with statuscode: 500",
            ),
            Deadline,
        ],
        ends: "it exceeded its progress deadline: ReplicaSet \"front-2\" has timed out progressing \
               (pod front-2-new: Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 500)",
        says: &["pod front-2-new: Unhealthy: Readiness probe failed"],
        ..PLAIN
    },
    Case {
        name: "somebody else",
        plot: &[New(1), Theirs],
        ends: "somebody else's roll-out of localhost:5000/app:theirs took the place of ours",
        ..PLAIN
    },
    Case {
        name: "paused half way",
        plot: &[New(1), Paused],
        ends: "somebody paused it",
        ..PLAIN
    },
    Case {
        name: "scaled to zero half way",
        plot: &[New(1), Zero],
        ends: "deploy.web failed: deployment front was scaled to zero while it rolled out: nothing runs of the new version",
        ..PLAIN
    },
    Case {
        name: "deleted",
        plot: &[New(1), Deleted],
        ends: "deploy.web failed: deployment front vanished while it rolled out",
        ..PLAIN
    },
    Case {
        name: "gone for a moment",
        plot: &[New(1), Deleted, Deleted, New(1), Completes],
        ends: "deploy.web succeeded",
        ..PLAIN
    },
    Case {
        name: "throttled and lost for a while",
        plot: &[Throttled, Throttled, New(1), Lost, Throttled, Completes],
        ends: "deploy.web succeeded",
        ..PLAIN
    },
    Case {
        name: "throttled for ever",
        plot: &[Throttled],
        ends: "deploy.web errored: kubernetes `cluster` limits our rate at get deployment front in namespace main; \
               deployment front goes on rolling out",
        says: &["looking again"],
        ..PLAIN
    },
    Case {
        name: "a short patience with new pods",
        more: "start-within \"5s\"\nstable-within \"20s\"",
        plot: &[New(1)],
        ends: "deploy.web timed-out: deployment front of namespace main had not rolled out within 20.0s",
        ..PLAIN
    },
    Case {
        name: "rolled back",
        more: "rollback",
        plot: &[Crashes(1, "Error")],
        ends: "pod front-2-new: container app crashes again and again (CrashLoopBackOff): exited with status 1; \
               it was rolled back to the revision before",
        says: &["deployment front goes back to front-1"],
    },
    Case {
        name: "nothing is rolled back over somebody else",
        more: "rollback",
        plot: &[New(1), Theirs],
        ends: "somebody else's roll-out of localhost:5000/app:theirs took the place of ours",
        ..PLAIN
    },
];

#[tokio::test(start_paused = true)]
async fn every_plot_ends_as_it_must() {
    for case in CASES {
        let name = case.name;
        let (flow, fake) = start(case.plot, case.more);
        fake.then(&[New(1), Completes]);
        let log = "2026-01-01T00:00:00Z panic: no database";
        fake.state().logs.insert("front-2-new".to_owned(), log);
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        let whole = if case.ends.starts_with("deploy.web") {
            case.ends.to_owned()
        } else {
            format!("{FAILS}{}", case.ends)
        };
        assert_eq!(line, whole, "{name}\n{log}");
        for words in case.says {
            assert!(log.contains(words), "{name}: {words}\n{log}");
        }
        let patches = fake.changes();
        let expected = if log.contains("goes back") { 2 } else { 1 };
        assert_eq!(patches.len(), expected, "{name}: {patches:?}");
        assert!(
            !log.contains("front-1-old"),
            "{name}: an old pod is no concern\n{log}"
        );
        fake.clean();
    }
}

#[tokio::test(start_paused = true)]
async fn going_back_gives_the_image_before() {
    let (flow, fake) = start(&[New(1), Deadline], "rollback");
    fake.then(&[New(0), New(0), New(1), Completes]);
    let before = fake.image("deployments", "front", "app");
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert!(
        line.ends_with("it was rolled back to the revision before"),
        "{line}\n{log}"
    );
    assert_eq!(fake.image("deployments", "front", "app"), before);
    fake.clean();
}

#[tokio::test(start_paused = true)]
async fn stateful_and_daemon_sets_roll_out_too() {
    for (kind, word) in [("StatefulSet", "sts"), ("DaemonSet", "daemonset")] {
        let inside = format!("rollout \"{word}/db\" container=app image=app\nrollback");
        for (plot, ends) in [
            (vec![New(0), New(1), Completes], "succeeded".to_owned()),
            (
                vec![New(0), Waits("ImagePullBackOff", "not found")],
                format!(
                    "failed: {} db does not roll out: pod db-2-new: container app cannot start: ImagePullBackOff: not found; \
                     it was rolled back to the revision before",
                    kind.to_lowercase()
                ),
            ),
        ] {
            let (flow, fake) = start_with(&plot, &inside, &[]);
            fake.state().put_workload(kind, "db");
            fake.then(&[Completes]);
            let run = flow.run("release").await;
            let (line, log) = told(&flow, &run);
            assert_eq!(line, format!("deploy.web {ends}"), "{kind}\n{log}");
            fake.clean();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_says_what_goes_on() {
    let (flow, fake) = start(&[New(1)], "rollback");
    let life = flow.life();
    let run = flow.create(&life, "release").await;
    let going = flow.go(&life, &run);
    let cancelling = async {
        for _ in 0..10_000 {
            if !fake.changes().is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        flow.request_cancel(&run, "somebody");
    };
    let (ended, ()) = tokio::join!(going, cancelling);
    ended.expect("the run comes to its end");
    life.end().await;
    let (line, log) = told(&flow, &run);
    assert!(
        line.contains("deployment front goes on rolling out; nothing is rolled back"),
        "{line}\n{log}"
    );
    assert_eq!(fake.changes().len(), 1);
}
