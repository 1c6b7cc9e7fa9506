//! What references stand for, in a plan and in a run: one ladder, so that both agree.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use super::Failure;
use super::names::{check_name, image_in_file, split_reference};
use crate::base::{Commit, Digest, RunId, Secret, StageId, Text};
use crate::decl::{Decls, Image, ImageTag, Repo};
use crate::event::{Chosen, Outcome, Upstream};
use crate::lang::{GitField, ImageField, Part, Reference, RunField, Template};
use crate::ports::cloud::CloudReader;
use crate::ports::forge::ForgeReader;
use crate::ports::registry::{RegistryReader, Target};
use crate::ports::vcs::{Access, Remote};
use crate::ports::workspace::WorkspaceReader;

/// Why a reference has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It will have one once a stage has run.
    #[error("`{reference}` is known once {stage} has run")]
    Later {
        /// The reference.
        reference: String,
        /// The stage.
        stage: StageId,
    },
    /// The stage that would have made it was skipped, or failed and was allowed to.
    #[error("`{reference}` is missing because {stage} was {outcome}")]
    Skipped {
        /// The reference.
        reference: String,
        /// The stage.
        stage: StageId,
        /// How it ended.
        outcome: Outcome,
    },
    /// It has none in this run.
    #[error("{0}")]
    Absent(String),
    /// Finding it out went wrong.
    #[error("{0}")]
    Broken(String),
}

impl Missing {
    /// What it makes of a stage that needs the value.
    pub fn failure(self) -> Failure {
        let text = self.to_string();
        match self {
            Self::Skipped { .. } => Failure::skipped(text),
            Self::Broken(_) => Failure::errored(text),
            _ => Failure::failed(text),
        }
    }
}

/// Where an image's digest was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// Pushed by this run.
    Pushed,
    /// Chosen by the watch that started this run, or the one it follows from.
    Watched,
    /// Pushed by the run this one was chained from.
    Upstream,
    /// The declared tag, looked up in the registry.
    Registry,
}

impl Rung {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pushed => "pushed by this run",
            Self::Watched => "chosen by the watch",
            Self::Upstream => "pushed by the upstream run",
            Self::Registry => "found in the registry",
        }
    }
}

/// What is known of an image without asking for its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its registry.
    pub target: Target,
    /// Its repository within the registry.
    pub repository: String,
    /// Its tag.
    pub tag: String,
}

impl ImageFacts {
    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.target.host, self.repository)
    }

    /// `name:tag`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name(), self.tag)
    }

    /// `name@digest`.
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

/// How a stage ended, and its outputs.
pub type Left = (Outcome, BTreeMap<String, String>);

/// The values of one run or plan.
pub struct Values {
    /// The commit.
    pub commit: Commit,
    /// The run's id and pipeline.
    pub run: RunId,
    /// The pipeline.
    pub pipeline: String,
    /// Variables.
    pub vars: BTreeMap<String, String>,
    /// Inputs, defaults included.
    pub inputs: BTreeMap<String, String>,
    /// Secrets that were fetched.
    pub secrets: BTreeMap<String, Secret>,
    /// Declarations the pipeline sees.
    pub decls: Arc<Decls>,
    /// What was chosen for images by watching their registries.
    pub watched: BTreeMap<String, Chosen>,
    /// The run it was chained from.
    pub upstream: Option<Upstream>,
    /// The pull request it is for.
    pub pull_request: Option<u64>,
    /// Whether the working tree is used instead of the commit.
    pub dirty: bool,
    /// Stages of the pipeline.
    pub stages: Arc<BTreeMap<StageId, usize>>,
    /// The revision to which each stage goes back, in a run that is for that.
    pub back: BTreeMap<StageId, String>,
    /// For looking up declared tags.
    pub registry: Arc<dyn RegistryReader>,
    /// For the addresses of registries of accounts.
    pub cloud: Arc<dyn CloudReader>,
    /// For repositories that are written to as whoever we are on their forge.
    pub forge: Arc<dyn ForgeReader>,
    /// For image names kept in files.
    pub workspace: Arc<dyn WorkspaceReader>,
    /// Ask no registry.
    pub offline: bool,
    /// What stages left, and how they ended.
    pub ended: RwLock<HashMap<StageId, Left>>,
    /// How the run stands, for stages that follow everything.
    pub outcome: RwLock<Option<Outcome>>,
}

impl Values {
    /// Records how a stage ended.
    pub fn record(&self, stage: &StageId, outcome: Outcome, outputs: BTreeMap<String, String>) {
        self.ended
            .write()
            .expect("no holder of this lock panics")
            .insert(stage.clone(), (outcome, outputs));
    }

    /// How a stage ended and what it left.
    pub fn ended(&self, stage: &StageId) -> Option<Left> {
        self.ended
            .read()
            .expect("no holder of this lock panics")
            .get(stage)
            .cloned()
    }

    /// Resolves a template.
    pub async fn text(&self, template: &Template) -> Result<Text, Missing> {
        let mut text = String::new();
        let mut secret = false;
        for part in &template.parts {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Ref(reference) => match self.lookup(&reference.value).await? {
                    Text::Plain(value) => text.push_str(&value),
                    Text::Secret(value) => {
                        secret = true;
                        text.push_str(value.expose());
                    }
                },
            }
        }
        Ok(if secret {
            Text::Secret(Secret::new(text))
        } else {
            Text::Plain(text)
        })
    }

    /// Resolves a template that may not hold a secret.
    pub async fn plain(&self, template: &Template) -> Result<String, Missing> {
        match self.text(template).await? {
            Text::Plain(text) => Ok(text),
            // Checked before a run; this is the second line of defence.
            Text::Secret(_) => Err(Missing::Absent(format!(
                "`{template}` holds a secret and cannot be shown"
            ))),
        }
    }

    /// Looks up a reference.
    pub async fn lookup(&self, reference: &Reference) -> Result<Text, Missing> {
        let absent = |why: &str| Missing::Absent(format!("`{reference}` {why}"));
        let value = match reference {
            Reference::Git(field) => self
                .git(*field)
                .ok_or_else(|| absent("has no value in this run"))?,
            Reference::Var(name) => self
                .vars
                .get(name)
                .cloned()
                .ok_or_else(|| absent("is not set"))?,
            Reference::Input(name) => self
                .inputs
                .get(name)
                .cloned()
                .ok_or_else(|| absent("was not given"))?,
            Reference::Secret(name) => {
                let secret = self.secrets.get(name).ok_or_else(|| match self.offline {
                    true => Missing::Broken(format!("`{reference}` is not fetched offline")),
                    false => absent("was not fetched"),
                })?;
                return Ok(Text::Secret(secret.clone()));
            }
            Reference::Image(name, field) => self.image_field(name, *field).await?,
            Reference::Output(stage, output) => self.output(stage, output, reference)?,
            Reference::Upstream(stage, output) => {
                let upstream = self.upstream.as_ref().ok_or_else(|| {
                    absent("has no value: this run was not chained; give `--upstream RUN`")
                })?;
                let key = format!("{stage}.{output}");
                upstream
                    .outputs
                    .get(&key)
                    .cloned()
                    .ok_or_else(|| absent(&format!("is missing in run {}", upstream.run)))?
            }
            Reference::Run(field) => match field {
                RunField::Id => self.run.to_string(),
                RunField::Pipeline => self.pipeline.clone(),
                RunField::Url => format!("pipewright show {}", self.run),
                RunField::Outcome => self
                    .outcome
                    .read()
                    .expect("no holder of this lock panics")
                    .map(|outcome| outcome.to_string())
                    .ok_or_else(|| absent("is known only at the end of a run"))?,
            },
        };
        Ok(Text::Plain(value))
    }

    /// A fact of the commit.
    pub fn git(&self, field: GitField) -> Option<String> {
        let commit = &self.commit;
        match field {
            GitField::Sha => Some(commit.sha.clone()),
            GitField::ShortSha => Some(commit.short_sha().to_owned()),
            GitField::Branch => commit.branch.clone(),
            GitField::Tag => commit.tag.clone(),
            GitField::Version => commit.version().map(str::to_owned),
            GitField::Ref => Some(commit.reference.clone()),
            GitField::Message => Some(commit.message.clone()),
            GitField::Author => Some(commit.author.clone()),
        }
    }

    fn output(
        &self,
        stage: &StageId,
        output: &str,
        reference: &Reference,
    ) -> Result<String, Missing> {
        match self.ended(stage) {
            None => Err(Missing::Later {
                reference: reference.to_string(),
                stage: stage.clone(),
            }),
            Some((outcome, outputs)) => outputs.get(output).cloned().ok_or_else(|| {
                if outcome.is_success() {
                    Missing::Absent(format!("{stage} left no `{output}`"))
                } else {
                    Missing::Skipped {
                        reference: reference.to_string(),
                        stage: stage.clone(),
                        outcome,
                    }
                }
            }),
        }
    }

    async fn image_field(&self, name: &str, field: ImageField) -> Result<String, Missing> {
        let facts = self.image(name).await?;
        match field {
            ImageField::Name => Ok(facts.name()),
            ImageField::Tag => self.pushed(name).map(|()| facts.tag.clone()),
            ImageField::Ref => self.pushed(name).map(|()| facts.reference()),
            ImageField::Digest => Ok(self.digest(name).await?.0.to_string()),
            ImageField::Pinned => Ok(facts.pinned(&self.digest(name).await?.0)),
        }
    }

    /// A tag is good to be written down only if its image was not skipped.
    fn pushed(&self, name: &str) -> Result<(), Missing> {
        let stage = StageId::new("push", name);
        match self.ended(&stage) {
            Some((outcome, _)) if !outcome.is_success() => Err(Missing::Skipped {
                reference: format!("image.{name}"),
                stage,
                outcome,
            }),
            _ => Ok(()),
        }
    }

    /// What was chosen for an image, unless this run pushes one of its own.
    fn watched(&self, name: &str) -> Option<&Chosen> {
        let pushed = self.stages.contains_key(&StageId::new("push", name));
        self.watched.get(name).filter(|_| !pushed)
    }

    /// What an image is called.
    pub async fn image(&self, name: &str) -> Result<ImageFacts, Missing> {
        let mut facts = self.place_of(name, self.watched(name).is_none()).await?;
        if let Some(chosen) = self.watched(name) {
            facts.tag.clone_from(&chosen.tag);
        }
        check_name(&facts.repository, &facts.tag)
            .map_err(|why| Missing::Absent(format!("image `{name}`: {why}")))?;
        Ok(facts)
    }

    /// Where an image is, whatever its tag.
    pub async fn image_place(&self, name: &str) -> Result<(Target, String), Missing> {
        let facts = self.place_of(name, false).await?;
        check_name(&facts.repository, "latest")
            .map_err(|why| Missing::Absent(format!("image `{name}`: {why}")))?;
        Ok((facts.target, facts.repository))
    }

    /// Registry, repository and, if it is wanted, the declared tag of an image.
    async fn place_of(&self, name: &str, tagged: bool) -> Result<ImageFacts, Missing> {
        let decl = self
            .decls
            .images
            .get(name)
            .ok_or_else(|| Missing::Absent(format!("image `{name}` is not declared")))?;
        let image = &decl.value;
        let registry = image
            .registry
            .as_ref()
            .ok_or_else(|| Missing::Absent(format!("image `{name}` has no registry")))?;
        let (target, prefix) = self.target(&registry.value).await?;
        let (repository, tag) = match &image.tag {
            // The declared tag may be one that this kind of run does not know.
            ImageTag::Tag(_) if !tagged => {
                let repository = Box::pin(self.plain(&image.repository)).await?;
                (repository, String::new())
            }
            _ => self.named(name, image, Some(&target.host)).await?,
        };
        let repository = if prefix.is_empty() || repository.starts_with(&format!("{prefix}/")) {
            repository
        } else {
            format!("{prefix}/{repository}")
        };
        Ok(ImageFacts {
            target,
            repository,
            tag,
        })
    }

    /// Repository and tag of an image, before anything is known of its registry but its host.
    pub async fn named(
        &self,
        name: &str,
        image: &Image,
        host: Option<&str>,
    ) -> Result<(String, String), Missing> {
        match &image.tag {
            ImageTag::Tag(tag) => {
                let repository = Box::pin(self.plain(&image.repository)).await?;
                Ok((repository, Box::pin(self.plain(tag)).await?))
            }
            ImageTag::File { path, key } => {
                let path = Box::pin(self.plain(path)).await?;
                let text = self.file(&path).await?;
                let full = image_in_file(&text, key.as_deref())
                    .map_err(|why| Missing::Absent(format!("image `{name}`: {path}: {why}")))?;
                split_reference(&full, host)
                    .map_err(|why| Missing::Absent(format!("image `{name}`: {path}: {why}")))
            }
        }
    }

    /// The digest an image stands for, and where it was found.
    pub async fn digest(&self, name: &str) -> Result<(Digest, Rung), Missing> {
        let stage = StageId::new("push", name);
        let reference = || format!("image.{name}.digest");
        if self.stages.contains_key(&stage) {
            return match self.ended(&stage) {
                None => Err(Missing::Later {
                    reference: reference(),
                    stage,
                }),
                Some((outcome, outputs)) => {
                    match outputs.get("digest").and_then(|text| text.parse().ok()) {
                        Some(digest) => Ok((digest, Rung::Pushed)),
                        None => Err(Missing::Skipped {
                            reference: reference(),
                            stage,
                            outcome,
                        }),
                    }
                }
            };
        }
        if let Some(chosen) = self.watched(name)
            && let Ok(digest) = chosen.digest.parse()
        {
            return Ok((digest, Rung::Watched));
        }
        if let Some(upstream) = &self.upstream
            && let Some(digest) = upstream.outputs.get(&format!("{stage}.digest"))
            && let Ok(digest) = digest.parse()
        {
            return Ok((digest, Rung::Upstream));
        }
        let facts = self.image(name).await?;
        if self.offline {
            return Err(Missing::Broken(format!(
                "the digest of {} is not looked up offline",
                facts.reference()
            )));
        }
        let found = self
            .registry
            .digest(&facts.target, &facts.repository, &facts.tag)
            .await;
        match found {
            Ok(Some(digest)) => Ok((digest, Rung::Registry)),
            Ok(None) => Err(Missing::Absent(format!(
                "the registry has no {}",
                facts.reference()
            ))),
            Err(error) => Err(Missing::Broken(error.to_string())),
        }
    }

    /// A manifest repository by its declaration.
    pub async fn remote(&self, repo: &Repo) -> Result<Remote, Missing> {
        let url = self.plain(&repo.url).await?;
        let key = match &repo.ssh_key {
            Some(key) => Some(self.text(key).await?.into_secret()),
            None => None,
        };
        let known_hosts = match &repo.known_hosts {
            Some(lines) => Some(self.plain(lines).await?),
            None => None,
        };
        let access = match &repo.token {
            Some((user, token)) => Access::Token {
                user: user.clone(),
                token: self.text(token).await?.into_secret(),
            },
            None if key.is_some() || known_hosts.is_some() => Access::Ssh { key, known_hosts },
            None => self.forge_access(repo, &url).await?,
        };
        Ok(Remote {
            url,
            branch: self.plain(&repo.branch).await?,
            access,
        })
    }

    /// A small text file of the commit.
    pub async fn file(&self, path: &str) -> Result<String, Missing> {
        let sha = (!self.dirty).then_some(self.commit.sha.as_str());
        let bytes = self
            .workspace
            .read(sha, std::path::Path::new(path), 1 << 20)
            .await
            .map_err(|error| Missing::Broken(error.to_string()))?
            .ok_or_else(|| Missing::Absent(format!("{path} does not exist in the commit")))?;
        String::from_utf8(bytes).map_err(|_| Missing::Absent(format!("{path} is not text")))
    }
}
