//! Secrets end to end: never in a log, the journal, a plan or an output.

use base64::Engine as _;
use pipewright::base::Secret;
use pipewright::plan::forecast;
use pipewright::ports::secrets::SecretSource;
use pipewright::ports::store::StoreReader;

use crate::support::flow::{Flow, files, options};

const TOKEN: &str = "s3cr3t-t0ken-value";
const KEY: &str = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----";

fn flow(pipelines: &str) -> Flow {
    let text = format!("secret TOKEN env=TOKEN\nsecret KEY file=\"/run/key\"\n{pipelines}");
    let flow = Flow::of(&text, options());
    flow.sim
        .secret(SecretSource::Env("TOKEN".to_owned()), &Secret::new(TOKEN));
    flow.sim
        .secret(SecretSource::File("/run/key".into()), &Secret::new(KEY));
    flow
}

fn forms() -> Vec<String> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut forms = vec![TOKEN.to_owned(), base64.encode(TOKEN), base64.encode(KEY)];
    forms.extend(KEY.lines().map(str::to_owned));
    forms
}

#[track_caller]
fn hidden(what: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} shows {form}: {text}");
    }
}

/// Nothing that was kept or shown holds a secret.
#[track_caller]
fn all_hidden(flow: &Flow) {
    hidden("the screen", &flow.feed.text());
    for run in flow.runs("p") {
        for event in flow.store.events(&run, 0, 10_000).expect("it reads") {
            hidden("the journal", &event.json);
        }
        for stage in flow.state(&run).stages() {
            hidden("a log", &flow.log(&run, stage.id.as_str()));
        }
    }
    flow.clean();
}

#[tokio::test(start_paused = true)]
async fn logs_hide_secrets_in_every_form() {
    let encoded = base64::engine::general_purpose::STANDARD.encode(TOKEN);
    let flow = flow(&format!(
        r#"pipeline p {{
            run a {{
                env T "${{secret.TOKEN}}"
                env K "${{secret.KEY}}"
                env BEARER "Bearer ${{secret.TOKEN}}"
                script "echo before $T after; echo $K; echo $BEARER; echo {encoded}"
            }}
        }}"#
    ));
    let run = flow.run("p").await;
    flow.expect(&run, "run.a succeeded\n= succeeded");
    all_hidden(&flow);
    let log = flow.log(&run, "run.a");
    assert!(log.starts_with("before *** after\n"), "{log}");
    assert!(log.ends_with("\nBearer ***\n***\n"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn an_output_that_holds_a_secret_is_an_error_that_names_it() {
    let encoded = base64::engine::general_purpose::STANDARD.encode(TOKEN);
    let flow = flow(&format!(
        r#"pipeline p {{
            run plain {{
                env T "${{secret.TOKEN}}"
                script "echo x-$T > f"
                output x from="f"
            }}
            run encoded {{
                env T "${{secret.TOKEN}}"
                script "echo {encoded} > f"
                output x from="f"
            }}
            run line {{
                env K "${{secret.KEY}}"
                script "echo MIIEvQIBADANBgkq > f"
                output x from="f"
            }}
        }}"#
    ));
    let run = flow.run("p").await;
    let told = flow.told(&run);
    assert_eq!(told.last().map(String::as_str), Some("= failed"));
    for (line, secret) in told.iter().zip(["TOKEN", "TOKEN", "KEY"]) {
        assert!(line.contains(" failed: output x"), "{line}");
        assert!(line.contains(&format!("secret {secret}")), "{line}");
    }
    for stage in flow.state(&run).stages() {
        assert!(stage.outputs.is_empty());
    }
    hidden("the screen", &flow.feed.text());
    for event in flow.store.events(&run, 0, 10_000).expect("it reads") {
        hidden("the journal", &event.json);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_hides_secrets_that_stand_in_somebody_elses_file() {
    let flow = flow(
        r#"
        repo private "https://git.example.com/p" { token "${secret.TOKEN}" }
        pipeline p {
            bump a repo=private { file "v.yaml" { set ".tag" "new" } }
            run b { env T "${secret.TOKEN}"; script "true" }
        }"#,
    );
    let text = format!("password: {TOKEN}\ntag: old\n");
    flow.sim.remote(
        "https://git.example.com/p",
        "main",
        &files(&[("v.yaml", &text)]),
    );
    let life = flow.life();
    let plan = flow.plan(&life, "p").await.expect("it is valid");
    let readers = &life.engine.world.readers;
    let forecasts = forecast(&plan, readers, false)
        .await
        .expect("it can be foreseen");
    let shown = format!("{forecasts:?}");
    assert!(shown.contains("tag: new"), "{shown}");
    hidden("the plan", &shown);
    flow.clean();
}
