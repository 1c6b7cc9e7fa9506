//! `rollback`: the program goes back to what an earlier run deployed, over HTTP.

use super::TOKEN_LINE;
use crate::support::fake_argocd::Beat::Health;
use crate::support::fake_argocd::{App, FakeArgo, TOKEN};
use crate::support::faulty::Faulty;
use crate::support::program::{Ended, Program};

fn revision(number: u32) -> String {
    number.to_string().repeat(40)
}

fn pipeline(number: u32) -> String {
    format!(
        r#"
var cd env=ARGOCD
secret TOKEN env=ARGOCD_TOKEN
argocd cd "${{var.cd}}" {{ plain-http; {TOKEN_LINE} }}
pipeline release {{
    run version {{ script "true" }}
    deploy main {{ argocd cd app=main revision="{}"; needs run.version }}
}}
"#,
        revision(number)
    )
}

struct Rig {
    program: Program,
    fake: FakeArgo,
    server: Faulty,
}

impl Rig {
    fn new() -> Self {
        let fake = FakeArgo::new(&[Health("Healthy")]);
        Self {
            program: Program::new(&pipeline(0)),
            server: fake.serve(),
            fake,
        }
    }

    #[track_caller]
    fn expect(&self, args: &[&str], code: i32) -> Ended {
        let address = format!("http://{}/argocd", self.server.address());
        let env = [
            ("ARGOCD".to_owned(), address),
            ("ARGOCD_TOKEN".to_owned(), TOKEN.to_owned()),
        ];
        let ended = self.program.run_with(&env, args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:#?}");
        assert!(!ended.out.contains(TOKEN) && !ended.err.contains(TOKEN));
        ended
    }

    fn release(&self, number: u32) {
        let text = pipeline(number);
        let files = [("pipelines/p.kdl", text.as_str())];
        let message = format!("number {number}");
        self.program.repo.commit(&message, &files);
        self.expect(&["run", "release"], 0);
    }

    /// What was changed last, and where the application is.
    fn last(&self) -> (String, String) {
        let mut state = self.fake.state();
        let (what, body) = state.writes.last().cloned().expect("a change");
        let history = &state.main().history;
        let (_, revision) = history.last().cloned().expect("a revision");
        let id = match body.get("id").and_then(serde_json::Value::as_i64) {
            Some(id) => format!(" {id}"),
            None => String::new(),
        };
        (format!("{what}{id}"), revision)
    }
}

#[test]
fn each_rollback_goes_one_further() {
    let rig = Rig::new();
    for number in 1..=3 {
        rig.release(number);
    }
    assert_eq!(rig.last(), ("sync".to_owned(), revision(3)));
    let back = rig.expect(&["rollback", "deploy.main"], 0);
    assert!(
        back.out.contains("deploy.main goes back to 2222"),
        "{back:?}"
    );
    assert!(back.out.contains("number 2 of its history"), "{back:?}");
    assert_eq!(rig.last(), ("rollback 2".to_owned(), revision(2)));
    let shown = rig.expect(&["show", "last", "--format", "json"], 0).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let stages = shown["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), 1, "only the deployment: {shown:#}");

    rig.expect(&["rollback", "deploy.main"], 0);
    assert_eq!(rig.last(), ("rollback 1".to_owned(), revision(1)));
    let end = rig.expect(&["rollback", "deploy.main"], 2);
    assert!(
        end.err.contains("there is nothing to go back to"),
        "{end:?}"
    );
    // Forward again, as if nothing had been.
    rig.release(4);
    assert_eq!(rig.last(), ("sync".to_owned(), revision(4)));
    assert_eq!(rig.fake.state().breaches, Vec::<String>::new());
}

#[test]
fn what_cannot_be_gone_back_to_changes_nothing() {
    type Set = fn(&mut App);
    let forgotten: Set = |app| app.history.retain(|(id, _)| *id == 2);
    let automatic: Set = |app| app.auto = true;
    for (set, why) in [
        (forgotten, "the history of main does not have 1111"),
        (automatic, "take back the commit in its repository instead"),
    ] {
        let rig = Rig::new();
        rig.release(1);
        rig.release(2);
        set(rig.fake.state().main());
        let ended = rig.expect(&["rollback", "deploy.main"], 1);
        assert!(ended.out.contains(why), "{ended:?}");
        assert_eq!(rig.fake.changes(), ["sync", "sync"]);
    }
}
