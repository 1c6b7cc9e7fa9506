//! `bump`: edits manifests in a git repository and commits, again and again until nobody is in
//! the way.

mod check;
mod commit;
mod edits;
mod guard;
mod memory;
mod pull_close;
mod pull_look;
mod pull_request;
mod pull_text;
mod pull_wait;
mod spec;
mod undo;
mod write;

use async_trait::async_trait;

pub use guard::Change;
pub use memory::{Held, held};
pub use spec::KIND;

use commit::Person;
use edits::{Edit, Edits, apply, paths, short_commit};
use pull_request::PullSpec;
use spec::{EditSpec, File, What};
use undo::Undo;
use write::{Job, pushed};

use super::{
    CheckContext, Done, Failure, Forecast, Missing, PlanContext, Read, Scenery, Stage,
    StageContext, Values, Verdict, Want,
};
use crate::base::{Diagnostic, Source, Spanned, StageId};
use crate::decl::{self, ForgeDecl, Repo};
use crate::event::EffectState;
use crate::lang::Template;
use crate::ports::Readers;
use crate::ports::store::StoreError;
use crate::ports::vcs::Remote;

#[derive(Debug)]
struct Bump {
    repo: Spanned<String>,
    declared: Option<Repo>,
    source: Source,
    files: Vec<File>,
    message: Option<Template>,
    co_authors: Vec<Person>,
    sign_off: bool,
    allow_downgrade: bool,
    pull: Option<PullSpec>,
    /// The forge that its repository names.
    forge: Option<ForgeDecl>,
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

    /// What is to be written: what the text says, or what was there before.
    async fn job(&self, values: &Values, stage: &StageId) -> Result<(Job, Vec<String>), Failure> {
        let undo = match values.back.get(stage) {
            Some(text) => Some(Undo::parse(text)?),
            None => None,
        };
        let (Edits { edits, left_out }, message) = match &undo {
            Some(undo) => (undo.edits()?, undo.message()),
            None => (self.edits(values).await?, self.message(values).await?),
        };
        let job = Job {
            edits,
            words: self.words(values, message).await?,
            undo,
        };
        Ok((job, left_out))
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
        let repo = self.declared.iter().flat_map(Repo::templates);
        let authors = self
            .co_authors
            .iter()
            .flat_map(|(name, email)| [name, email]);
        self.files
            .iter()
            .map(|file| &file.path)
            .chain(required)
            .chain(&self.message)
            .chain(authors)
            .chain(repo)
            .chain(self.pull.iter().flat_map(PullSpec::templates))
            .chain(self.forge.iter().flat_map(ForgeDecl::templates))
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
        if let Some(pull) = &self.pull {
            self.check_pull(pull, cx, diagnostics);
        }
        for file in &self.files {
            file.check(cx, &self.source, diagnostics);
        }
    }

    fn withholds(&self, output: &str) -> Option<&'static str> {
        let merged = self.pull.as_ref().is_none_or(PullSpec::is_merged);
        (output == "commit" && !merged)
            .then_some("its pull request is not waited for until it is merged")
    }

    fn undo(&self, effects: &[EffectState], ended_well: bool) -> Option<String> {
        Undo::of(effects, ended_well)?.text()
    }

    fn undoes(&self) -> bool {
        true
    }

    fn scenery(&self) -> Scenery {
        let edits = self.files.iter().flat_map(|file| {
            let edits = file.edits.iter();
            edits.map(|edit| (&file.path, &edit.what))
        });
        let keys = edits.filter_map(|(file, what)| match what {
            // What depends on the run is not known yet.
            What::Set { path, .. } => {
                Some((file.as_literal()?.to_owned(), path.as_literal()?.to_owned()))
            }
            _ => None,
        });
        Scenery {
            keys: keys.collect(),
            ..Scenery::default()
        }
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        // Asked first because it tells what is not known yet from what is wrong.
        if !cx.values.back.contains_key(cx.stage)
            && let Err(missing) = self.edits(cx.values).await
        {
            return Forecast::missing(&missing);
        }
        if cx.offline {
            return Forecast::new(Verdict::Unknown, "the repository is not read offline");
        }
        let foreseen = match &self.pull {
            Some(pull) => self.foresee_pull(cx, pull).await,
            None => self.foresee(cx).await,
        };
        match foreseen {
            Ok(forecast) => forecast,
            Err(failure) => Forecast::new(Verdict::Fail, failure.message),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let (job, left_out) = self.job(cx.values, cx.stage).await?;
        let remote = self.remote(cx.values).await?;
        for line in &left_out {
            cx.say(line);
        }
        let mut done = match &self.pull {
            Some(pull) => self.propose(cx, pull, &job).await?,
            None => self.write(cx, &remote, &job).await?,
        };
        done.warnings.extend(left_out);
        Ok(done)
    }

    async fn examine(&self, cx: &StageContext<'_>) -> Result<Option<Done>, Failure> {
        if self.pull.is_some() {
            // It looks first at what is there, so running it again is right.
            return Ok(None);
        }
        let Some(effect) = cx.intended(KEY) else {
            return Ok(None);
        };
        let Some(commit) = effect.intent.get("commit") else {
            return Ok(None);
        };
        let remote = self.remote(cx.values).await?;
        if !cx.world.readers.vcs.contains(&remote, commit).await? {
            return Ok(None);
        }
        let undo = match cx.values.back.get(cx.stage) {
            Some(text) => Some(Undo::parse(text)?),
            None => None,
        };
        let changes = undo::recorded(&effect.intent).unwrap_or_default();
        remember(cx, &remote, commit, &changes, undo.as_ref());
        Ok(Some(pushed(&remote, commit)))
    }
}

impl Bump {
    async fn foresee(&self, cx: &PlanContext<'_>) -> Result<Forecast, Failure> {
        let (job, _) = self.job(cx.values, cx.stage).await?;
        let remote = self.remote(cx.values).await?;
        let vcs = &cx.readers.vcs;
        let snapshot = vcs.snapshot(&remote, &paths(&job.edits)).await?;
        let edited = apply(&job.edits, &snapshot)?;
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
        self.guard(cx.readers, &remote, &job, &edited.changes)
            .await?;
        let mut forecast = Forecast::new(Verdict::Run, format!("changes {at}")).effect(format!(
            "commit to {} of {}: {}",
            remote.branch,
            remote.url,
            job.words.subject()
        ));
        forecast.diff = Some(edited.diff);
        Ok(forecast)
    }

    /// Refuses what must not be written although it could be.
    async fn guard(
        &self,
        readers: &Readers,
        remote: &Remote,
        job: &Job,
        changes: &[Change],
    ) -> Result<(), Failure> {
        if let Some(undo) = &job.undo {
            return guard::untouched(&undo.changes, changes);
        }
        let store = &*readers.store;
        let broken = |error: StoreError| Failure::errored(error.to_string());
        for change in changes {
            if let Some(held) = memory::held(store, remote, change).map_err(broken)? {
                return Err(guard::is_held(change, &held));
            }
            let wrote = memory::wrote(store, remote, change).map_err(broken)?;
            let Some(wrote) = wrote.filter(|wrote| guard::undoes_a_revert(change, wrote)) else {
                continue;
            };
            let vcs = &readers.vcs;
            let touches = vcs.touched(remote, &change.file, &wrote.commit).await?;
            let again = Edit::at(change, &change.after)?;
            let touches: Vec<_> = touches
                .into_iter()
                .map(|touch| {
                    let ours = again.is_made_in(&touch);
                    (touch, ours)
                })
                .collect();
            return Err(guard::was_reverted(change, &wrote, &touches));
        }
        if self.allow_downgrade {
            return Ok(());
        }
        guard::no_downgrade(changes)
    }
}

/// Notes what was written, for those who come later. The change is made, so a store that fails is no
/// reason to fail: the journal has it too.
fn remember(
    cx: &StageContext<'_>,
    remote: &Remote,
    commit: &str,
    changes: &[Change],
    undo: Option<&Undo>,
) {
    let (store, run) = (&*cx.world.store, cx.run.to_string());
    let noted = memory::note(store, remote, &run, commit, changes).and_then(|()| match undo {
        Some(undo) => memory::hold(store, remote, &run, commit, &undo.changes),
        None => Ok(()),
    });
    if let Err(error) = noted {
        cx.say(format!("what was written is not remembered: {error}"));
    }
}
