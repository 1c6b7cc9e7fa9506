//! The schedule on graphs of real pipelines, without running anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::base::{Source, Span, Spanned, StageId};
use crate::pipeline::{StageEntry, load};
use crate::stage::common::Needs;

const DECLS: &str = r#"
registry local "localhost:5000" { plain-http }
image app registry=local { tag "1" }
repo manifests "https://git.example.com/m" branch=main
"#;

/// The stages of a pipeline and its graph.
fn pipeline(stages: &str) -> (Vec<StageEntry>, Arc<Graph>) {
    let text = format!("{DECLS}\npipeline p {{\n{stages}\n}}\n");
    let (project, diagnostics) = load(vec![Source::new("p.kdl", text.as_str())]);
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    let pipeline = &project.pipelines["p"];
    let (graph, dangling) = Graph::build(&pipeline.stages, &pipeline.decls);
    assert!(dangling.is_empty(), "{dangling:#?}");
    assert_eq!(graph.cycle(), None);
    (pipeline.stages.clone(), Arc::new(graph))
}

fn schedule(graph: &Arc<Graph>, left_out: impl Fn(usize) -> bool) -> Schedule {
    let stages = graph.stages();
    Schedule::new(
        graph.clone(),
        &vec![1; stages],
        &vec![Lane::Local; stages],
        left_out,
    )
}

/// Ends every stage that starts as `stands` says; tells what became of each, in order.
fn drive(
    stages: &[StageEntry],
    schedule: &mut Schedule,
    stands: impl Fn(&str) -> Standing,
) -> Vec<String> {
    let name = |at: usize| stages[at].id.as_str();
    let mut told = Vec::new();
    loop {
        while let Some((at, decision)) = schedule.decided() {
            told.push(match decision {
                Decision::Skip(cause) => format!("{} skipped by {}", name(at), name(cause)),
                Decision::Block(cause) => format!("{} blocked by {}", name(at), name(cause)),
                Decision::LeaveOut => format!("{} left out", name(at)),
            });
        }
        let Some(at) = schedule.next(Lane::Local) else {
            assert!(schedule.is_done(), "nothing is ready and nothing has ended");
            return told;
        };
        told.push(format!("{} started", name(at)));
        schedule.finish(at, stands(name(at)));
    }
}

/// What becomes of the stage `then` if `first` ends in each of the four ways.
#[track_caller]
fn check(text: &str, first: &str, then: &str, expect: [&str; 4]) {
    let (stages, graph) = pipeline(text);
    let standings = [
        Standing::Good,
        Standing::Skipped,
        Standing::Allowed,
        Standing::Bad,
    ];
    for (standing, expect) in standings.into_iter().zip(expect) {
        let mut schedule = schedule(&graph, |_| false);
        schedule.begin([]);
        let told = drive(&stages, &mut schedule, |name| {
            if name == first {
                standing
            } else {
                Standing::Good
            }
        });
        let expect = match expect {
            "started" => format!("{then} started"),
            word => format!("{then} {word} by {first}"),
        };
        let last = told.iter().filter(|line| line.starts_with(then));
        assert_eq!(
            last.collect::<Vec<_>>(),
            [&expect],
            "{standing:?}: {told:?}"
        );
    }
}

#[test]
fn every_edge_under_every_standing() {
    // In the order: good, skipped, allowed to fail, bad.
    check(
        r#"run a { script "true"; output x from="f" }
           run b { env X "${run.a.x}"; script "true" }"#,
        "run.a",
        "run.b",
        ["started", "skipped", "skipped", "blocked"],
    );
    check(
        r#"run a { script "true"; produces "f" }
           run b { uses run.a; script "true" }"#,
        "run.a",
        "run.b",
        ["started", "skipped", "skipped", "blocked"],
    );
    check(
        r#"run a { script "true" }
           run b { needs run.a; script "true" }"#,
        "run.a",
        "run.b",
        ["started", "started", "started", "blocked"],
    );
    check(
        r#"run a { script "true" }
           run b { needs run.a skipped=propagate; script "true" }"#,
        "run.a",
        "run.b",
        ["started", "skipped", "started", "blocked"],
    );
    check(
        r#"run a { script "true" }
           bump b repo=manifests { file "v.yaml" { set ".a" "1" } }"#,
        "run.a",
        "bump.b",
        ["started", "started", "started", "blocked"],
    );
    check(
        "build app
         scan app { fail-on high }
         push app",
        "scan.app",
        "push.app",
        ["started", "skipped", "started", "blocked"],
    );
    check(
        "build app
         push app",
        "build.app",
        "push.app",
        ["started", "skipped", "skipped", "blocked"],
    );
    check(
        r#"build app
           push app { needs build.app }
           bump b repo=manifests {
               needs build.app
               file "v.yaml" { set ".a" "${image.app.tag}" { optional } }
           }"#,
        "push.app",
        "bump.b",
        ["started", "started", "started", "blocked"],
    );
    check(
        r#"run a { script "true" }
           run b { finally; script "true" }"#,
        "run.a",
        "run.b",
        ["started", "started", "started", "started"],
    );
}

#[test]
fn matrix_joins_wait_for_all_and_name_the_worst() {
    check(
        r#"run t { matrix { go "1" "2" "3" }; script "true" }
           run after { needs run.t; script "true" }"#,
        "run.t[go=2]",
        "run.after",
        ["started", "started", "started", "blocked"],
    );
    check(
        r#"run t { matrix { go "1" "2" }; script "true"; produces "f" }
           run after { uses run.t; script "true" }"#,
        "run.t[go=2]",
        "run.after",
        ["started", "skipped", "skipped", "blocked"],
    );
}

#[test]
fn block_wins_over_skip() {
    let (stages, graph) = pipeline(
        r#"run a { script "true"; output x from="f" }
           run b { script "true" }
           run c { needs run.b; env X "${run.a.x}"; script "true" }
           run d { needs run.c skipped=propagate; script "true" }"#,
    );
    for (b, expect) in [
        (
            Standing::Bad,
            ["run.c blocked by run.b", "run.d blocked by run.c"],
        ),
        (
            Standing::Good,
            ["run.c skipped by run.a", "run.d skipped by run.c"],
        ),
    ] {
        let mut schedule = schedule(&graph, |_| false);
        schedule.begin([]);
        let told = drive(&stages, &mut schedule, |name| match name {
            "run.a" => Standing::Skipped,
            _ => b,
        });
        assert_eq!(told[2..], expect);
    }
}

#[test]
fn left_out_stages_count_as_skipped() {
    let (stages, graph) = pipeline(
        r#"run a { script "true"; output x from="f" }
           run b { needs run.a; script "true" }
           run c { env X "${run.a.x}"; script "true" }
           run z { finally; script "true" }"#,
    );
    let mut schedule = schedule(&graph, |at| at == 0);
    schedule.begin([]);
    let told = drive(&stages, &mut schedule, |_| Standing::Good);
    let expect = [
        "run.a left out",
        "run.c skipped by run.a",
        "run.b started",
        "run.z started",
    ];
    assert_eq!(told, expect);
}

#[test]
fn a_drain_takes_what_has_not_begun_and_decides_nothing_about_it() {
    let (stages, graph) = pipeline(
        r#"run a { script "true" }
           run b { needs run.a; script "true" }
           run c { needs run.b; script "true" }
           run d { script "true" }
           run z { finally; script "true" }"#,
    );
    let mut schedule = schedule(&graph, |_| false);
    schedule.begin([]);
    let running = schedule.next(Lane::Local);
    assert_eq!(running, Some(0));
    let drained = schedule.drain(|at| Some(at) == running || stages[at].is_last());
    let names: Vec<_> = drained.iter().map(|at| stages[*at].id.as_str()).collect();
    assert_eq!(names, ["run.b", "run.c", "run.d"]);
    assert_eq!(schedule.decided(), None, "they ended; nothing blocked them");
    assert_eq!(
        schedule.next(Lane::Local),
        None,
        "the last stage waits for what runs"
    );
    for at in drained {
        schedule.finish(at, Standing::Bad);
    }
    schedule.finish(0, Standing::Good);
    let told = drive(&stages, &mut schedule, |_| Standing::Good);
    assert_eq!(told, ["run.z started"]);
}

#[test]
fn the_longest_remaining_path_starts_first_then_declaration_order() {
    let (stages, graph) = pipeline(
        r#"run quick { script "true" }
           run slow { script "true" }
           run head { script "true" }
           run tail { needs run.head; script "true" }
           run same { script "true" }"#,
    );
    let mut schedule = Schedule::new(graph, &[5, 20, 1, 30, 5], &[Lane::Local; 5], |_| false);
    schedule.begin([]);
    let mut order = Vec::new();
    while let Some(at) = schedule.next(Lane::Local) {
        order.push(stages[at].id.name());
    }
    assert_eq!(order, ["head", "slow", "quick", "same"]);
}

#[test]
fn every_lane_has_a_queue_of_its_own() {
    let (stages, graph) = pipeline(
        "build app
         run a { script \"true\" }
         push app { needs build.app }",
    );
    let lanes = [Lane::Build, Lane::Local, Lane::Remote];
    let mut schedule = Schedule::new(graph, &[1; 3], &lanes, |_| false);
    schedule.begin([]);
    assert_eq!(schedule.next(Lane::Remote), None);
    assert_eq!(schedule.next(Lane::Build), Some(0));
    schedule.finish(0, Standing::Good);
    let next = schedule.next(Lane::Remote).map(|at| stages[at].id.as_str());
    assert_eq!(next, Some("push.app"));
    assert_eq!(schedule.next(Lane::Local), Some(1));
}

#[test]
fn a_resumed_run_keeps_what_had_ended() {
    let (stages, graph) = pipeline(
        r#"run a { script "true"; output x from="f" }
           run b { env X "${run.a.x}"; script "true" }
           run c { needs run.b; script "true" }
           run d { needs run.c; script "true" }"#,
    );
    for (standing, expect) in [
        (Standing::Good, vec!["run.b started", "run.d started"]),
        (
            Standing::Skipped,
            vec!["run.b skipped by run.a", "run.d started"],
        ),
        (
            Standing::Bad,
            vec!["run.b blocked by run.a", "run.d started"],
        ),
    ] {
        let mut schedule = schedule(&graph, |_| false);
        // `c` had ended well although `b`, which is run again, comes before it.
        schedule.begin([(0, standing), (2, Standing::Good)]);
        let told = drive(&stages, &mut schedule, |_| Standing::Good);
        let told: BTreeSet<_> = told.iter().map(String::as_str).collect();
        assert_eq!(told, expect.into_iter().collect(), "{standing:?}");
    }
}

/// Copies of one stage with needs of their own: stage `at` waits for `needs(at)`.
fn many(count: usize, needs: impl Fn(usize) -> Vec<usize>) -> (Vec<StageEntry>, Arc<Graph>) {
    let (template, _) = pipeline(r#"run a { script "true" }"#);
    let id = |at: usize| format!("run.s{at}");
    let stages: Vec<StageEntry> = (0..count)
        .map(|at| {
            let mut entry = template[0].clone();
            entry.id = StageId::from(id(at).as_str());
            let stages = needs(at)
                .into_iter()
                .map(|to| Spanned::new(id(to), Span::new(0, 0)))
                .collect();
            entry.common.needs = Some(Needs {
                stages,
                propagate: false,
            });
            entry
        })
        .collect();
    let (graph, dangling) = Graph::build(&stages, &Default::default());
    assert!(dangling.is_empty());
    (stages, Arc::new(graph))
}

#[test]
fn a_hundred_thousand_stages_cost_linear_time() {
    let began = Instant::now();
    let (stages, graph) = many(100_000, |at| match at {
        0 => Vec::new(),
        1..50_000 => vec![0],
        _ => vec![at - 50_000, at - 1],
    });
    let mut schedule = schedule(&graph, |_| false);
    schedule.begin([]);
    let told = drive(&stages, &mut schedule, |_| Standing::Good);
    assert_eq!(told.len(), stages.len());
    // Quadratic cost would take hours; a slow machine with a debug build takes seconds.
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn many_effects_below_many_stages_have_few_edges() {
    let mut text = String::new();
    for block in 0..40 {
        let names: Vec<String> = (0..25).map(|at| format!("s{block}x{at}")).collect();
        text.push_str(&format!("run {} {{ script \"true\" }}\n", names.join(" ")));
        text.push_str(&format!(
            "bump b{block} repo=manifests {{ file \"v.yaml\" {{ set \".a\" \"1\" }} }}\n"
        ));
    }
    let (stages, graph) = pipeline(&text);
    let edges: usize = (0..graph.vertices())
        .map(|at| graph.waiting(at).count())
        .sum();
    assert!(
        edges < 3 * stages.len(),
        "{edges} edges, {} stages",
        stages.len()
    );
    let last = stages.len() - 1;
    assert_eq!(
        graph.awaited_stages(last).len(),
        last,
        "the last effect follows all"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every stage ends; none starts before what it waits for; one is blocked only if something
    /// it waits for went wrong.
    #[test]
    fn any_graph_comes_to_its_end(
        edges in proptest::collection::vec(proptest::collection::vec(any::<u16>(), 0..4), 1..40),
        stands in proptest::collection::vec(0u8..8, 40),
        drain_after in 0usize..60,
    ) {
        let count = edges.len();
        let awaited: Vec<Vec<usize>> = edges
            .iter()
            .enumerate()
            .map(|(at, picks)| {
                let below: BTreeSet<usize> = picks
                    .iter()
                    .filter(|_| at > 0)
                    .map(|pick| usize::from(*pick) % at)
                    .collect();
                below.into_iter().collect()
            })
            .collect();
        let (_, graph) = many(count, |at| awaited[at].clone());
        let standing = |at: usize| match stands[at] {
            0 => Standing::Bad,
            1 => Standing::Skipped,
            2 => Standing::Allowed,
            _ => Standing::Good,
        };
        let mut schedule = schedule(&graph, |at| stands[at] == 7);
        schedule.begin([]);
        let mut ended: BTreeMap<usize, Standing> = BTreeMap::new();
        let mut running = Vec::new();
        let mut steps = 0;
        loop {
            while let Some((at, decision)) = schedule.decided() {
                let standing = match decision {
                    Decision::Block(cause) => {
                        prop_assert_eq!(ended.get(&cause), Some(&Standing::Bad));
                        prop_assert!(awaited[at].contains(&cause));
                        Standing::Bad
                    }
                    Decision::Skip(_) => {
                        return Err(TestCaseError::fail("`needs` is satisfied by a skip"));
                    }
                    Decision::LeaveOut => {
                        prop_assert_eq!(stands[at], 7);
                        Standing::Skipped
                    }
                };
                prop_assert_eq!(ended.insert(at, standing), None, "stage {} ended twice", at);
            }
            while let Some(at) = schedule.next(Lane::Local) {
                for before in &awaited[at] {
                    let before = ended.get(before);
                    prop_assert!(before.is_some_and(|before| *before != Standing::Bad));
                }
                running.push(at);
            }
            steps += 1;
            if steps == drain_after {
                for at in schedule.drain(|at| running.contains(&at)) {
                    prop_assert_eq!(ended.insert(at, Standing::Bad), None);
                }
            }
            let Some(at) = running.pop() else { break };
            prop_assert_eq!(ended.insert(at, standing(at)), None);
            schedule.finish(at, standing(at));
        }
        prop_assert!(schedule.is_done());
        prop_assert_eq!(ended.len(), count);
    }
}
