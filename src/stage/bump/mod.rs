//! `bump`: edits manifests in a git repository and commits, again and again until nobody is in
//! the way.

mod check;
mod edits;
mod spec;
mod write;

use async_trait::async_trait;

pub use spec::KIND;

use edits::{Edits, apply, paths, short_commit};
use spec::{EditSpec, File};
use write::pushed;

use super::{
    CheckContext, Done, Failure, Forecast, Missing, PlanContext, Read, Stage, StageContext, Values,
    Verdict, Want,
};
use crate::base::{Diagnostic, Source, Spanned};
use crate::decl::{self, Repo};
use crate::lang::Template;
use crate::ports::vcs::Remote;

#[derive(Debug)]
struct Bump {
    repo: Spanned<String>,
    declared: Option<Repo>,
    source: Source,
    files: Vec<File>,
    message: Option<Template>,
    /// Fields whose back end is not part of this version.
    later: Vec<&'static str>,
    /// Templates of those fields, so that they are checked all the same.
    later_templates: Vec<Template>,
}

impl Bump {
    async fn remote(&self, values: &Values) -> Result<Remote, Failure> {
        match &self.declared {
            Some(repo) => Ok(values.remote(repo).await?),
            None => Err(Failure::failed(format!(
                "repo `{}` is not declared",
                self.repo.value
            ))),
        }
    }

    async fn message(&self, values: &Values) -> Result<String, Missing> {
        match &self.message {
            Some(message) => values.plain(message).await,
            None => Ok(format!("Update manifests to {}", values.commit.short_sha())),
        }
    }

    fn unsupported(&self) -> Option<Failure> {
        self.later.first().map(|field| {
            Failure::errored(format!(
                "`{field}` of a bump is not part of this version yet; only `file … {{ set … }}` with a commit to the branch is"
            ))
        })
    }
}

/// The key under which the journal knows our commit.
const KEY: &str = "commit";

#[async_trait]
impl Stage for Bump {
    fn reads(&self) -> Vec<Read> {
        let edits = self.files.iter().flat_map(|file| &file.edits);
        edits
            .filter_map(|edit| {
                let image = edit.image()?;
                Some(Read {
                    what: Want::Image(image.value.clone()),
                    span: image.span,
                    optional: edit.optional,
                })
            })
            .collect()
    }

    fn templates(&self) -> Vec<&Template> {
        let edits = self.files.iter().flat_map(|file| &file.edits);
        let required = edits
            .filter(|edit| !edit.optional)
            .flat_map(EditSpec::templates);
        let repo = self
            .declared
            .iter()
            .flat_map(|repo| [&repo.url, &repo.branch, &repo.identity.0, &repo.identity.1])
            .chain(
                self.declared
                    .iter()
                    .flat_map(|repo| repo.token.iter().map(|(_, token)| token)),
            );
        self.files
            .iter()
            .map(|file| &file.path)
            .chain(required)
            .chain(&self.message)
            .chain(&self.later_templates)
            .chain(repo)
            .collect()
    }

    fn optional_templates(&self) -> Vec<&Template> {
        let edits = self.files.iter().flat_map(|file| &file.edits);
        edits
            .filter(|edit| edit.optional)
            .flat_map(EditSpec::templates)
            .collect()
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        decl::require(
            &cx.decls.repos,
            "repo",
            &self.repo,
            &self.source,
            diagnostics,
        );
        for file in &self.files {
            file.check(cx, &self.source, diagnostics);
        }
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        if let Some(failure) = self.unsupported() {
            return Forecast::new(Verdict::Fail, failure.message);
        }
        let edits = match self.edits(cx.values).await {
            Ok(edits) => edits,
            Err(missing) => return Forecast::missing(&missing),
        };
        if cx.offline {
            return Forecast::new(Verdict::Unknown, "the repository is not read offline");
        }
        let forecast = async {
            let remote = self.remote(cx.values).await?;
            let snapshot = cx
                .readers
                .vcs
                .snapshot(&remote, &paths(&edits.edits))
                .await?;
            let edited = apply(&edits.edits, &snapshot)?;
            let at = format!(
                "{} of {} at {}",
                remote.branch,
                remote.url,
                short_commit(&snapshot.commit)
            );
            if edited.files.is_empty() {
                return Ok(
                    Forecast::new(Verdict::UpToDate, format!("{at} has these values"))
                        .output("commit", snapshot.commit)
                        .output("changed", "false"),
                );
            }
            let mut forecast =
                Forecast::new(Verdict::Run, format!("changes {at}")).effect(format!(
                    "commit to {} of {}: {}",
                    remote.branch,
                    remote.url,
                    self.message(cx.values).await?.lines().next().unwrap_or("")
                ));
            forecast.diff = Some(edited.diff);
            Ok::<_, Failure>(forecast)
        };
        match forecast.await {
            Ok(forecast) => forecast,
            Err(failure) => Forecast::new(Verdict::Fail, failure.message),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        if let Some(failure) = self.unsupported() {
            return Err(failure);
        }
        let Edits { edits, left_out } = self.edits(cx.values).await?;
        let remote = self.remote(cx.values).await?;
        let message = self.message(cx.values).await?;
        let repo = self.declared.as_ref().ok_or_else(|| {
            Failure::failed(format!("repo `{}` is not declared", self.repo.value))
        })?;
        let identity = (
            cx.values.plain(&repo.identity.0).await?,
            cx.values.plain(&repo.identity.1).await?,
        );
        for line in &left_out {
            cx.say(line);
        }
        let mut done = self.write(cx, &remote, &edits, identity, message).await?;
        done.warnings.extend(left_out);
        Ok(done)
    }

    async fn examine(&self, cx: &StageContext<'_>) -> Result<Option<Done>, Failure> {
        let Some(commit) = cx
            .intended(KEY)
            .and_then(|effect| effect.intent.get("commit"))
        else {
            return Ok(None);
        };
        let remote = self.remote(cx.values).await?;
        if !cx.world.readers.vcs.contains(&remote, commit).await? {
            return Ok(None);
        }
        Ok(Some(pushed(&remote, commit)))
    }
}
