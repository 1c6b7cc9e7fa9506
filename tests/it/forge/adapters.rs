//! The adapters against strict fakes: everything that a bump asks of a forge, and nothing that its
//! published description does not know.

use pipewright::adapters::forge::Forges;
use pipewright::adapters::http::Http;
use pipewright::base::{LateSecrets, Secret};
use pipewright::ports::forge::{
    Checks, Forge as _, ForgeError, ForgeReader as _, Hosted, MergeMethod, NewPullRequest,
    PullState, SignIn, Site, Software,
};
use serde_json::{Value, json};

use crate::support::fake_gitea::{self, FakeGitea};
use crate::support::fake_gitlab::{self, FakeGitLab};

pub fn forges() -> Forges {
    Forges::new(Http::new(), LateSecrets::default())
}

pub fn hosted(software: Software, address: &str, path: &str, sign_in: SignIn) -> Hosted {
    let site = Site {
        name: "f".to_owned(),
        software,
        address: address.to_owned(),
        sign_in,
    };
    Hosted {
        site,
        path: path.to_owned(),
        url: format!("{address}/{path}.git"),
    }
}

pub fn token(text: &str) -> SignIn {
    SignIn::Token(Secret::new(text))
}

pub fn new(head: &str, draft: bool) -> NewPullRequest {
    NewPullRequest {
        head: head.to_owned(),
        base: "main".to_owned(),
        title: format!("Release {head}"),
        body: "words".to_owned(),
        draft,
    }
}

/// Opens, finds, changes, closes: the same on each forge. Leaves `release-a` open.
async fn walk(hosted: &Hosted, reviewers: &[&str]) {
    let forges = forges();
    assert_eq!(
        forges.find(hosted, "release-a", "main").await,
        Ok(Vec::new())
    );
    let first = forges.create(hosted, &new("release-a", false)).await;
    let first = first.expect("it is opened");
    assert_eq!(
        (first.number, &*first.head, first.draft),
        (1, "release-a", false)
    );
    // More than a page that the server gives out at once.
    for head in ["b", "c", "d"] {
        let pull = forges.create(hosted, &new(head, head == "c")).await;
        let pull = pull.expect("it is opened");
        assert_eq!(
            (&*pull.title, pull.draft),
            (&*format!("Release {head}"), head == "c")
        );
    }
    let doubled = forges.create(hosted, &new("release-a", false)).await;
    assert!(
        matches!(doubled, Err(ForgeError::Exists { .. })),
        "{doubled:?}"
    );
    let open = forges.open(hosted, "main").await.expect("a list");
    let numbers: Vec<u64> = open.iter().map(|pull| pull.number).collect();
    assert_eq!(numbers, [4, 3, 2, 1], "newest first, all pages");
    let found = forges
        .find(hosted, "release-a", "main")
        .await
        .expect("a list");
    assert_eq!(found, std::slice::from_ref(&first));

    forges
        .update(hosted, &open[1], "New", "other")
        .await
        .expect("it is changed");
    let third = forges.pull_request(hosted, 3).await.expect("it is there");
    assert_eq!(
        (&*third.title, &*third.body, third.draft),
        ("New", "other", true)
    );

    let labels = ["release".to_owned(), "bot".to_owned()];
    forges.label(hosted, &first, &labels).await.expect("labels");
    let reviewers: Vec<String> = reviewers.iter().map(|name| (*name).to_owned()).collect();
    forges
        .ask(hosted, &first, &reviewers)
        .await
        .expect("reviewers");
    let first = forges.pull_request(hosted, 1).await.expect("it is there");
    assert_eq!(first.labels, labels);
    assert_eq!(first.reviewers, reviewers);

    assert_eq!(forges.has_comment(hosted, 1, "3").await, Ok(false));
    for text in ["1", "2", "3"] {
        forges.comment(hosted, 1, text).await.expect("a comment");
    }
    assert_eq!(forges.has_comment(hosted, 1, "3").await, Ok(true));
    assert_eq!(forges.has_comment(hosted, 2, "3").await, Ok(false));

    forges.close(hosted, 2).await.expect("it is closed");
    let second = forges.pull_request(hosted, 2).await.expect("it is there");
    assert!(matches!(second.state, PullState::Closed(_)), "{second:?}");
    let missing = forges.pull_request(hosted, 9).await;
    assert!(
        matches!(missing, Err(ForgeError::NotFound { .. })),
        "{missing:?}"
    );
}

async fn checks(hosted: &Hosted) -> Checks {
    let pull = forges().pull_request(hosted, 1).await.expect("it is there");
    forges().checks(hosted, &pull).await.expect("checks")
}

#[tokio::test]
async fn gitlab() {
    let fake = FakeGitLab::start();
    let hosted = hosted(
        Software::GitLab,
        &fake.url(),
        fake_gitlab::PROJECT,
        token(fake_gitlab::TOKEN),
    );
    walk(&hosted, &["ann", "bob"]).await;
    let set = |statuses: Value| {
        let list = statuses.as_array().expect("a list").clone();
        fake.state.lock().expect("no panic").statuses = list;
    };
    assert_eq!(checks(&hosted).await, Checks::None);
    let fine = json!([
        { "name": "a", "status": "success", "allow_failure": false },
        { "name": "b", "status": "failed", "allow_failure": true },
        { "name": "c", "status": "manual", "allow_failure": true },
        { "name": "d", "status": "skipped", "allow_failure": false },
    ]);
    set(fine.clone());
    assert_eq!(checks(&hosted).await, Checks::Passed(4));
    for (status, failed) in [
        ("created", false),
        ("waiting_for_resource", false),
        ("preparing", false),
        ("pending", false),
        ("running", false),
        ("scheduled", false),
        ("canceling", false),
        ("manual", false),
        ("failed", true),
        ("canceled", true),
    ] {
        let mut list = fine.clone();
        let last = json!({ "name": "e", "status": status, "allow_failure": false });
        list.as_array_mut().expect("a list").push(last);
        set(list);
        let names = vec!["e".to_owned()];
        let expected = match failed {
            true => Checks::Failed(names),
            false => Checks::Pending(names),
        };
        assert_eq!(checks(&hosted).await, expected, "{status}");
    }

    // What its merge says, and what becomes of it.
    let forges = forges();
    let first = forges.pull_request(&hosted, 1).await.expect("it is there");
    let merge = || forges.auto_merge(&hosted, &first, MergeMethod::Squash);
    let refuse = |status, why| {
        let mut state = fake.state.lock().expect("no panic");
        state.refuse.push((status, why));
    };
    for (status, why) in [
        (405, "405 Method Not Allowed"),
        (406, "Branch cannot be merged"),
        (422, "Branch cannot be merged"),
    ] {
        refuse(status, why);
        let refused = merge().await.expect_err("it is refused");
        assert!(matches!(refused, ForgeError::Refused { .. }), "{refused:?}");
        assert!(refused.to_string().contains("a conflict"), "{refused}");
    }
    refuse(409, "SHA does not match HEAD of source branch: 1");
    let early = merge().await.expect_err("it has not seen the push");
    assert!(matches!(early, ForgeError::Throttled { .. }), "{early:?}");
    refuse(401, "401 Unauthorized");
    let denied = merge().await.expect_err("it is refused");
    assert!(matches!(denied, ForgeError::Denied { .. }), "{denied:?}");
    merge().await.expect("it is promised");
    assert!(
        forges
            .pull_request(&hosted, 1)
            .await
            .expect("it is there")
            .auto_merge
    );
    // While it is merged it is neither closed nor merged.
    for (state, expected) in [
        ("locked", PullState::Open),
        ("merged", PullState::Merged(Some("c0ffee".to_owned()))),
    ] {
        fake.state.lock().expect("no panic").requests[0]["state"] = json!(state);
        let pull = forges.pull_request(&hosted, 1).await.expect("it is there");
        assert_eq!(pull.state, expected);
    }
    let group = forges.ask(&hosted, &first, &["acme/team".to_owned()]).await;
    let group = group.expect_err("no group").to_string();
    assert!(group.contains("name users"), "{group}");
    let nobody = forges.ask(&hosted, &first, &["eve".to_owned()]).await;
    let nobody = nobody.expect_err("no such user").to_string();
    assert!(nobody.contains("no user \"eve\""), "{nobody}");
    let wrong = fake.state.lock().expect("no panic").wrong.clone();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn gitea() {
    let fake = FakeGitea::start();
    let hosted = hosted(
        Software::Gitea,
        &fake.url(),
        fake_gitea::REPO,
        token(fake_gitea::TOKEN),
    );
    fake.state.lock().expect("no panic").labels = vec![
        json!({ "id": 1, "name": "x" }),
        json!({ "id": 2, "name": "y" }),
        json!({ "id": 3, "name": "release" }),
    ];
    walk(&hosted, &["ann", "acme/platform"]).await;
    let labels = fake.state.lock().expect("no panic").labels.len();
    assert_eq!(labels, 4, "only the one that was not there is made");
    assert_eq!(checks(&hosted).await, Checks::None);
    for (status, expected) in [
        ("success", Checks::Passed(3)),
        ("warning", Checks::Passed(3)),
        ("skipped", Checks::Passed(3)),
        ("pending", Checks::Pending(vec!["c".to_owned()])),
        ("error", Checks::Failed(vec!["c".to_owned()])),
        ("failure", Checks::Failed(vec!["c".to_owned()])),
    ] {
        // The third is on the second page.
        fake.state.lock().expect("no panic").statuses = vec![
            json!({ "context": "a", "status": "success" }),
            json!({ "context": "b", "status": "success" }),
            json!({ "context": "c", "status": status }),
        ];
        assert_eq!(checks(&hosted).await, expected, "{status}");
    }

    let forges = forges();
    let first = forges.pull_request(&hosted, 1).await.expect("it is there");
    let merge = || forges.auto_merge(&hosted, &first, MergeMethod::Rebase);
    let refuse = |status, why| {
        let mut state = fake.state.lock().expect("no panic");
        state.refuse.push((status, why));
    };
    refuse(405, "Please try again later");
    let early = merge().await.expect_err("it is not known yet");
    assert!(matches!(early, ForgeError::Throttled { .. }), "{early:?}");
    refuse(
        409,
        "pull request is already scheduled to auto merge when checks succeed [pull_id: 1]",
    );
    merge().await.expect("it is promised");
    refuse(405, "User not allowed to merge PR");
    let refused = merge().await.expect_err("it is refused").to_string();
    assert!(
        refused.contains("not allowed to merge") && refused.contains("protection"),
        "{refused}"
    );
    merge().await.expect("it is merged");
    // Found by its branch also once the branch is gone.
    let found = forges
        .find(&hosted, "release-a", "main")
        .await
        .expect("a list");
    assert_eq!(found[0].state, PullState::Merged(Some("f00d".to_owned())));
    let wrong = fake.state.lock().expect("no panic").wrong.clone();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
