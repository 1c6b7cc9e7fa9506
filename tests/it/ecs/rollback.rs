//! `rollback`: the program goes back to what an earlier run deployed, and only there.

use serde_json::{Value, json};

use crate::support::fake_ecs::Beat::{self, Completes, GoesBack, IsBack, Runs};
use crate::support::fake_ecs::{FakeEcs, definition_arn};
use crate::support::faulty::Faulty;
use crate::support::program::{Ended, Program};

/// Deploys what a number in the pipeline says; the build is in the way of a run that goes back.
fn pipeline(number: u32) -> String {
    format!(
        r#"
aws prod region=eu-west-1
pipeline release {{
    run version {{ script "echo {number} > version"; output version from="version" }}
    deploy web {{
        ecs aws=prod cluster=main service=web {{
            before migrate container=web {{ command "migrate" }}
            container web {{ env OPTS "${{run.version.version}}" }}
        }}
    }}
    run after {{ script "true"; needs deploy.web }}
}}
pipeline follows {{ on {{ pipeline release }}; run chained {{ script "true" }} }}
"#
    )
}

struct Rig {
    program: Program,
    fake: FakeEcs,
    server: Faulty,
}

impl Rig {
    fn new(plot: &[Beat]) -> Self {
        let fake = FakeEcs::new(plot);
        Self {
            program: Program::new(&pipeline(0)),
            server: fake.serve(),
            fake,
        }
    }

    fn pipewright(&self, args: &[&str]) -> Ended {
        let env = [
            ("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "the-secret-key-of-nobody".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            (
                "AWS_ENDPOINT_URL",
                format!("http://{}", self.server.address()),
            ),
        ];
        self.program
            .run_with(&env.map(|(name, value)| (name.to_owned(), value)), args)
    }

    #[track_caller]
    fn expect(&self, args: &[&str], code: i32) -> Ended {
        let ended = self.pipewright(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:#?}");
        ended
    }

    /// Commits another number and deploys it.
    fn release(&self, number: u32, code: i32) -> String {
        let text = pipeline(number);
        let files = [("pipelines/p.kdl", text.as_str())];
        self.program
            .repo
            .commit(&format!("number {number}"), &files);
        self.expect(&["run", "release", "--no-chain"], code);
        self.program.runs().remove(0)
    }

    /// What runs, as a whole and nothing else.
    #[track_caller]
    fn runs_now(&self) -> String {
        let (arn, state) = self.fake.primary();
        assert_eq!(state, "COMPLETED", "{arn}");
        arn
    }

    fn count(&self, action: &str) -> usize {
        let changes = self.fake.changes();
        changes.iter().filter(|name| *name == action).count()
    }
}

#[test]
fn each_rollback_goes_one_further_and_runs_only_the_deployment() {
    let rig = Rig::new(&[Runs(1), Completes]);
    rig.release(1, 0);
    rig.release(2, 0);
    let third = rig.release(3, 0);
    assert_eq!(rig.runs_now(), definition_arn("web:4"));
    let (registered, migrated) = (rig.count("RegisterTaskDefinition"), rig.count("RunTask"));

    let back = rig.expect(&["rollback", "deploy.web"], 0);
    assert!(
        back.out.contains("deploy.web goes back to web:3 of run"),
        "{back:?}"
    );
    assert_eq!(rig.runs_now(), definition_arn("web:3"));
    let shown = rig.expect(&["show", "last", "--format", "json"], 0).out;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let stages = shown["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), 1, "{shown:#}");
    assert_eq!(stages[0]["id"], "deploy.web");
    assert_eq!(stages[0]["outputs"]["revision"], definition_arn("web:3"));
    let words = rig.expect(&["show", "last"], 0).out;
    assert!(words.contains("rollback to what run"), "{words}");
    assert_eq!(rig.program.runs().len(), 4, "nothing is chained to it");

    // What was taken back is not gone back to.
    rig.expect(&["rollback", "last"], 0);
    assert_eq!(rig.runs_now(), definition_arn("web:2"));
    let nothing = rig.expect(&["rollback", "last"], 2);
    assert!(
        nothing.err.contains("there is nothing to go back to"),
        "{nothing:?}"
    );
    assert_eq!(rig.runs_now(), definition_arn("web:2"));

    // By a run: what ran before that one.
    rig.expect(&["rollback", &third], 0);
    assert_eq!(rig.runs_now(), definition_arn("web:3"));
    assert_eq!(
        (rig.count("RegisterTaskDefinition"), rig.count("RunTask")),
        (registered, migrated),
        "nothing is registered, and no task runs before"
    );
    // Again, it is there already.
    let again = rig.expect(&["rollback", &third], 0);
    assert!(again.out.contains("up-to-date"), "{again:?}");
    assert_eq!(rig.count("UpdateService"), 6);
    rig.expect(&["rerun", "last"], 0);
    assert_eq!(rig.count("UpdateService"), 6);
}

#[test]
fn what_failed_is_taken_back_to_what_succeeded_last() {
    let rig = Rig::new(&[Runs(1), Completes]);
    rig.release(1, 0);
    rig.fake.then(&[GoesBack, GoesBack, IsBack]);
    let failed = rig.release(2, 1);
    assert_eq!(rig.runs_now(), definition_arn("web:2"), "by the service");
    let back = rig.expect(&["rollback", &failed], 0);
    assert!(back.out.contains("goes back to web:2"), "{back:?}");
    assert_eq!(rig.runs_now(), definition_arn("web:2"));
}

#[test]
fn a_rollback_may_fail_like_any_deployment() {
    let rig = Rig::new(&[Runs(1), Completes]);
    rig.release(1, 0);
    rig.release(2, 0);
    rig.fake.then(&[GoesBack, GoesBack, IsBack]);
    let back = rig.expect(&["rollback", "deploy.web"], 1);
    assert!(
        back.out.contains("web:2 does not run in service web"),
        "{back:?}"
    );
}

#[test]
fn a_revision_that_was_deregistered_is_registered_anew() {
    let rig = Rig::new(&[Runs(1), Completes]);
    rig.release(1, 0);
    rig.release(2, 0);
    rig.fake.state().families.get_mut("web").expect("there")[1]["status"] = json!("INACTIVE");
    rig.expect(&["rollback", "deploy.web"], 0);
    assert_eq!(rig.runs_now(), definition_arn("web:4"));
    let state = rig.fake.state();
    let [.., second, _, fourth] = state.families["web"].as_slice() else {
        panic!("four revisions");
    };
    assert_eq!(
        second["containerDefinitions"],
        fourth["containerDefinitions"]
    );
}

#[test]
fn what_cannot_be_taken_back_is_said() {
    let rig = Rig::new(&[Runs(1), Completes]);
    for (args, why) in [
        (vec!["rollback", "last"], "there is no run yet"),
        (vec!["rollback", "deploy.web"], "no run has come to a stage"),
    ] {
        let ended = rig.expect(&args, 2);
        assert!(ended.err.contains(why), "{ended:?}");
    }
    rig.release(1, 0);
    for (args, why) in [
        (vec!["rollback", "run.version"], "cannot be taken back"),
        (
            vec!["rollback", "deploy.shop"],
            "no run has come to a stage",
        ),
        (
            vec!["rollback", "deploy.web"],
            "there is nothing to go back to",
        ),
        (
            vec!["rollback", "deploy.web", "--pipeline", "follows"],
            "no run has come to a stage",
        ),
    ] {
        let ended = rig.expect(&args, 2);
        assert!(ended.err.contains(why), "{ended:?}");
    }
    assert_eq!(rig.count("UpdateService"), 1);
}
