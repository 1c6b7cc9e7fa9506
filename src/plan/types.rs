//! Types of the names that expressions may use.

use std::collections::BTreeMap;

use crate::decl::Decls;
use crate::lang::{GitField, ImageField, Reference, expr};
use crate::pipeline::{Input, InputType, StageEntry};

/// What gives names their types.
pub struct Types<'a> {
    /// Stages of the pipeline.
    pub stages: &'a [StageEntry],
    /// Declarations it sees.
    pub decls: &'a Decls,
    /// Its inputs.
    pub inputs: &'a BTreeMap<String, Input>,
}

impl Types<'_> {
    /// The type of a dotted name; `None` if there is no such name.
    pub fn of(&self, path: &[String]) -> Option<expr::Type> {
        Some(match Reference::parse(&path.join(".")).ok()? {
            Reference::Git(GitField::Version) => expr::Type::Version,
            Reference::Git(_) | Reference::Upstream(..) | Reference::Run(_) => expr::Type::String,
            Reference::Var(name) => self
                .decls
                .vars
                .contains_key(&name)
                .then_some(expr::Type::String)?,
            Reference::Secret(name) => self
                .decls
                .secrets
                .contains_key(&name)
                .then_some(expr::Type::Secret)?,
            Reference::Input(name) => match self.inputs.get(&name)?.ty {
                InputType::Bool => expr::Type::Bool,
                InputType::Int => expr::Type::Int,
                InputType::Version => expr::Type::Version,
                InputType::Duration => expr::Type::Duration,
                InputType::String => expr::Type::String,
            },
            Reference::Image(name, field) => {
                self.decls.images.get(&name)?;
                match field {
                    ImageField::Digest => expr::Type::Digest,
                    _ => expr::Type::String,
                }
            }
            Reference::Output(stage, output) => {
                let entry = self.stages.iter().find(|entry| entry.id == stage)?;
                let fixed = entry.kind.outputs.iter().any(|(name, _)| *name == output);
                match (entry.kind.name(), output.as_str()) {
                    _ if !fixed && !entry.body.outputs().contains(&output) => return None,
                    ("bump", "changed") => expr::Type::Bool,
                    ("push", "digest") => expr::Type::Digest,
                    ("scan", "critical" | "high" | "medium" | "low") => expr::Type::Int,
                    _ => expr::Type::String,
                }
            }
        })
    }
}
