//! Conditions, and runs of a part of a pipeline.

use pipewright::base::Commit;
use pipewright::event::Trigger;

use crate::support::flow::{Flow, files, options, run_and_expect};

#[tokio::test(start_paused = true)]
async fn branches_tags_and_expressions() {
    run_and_expect(
        r#"
        on { manual { input dry type=bool default="false" } }
        run on-branch { script "true"; when { branch "release/*" main } }
        run off-branch { script "true"; when { branch "release/*" } }
        run off-tag { script "true"; when { tag "v*" } }
        run holds { script "true"; when { expr "!input.dry" } }
        run not { script "true"; when { expr "input.dry" } }
        run both { script "true"; when { branch main; expr "git.branch == \"main\"" } }
        "#,
        "
        run.on-branch succeeded
        run.off-branch skipped: on branch main, not on release/*
        run.off-tag skipped: for no tag, not for v*
        run.holds succeeded
        run.not skipped: `input.dry` does not hold
        run.both succeeded
        = succeeded
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_family_is_judged_member_by_member() {
    let mut flow = Flow::new(
        r#"
        run app web { script "true"; when { changed "${name}/**" "!**/*.md" } }
        "#,
    );
    let first = flow.run("p").await;
    flow.expect(&first, "run.app succeeded\nrun.web succeeded\n= succeeded");
    let mut texts = options().files;
    texts.insert("web/index.html".to_owned(), "<p>new\n".to_owned());
    texts.insert("app/README.md".to_owned(), "new\n".to_owned());
    let commit = Commit {
        branch: Some("main".to_owned()),
        ..Commit::default()
    };
    flow.sim.add_commit(commit, &texts);
    flow.cause = Trigger::Push { before: None };
    let second = flow.run("p").await;
    flow.expect(
        &second,
        "run.app skipped: nothing that fits app/** !**/*.md changed since …
         run.web succeeded
         = succeeded",
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_part_is_no_success_of_the_whole() {
    let mut flow = Flow::new(
        r#"
        run lint { script "true" }
        run test { script "true"; when { changed "src/**" } }
        "#,
    );
    let whole = flow.run("p").await;
    flow.expect(
        &whole,
        "run.lint succeeded\nrun.test succeeded\n= succeeded",
    );
    let mut texts = options().files;
    texts.extend(files(&[("src/a.c", "new\n")]));
    let commit = Commit {
        branch: Some("main".to_owned()),
        ..Commit::default()
    };
    flow.sim.add_commit(commit, &texts);
    flow.only = vec!["run.lint".to_owned()];
    let part = flow.run("p").await;
    flow.expect(
        &part,
        "run.lint succeeded
         run.test skipped: not asked for (--only)
         = succeeded",
    );
    flow.only = Vec::new();
    let whole = flow.run("p").await;
    flow.expect(
        &whole,
        "run.lint succeeded\nrun.test succeeded\n= succeeded",
    );
}

#[tokio::test(start_paused = true)]
async fn only_keeps_what_is_asked_for_and_whose_data_it_uses() {
    let mut flow = Flow::new(
        r#"
        run lint { script "true" }
        build app
        scan app { fail-on high }
        push app
        bump main repo=manifests { file "values.yaml" { set ".tag" "${image.app.tag}" } }
        "#,
    );
    flow.only = vec!["push.app".to_owned()];
    let run = flow.run("p").await;
    flow.expect(
        &run,
        "
        run.lint skipped: not asked for (--only)
        build.app succeeded
        scan.app succeeded
        push.app succeeded
        bump.main skipped: not asked for (--only)
        = succeeded
        ",
    );
    let life = flow.life();
    flow.only = vec!["push.ap".to_owned()];
    let error = flow
        .plan(&life, "p")
        .await
        .expect_err("there is no such stage");
    assert_eq!(error.message, "there is no stage `push.ap`");
    assert_eq!(error.help, "did you mean `push.app`?");
}

#[tokio::test(start_paused = true)]
async fn a_dirty_run_leaves_out_every_effect() {
    let mut flow = Flow::new(
        r#"
        run test { script "cat app/main.c" }
        build app
        push app
        bump main repo=manifests { file "values.yaml" { set ".tag" "${image.app.tag}" } }
        run after { needs bump.main; script "true" }
        "#,
    );
    flow.sim.edit("app/main.c", "edited\n");
    flow.dirty = true;
    let run = flow.run("p").await;
    let why = "the working tree is no commit (--dirty), and this would leave it";
    flow.expect(
        &run,
        &format!(
            "
            run.test succeeded
            build.app succeeded
            push.app skipped: {why}
            bump.main skipped: {why}
            run.after succeeded
            = succeeded
            "
        ),
    );
    assert_eq!(flow.log(&run, "run.test"), "edited\n");
    assert_eq!(flow.sim.effects("engine.push").len(), 0);
    assert_eq!(flow.sim.effects("vcs.push").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn stages_that_wait_for_each_other_are_no_plan() {
    let text = r#"pipeline p {
        run a { needs run.b; script "true" }
        run b { needs run.a; script "true" }
    }"#;
    let (project, _) = pipewright::pipeline::load(vec![pipewright::base::Source::new("p", text)]);
    let flow = Flow {
        project,
        ..Flow::new(r#"run x { script "true" }"#)
    };
    let life = flow.life();
    let error = flow.plan(&life, "p").await.expect_err("it is a circle");
    assert_eq!(error.message, "stages wait for each other in a circle");
}
