//! The journal comes first: without it nothing is done.

use pipewright::adapters::sim::{Failure, Fault};
use pipewright::engine::EngineError;
use pipewright::ports::store::StoreError;

use crate::support::flow::Flow;

const STAGES: &str = r#"
    build app
    push app
    bump main repo=manifests { file "values.yaml" { set ".tag" "${image.app.tag}" } }
    run z { finally; script "true" }
"#;

#[tokio::test(start_paused = true)]
async fn a_full_disk_ends_the_run_and_no_effect_lacks_its_intent() {
    let mut complete = false;
    for appends in 0..60 {
        let flow = Flow::new(STAGES);
        let life = flow.life();
        let run = flow.create(&life, "p").await;
        flow.store
            .fail_after(appends, StoreError::Full("no space left".to_owned()));
        let ended = flow.go(&life, &run).await;
        let state = flow.state(&run);
        let intended = |key: &str| {
            let mut effects = state.stages().iter().flat_map(|stage| &stage.effects);
            effects.any(|effect| effect.key.starts_with(key))
        };
        for (call, key) in [("engine.push", "push "), ("vcs.push", "commit")] {
            if !flow.sim.effects(call).is_empty() {
                assert!(
                    intended(key),
                    "{call} without its intent after {appends} appends"
                );
            }
        }
        flow.clean();
        match ended {
            Ok(_) => complete = true,
            Err(EngineError::Journal(error)) => {
                assert!(error.to_string().contains("no space left"), "{error}");
                assert_eq!(state.outcome, None);
            }
            Err(EngineError::Store(error)) => {
                assert!(error.to_string().contains("no space left"), "{error}");
            }
            Err(other) => panic!("{other}"),
        }
        if complete {
            assert!(appends > 5, "the store never failed");
            break;
        }
    }
    assert!(complete, "60 appends are enough for so few stages");
}

#[tokio::test(start_paused = true)]
async fn the_run_goes_on_once_there_is_room_again() {
    let flow = Flow::new(STAGES);
    let full = Fault::Fail {
        times: 1,
        with: Failure::Full,
    };
    flow.sim.on("store.append *\"intent\"*", full);
    let life = flow.life();
    let run = flow.create(&life, "p").await;
    let ended = flow.go(&life, &run).await;
    assert!(matches!(ended, Err(EngineError::Journal(_))), "{ended:?}");
    assert_eq!(flow.sim.effects("engine.push").len(), 0);
    life.end().await;
    let life = flow.life();
    flow.go(&life, &run).await.expect("it comes to its end");
    flow.expect(
        &run,
        "
        build.app …
        push.app succeeded
        bump.main succeeded
        run.z succeeded
        = succeeded
        ",
    );
}
