//! Pull requests on the simulated world: what is opened, and that no death opens it twice.

use pipewright::adapters::sim::{Failure, Fault};

use crate::support::flow::{Flow, MANIFESTS, files, options};

/// Pipeline `p` of one bump by pull request.
fn flow(more: &str) -> Flow {
    let text = format!(
        "secret TOKEN env=TOKEN\nforge github {{ token \"${{secret.TOKEN}}\" }}\n\
         repo acme \"https://git.example.com/acme/m\" branch=main forge=github {{ token \"${{secret.TOKEN}}\" }}\n\
         pipeline p {{\n bump b repo=acme {{\n file \"values.yaml\" {{ set \".tag\" \"${{git.short-sha}}\" }}\n \
         pull-request \"release-${{git.short-sha}}\" {{ label release; {more} }}\n }}\n }}"
    );
    let mut options = options();
    options.lenient_secrets = true;
    let flow = Flow::of(&text, options);
    flow.sim
        .remote(URL, "main", &files(&[("values.yaml", "tag: old\n")]));
    assert_ne!(URL, MANIFESTS);
    flow
}

const URL: &str = "https://git.example.com/acme/m";

#[tokio::test(start_paused = true)]
async fn one_is_opened_and_found_again() {
    let flow = flow("");
    let run = flow.run("p").await;
    flow.expect(&run, "bump.b succeeded\n= succeeded");
    let run = flow.run("p").await;
    flow.expect(&run, "bump.b up-to-date\n= up-to-date");
    let pulls = flow.sim.pull_requests(URL);
    assert_eq!(pulls.len(), 1, "{pulls:#?}");
    assert_eq!(pulls[0].labels, ["release"]);
    assert_eq!(flow.sim.remote_length(URL, "main"), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_somebody_closes_fails_and_says_who() {
    let flow = flow("wait merged");
    let life = flow.life();
    let run = flow.create(&life, "p").await;
    let going = flow.go(&life, &run);
    let closing = async {
        while flow.sim.pull_requests(URL).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        flow.sim.close_pull_request(1, "ann");
    };
    let (ended, ()) = tokio::join!(going, closing);
    ended.expect("it ends");
    assert!(
        flow.told(&run)[0].contains("was closed by ann"),
        "{:?}",
        flow.told(&run)
    );
    flow.clean();
}

#[tokio::test(start_paused = true)]
async fn no_death_makes_anything_twice() {
    for number in 1..=8 {
        for before in [true, false] {
            let flow = flow("auto-merge; wait merged");
            if before {
                flow.sim.crash_before(number);
            } else {
                flow.sim.crash_after(number);
            }
            let life = flow.life();
            let run = flow.create(&life, "p").await;
            tokio::select! {
                ended = flow.go(&life, &run) => { ended.expect("it ends"); }
                () = flow.sim.crashed() => {}
            }
            drop(life);
            flow.sim.restart();
            let life = flow.life();
            flow.go(&life, &run).await.expect("it ends");
            life.end().await;
            let pulls = flow.sim.pull_requests(URL);
            assert_eq!(pulls.len(), 1, "{number} {before}: {pulls:#?}");
            assert_eq!(
                flow.sim.effects("forge.create").len(),
                1,
                "{number} {before}"
            );
            assert_eq!(
                flow.sim.effects("forge.label").len(),
                1,
                "{number} {before}"
            );
            assert_eq!(flow.sim.remote_length(URL, "main"), 2, "{number} {before}");
            flow.clean();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lost_answers_make_nothing_twice() {
    for call in ["forge.create", "forge.find", "vcs.put-branch"] {
        let flow = flow("");
        flow.sim.on(
            call,
            Fault::LoseAnswer {
                times: 1,
                with: Failure::Broken,
            },
        );
        let run = flow.run("p").await;
        assert_eq!(
            flow.told(&run).last().map(String::as_str),
            Some("= succeeded"),
            "{call}"
        );
        assert_eq!(flow.sim.pull_requests(URL).len(), 1, "{call}");
        flow.clean();
    }
}
