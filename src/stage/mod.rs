//! What a stage is, and the table of kinds.
//!
//! A kind is one file: its node specification, its lowering, what it reads and leaves, its
//! check, what it would do (`forecast`), how it does it (`run`), and how it finds out after a
//! crash what it had done (`examine`). Adding one touches that file and two lines here.

mod account;
mod attach;
pub mod build;
pub mod bump;
pub mod common;
pub mod context;
pub mod deploy;
pub mod depot;
mod found;
pub mod grant;
mod hosted;
pub mod leftovers;
mod names;
pub mod notify;
pub mod push;
pub mod run;
pub mod scan;
mod uses;
pub mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

pub use common::{Common, When};
pub use context::{Done, Effects, Failure, Forecast, PlanContext, StageContext, Verdict};
pub use depot::Depot;
pub use leftovers::Leftovers;
pub use values::{ImageFacts, Missing, Rung, Values};

use crate::base::{Diagnostic, Source, Span, Spanned, StageId};
use crate::decl::Decls;
use crate::event::EffectState;
use crate::lang::spec::NodeSpec;
use crate::lang::{Binding, Node, Template};
use crate::ports::engines::EngineSite;

/// A kind of stage.
#[derive(Debug)]
pub struct Kind {
    /// Its node.
    pub spec: &'static NodeSpec,
    /// Whether it changes the world outside the run, and so waits for all that stands above it.
    pub effect: bool,
    /// Outputs every stage of the kind has, with what they are.
    pub outputs: &'static [(&'static str, &'static str)],
    /// Lowers one member of a node that fits the specification.
    pub lower: fn(&mut Lowering<'_>) -> Arc<dyn Stage>,
}

impl Kind {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.spec.name
    }
}

/// Every kind, in the order of a delivery.
pub const KINDS: &[&Kind] = &[
    &run::KIND,
    &build::KIND,
    &scan::KIND,
    &push::KIND,
    &bump::KIND,
    &deploy::KIND,
    &notify::KIND,
];

/// The kind of a name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

/// What the lowering of one member of a stage node works on.
pub struct Lowering<'a> {
    /// The node.
    pub node: &'a Node,
    /// The member's name, without a matrix instance.
    pub member: &'a str,
    /// The values of the matrix instance at hand.
    pub matrix: &'a [(String, String)],
    /// What it can refer to.
    pub decls: &'a Decls,
    /// Where problems go.
    pub diagnostics: &'a mut Vec<Diagnostic>,
}

impl Lowering<'_> {
    /// Parses a value as a template with the member's name bound.
    pub fn template(&self, value: &crate::lang::Value) -> Template {
        let binding = Binding {
            name: Some(self.member),
            matrix: self.matrix,
        };
        Template::parse(&self.node.source, value, binding).0
    }

    /// The template of a child's argument.
    pub fn child_template(&self, node: &Node, name: &str) -> Option<Template> {
        node.child_arg(name).map(|value| self.template(value))
    }

    /// A name written as an argument or property, `${name}` replaced.
    pub fn name(&self, value: &crate::lang::Value) -> Option<Spanned<String>> {
        let template = self.template(value);
        Some(Spanned::new(template.as_literal()?.to_owned(), value.span))
    }

    /// A map of children with two arguments, such as `env NAME "value"`.
    pub fn pairs(&self, node: &Node, name: &str) -> Vec<(String, Template)> {
        node.children_named(name)
            .filter_map(|child| match child.args.as_slice() {
                [key, value] => Some((key.as_str()?.to_owned(), self.template(value))),
                _ => None,
            })
            .collect()
    }

    /// Reports an error.
    pub fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        help: impl Into<String>,
    ) {
        self.diagnostics
            .push(Diagnostic::error(code, message, &self.node.source, span).help(help));
    }
}

/// Something a stage reads, which makes it wait for whoever makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What.
    pub what: Want,
    /// Where it is written.
    pub span: Span,
    /// Whether the stage can do without it if its maker was skipped.
    pub optional: bool,
}

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// An image as it will be in its registry.
    Image(String),
    /// An image on the engine, as its `build` leaves it.
    Built(String),
    /// An output of a stage.
    Output(StageId, String),
    /// The files a stage produces.
    Files(StageId),
    /// The verdict of a scan.
    Gate(String),
}

/// What a world that is made up must hold, so that a stage finds what it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenery {
    /// Containers of task definitions.
    pub containers: Vec<String>,
    /// Files of other repositories, and a path to a value in each.
    pub keys: Vec<(String, String)>,
}

/// A lowered stage.
#[async_trait]
pub trait Stage: std::fmt::Debug + Send + Sync {
    /// What it reads beside what its templates mention.
    fn reads(&self) -> Vec<Read> {
        Vec::new()
    }

    /// All its templates: their references are edges, and their secrets are fetched.
    fn templates(&self) -> Vec<&Template>;

    /// Templates it can do without if what they mention was skipped.
    fn optional_templates(&self) -> Vec<&Template> {
        Vec::new()
    }

    /// Names of outputs it has beside those of its kind.
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why an output of its kind is not there, as it is written.
    fn withholds(&self, _output: &str) -> Option<&'static str> {
        None
    }

    /// AWS accounts it works in, beside those of its images' registries.
    fn accounts(&self) -> Vec<String> {
        Vec::new()
    }

    /// The texts that open what it works in, of declarations other than registries and accounts.
    fn keys<'d>(&self, _decls: &'d Decls) -> Vec<&'d Template> {
        Vec::new()
    }

    /// What it has to be allowed to do in those accounts.
    fn grants(&self, _arns: &grant::Arns<'_>) -> Vec<grant::Grant> {
        Vec::new()
    }

    /// What is unusable in it although it fits its specification.
    fn check(&self, _cx: &CheckContext<'_>, _diagnostics: &mut Vec<Diagnostic>) {}

    /// The group of the kind it belongs to, if its kind has several: `deploy docker`.
    fn variant(&self) -> Option<&'static str> {
        None
    }

    /// What it looks for outside of the repository, for a world that makes up what is not there.
    fn scenery(&self) -> Scenery {
        Scenery::default()
    }

    /// Whether it can be told to go back to a revision that it left as its output `revision`.
    fn goes_back(&self) -> bool {
        false
    }

    /// Whether what it did can be taken back by its own record of it ([`Stage::undo`]).
    fn undoes(&self) -> bool {
        false
    }

    /// From what it recorded in a run: what it has to be given to take that back. `None` if it
    /// changed nothing.
    fn undo(&self, _effects: &[EffectState], _ended_well: bool) -> Option<String> {
        None
    }

    /// The engine on which it may leave containers or networks behind when its process is killed.
    fn engine(&self) -> Option<EngineSite> {
        None
    }

    /// What it would do, found out by looking only.
    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast;

    /// Does it. Looks first, so that running twice has the effect of running once.
    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure>;

    /// After a crash in the middle of it: finds out what became of what it had intended. `None`
    /// means that running it again is right.
    async fn examine(&self, _cx: &StageContext<'_>) -> Result<Option<Done>, Failure> {
        Ok(None)
    }
}

/// What a stage's check may look at.
pub struct CheckContext<'a> {
    /// The stage.
    pub id: &'a StageId,
    /// Its text.
    pub source: &'a Source,
    /// Its node.
    pub span: Span,
    /// What it can refer to.
    pub decls: &'a Decls,
    /// The other stages of its pipeline: kind and member.
    pub stages: &'a BTreeMap<StageId, usize>,
}
