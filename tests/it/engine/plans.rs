//! Plans on the simulated world: what is foreseen, and what cannot be.

use std::path::PathBuf;

use pipewright::base::{Secret, Source};
use pipewright::engine::Definition;
use pipewright::pipeline::load;
use pipewright::plan::{forecast, json, text};
use pipewright::ports::secrets::SecretSource;

use crate::support::files::{below, root};
use crate::support::flow::{Flow, options};

/// A plan's text, its spaces made single, and its JSON.
async fn planned(flow: &Flow) -> (String, serde_json::Value) {
    let life = flow.life();
    let plan = flow.plan(&life, "p").await.expect("it is valid");
    let readers = &life.engine.world.readers;
    let forecasts = forecast(&plan, readers, false)
        .await
        .expect("it is foreseen");
    let json = json(&plan, Some(&forecasts), &[]);
    let text = text(&plan, &forecasts, &[]);
    flow.clean();
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ") + "\n"
    });
    (lines.collect(), json)
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_made_without_the_secrets_of_a_run() {
    let flow = Flow::of(
        r#"
        secret PAT env=MANIFESTS_PAT
        secret LOGIN file="/run/secrets/login"
        registry closed "closed.example.com" { login bot "${secret.LOGIN}" }
        image own registry=closed { tag "${git.sha}" }
        repo private "https://git.example.com/p" { token "${secret.PAT}" }
        pipeline p {
            run test { env T "${secret.PAT}"; script "true" }
            build own
            push own
            bump main repo=private { file "v.yaml" { set ".tag" "${image.own.tag}" } }
            build app
            push app
        }"#,
        options(),
    );
    let (text, json) = planned(&flow).await;
    for line in [
        "+ run.test run runs a script on the host; secret `PAT` is missing here\n",
        "? build.own unknown secret `LOGIN` is missing here\n",
        "? bump.main unknown secret `LOGIN` is missing here; secret `PAT` is missing here\n",
        "+ build.app run ",
        "+ push.app run pushes localhost:5000/app:",
        "a run needs, and has not here:\n",
        "(build.own, push.own, bump.main)",
        "(run.test, bump.main)",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    assert_eq!(json["missing"][1]["secret"], "PAT");
    assert_eq!(json["missing"][1]["stages"][0], "run.test");

    // With them it is as ever.
    let secret = Secret::new("a-token-of-some-length");
    let sources = [
        SecretSource::Env("MANIFESTS_PAT".to_owned()),
        SecretSource::File(PathBuf::from("/run/secrets/login")),
    ];
    for source in sources {
        flow.sim.secret(source, &secret);
    }
    let (text, json) = planned(&flow).await;
    assert!(!text.contains("missing here"), "{text}");
    assert!(text.contains("+ build.own run "), "{text}");
    assert_eq!(json["missing"], serde_json::json!([]));

    // A run needs them all the same.
    let bare = Flow::of(
        r#"secret PAT env=MANIFESTS_PAT
        pipeline p { run test { env T "${secret.PAT}"; script "true" } }"#,
        options(),
    );
    let life = bare.life();
    let plan = bare.plan(&life, "p").await.expect("it is valid");
    let refused = plan.fetch(&life.engine.world.readers).await;
    let refused = refused.expect_err("there is no such secret").to_string();
    assert!(refused.contains("secret `PAT`"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn what_uses_a_skipped_matrix_is_foreseen_as_skipped() {
    let stages = |branch: &str| {
        format!(
            r#"
            run test {{
                matrix {{ go "1.22" "1.23" }}
                when {{ branch {branch} }}
                script "true"
                produces "dist"
            }}
            build app {{ uses run.test }}
            push app
            run strict {{ needs run.test skipped=propagate; script "true" }}
            run order {{ needs run.test; script "true" }}
            "#
        )
    };
    for (branch, expected) in [
        (
            "other",
            "run.test[go=1.22] skip, run.test[go=1.23] skip, build.app skip, push.app skip, \
             run.strict skip, run.order run",
        ),
        (
            "main",
            "run.test[go=1.22] run, run.test[go=1.23] run, build.app unknown, push.app run, \
             run.strict run, run.order run",
        ),
    ] {
        let flow = Flow::new(&stages(branch));
        let (_, json) = planned(&flow).await;
        let stages = json["stages"].as_array().expect("a list");
        let told = stages.iter().map(|stage| {
            let word = |key: &str| stage[key].as_str().expect("a word").to_owned();
            format!("{} {}", word("id"), word("verdict"))
        });
        assert_eq!(told.collect::<Vec<_>>().join(", "), expected);
        // The run agrees.
        let run = flow.run("p").await;
        let told = flow.told(&run);
        let skipped = told.iter().filter(|line| line.contains(" skipped")).count();
        assert_eq!(skipped, expected.matches(" skip").count(), "{told:?}");
    }
}

/// A run that was just created goes on with what it was created from, one that is resumed with what
/// the journal kept: the two are the same.
#[test]
fn what_a_run_keeps_reads_back_as_what_it_was_created_from() {
    let directories = std::fs::read_dir(root().join("pipelines")).expect("a directory");
    let mut pipelines = 0;
    for directory in directories {
        let directory = directory.expect("a readable directory").path();
        let paths = match directory.is_dir() {
            true => below(&directory, "kdl"),
            false => vec![directory],
        };
        let sources = paths.iter().map(|path| {
            let text = std::fs::read_to_string(path).expect("a readable file");
            Source::new(path.display().to_string(), text)
        });
        let (project, _) = load(sources.collect());
        let kept = Definition::of(&project).bytes();
        let kept: Definition = serde_json::from_slice(&kept).expect("it was written just now");
        let sources = kept.files.into_iter();
        let (again, _) = load(
            sources
                .map(|(name, text)| Source::new(name, text))
                .collect(),
        );
        assert_eq!(format!("{again:?}"), format!("{project:?}"));
        pipelines += project.pipelines.len();
    }
    assert!(pipelines >= 5, "{pipelines}");
}
