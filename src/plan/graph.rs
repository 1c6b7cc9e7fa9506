//! Who waits for whom, and why.
//!
//! Three sources of edges: data (whoever uses an image, an output or files waits for its
//! producer), the safe default (an effect waits for all that stands above it), and `needs`,
//! which replaces the safe default. "All of these" is one virtual node, so that edges stay as
//! many as stages.

use std::collections::HashMap;

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::base::{Span, StageId};
use crate::decl::Decls;
use crate::lang::{Reference, Template};
use crate::pipeline::StageEntry;
use crate::stage::Want;
use crate::stage::common::Needs;

/// A node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vertex {
    /// A stage, by its position.
    Stage(usize),
    /// All of something: a family, a kind, everything above an effect, everything at all.
    All(Box<str>),
}

/// Why one waits for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It uses something the other makes.
    Data(Box<str>),
    /// A scan gates the push.
    Gate,
    /// It says so with `needs`.
    Needs {
        /// A skipped one skips this one.
        propagate: bool,
    },
    /// An effect waits for all that stands above it.
    Above,
    /// It uses something, but can do without it.
    Optional(Box<str>),
    /// Part of "all of these".
    Part,
    /// It follows everything, however it ended.
    Last,
}

impl Why {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Data(what) => format!("uses {what}"),
            Self::Gate => "the scan gates it".to_owned(),
            Self::Needs { .. } => "needs".to_owned(),
            Self::Above => "safe default of an effect".to_owned(),
            Self::Optional(what) => format!("uses {what}, if it is there"),
            Self::Part => "part of it".to_owned(),
            Self::Last => "follows everything".to_owned(),
        }
    }
}

/// The graph of one pipeline. Stage `i` is vertex `i`; virtual vertices follow.
#[derive(Clone, Debug)]
pub struct Graph {
    graph: DiGraph<Vertex, Why>,
    stages: usize,
}

/// Something a stage refers to that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling {
    /// Position of the stage that refers.
    pub stage: usize,
    /// Where.
    pub span: Span,
    /// What.
    pub what: String,
}

impl Graph {
    /// Builds the graph and reports what is referred to and not there.
    pub fn build(stages: &[StageEntry], decls: &Decls) -> (Self, Vec<Dangling>) {
        let mut builder = Builder::new(stages, decls);
        builder.data();
        builder.order();
        builder.last();
        let graph = Self {
            graph: builder.graph,
            stages: stages.len(),
        };
        (graph, builder.dangling)
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.stages
    }

    /// Number of vertices, virtual ones included.
    pub fn vertices(&self) -> usize {
        self.graph.node_count()
    }

    /// A vertex.
    pub fn vertex(&self, at: usize) -> &Vertex {
        &self.graph[NodeIndex::new(at)]
    }

    /// Edges out of a vertex: who waits for it, and why.
    pub fn waiting(&self, at: usize) -> impl Iterator<Item = (usize, &Why)> {
        self.graph
            .edges(NodeIndex::new(at))
            .map(|edge| (edge.target().index(), edge.weight()))
    }

    /// Edges into a vertex: what it waits for, and why.
    pub fn awaited(&self, at: usize) -> impl Iterator<Item = (usize, &Why)> {
        self.graph
            .edges_directed(NodeIndex::new(at), petgraph::Direction::Incoming)
            .map(|edge| (edge.source().index(), edge.weight()))
    }

    /// Stages a stage waits for, virtual vertices resolved, each with the reason on its own edge.
    pub fn awaited_stages(&self, at: usize) -> Vec<(usize, &Why)> {
        let mut found = Vec::new();
        let mut seen = vec![false; self.vertices()];
        let mut open: Vec<(usize, &Why)> = self.awaited(at).collect();
        while let Some((vertex, why)) = open.pop() {
            if std::mem::replace(&mut seen[vertex], true) {
                continue;
            }
            match self.vertex(vertex) {
                Vertex::Stage(stage) => found.push((*stage, why)),
                Vertex::All(_) => {
                    open.extend(self.awaited(vertex).map(|(vertex, _)| (vertex, why)))
                }
            }
        }
        found.sort_by_key(|(stage, _)| *stage);
        found
    }

    /// A cycle of stages, if there is one.
    pub fn cycle(&self) -> Option<Vec<usize>> {
        // Nearly always there is none, and this tells at a fraction of what a search takes.
        if petgraph::algo::toposort(&self.graph, None).is_ok() {
            return None;
        }
        // Not Tarjan's, which calls itself as deep as the longest chain.
        let component =
            petgraph::algo::kosaraju_scc(&self.graph)
                .into_iter()
                .find(|component| {
                    component.len() > 1
                        || component
                            .iter()
                            .any(|at| self.graph.contains_edge(*at, *at))
                })?;
        let mut inside = vec![false; self.vertices()];
        for at in &component {
            inside[at.index()] = true;
        }
        // Walk until a vertex comes back: what lies between is a cycle within the component.
        let mut path = Vec::new();
        let mut position = HashMap::new();
        let mut at = component.iter().map(|at| at.index()).min()?;
        loop {
            if let Some(from) = position.insert(at, path.len()) {
                let stages = path[from..].iter().filter_map(|at| match self.vertex(*at) {
                    Vertex::Stage(stage) => Some(*stage),
                    Vertex::All(_) => None,
                });
                return Some(stages.collect());
            }
            path.push(at);
            at = self
                .waiting(at)
                .map(|(next, _)| next)
                .find(|next| inside[*next])?;
        }
    }

    /// Stages in an order in which each comes after what it waits for; empty if there is a cycle.
    pub fn order(&self) -> Vec<usize> {
        let sorted = petgraph::algo::toposort(&self.graph, None).unwrap_or_default();
        sorted
            .into_iter()
            .filter_map(|at| match self.graph[at] {
                Vertex::Stage(stage) => Some(stage),
                Vertex::All(_) => None,
            })
            .collect()
    }
}

struct Builder<'a> {
    graph: DiGraph<Vertex, Why>,
    stages: &'a [StageEntry],
    decls: &'a Decls,
    index: HashMap<&'a str, usize>,
    /// Positions of matrix instances by the stage they are instances of.
    families: HashMap<&'a str, Vec<usize>>,
    kinds: HashMap<&'static str, Vec<usize>>,
    virtuals: HashMap<String, NodeIndex>,
    dangling: Vec<Dangling>,
}

impl<'a> Builder<'a> {
    fn new(stages: &'a [StageEntry], decls: &'a Decls) -> Self {
        let mut graph = DiGraph::with_capacity(stages.len() + 16, stages.len() * 2);
        let mut index = HashMap::with_capacity(stages.len());
        let mut families: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut kinds: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, stage) in stages.iter().enumerate() {
            graph.add_node(Vertex::Stage(at));
            index.insert(stage.id.as_str(), at);
            if let Some(base) = &stage.instance_of {
                families.entry(base.as_str()).or_default().push(at);
            }
            kinds.entry(stage.kind.name()).or_default().push(at);
        }
        Self {
            graph,
            stages,
            decls,
            index,
            families,
            kinds,
            virtuals: HashMap::new(),
            dangling: Vec::new(),
        }
    }

    fn edge(&mut self, from: NodeIndex, to: usize, why: Why) {
        self.graph.add_edge(from, NodeIndex::new(to), why);
    }

    /// The vertex that stands for a stage, all instances of a matrix, or all of a kind.
    fn resolve(&mut self, name: &str) -> Option<NodeIndex> {
        if let Some(at) = self.index.get(name) {
            return Some(NodeIndex::new(*at));
        }
        if let Some(vertex) = self.virtuals.get(name) {
            return Some(*vertex);
        }
        let members = self
            .families
            .get(name)
            .or_else(|| self.kinds.get(name))?
            .clone();
        let vertex = self
            .graph
            .add_node(Vertex::All(format!("all of {name}").into()));
        for member in members {
            self.graph
                .add_edge(NodeIndex::new(member), vertex, Why::Part);
        }
        self.virtuals.insert(name.to_owned(), vertex);
        Some(vertex)
    }

    fn data(&mut self) {
        let stages = self.stages;
        for (at, stage) in stages.iter().enumerate() {
            if stage.is_last() {
                // It follows everything; what is missing then is the stage's own affair.
                continue;
            }
            for read in stage.body.reads() {
                self.read(at, &read.what, read.span, read.optional);
            }
            for template in stage.body.templates() {
                self.template(at, template, false);
            }
            for template in stage.body.optional_templates() {
                self.template(at, template, true);
            }
            if let Some(when) = &stage.common.when
                && let Some(expr) = &when.expr
            {
                for (path, span) in expr.references() {
                    if let Ok(reference) = Reference::parse(&path.join(".")) {
                        self.reference(at, &reference, span, false);
                    }
                }
            }
        }
    }

    fn template(&mut self, at: usize, template: &Template, optional: bool) {
        for reference in template.references() {
            self.reference(at, &reference.value, reference.span, optional);
        }
    }

    fn reference(&mut self, at: usize, reference: &Reference, span: Span, optional: bool) {
        match reference {
            Reference::Image(name, _) => {
                let shown = format!("image.{name}");
                self.produced(at, &StageId::new("push", name), &shown, optional);
                self.image(at, name, optional);
            }
            Reference::Output(stage, output) => {
                let shown = format!("{stage}.{output}");
                if !self.produced(at, stage, &shown, optional) {
                    self.dangling.push(Dangling {
                        stage: at,
                        span,
                        what: stage.to_string(),
                    });
                }
            }
            _ => {}
        }
    }

    /// An image's own declaration may read what stages make: a tag, for instance.
    fn image(&mut self, at: usize, name: &str, optional: bool) {
        let Some(decl) = self.decls.images.get(name) else {
            return;
        };
        for template in decl.value.templates() {
            for reference in template.references() {
                if let Reference::Output(stage, output) = &reference.value {
                    let shown = format!("{stage}.{output}");
                    self.produced(at, stage, &shown, optional);
                }
            }
        }
    }

    fn produced(&mut self, at: usize, stage: &StageId, what: &str, optional: bool) -> bool {
        let Some(vertex) = self.resolve(stage.as_str()) else {
            return false;
        };
        let why = if optional {
            Why::Optional(what.into())
        } else {
            Why::Data(what.into())
        };
        let known = self
            .graph
            .edges_connecting(vertex, NodeIndex::new(at))
            .any(|edge| matches!(edge.weight(), Why::Data(_)) || *edge.weight() == why);
        if !known {
            self.edge(vertex, at, why);
        }
        true
    }

    fn read(&mut self, at: usize, want: &Want, span: Span, optional: bool) {
        match want {
            Want::Image(name) => {
                self.produced(
                    at,
                    &StageId::new("push", name),
                    &format!("image.{name}"),
                    optional,
                );
                self.image(at, name, optional);
            }
            Want::Built(name) => {
                self.produced(
                    at,
                    &StageId::new("build", name),
                    &format!("the image of build.{name}"),
                    optional,
                );
                self.image(at, name, optional);
            }
            Want::Output(stage, output) => {
                self.produced(at, stage, &format!("{stage}.{output}"), optional);
            }
            Want::Files(stage) => {
                if !self.produced(at, stage, &format!("files of {stage}"), optional) {
                    self.dangling.push(Dangling {
                        stage: at,
                        span,
                        what: stage.to_string(),
                    });
                }
            }
            Want::Gate(name) => {
                let scan = StageId::new("scan", name);
                if let Some(vertex) = self.resolve(scan.as_str()) {
                    self.edge(vertex, at, Why::Gate);
                }
            }
        }
    }

    /// `needs`, and the safe default of effects. What stands above a node stands above every
    /// member of its family; the members do not wait for each other.
    fn order(&mut self) {
        let stages = self.stages;
        let mut above: Option<NodeIndex> = None;
        let mut since: Vec<usize> = Vec::new();
        let mut from = 0;
        while from < stages.len() {
            let first = &stages[from];
            let same =
                |stage: &StageEntry| stage.span == first.span && stage.source == first.source;
            let to = from
                + stages[from..]
                    .iter()
                    .take_while(|stage| same(stage))
                    .count();
            let family = from..to;
            from = to;
            if first.is_last() {
                continue;
            }
            if first.common.needs.is_some() {
                for at in family.clone() {
                    if let Some(needs) = &stages[at].common.needs {
                        self.needs(at, needs);
                    }
                }
            } else if first.kind.effect && (above.is_some() || !since.is_empty()) {
                let vertex = self.gather(above, &since, first);
                for at in family.clone() {
                    self.edge(vertex, at, Why::Above);
                }
                above = Some(vertex);
                since.clear();
            }
            since.extend(family);
        }
    }

    fn needs(&mut self, at: usize, needs: &Needs) {
        for name in &needs.stages {
            match self.resolve(&name.value) {
                Some(vertex) => self.edge(
                    vertex,
                    at,
                    Why::Needs {
                        propagate: needs.propagate,
                    },
                ),
                None => self.dangling.push(Dangling {
                    stage: at,
                    span: name.span,
                    what: name.value.clone(),
                }),
            }
        }
    }

    /// One vertex for all that stands above a stage: what stood above the effect before it, and
    /// what came since.
    fn gather(
        &mut self,
        above: Option<NodeIndex>,
        since: &[usize],
        stage: &StageEntry,
    ) -> NodeIndex {
        match (above, since) {
            (None, [one]) => return NodeIndex::new(*one),
            (Some(above), []) => return above,
            _ => {}
        }
        let vertex = self
            .graph
            .add_node(Vertex::All(format!("everything above {}", stage.id).into()));
        for stage in since {
            self.graph
                .add_edge(NodeIndex::new(*stage), vertex, Why::Part);
        }
        if let Some(above) = above {
            self.graph.add_edge(above, vertex, Why::Part);
        }
        vertex
    }

    fn last(&mut self) {
        let stages = self.stages;
        if !stages.iter().any(StageEntry::is_last) {
            return;
        }
        let everything = self.graph.add_node(Vertex::All("everything".into()));
        for (at, stage) in stages.iter().enumerate() {
            if stage.is_last() {
                self.edge(everything, at, Why::Last);
            } else {
                self.graph
                    .add_edge(NodeIndex::new(at), everything, Why::Last);
            }
        }
    }
}
