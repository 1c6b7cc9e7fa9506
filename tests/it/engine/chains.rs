//! Pipelines that follow others.

use pipewright::adapters::sim::Fault;
use pipewright::event::Trigger;

use crate::support::flow::{Flow, options, project};

#[tokio::test(start_paused = true)]
async fn a_run_starts_what_follows_it_once_at_the_same_commit() {
    let flow = Flow::of(
        r#"
        pipeline first {
            on { manual { input level default="low"; input other default="x" } }
            build app
            push app
        }
        pipeline second {
            on { pipeline first; manual { input level default="none" } }
            run a {
                env LEVEL "${input.level}"
                script "echo $LEVEL"
            }
        }
        pipeline third {
            on { pipeline first }
            run b { env D "${upstream.push.app.digest}"; script "echo $D" }
        }
        pipeline broken { on { pipeline first outcome=failed }; run c { script "true" } }
        pipeline last { on { pipeline second outcome=any }; run d { script "true" } }
        "#,
        options(),
    );
    let mut flow = flow;
    flow.inputs.insert("level".to_owned(), "high".to_owned());
    let first = flow.run("first").await;
    let [second] = flow.runs("second").try_into().expect("once");
    let [third] = flow.runs("third").try_into().expect("once");
    let [last] = flow.runs("last").try_into().expect("once");
    assert_eq!(flow.runs("broken"), []);
    flow.expect(&second, "run.a succeeded\n= succeeded");
    assert_eq!(flow.log(&second, "run.a"), "high\n");
    let state = flow.state(&first);
    let digest = &state.stages()[1].outputs["digest"];
    assert_eq!(flow.log(&third, "run.b"), format!("{digest}\n"));
    let created = |run| flow.state(run).created.expect("it was created");
    for run in [&second, &third, &last] {
        let created = created(run);
        assert_eq!(
            created.commit,
            state.created.as_ref().expect("it is there").commit
        );
        assert_eq!(created.root, first);
        assert_eq!(created.trigger, Trigger::Pipeline);
    }
    assert_eq!(created(&last).upstream.map(|up| up.run), Some(second));
    flow.clean();
}

#[tokio::test(start_paused = true)]
async fn outcomes_choose_who_follows() {
    let flow = Flow::of(
        r#"
        pipeline first { run a { script "false" } }
        pipeline good { on { pipeline first }; run b { script "true" } }
        pipeline bad { on { pipeline first outcome=failed }; run c { script "true" } }
        pipeline any { on { pipeline first outcome=any }; run d { script "true" } }
        "#,
        options(),
    );
    flow.run("first").await;
    let count = |pipeline: &str| flow.runs(pipeline).len();
    assert_eq!([count("good"), count("bad"), count("any")], [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_run_that_was_told_so_or_was_only_a_part() {
    let text = r#"
        pipeline first { run a { script "true" }; run b { script "true" } }
        pipeline second { on { pipeline first }; run c { script "true" } }
        "#;
    let mut flow = Flow::of(text, options());
    flow.chain = false;
    flow.run("first").await;
    flow.chain = true;
    flow.only = vec!["run.a".to_owned()];
    flow.run("first").await;
    flow.only.clear();
    flow.dirty = true;
    flow.run("first").await;
    assert_eq!(flow.runs("second"), []);
    flow.dirty = false;
    flow.run("first").await;
    assert_eq!(flow.runs("second").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_free_before_what_follows_begins() {
    let flow = Flow::of(
        r#"
        pipeline first { concurrency prod; run a { script "true" } }
        pipeline second { concurrency prod; on { pipeline first }; run b { script "true" } }
        "#,
        options(),
    );
    flow.run("first").await;
    let [second] = flow.runs("second").try_into().expect("once");
    flow.expect(&second, "run.b succeeded\n= succeeded");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_and_what_follows_are_one() {
    for after in [false, true] {
        let flow = Flow::of(
            r#"
            pipeline first { run a { script "true" } }
            pipeline second { on { pipeline first }; run b { script "true" } }
            "#,
            options(),
        );
        let fault = if after {
            Fault::CrashAfter
        } else {
            Fault::CrashBefore
        };
        flow.sim.on("store.append *\"run-finished\"*", fault);
        let life = flow.life();
        let run = flow.create(&life, "first").await;
        tokio::select! {
            ended = flow.go(&life, &run) => assert!(ended.is_err(), "{ended:?}"),
            () = flow.sim.crashed() => {}
        }
        drop(life);
        assert_eq!(flow.runs("second").len(), usize::from(after));
        assert_eq!(flow.state(&run).outcome.is_some(), after);
        flow.sim.restart();
        let life = flow.life();
        flow.go(&life, &run).await.expect("it comes to its end");
        let [second] = flow.runs("second").try_into().expect("once");
        flow.expect(&second, "run.b succeeded\n= succeeded");
    }
}

#[test]
fn pipelines_that_start_each_other_are_refused() {
    let text = r#"
        pipeline a { on { pipeline b }; run x { script "true" } }
        pipeline b { on { pipeline a }; run x { script "true" } }
        "#;
    let refused = std::panic::catch_unwind(|| project(text)).is_err();
    assert!(refused);
    let source = pipewright::base::Source::new("p.kdl", text);
    let (project, _) = pipewright::pipeline::load(vec![source]);
    let codes: Vec<_> = pipewright::plan::check(&project)
        .iter()
        .map(|d| d.code)
        .collect();
    assert_eq!(codes, ["PW0051"]);
}
