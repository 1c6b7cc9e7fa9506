//! Documents to typed pipelines: every problem of every file at once.

mod lower;
mod spec;
mod trigger;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use lower::load;
pub use spec::{PIPELINE, PROJECT};
pub use trigger::{ChainOutcome, Input, InputType, Paths, Trigger};
pub use watch::{Strategy, Watch};

use crate::base::{Source, Span, Spanned, StageId};
use crate::decl::Decls;
use crate::stage::common::Concurrency;
use crate::stage::{Common, Kind, Stage};

/// All pipelines of one directory, which are read together.
#[derive(Debug, Default)]
pub struct Project {
    /// Its files.
    pub sources: Vec<Source>,
    /// Top-level declarations.
    pub decls: Arc<Decls>,
    /// Its pipelines, by name.
    pub pipelines: BTreeMap<String, Pipeline>,
    /// Directory that paths are relative to, if it is not the repository's root.
    pub root: Option<String>,
}

/// A pipeline.
#[derive(Debug)]
pub struct Pipeline {
    /// Its name.
    pub name: Spanned<String>,
    /// The text it stands in.
    pub source: Source,
    /// What starts it, beside a person.
    pub triggers: Vec<Spanned<Trigger>>,
    /// Inputs it takes when started by hand.
    pub inputs: BTreeMap<String, Input>,
    /// The group its runs belong to.
    pub concurrency: Option<Concurrency>,
    /// Declarations it can see.
    pub decls: Arc<Decls>,
    /// Its stages, in declaration order.
    pub stages: Vec<StageEntry>,
}

/// A stage of a pipeline: one member of a family, one instance of a matrix.
#[derive(Clone, Debug)]
pub struct StageEntry {
    /// Its name.
    pub id: StageId,
    /// Its kind.
    pub kind: &'static Kind,
    /// The stage this is a matrix instance of.
    pub instance_of: Option<StageId>,
    /// The text it stands in.
    pub source: Source,
    /// Its node's name and arguments.
    pub span: Span,
    /// Fields every stage has.
    pub common: Common,
    /// What it is.
    pub body: Arc<dyn Stage>,
}

impl StageEntry {
    /// Whether it follows everything else: `notify`, and what says `finally`.
    pub fn is_last(&self) -> bool {
        self.common.finally || self.kind.name() == "notify"
    }
}

impl Pipeline {
    /// A stage by name.
    pub fn stage(&self, id: &StageId) -> Option<&StageEntry> {
        self.stages.iter().find(|stage| stage.id == *id)
    }

    /// Positions of the stages by name.
    pub fn index(&self) -> BTreeMap<StageId, usize> {
        self.stages
            .iter()
            .enumerate()
            .map(|(at, stage)| (stage.id.clone(), at))
            .collect()
    }

    /// Pipelines whose end starts this one: name and outcomes.
    pub fn upstreams(&self) -> impl Iterator<Item = &Spanned<Trigger>> {
        self.triggers
            .iter()
            .filter(|trigger| matches!(trigger.value, Trigger::Pipeline { .. }))
    }
    /// The images it watches, in the order they are written.
    pub fn watches(&self) -> impl Iterator<Item = &Watch> {
        self.triggers
            .iter()
            .filter_map(|trigger| match &trigger.value {
                Trigger::Watch(watch) => Some(&**watch),
                _ => None,
            })
    }
}
