//! Images: up-to-date is a success, and a skipped one does not take the rest with it.

use crate::support::flow::{Flow, MANIFESTS, options};

#[tokio::test(start_paused = true)]
async fn an_image_that_is_there_does_not_keep_the_rest_from_happening() {
    // The trap of a precheck job: the image is in the registry, the build is skipped, and so is
    // everything behind it.
    let text = r#"
        image sample registry=local { tag "v1"; immutable }
        pipeline p {
            build sample
            scan sample { fail-on high }
            push sample
            bump main repo=manifests { file "values.yaml" { set ".tag" "${image.sample.digest}" } }
            deploy prod { docker { container sample image=sample } }
        }"#;
    let flow = Flow::of(text, options());
    let digest = flow
        .sim
        .publish("localhost:5000/sample:v1")
        .expect("a reference");
    let run = flow.run("p").await;
    let told = flow.told(&run);
    let outcomes: Vec<&str> = told
        .iter()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(outcomes[0], "up-to-date", "{told:?}");
    assert!(
        matches!(outcomes[1], "succeeded" | "up-to-date"),
        "{told:?}"
    );
    assert_eq!(
        outcomes[2..],
        ["up-to-date", "succeeded", "succeeded", "succeeded"],
        "{told:?}"
    );
    assert_eq!(flow.sim.effects("engine.build").len(), 0);
    assert_eq!(flow.sim.effects("engine.push").len(), 0);
    let values = flow
        .sim
        .remote_file(MANIFESTS, "main", "values.yaml")
        .expect("it is there");
    let values = String::from_utf8(values).expect("text");
    assert!(values.contains(digest.as_str()), "{values}");
    assert_eq!(flow.sim.containers(), ["sample"]);
    flow.clean();
}

#[tokio::test(start_paused = true)]
async fn an_optional_edit_is_left_out_if_its_image_was_skipped() {
    let stages = |optional: &str| {
        format!(
            r#"
            build app
            build web {{ when {{ branch release }} }}
            push app web
            bump main repo=manifests {{
                file "values.yaml" {{
                    set ".tag" "${{image.app.tag}}"
                    set ".web" "${{image.web.tag}}" {optional}
                }}
            }}"#
        )
    };
    let flow = Flow::new(&stages("{ optional }"));
    let run = flow.run("p").await;
    flow.expect(
        &run,
        "
        build.app succeeded
        build.web skipped: on branch main, not on release
        push.app succeeded
        push.web skipped: build.web, whose result it needs, was skipped
        bump.main succeeded
        = succeeded
        ",
    );
    let values = flow
        .sim
        .remote_file(MANIFESTS, "main", "values.yaml")
        .expect("it is there");
    let values = String::from_utf8(values).expect("text");
    assert!(
        values.ends_with("web: old\n") && !values.starts_with("tag: old"),
        "{values}"
    );
    let state = flow.state(&run);
    let warned = state
        .warnings
        .iter()
        .any(|(_, text)| text.contains(".web is left as it is"));
    assert!(warned, "{:?}", state.warnings);

    let flow = Flow::new(&stages(""));
    let run = flow.run("p").await;
    let told = flow.told(&run);
    assert_eq!(
        told[4],
        "bump.main skipped: push.web, whose result it needs, was skipped"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_run_has_nothing_to_do() {
    let flow = Flow::new(
        r#"
        build app
        scan app { fail-on high }
        push app
        bump main repo=manifests { file "values.yaml" { set ".tag" "${image.app.tag}" } }
        deploy web { docker { container web image=app publish="8080:80" } }
        "#,
    );
    let first = flow.run("p").await;
    assert_eq!(
        flow.told(&first).last().map(String::as_str),
        Some("= succeeded")
    );
    let ledger = flow.ledger();
    let second = flow.run("p").await;
    let told = flow.told(&second);
    for line in &told {
        assert!(
            line.contains("up-to-date") || line.starts_with("scan.") || line.starts_with('='),
            "{told:?}"
        );
    }
    assert_eq!(flow.ledger(), ledger, "nothing was changed");
    flow.clean();
}
