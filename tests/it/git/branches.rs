//! Branches of ours, such as those of pull requests: made, moved and removed by compare and swap.

use pipewright::ports::vcs::{Access, PushOutcome, Remote, Vcs, VcsReader};

use super::remote::{edit, elsewhere, setup, tip};
use crate::support::repo::{git, git_ok};

const VALUES: &str = "deploy/values.yaml";

#[tokio::test]
async fn a_branch_of_ours_is_put_and_removed_only_from_where_it_was() {
    let s = setup();
    let beside = Remote {
        url: s.bare.to_str().expect("utf-8").to_owned(),
        access: Access::Anonymous,
        ..s.remote.clone()
    };
    // Over HTTP and on this machine alike.
    for (base, name) in [(&s.remote, "release-1"), (&beside, "release-2")] {
        let branch = Remote {
            branch: name.to_owned(),
            ..base.clone()
        };
        let there = || git_ok(&s.bare, &["rev-parse", "--verify", "-q", name]);
        assert_eq!(s.remotes.tip(&branch).await.expect("tip"), None);
        let tip = s.remotes.tip(base).await.expect("tip").expect("a branch");
        let snapshot = s.remotes.snapshot(base, &[]).await.expect("snapshot");
        assert_eq!(tip, snapshot.commit);
        let mut commits = Vec::new();
        for text in ["tag: a\n", "tag: b\n"] {
            let change = edit(&tip, &[(VALUES, text)]);
            commits.push(s.remotes.commit(base, &change).await.expect("commit"));
        }
        let put = async |commit: &str, expected: Option<&str>| {
            let put = s.remotes.put_branch(&branch, commit, expected).await;
            put.expect("no error")
        };
        let (one, two) = (commits[0].as_str(), commits[1].as_str());
        assert_eq!(put(one, Some(two)).await, PushOutcome::Raced, "not there");
        assert!(!there());
        assert_eq!(put(one, None).await, PushOutcome::Pushed);
        assert_eq!(put(one, None).await, PushOutcome::Pushed, "there already");
        assert_eq!(put(two, None).await, PushOutcome::Raced, "it exists");
        assert_eq!(put(two, Some(&tip)).await, PushOutcome::Raced, "elsewhere");
        assert_eq!(git(&s.bare, &["rev-parse", name]), one);
        assert_eq!(put(two, Some(one)).await, PushOutcome::Pushed, "replaced");
        assert_eq!(git(&s.bare, &["rev-parse", name]), two);
        assert_eq!(
            s.remotes.tip(&branch).await.expect("tip").as_deref(),
            Some(two)
        );
        let remove = async |expected: &str| {
            let removed = s.remotes.remove_branch(&branch, expected).await;
            removed.expect("no error")
        };
        assert_eq!(remove(one).await, PushOutcome::Raced);
        assert!(there());
        assert_eq!(remove(two).await, PushOutcome::Pushed);
        assert!(!there());
        assert_eq!(remove(two).await, PushOutcome::Pushed, "gone already");
    }
    // Moved by somebody between what was listed and what is pushed.
    let branch = Remote {
        branch: "release-3".to_owned(),
        ..s.remote.clone()
    };
    let tip = tip(&s.bare);
    let change = edit(&tip, &[(VALUES, "tag: c\n")]);
    s.snapshot().await;
    let commit = s.remotes.commit(&s.remote, &change).await.expect("commit");
    git(&s.bare, &["branch", "release-3", "main"]);
    let bare = s.bare.clone();
    s.server.before_push(move || {
        let other = elsewhere(&bare, "theirs");
        git(&bare, &["update-ref", "refs/heads/release-3", &other]);
    });
    let put = s.remotes.put_branch(&branch, &commit, Some(&tip)).await;
    assert_eq!(put.expect("no error"), PushOutcome::Raced);
    assert_ne!(git(&s.bare, &["rev-parse", "release-3"]), commit);
    s.fsck();
}
