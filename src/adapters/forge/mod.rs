//! Forges for real: GitHub, GitLab, Gitea and Forgejo, over their REST interfaces.
//!
//! Reads are tried again a few times; changes never are, because only the caller knows what a second
//! one would do.

mod app;
mod call;
mod gitea;
mod github;
mod gitlab;

use async_trait::async_trait;
use serde_json::Value;

pub use call::Forges;

use crate::base::Secret;
use crate::ports::forge::{
    Checks, Forge, ForgeError, ForgeReader, Hosted, MergeMethod, NewPullRequest, PullRequest,
    SignIn, Software,
};

/// Calls the function of this name of whichever software the repository's forge runs.
macro_rules! by_software {
    ($hosted:expr, $name:ident($($argument:expr),*)) => {
        match $hosted.site.software {
            Software::GitHub => github::$name($($argument),*).await,
            Software::GitLab => gitlab::$name($($argument),*).await,
            Software::Gitea => gitea::$name($($argument),*).await,
        }
    };
}

#[async_trait]
impl ForgeReader for Forges {
    async fn find(
        &self,
        hosted: &Hosted,
        head: &str,
        base: &str,
    ) -> Result<Vec<PullRequest>, ForgeError> {
        by_software!(hosted, find(self, hosted, head, base))
    }

    async fn open(&self, hosted: &Hosted, base: &str) -> Result<Vec<PullRequest>, ForgeError> {
        by_software!(hosted, open(self, hosted, base))
    }

    async fn pull_request(&self, hosted: &Hosted, number: u64) -> Result<PullRequest, ForgeError> {
        by_software!(hosted, pull_request(self, hosted, number))
    }

    async fn checks(&self, hosted: &Hosted, pull: &PullRequest) -> Result<Checks, ForgeError> {
        by_software!(hosted, checks(self, hosted, pull))
    }

    async fn has_comment(
        &self,
        hosted: &Hosted,
        number: u64,
        text: &str,
    ) -> Result<bool, ForgeError> {
        by_software!(hosted, has_comment(self, hosted, number, text))
    }

    async fn git_login(&self, hosted: &Hosted) -> Result<Option<(String, Secret)>, ForgeError> {
        let user = match hosted.site.software {
            Software::GitLab => "oauth2",
            Software::GitHub | Software::Gitea => "x-access-token",
        };
        Ok(match &hosted.site.sign_in {
            SignIn::Anonymous => None,
            SignIn::Token(token) => Some((user.to_owned(), token.clone())),
            SignIn::App { .. } => Some((user.to_owned(), self.installation(hosted).await?)),
        })
    }
}

#[async_trait]
impl Forge for Forges {
    async fn create(
        &self,
        hosted: &Hosted,
        new: &NewPullRequest,
    ) -> Result<PullRequest, ForgeError> {
        by_software!(hosted, create(self, hosted, new))
    }

    async fn update(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        title: &str,
        body: &str,
    ) -> Result<(), ForgeError> {
        by_software!(hosted, update(self, hosted, pull, title, body))
    }

    async fn label(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        labels: &[String],
    ) -> Result<(), ForgeError> {
        by_software!(hosted, label(self, hosted, pull, labels))
    }

    async fn ask(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        reviewers: &[String],
    ) -> Result<(), ForgeError> {
        by_software!(hosted, ask(self, hosted, pull, reviewers))
    }

    async fn auto_merge(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        method: MergeMethod,
    ) -> Result<(), ForgeError> {
        by_software!(hosted, auto_merge(self, hosted, pull, method))
    }

    async fn comment(&self, hosted: &Hosted, number: u64, text: &str) -> Result<(), ForgeError> {
        by_software!(hosted, comment(self, hosted, number, text))
    }

    async fn close(&self, hosted: &Hosted, number: u64) -> Result<(), ForgeError> {
        by_software!(hosted, close(self, hosted, number))
    }
}

/// A text of an answer, empty if it is not there.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Texts of a list of objects.
fn texts(list: &Value, key: &str) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| item[key].as_str().map(str::to_owned))
        .collect()
}

/// A text, if it is there and says something.
fn some(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// What checks come to, from a name and `Some(passed)` or `None` for each that is not done.
fn verdict(checks: impl IntoIterator<Item = (String, Option<bool>)>) -> Checks {
    let (mut passed, mut pending, mut failed) = (0, Vec::new(), Vec::new());
    for (name, done) in checks {
        match done {
            Some(true) => passed += 1,
            Some(false) => failed.push(name),
            None => pending.push(name),
        }
    }
    match (failed.is_empty(), pending.is_empty(), passed) {
        (false, ..) => Checks::Failed(failed),
        (true, false, _) => Checks::Pending(pending),
        (true, true, 0) => Checks::None,
        (true, true, passed) => Checks::Passed(passed),
    }
}
