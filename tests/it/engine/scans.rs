//! What a scan makes of a report, and what it leaves: the gate as a pipeline says it.

use pipewright::adapters::sim::{Failure, Fault};
use pipewright::base::{RunId, StageId, Timestamp};
use pipewright::ports::store::StoreReader as _;
use pipewright::scan::{Database, Finding, Location, Rating, Report, Tool, Uncovered};

use crate::support::flow::{Flow, options};

const PURL: &str = "pkg:deb/debian/libx@1";

fn finding(id: &str) -> Finding {
    Finding {
        fixed: Some("2".to_owned()),
        purl: Some(PURL.to_owned()),
        ..Finding::new(id, "libx", "1", Rating::High)
    }
}

fn report(findings: Vec<Finding>) -> Report {
    Report {
        findings,
        packages: 3,
        ..Report::new(Tool::named("test"), "app:1")
    }
}

fn kept(flow: &Flow, run: &RunId) -> Option<Report> {
    let state = flow.state(run);
    let stage = state
        .stage(&StageId::from("scan.app"))
        .expect("it is there");
    let digest = stage.outputs.get("report")?;
    let bytes = flow
        .store
        .blob(digest)
        .expect("it reads")
        .expect("it is kept");
    Some(serde_json::from_slice(&bytes).expect("it is a report"))
}

#[tokio::test(start_paused = true)]
async fn a_report_and_its_counts_are_kept_whatever_the_gate_says() {
    let flow = Flow::new(
        r#"
        build app
        scan app { fail-on high; allow-failure }
        run tell { env N "${scan.app.high}"; script "true" }
        "#,
    );
    flow.sim.findings("*", report(vec![finding("CVE-1")]));
    let run = flow.run("p").await;
    flow.expect(
        &run,
        "build.app succeeded
         scan.app failed (allowed): 1 finding at or above the gate, such as CVE-1 in libx 1 (fixed in 2)
         run.tell skipped: scan.app, whose result it needs, failed
         = succeeded",
    );
    let report = kept(&flow, &run).expect("it is kept");
    let judged = report.judged.clone().expect("it was judged");
    assert_eq!(judged.of(&report).against.len(), 1);
    let state = flow.state(&run);
    let outputs = &state
        .stage(&StageId::from("scan.app"))
        .expect("it ran")
        .outputs;
    assert_eq!((&*outputs["high"], &*outputs["unknown"]), ("1", "0"));
    assert!(flow.log(&run, "scan.app").contains("libx 1  take 2\n"));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_new_on_the_branch_fails() {
    let flow = Flow::new("build app\nscan app { fail-on high; only-new }\npush app");
    flow.sim.findings("*", report(Vec::new()));
    let clean = flow.run("p").await;
    assert!(
        flow.log(&clean, "scan.app")
            .contains("nothing to compare with")
    );
    let changed = |flow: &Flow, text: &str| {
        let files = crate::support::flow::files(&[
            ("Dockerfile", "FROM scratch\nCOPY . /\n"),
            ("app/main.c", text),
        ]);
        flow.sim
            .add_commit(pipewright::base::Commit::default(), &files);
    };
    changed(&flow, "one\n");
    flow.sim.findings("*", report(vec![finding("CVE-1")]));
    let failed = flow.run("p").await;
    let told = flow.told(&failed);
    assert!(
        told[1].starts_with("scan.app failed: 1 finding"),
        "{told:?}"
    );
    // A run that failed is nothing to compare with.
    let again = flow.run("p").await;
    assert!(flow.told(&again)[1].starts_with("scan.app failed"));
    flow.clean();
}

#[tokio::test(start_paused = true)]
async fn what_the_last_success_had_is_known() {
    let flow = Flow::new("build app\nscan app { fail-on high; only-new; allow-failure }");
    flow.sim.findings("*", report(vec![finding("CVE-1")]));
    let first = flow.run("p").await;
    flow.expect(
        &first,
        "build.app succeeded
         scan.app failed (allowed): …
         = succeeded",
    );
    flow.sim
        .findings("*", report(vec![finding("CVE-1"), finding("CVE-2")]));
    let second = flow.run("p").await;
    let told = flow.told(&second);
    assert!(
        told[1].contains("1 finding at or above the gate, such as CVE-2"),
        "{told:?}"
    );
    let log = flow.log(&second, "scan.app");
    assert!(
        log.contains(&format!("compared with run {}", first.short())),
        "{log}"
    );
    flow.sim.findings("*", report(vec![finding("CVE-1")]));
    let third = flow.run("p").await;
    assert_eq!(flow.told(&third)[1], "scan.app succeeded");
    flow.clean();
}

#[tokio::test(start_paused = true)]
async fn statements_of_the_commit_excuse() {
    let vex = |status: &str| {
        format!(
            r#"{{"@context": "https://openvex.dev/ns/v0.2.0", "statements": [{{
                "vulnerability": {{"name": "CVE-1"}}, "status": "{status}",
                "justification": "component_not_present",
                "products": [{{"@id": "localhost:5000/app", "subcomponents": [{{"@id": "{PURL}"}}]}}]}}]}}"#
        )
    };
    for (text, expected) in [
        (Some(vex("not_affected")), "scan.app succeeded"),
        (Some(vex("affected")), "scan.app failed: 1 finding …"),
        (
            Some("{".to_owned()),
            "scan.app failed: app.vex.json is no OpenVEX document: …",
        ),
        (None, "scan.app failed: the commit has no file app.vex.json"),
    ] {
        let mut options = options();
        if let Some(text) = text {
            options.files.insert("app.vex.json".to_owned(), text);
        }
        let stages = "pipeline p { build app; scan app { vex \"app.vex.json\" } }";
        let flow = Flow::of(stages, options);
        flow.sim.findings("*", report(vec![finding("CVE-1")]));
        let run = flow.run("p").await;
        let told = &flow.told(&run)[1];
        let fits = match expected.strip_suffix('…') {
            Some(start) => told.starts_with(start),
            None => told == expected,
        };
        assert!(fits, "{told} is not {expected}");
        flow.clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_no_whole_answer_is_no_green() {
    let old = Report {
        database: Some(Database {
            version: None,
            updated: Some(Timestamp(1_700_000_000_000)),
        }),
        ..report(Vec::new())
    };
    let partial = Report {
        uncovered: vec![Uncovered {
            what: "PHP packages".to_owned(),
            location: Location {
                path: "opt/vendor".to_owned(),
                layer: None,
            },
            why: "not read".to_owned(),
        }],
        ..report(Vec::new())
    };
    for (report, fields, expected) in [
        (
            &old,
            "max-db-age \"7d\"",
            "scan.app errored: the advisory database of test is ",
        ),
        (
            &old,
            "max-db-age \"7d\" otherwise=fail",
            "scan.app failed: the advisory database",
        ),
        (
            &old,
            "max-db-age \"7d\" otherwise=warn",
            "scan.app succeeded",
        ),
        (&old, "max-db-age \"9999d\"", "scan.app succeeded"),
        (
            &partial,
            "fail-on high",
            "scan.app errored: not covered by test: PHP packages at opt/vendor (not read)",
        ),
        (&partial, "not-covered fail", "scan.app failed: not covered"),
        (&partial, "not-covered warn", "scan.app succeeded"),
    ] {
        let flow = Flow::new(&format!("build app\nscan app {{ {fields} }}\npush app"));
        flow.sim.findings("*", report.clone());
        let run = flow.run("p").await;
        let told = flow.told(&run);
        assert!(told[1].starts_with(expected), "{told:?} is not {expected}");
        let passes = expected.ends_with("succeeded");
        assert_eq!(flow.sim.effects("engine.push").len(), usize::from(passes));
        let warned = !flow.state(&run).warnings.is_empty();
        assert_eq!(warned, fields.ends_with("warn"), "{fields}");
        assert!(kept(&flow, &run).is_some());
        flow.clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_database_is_errored_unless_the_file_says_otherwise() {
    for (fields, expected) in [
        (
            "fail-on high",
            "scan.app errored: the scanner has no advisory database",
        ),
        (
            "max-db-age \"7d\"",
            "scan.app errored: the scanner has no advisory database",
        ),
        (
            "max-db-age \"7d\" otherwise=fail",
            "scan.app failed: the scanner has no",
        ),
        ("max-db-age \"7d\" otherwise=warn", "scan.app succeeded"),
        ("max-db-age \"7d\" otherwise=ignore", "scan.app succeeded"),
    ] {
        let flow = Flow::new(&format!("build app\nscan app {{ {fields} }}"));
        flow.sim.on(
            "scanner.scan",
            Fault::Fail {
                times: 1,
                with: Failure::NotFound,
            },
        );
        let run = flow.run("p").await;
        let told = flow.told(&run);
        assert!(told[1].starts_with(expected), "{told:?} is not {expected}");
        flow.clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bill_is_attached_once() {
    let text = r#"
        image lib registry=local { tag "1"; sbom cyclonedx spdx }
        pipeline p { build lib; push lib }"#;
    let flow = Flow::of(text, options());
    let run = flow.run("p").await;
    flow.expect(
        &run,
        "build.lib succeeded
         push.lib succeeded
         = succeeded",
    );
    let state = flow.state(&run);
    let push = state.stage(&StageId::from("push.lib")).expect("it ran");
    let attached: Vec<&str> = push
        .effects
        .iter()
        .filter(|effect| effect.result.is_some())
        .filter_map(|effect| effect.key.split(' ').next())
        .collect();
    assert_eq!(attached, ["push", "sbom", "sbom"]);
    let before = flow.sim.ledger().len();
    let again = flow.run("p").await;
    assert_eq!(flow.told(&again)[1], "push.lib up-to-date");
    assert_eq!(flow.sim.ledger().len(), before, "{:?}", flow.ledger());
}
