//! `uses`: files that other stages produced, laid over a working directory or a build context.

use super::{Failure, Lowering, Read, StageContext, Want};
use crate::base::{Spanned, StageId};
use crate::lang::spec::{Args, NodeSpec, Type};
use crate::ports::workspace::Scratch;

/// `uses`.
pub(super) const USES: NodeSpec = NodeSpec {
    args: Args::some(Type::Stage, "stage"),
    ..NodeSpec::new(
        "uses",
        "Stages whose `produces` files are laid over the working directory or build context.",
    )
};

/// Stages whose files are used, in the order in which they are laid over each other.
#[derive(Clone, Debug)]
pub(super) struct Uses(Vec<Spanned<StageId>>);

impl Uses {
    /// What the node at hand uses.
    pub(super) fn lower(cx: &Lowering<'_>) -> Self {
        let node = cx.node.child("uses");
        let stages = node.into_iter().flat_map(|uses| &uses.args);
        Self(
            stages
                .filter_map(|value| cx.name(value))
                .map(|name| name.map(|name| StageId::from(name.as_str())))
                .collect(),
        )
    }

    /// Whether it uses nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub(super) fn first(&self) -> Option<&StageId> {
        self.0.first().map(|stage| &stage.value)
    }

    /// What waiting for them means.
    pub(super) fn reads(&self) -> Vec<Read> {
        self.0
            .iter()
            .map(|stage| Read {
                what: Want::Files(stage.value.clone()),
                span: stage.span,
                optional: false,
            })
            .collect()
    }

    /// Lays the files over a stage's scratch copy.
    pub(super) async fn restore(
        &self,
        cx: &StageContext<'_>,
        scratch: &Scratch,
    ) -> Result<(), Failure> {
        for stage in &self.0 {
            super::run::kept::fetch_files(&stage.value, cx).await?;
            cx.world
                .workspace
                .restore(cx.run.as_str(), &stage.value.file_name(), &scratch.path)
                .await?;
        }
        Ok(())
    }
}
