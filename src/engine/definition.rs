//! The text of a project as a run keeps it, so that going on with the run does not read the
//! files again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::EngineError;
use crate::base::{RunId, Source};
use crate::event::RunState;
use crate::journal::{JournalError, replay};
use crate::pipeline::{Project, StageEntry, load};
use crate::ports::engines::EngineSite;
use crate::ports::store::StoreReader;

/// The engines on which a run may have left something.
pub fn sites_of(store: &dyn StoreReader, run: &RunId) -> Result<BTreeSet<EngineSite>, EngineError> {
    let Some(created) = RunState::of(&replay(store, run)?).created else {
        return Err(JournalError::NoRun(run.clone()).into());
    };
    let project = Definition::load(store, run, &created.definition)?;
    let pipeline = project.pipelines.get(&created.pipeline);
    Ok(sites(
        pipeline.into_iter().flat_map(|pipeline| &pipeline.stages),
    ))
}

/// The engines on which stages may leave something.
pub(super) fn sites<'a>(stages: impl Iterator<Item = &'a StageEntry>) -> BTreeSet<EngineSite> {
    stages.filter_map(|entry| entry.body.engine()).collect()
}

/// A project's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Path and text.
    pub files: Vec<(String, String)>,
}

impl Definition {
    /// The files of a loaded project.
    pub fn of(project: &Project) -> Self {
        Self {
            files: project
                .sources
                .iter()
                .map(|source| (source.name().to_owned(), source.text().to_owned()))
                .collect(),
        }
    }

    /// The bytes to keep.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always serialize")
    }

    /// Reads the definition a run was created with, and loads it.
    pub fn load(
        store: &dyn StoreReader,
        run: &RunId,
        digest: &str,
    ) -> Result<Project, EngineError> {
        let broken = |why: &str| EngineError::Definition(run.clone(), why.to_owned());
        let bytes = store
            .blob(digest)?
            .ok_or_else(|| broken("it is gone from the state directory"))?;
        let definition: Self =
            serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))?;
        let sources = definition
            .files
            .into_iter()
            .map(|(name, text)| Source::new(name, text))
            .collect();
        let (project, diagnostics) = load(sources);
        match diagnostics.iter().find(|diagnostic| diagnostic.is_error()) {
            Some(diagnostic) => Err(broken(&diagnostic.message)),
            None => Ok(project),
        }
    }
}
