//! Pull requests on the simulated world: what is opened, and that no death opens it twice.

mod adapters;
mod app;
mod chaos;
mod github;
mod refusals;

use pipewright::adapters::sim::{Failure, Fault};
use pipewright::base::Commit;
use pipewright::ports::forge::PullState;

use crate::support::flow::{Flow, MANIFESTS, files, options};

/// Pipeline `p` of one bump by pull request.
fn flow(more: &str) -> Flow {
    flow_on("release-${git.short-sha}", more)
}

/// The same with a branch of another name.
fn flow_on(branch: &str, more: &str) -> Flow {
    let text = format!(
        "secret TOKEN env=TOKEN\nforge github {{ token \"${{secret.TOKEN}}\" }}\n\
         repo acme \"https://git.example.com/acme/m\" branch=main forge=github {{ token \"${{secret.TOKEN}}\" }}\n\
         pipeline p {{\n bump b repo=acme {{\n file \"values.yaml\" {{ set \".tag\" \"${{git.short-sha}}\" }}\n \
         pull-request \"{branch}\" {{ label release; {more} }}\n }}\n }}"
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

/// A release that comes after another one, if there is to be an earlier one.
async fn prepared(branch: &str, more: &str, earlier: bool) -> Flow {
    let flow = flow_on(branch, more);
    if earlier {
        flow.expect(&flow.run("p").await, "bump.b succeeded\n= succeeded");
        let next = files(&[("next", "release")]);
        flow.sim.add_commit(Commit::default(), &next);
    }
    flow
}

/// Dies right before and right after one change of the world after another, until a run makes no
/// more of them, and goes on each time. Returns how many there are.
async fn die_everywhere(
    branch: &str,
    more: &str,
    earlier: bool,
    check: impl Fn(&Flow, &str),
) -> usize {
    for number in 1..100 {
        let mut died = false;
        for before in [true, false] {
            let flow = prepared(branch, more, earlier).await;
            let number = flow.ledger().len() + number;
            if before {
                flow.sim.crash_before(number);
            } else {
                flow.sim.crash_after(number);
            }
            let life = flow.life();
            let run = flow.create(&life, "p").await;
            tokio::select! {
                ended = flow.go(&life, &run) => { ended.expect("it ends"); }
                () = flow.sim.crashed() => { died = true; }
            }
            drop(life);
            flow.sim.restart();
            let life = flow.life();
            flow.go(&life, &run).await.expect("it ends");
            life.end().await;
            let case = format!("{more}, {number}, {before}");
            let told = flow.told(&run);
            let last = told.last().map(String::as_str);
            assert_eq!(last, Some("= succeeded"), "{case}: {told:?}");
            check(&flow, &case);
            flow.clean();
        }
        if !died {
            return number - 1;
        }
    }
    panic!("{more}: there is no end to it");
}

const PER_RELEASE: &str = "release-${git.short-sha}";

#[tokio::test(start_paused = true)]
async fn no_death_makes_anything_twice() {
    let more = "reviewer ann; auto-merge; wait merged";
    let all = die_everywhere(PER_RELEASE, more, false, |flow, case| {
        assert_eq!(flow.sim.pull_requests(URL).len(), 1, "{case}");
        for call in ["create", "label", "ask", "auto-merge"] {
            let made = flow.sim.effects(&format!("forge.{call}"));
            assert_eq!(made.len(), 1, "{case} {call}");
        }
        assert_eq!(flow.sim.remote_length(URL, "main"), 2, "{case}");
    });
    assert!(all.await >= 5);
    let all = die_everywhere(PER_RELEASE, "wait checks", false, |flow, case| {
        assert_eq!(flow.sim.effects("forge.create").len(), 1, "{case}");
        assert_eq!(flow.sim.effects("forge.label").len(), 1, "{case}");
    });
    assert!(all.await >= 3);
}

#[tokio::test(start_paused = true)]
async fn no_death_supersedes_or_updates_twice() {
    let all = die_everywhere(PER_RELEASE, "", true, |flow, case| {
        let pulls = flow.sim.pull_requests(URL);
        assert_eq!(pulls.len(), 2, "{case}: {pulls:#?}");
        assert_eq!(pulls[0].state, PullState::Closed(None), "{case}");
        assert_eq!(pulls[1].state, PullState::Open, "{case}");
        let comments = flow.sim.pull_request_comments(1);
        assert_eq!(comments.len(), 1, "{case}: {comments:#?}");
        assert!(
            comments[0].starts_with("Superseded by "),
            "{case}: {comments:#?}"
        );
        assert!(comments[0].contains("\n+tag: "), "{case}: {comments:#?}");
    });
    assert!(all.await >= 5);
    // One branch for all releases: its pull request is brought up to date and says so.
    let all = die_everywhere("releases", "", true, |flow, case| {
        let pulls = flow.sim.pull_requests(URL);
        assert_eq!(pulls.len(), 1, "{case}: {pulls:#?}");
        assert_eq!(pulls[0].labels, ["release"], "{case}");
        let comments = flow.sim.pull_request_comments(1);
        assert_eq!(comments.len(), 1, "{case}: {comments:#?}");
        assert!(
            comments[0].starts_with("Now asks for this"),
            "{case}: {comments:#?}"
        );
        let head = flow.sim.remote_file(URL, "releases", "values.yaml");
        let head = String::from_utf8(head.expect("the file")).expect("text");
        assert!(
            comments[0].contains(&format!("+{head}")),
            "{case}: {comments:#?}"
        );
        assert!(pulls[0].body.contains(&format!("+{head}")), "{case}");
    });
    assert!(all.await >= 3);
}

#[tokio::test(start_paused = true)]
async fn the_branch_of_a_merged_one_goes_if_it_is_as_we_left_it() {
    let flow = flow_on("releases", "auto-merge; wait merged");
    flow.expect(&flow.run("p").await, "bump.b succeeded\n= succeeded");
    assert_eq!(flow.sim.remote_tip(URL, "releases"), None);
    flow.clean();

    // Somebody adds to it before it is merged.
    let flow = flow_on("releases", "wait merged");
    let life = flow.life();
    let run = flow.create(&life, "p").await;
    let going = flow.go(&life, &run);
    let adding = async {
        while flow.sim.pull_requests(URL).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        flow.sim
            .foreign_commit(URL, "releases", &files(&[("more", "x\n")]));
        flow.sim.merge_pull_request(1);
    };
    let (ended, ()) = tokio::join!(going, adding);
    ended.expect("it ends");
    assert!(flow.sim.remote_tip(URL, "releases").is_some());
    flow.clean();
}

#[tokio::test(start_paused = true)]
async fn lost_answers_make_nothing_twice() {
    for call in [
        "forge.create",
        "forge.find",
        "forge.open",
        "vcs.put-branch",
        "vcs.tip",
    ] {
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

#[tokio::test(start_paused = true)]
async fn a_lost_comment_is_not_made_twice() {
    let flow = prepared(PER_RELEASE, "", true).await;
    let lose = |call| {
        let fault = Fault::LoseAnswer {
            times: 1,
            with: Failure::Broken,
        };
        flow.sim.on(call, fault);
    };
    lose("forge.comment");
    lose("forge.has-comment");
    flow.expect(&flow.run("p").await, "bump.b succeeded\n= succeeded");
    assert!(flow.sim.unspent().is_empty(), "{:?}", flow.sim.unspent());
    assert_eq!(flow.sim.pull_request_comments(1).len(), 1);
    flow.clean();
}
