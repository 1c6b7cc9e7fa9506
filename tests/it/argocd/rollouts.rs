//! How syncs end: a table of plots, and the outcome with its reason in words.

use super::{proper, start, told};
use crate::support::fake_argocd::Beat::{self, *};
use crate::support::fake_argocd::{FakeArgo, NEW, OLD, OTHER, State, Trouble};

/// What is set up, a plot, how the stage must end, what its log must say, and how often it is synced.
struct Case {
    name: &'static str,
    set: fn(&mut State),
    more: &'static str,
    plot: &'static [Beat],
    ends: &'static str,
    says: &'static [&'static str],
    syncs: usize,
}

const fn case(name: &'static str, plot: &'static [Beat], ends: &'static str) -> Case {
    Case {
        name,
        set: |_| {},
        more: "",
        plot,
        ends,
        says: &[],
        syncs: 1,
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            says: &[
                "main is being synced to 1111",
                "PreSync hook Job migrate: Running",
                "main is synced and healthy",
            ],
            ..case(
                "success",
                &[
                    Stale,
                    Pending,
                    Running("Running"),
                    Uncompared,
                    Health("Progressing"),
                    Health("Healthy"),
                ],
                "deploy.main succeeded",
            )
        },
        Case {
            set: |state| {
                state.main().auto = true;
            },
            syncs: 0,
            ..case("already there", &[At(NEW)], "deploy.main up-to-date")
        },
        Case {
            set: |state| state.main().auto = true,
            says: &["main syncs itself: waiting for it", "it is at 0000"],
            syncs: 0,
            ..case(
                "auto-sync",
                &[Stale, Stale, At(OLD), At(NEW)],
                "deploy.main succeeded",
            )
        },
        Case {
            set: |state| state.troubles.push(("sync", Trouble::Busy)),
            says: &["another operation of main is in progress"],
            ..case(
                "another operation",
                &[Health("Healthy")],
                "deploy.main succeeded",
            )
        },
        Case {
            says: &["looking what became of it"],
            set: |state| state.troubles.push(("sync", Trouble::AnswerLost)),
            ..case(
                "a lost answer",
                &[Pending, Health("Healthy")],
                "deploy.main succeeded",
            )
        },
        Case {
            set: |state| state.troubles.push(("sync", Trouble::Refused(503))),
            ..case(
                "a sync that did not come through",
                &[Health("Healthy")],
                "deploy.main succeeded",
            )
        },
        case(
            "new degraded",
            &[Health("Progressing"), Health("Degraded")],
            "deploy.main failed: main: it is degraded (Deployment web is degraded: 0 of 2 pods are ready)",
        ),
        Case {
            set: |state| state.main().health = "Degraded",
            says: &["still degraded, as before"],
            ..case(
                "degraded before and healed",
                &[Health("Degraded"), Health("Progressing"), Health("Healthy")],
                "deploy.main succeeded",
            )
        },
        Case {
            set: |state| state.main().health = "Degraded",
            ..case(
                "degraded before, healed, and again",
                &[
                    Health("Degraded"),
                    Health("Progressing"),
                    Health("Degraded"),
                ],
                "deploy.main failed: main: it is degraded…",
            )
        },
        Case {
            says: &[
                "PreSync hook Job migrate: Failed: Job has reached the specified backoff limit",
                "migrate | ERROR: no such column",
            ],
            ..case(
                "a migration fails",
                &[
                    Running("Running"),
                    HookFails("Job has reached the specified backoff limit"),
                ],
                "deploy.main failed: main: PreSync hook Job migrate failed: Job has reached the specified backoff limit",
            )
        },
        Case {
            set: |state| state.no_logs = true,
            says: &["its log cannot be told"],
            ..case(
                "a migration fails and its log is not for us",
                &[HookFails("backoff")],
                "deploy.main failed: main: PreSync hook Job migrate failed: backoff",
            )
        },
        case(
            "a resource fails",
            &[SyncFails("field is immutable")],
            "deploy.main failed: main: Deployment web was not synced: field is immutable",
        ),
        Case {
            more: "healthy-within \"5m\"",
            ..case(
                "out of sync forever",
                &[OutOfSync],
                "deploy.main timed-out: main was not synced and healthy within 5m00s; it goes on (out of sync: Deployment web)",
            )
        },
        Case {
            more: "healthy-within \"5m\"",
            ..case(
                "a paused rollout",
                &[Health("Suspended")],
                "deploy.main timed-out: main was not synced and healthy within 5m00s; it goes on (it is suspended: a rollout is paused…",
            )
        },
        Case {
            set: |state| state.closed = 4,
            says: &[
                "sync windows keep main from being synced now (deny at \"0 22 * * *\" UTC for 8h): waiting",
            ],
            ..case(
                "a window opens",
                &[Health("Healthy")],
                "deploy.main succeeded",
            )
        },
        Case {
            set: |state| state.closed = 4,
            more: "window fail",
            syncs: 0,
            ..case(
                "a closed window",
                &[Health("Healthy")],
                "deploy.main failed: sync windows keep main from being synced now (deny at \"0 22 * * *\" UTC for 8h): nothing was changed",
            )
        },
        case(
            "somebody else",
            &[Running("Running"), Theirs(OTHER)],
            "deploy.main failed: main: somebody else's operation to 2222222222222222222222222222222222222222 took the place of ours",
        ),
        case(
            "deleted",
            &[Running("Running"), Deleted],
            "deploy.main failed: main: the application was deleted meanwhile",
        ),
        case(
            "gone for a moment",
            &[Deleted, Deleted, Health("Healthy")],
            "deploy.main succeeded",
        ),
        Case {
            says: &["looking again", "its answer is not JSON"],
            ..case(
                "bad weather",
                &[
                    Status(503),
                    Garbage,
                    Status(429),
                    Status(502),
                    Running("Running"),
                    Status(500),
                    Health("Healthy"),
                ],
                "deploy.main succeeded",
            )
        },
        case(
            "bad weather for ever",
            &[Status(502)],
            "deploy.main errored: argocd `cd` failed at get main: upstream connect error; what was begun of main goes on",
        ),
        case(
            "stale answers",
            &[Stale, Stale, Running("Running"), Stale, Health("Healthy")],
            "deploy.main succeeded",
        ),
        case(
            "the repo-server is down",
            &[Broken("rpc error: connection refused")],
            "deploy.main failed: main: ComparisonError: rpc error: connection refused (its repo-server cannot be reached)",
        ),
        case(
            "broken for a moment",
            &[Broken("rpc error"), Broken("rpc error"), Health("Healthy")],
            "deploy.main succeeded",
        ),
        Case {
            set: |state| state.main().missing = true,
            syncs: 0,
            ..case(
                "no such application",
                &[],
                "deploy.main failed: argocd `cd` does not let us get main: permission denied; its access rules need `p, ROLE, applications, get, PROJECT/main, allow`. Argo CD says the same if there is no such application; we may see main",
            )
        },
        Case {
            set: |state| state.token = Some("another".to_owned()),
            syncs: 0,
            ..case(
                "a token that ran out",
                &[],
                "deploy.main failed: argocd `cd` does not accept our credentials: invalid session: token is expired; check the `token`…",
            )
        },
        Case {
            set: |state| state.troubles.push(("sync", Trouble::Refused(403))),
            syncs: 0,
            ..case(
                "may look and not sync",
                &[],
                "deploy.main failed: argocd `cd` does not let us sync main: upstream connect error; its access rules need `p, ROLE, applications, sync, PROJECT/main, allow`…",
            )
        },
    ]
}

#[tokio::test(start_paused = true)]
async fn every_plot_ends_as_it_should() {
    for case in cases() {
        let (flow, fake): (_, FakeArgo) = start(case.plot, case.more);
        (case.set)(&mut fake.state());
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        let fits = match case.ends.strip_suffix('…') {
            Some(start) => line.starts_with(start),
            None => line == case.ends,
        };
        assert!(
            fits,
            "{}:\n{line}\nexpected\n{}\n{log}",
            case.name, case.ends
        );
        for says in case.says {
            assert!(
                log.contains(says),
                "{}: {says}\nis not in\n{log}",
                case.name
            );
        }
        assert_eq!(fake.changes().len(), case.syncs, "{}", case.name);
        proper(&fake);
    }
}
