//! `bump`: edits manifests in a git repository and commits, again and again until nobody is in
//! the way.

mod edits;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use edits::{Edit, Edits, apply, paths, short_commit};

use super::push::backoff;
use super::{
    CheckContext, Done, Failure, Forecast, Kind, Lowering, Missing, PlanContext, Stage,
    StageContext, Values, Verdict,
};
use crate::base::{Diagnostic, Source, Spanned};
use crate::decl::{self, Repo};
use crate::formats::yaml;
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::ports::Retry;
use crate::ports::vcs::{NewCommit, PushOutcome, Remote, VcsError};
use crate::stage_children;

const OPTIONAL: NodeSpec = NodeSpec::new(
    "optional",
    "Leave the edit out if the image it needs was skipped.",
);
const CREATE: NodeSpec = NodeSpec::new("create", "Add the key if it is missing.");
const SET: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("path", Type::Text),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    children: &[&OPTIONAL, &CREATE],
    ..NodeSpec::new(
        "set",
        "Sets the value at a path: `.front.imageTag`, `.containers[0].image`, `.containers[name=app].image`.",
    )
};
const FILE: NodeSpec = NodeSpec {
    args: Args::one(Type::Path, "file"),
    many: true,
    children: &[&SET],
    ..NodeSpec::new(
        "file",
        "A YAML file of the repository to edit. Everything but the values set stays byte for byte.",
    )
};
const COMMIT: NodeSpec = NodeSpec::field("commit", Type::Text, "Commit message.");
const CREATE_FLAG: NodeSpec = NodeSpec::new("create", "Add entries that are missing.");
const IMAGE_ENTRY: NodeSpec = NodeSpec {
    args: Args::some(Type::Decl("image"), "image"),
    many: true,
    children: &[&CREATE_FLAG, &OPTIONAL],
    ..NodeSpec::new("image", "Images whose entries follow.")
};
const KUSTOMIZE: NodeSpec = NodeSpec {
    args: Args::one(Type::Path, "directory"),
    many: true,
    children: &[&IMAGE_ENTRY],
    ..NodeSpec::new("kustomize", "A kustomization whose `images:` follow.")
};
const LABEL: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "label"),
    ..NodeSpec::new("label", "Labels of the pull request.")
};
const REVIEWER: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "reviewer"),
    ..NodeSpec::new("reviewer", "Reviewers to ask.")
};
const WAIT: NodeSpec = NodeSpec::field(
    "wait",
    Type::OneOf(&["merged", "checks"]),
    "Wait until it is merged, or its checks passed.",
);
const TITLE: NodeSpec = NodeSpec::field(
    "title",
    Type::Text,
    "Title; the first line of the commit message if absent.",
);
const AUTO_MERGE: NodeSpec = NodeSpec::new(
    "auto-merge",
    "Have the forge merge it once its checks pass.",
);
const PULL_REQUEST: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "branch"),
    children: &[&TITLE, &LABEL, &REVIEWER, &AUTO_MERGE, &WAIT],
    ..NodeSpec::new(
        "pull-request",
        "Commit to a branch of this name and open or update a pull request.",
    )
};
const ALLOW_DOWNGRADE: NodeSpec = NodeSpec::new(
    "allow-downgrade",
    "Allow to write an older version than is there.",
);

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "name"),
        many: true,
        props: &[PropSpec::required(
            "repo",
            Type::Decl("repo"),
            "repository to write to",
        )],
        children: stage_children![&FILE, &KUSTOMIZE, &COMMIT, &PULL_REQUEST, &ALLOW_DOWNGRADE],
        ..NodeSpec::new(
            "bump",
            "Edits manifests in a git repository and commits them. No change, no commit.",
        )
    },
    effect: true,
    outputs: &[
        ("commit", "the commit that holds the values"),
        ("changed", "`true` if a commit was made"),
        ("pull-request", "address of the pull request"),
    ],
    lower,
};

/// How often somebody else may be faster before we give up.
const RACES: u32 = 10;

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

#[derive(Debug)]
struct File {
    path: Template,
    edits: Vec<EditSpec>,
}

#[derive(Debug)]
struct EditSpec {
    path: Template,
    value: Template,
    optional: bool,
    create: bool,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    let repo = node.prop("repo").and_then(|value| cx.name(value));
    let repo = repo.unwrap_or_else(|| Spanned::new(String::new(), node.head()));
    let files: Vec<File> = node
        .children_named("file")
        .filter_map(|file| {
            let edits = file
                .children_named("set")
                .filter_map(|set| match set.args.as_slice() {
                    [path, value] => Some(EditSpec {
                        path: cx.template(path),
                        value: cx.template(value),
                        optional: set.flag("optional"),
                        create: set.flag("create"),
                    }),
                    _ => None,
                })
                .collect();
            Some(File {
                path: cx.template(file.args.first()?),
                edits,
            })
        })
        .collect();
    let later: Vec<&'static str> = ["kustomize", "pull-request", "allow-downgrade"]
        .into_iter()
        .filter(|name| node.flag(name))
        .collect();
    let later_templates = ["kustomize", "pull-request"]
        .into_iter()
        .flat_map(|name| node.children_named(name))
        .flat_map(|child| {
            child
                .args
                .iter()
                .chain(child.children.iter().flat_map(|grand| &grand.args))
        })
        .map(|value| cx.template(value))
        .collect();
    if files.is_empty() && !node.flag("kustomize") {
        cx.error(
            "PW0017",
            "`bump` edits nothing",
            node.head(),
            "add `file \"values.yaml\" { set \".path\" \"value\" }`",
        );
    }
    Arc::new(Bump {
        declared: cx
            .decls
            .repos
            .get(&repo.value)
            .map(|decl| decl.value.clone()),
        repo,
        source: node.source.clone(),
        files,
        message: cx.child_template(node, "commit"),
        later,
        later_templates,
    })
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
    fn templates(&self) -> Vec<&Template> {
        let edits = self.files.iter().flat_map(|file| &file.edits);
        let required = edits
            .filter(|edit| !edit.optional)
            .flat_map(|edit| [&edit.path, &edit.value]);
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
            .flat_map(|edit| [&edit.path, &edit.value])
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
        for edit in self.files.iter().flat_map(|file| &file.edits) {
            if let Some(path) = edit.path.as_literal()
                && let Err(error) = yaml::Path::parse(path)
            {
                diagnostics.push(
                    Diagnostic::error("PW0015", format!("\"{path}\" is not a path: {error}"), &self.source, edit.path.span)
                        .help("write `.key.key`, `[0]`, `[name=app]`, and quote keys that hold dots: `.\"a.b\"`"),
                );
            }
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

fn pushed(remote: &Remote, commit: &str) -> Done {
    Done::succeeded(format!(
        "pushed {} to {}",
        short_commit(commit),
        remote.branch
    ))
    .output("commit", commit)
    .output("changed", "true")
}

impl Bump {
    async fn write(
        &self,
        cx: &StageContext<'_>,
        remote: &Remote,
        edits: &[Edit],
        identity: (String, String),
        message: String,
    ) -> Result<Done, Failure> {
        let vcs = &cx.world.vcs;
        let paths = paths(edits);
        // A token that ends up in the journal would stay there; addresses have none (checked).
        let mut tries = 0;
        loop {
            tries += 1;
            let attempt = async {
                let snapshot = vcs.snapshot(remote, &paths).await?;
                let edited = match apply(edits, &snapshot) {
                    Ok(edited) => edited,
                    Err(failure) => return Ok(Attempt::Failed(failure)),
                };
                if edited.files.is_empty() {
                    return Ok(Attempt::UpToDate(snapshot.commit));
                }
                let commit = NewCommit {
                    parent: snapshot.commit,
                    files: edited.files,
                    identity: identity.clone(),
                    message: message.clone(),
                    time: cx.values.commit.time,
                };
                let commit = vcs.commit(remote, &commit).await?;
                Ok::<_, VcsError>(Attempt::Commit(commit, edited.lines))
            };
            let (commit, lines) = match attempt.await {
                Ok(Attempt::Failed(failure)) => return Err(failure),
                Ok(Attempt::UpToDate(commit)) => {
                    return Ok(Done::up_to_date(format!(
                        "{} has these values at {}",
                        remote.branch,
                        short_commit(&commit)
                    ))
                    .output("commit", commit)
                    .output("changed", "false"));
                }
                Ok(Attempt::Commit(commit, lines)) => (commit, lines),
                Err(error) => {
                    self.again(cx, tries, error).await?;
                    continue;
                }
            };
            if cx.cancel.is_cancelled() {
                return Err(Failure::cancelled("cancelled: nothing was pushed"));
            }
            let detail = BTreeMap::from([
                ("commit".to_owned(), commit.clone()),
                ("branch".to_owned(), remote.branch.clone()),
                ("url".to_owned(), remote.url.clone()),
            ]);
            cx.effects.intend(KEY, detail.clone()).await?;
            match vcs.push(remote, &commit).await {
                Ok(PushOutcome::Pushed) => {
                    for line in lines {
                        cx.say(line);
                    }
                    cx.effects.done(KEY, detail).await?;
                    return Ok(pushed(remote, &commit));
                }
                Ok(PushOutcome::Raced) => {
                    if tries >= RACES {
                        return Err(Failure::errored(format!(
                            "somebody else was faster {RACES} times in a row on {} of {}; nothing was written",
                            remote.branch, remote.url
                        )));
                    }
                    cx.say(format!(
                        "{} moved under us; editing the new tip",
                        remote.branch
                    ));
                    self.wait(cx, backoff(tries.min(3), cx.world.readers.clock.random()))
                        .await?;
                }
                Err(error) => {
                    // The answer may have been lost on the way back although the push arrived.
                    if let Ok(true) = vcs.contains(remote, &commit).await {
                        cx.effects.done(KEY, detail).await?;
                        return Ok(pushed(remote, &commit));
                    }
                    self.again(cx, tries, error).await?;
                }
            }
        }
    }

    /// Waits before the next try, or gives up.
    async fn again(
        &self,
        cx: &StageContext<'_>,
        tries: u32,
        error: VcsError,
    ) -> Result<(), Failure> {
        match error.retry() {
            Retry::After(wait) if tries < RACES => {
                cx.say(format!("{error}; trying again"));
                self.wait(
                    cx,
                    wait.unwrap_or_else(|| backoff(tries, cx.world.readers.clock.random())),
                )
                .await
            }
            _ => Err(error.into()),
        }
    }

    async fn wait(&self, cx: &StageContext<'_>, time: std::time::Duration) -> Result<(), Failure> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = cx.cancel.cancelled() => Err(Failure::cancelled("cancelled: nothing was pushed")),
        }
    }
}

enum Attempt {
    UpToDate(String),
    Commit(String, Vec<String>),
    Failed(Failure),
}
