//! The critical path of a run: the longest chain of stage durations.

use std::collections::HashMap;
use std::time::Duration;

use super::RunReport;
use crate::base::StageId;

/// The stages of the longest chain, in order, with their durations. Linear in stages and edges.
///
/// Edges that close a circle cannot come from a plan; whatever lies on one is left out.
pub fn critical_path(report: &RunReport<'_>) -> Vec<(StageId, Duration)> {
    let mut nodes: Vec<Node<'_>> = Vec::with_capacity(report.state.stages().len());
    let mut index: HashMap<&StageId, usize> = HashMap::new();
    for stage in report.state.stages() {
        let took = match (stage.started_at, stage.finished_at) {
            (Some(start), Some(end)) => end.since(start),
            _ => Duration::ZERO,
        };
        index.insert(&stage.id, nodes.len());
        nodes.push(Node::new(&stage.id, took));
    }
    for (from, to) in report.edges {
        let [from, to] = [from, to].map(|id| {
            *index.entry(id).or_insert_with(|| {
                nodes.push(Node::new(id, Duration::ZERO));
                nodes.len() - 1
            })
        });
        nodes[from].next.push(to);
        nodes[to].open += 1;
    }

    let mut ready: Vec<usize> = (0..nodes.len()).filter(|at| nodes[*at].open == 0).collect();
    let mut last: Option<usize> = None;
    while let Some(at) = ready.pop() {
        let total = nodes[at].before + nodes[at].took;
        if last.is_none_or(|best| nodes[best].before + nodes[best].took < total) {
            last = Some(at);
        }
        for to in std::mem::take(&mut nodes[at].next) {
            let next = &mut nodes[to];
            if next.previous.is_none() || next.before < total {
                next.before = total;
                next.previous = Some(at);
            }
            next.open -= 1;
            if next.open == 0 {
                ready.push(to);
            }
        }
    }

    let mut path = Vec::new();
    while let Some(at) = last {
        let node = &nodes[at];
        if !node.took.is_zero() {
            path.push((node.id.clone(), node.took));
        }
        last = node.previous;
    }
    path.reverse();
    path
}

struct Node<'a> {
    id: &'a StageId,
    took: Duration,
    before: Duration,
    previous: Option<usize>,
    next: Vec<usize>,
    open: usize,
}

impl<'a> Node<'a> {
    fn new(id: &'a StageId, took: Duration) -> Self {
        Self {
            id,
            took,
            before: Duration::ZERO,
            previous: None,
            next: Vec::new(),
            open: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Outcome;
    use crate::report::fixture::Story;

    fn path(story: &Story, edges: &[(&str, &str)]) -> String {
        let edges: Vec<(StageId, StageId)> = edges
            .iter()
            .map(|(from, to)| (StageId::from(*from), StageId::from(*to)))
            .collect();
        let state = story.state();
        critical_path(&RunReport::with_edges(&state, &edges))
            .iter()
            .map(|(id, took)| format!("{id}={}", took.as_secs()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn story() -> Story {
        let mut story = Story::new("release", &["build.a", "build.b", "push.a", "notify.x"]);
        story.at(0).start("build.a").start("build.b");
        story.at(10).end("build.b", Outcome::Succeeded, "");
        story.at(20).end("build.a", Outcome::Succeeded, "");
        story
            .start("push.a")
            .at(25)
            .end("push.a", Outcome::Succeeded, "");
        story
    }

    #[test]
    fn the_longest_chain_wins() {
        assert_eq!(path(&story(), &[]), "build.a=20");
        assert_eq!(
            path(&story(), &[("build.a", "push.a"), ("build.b", "push.a")]),
            "build.a=20 push.a=5"
        );
        assert_eq!(
            path(&story(), &[("build.b", "push.a"), ("push.a", "notify.x")]),
            "build.a=20"
        );
    }

    #[test]
    fn virtual_nodes_pass_time_through() {
        let edges = [("build.b", "#all"), ("build.a", "#all"), ("#all", "push.a")];
        assert_eq!(path(&story(), &edges), "build.a=20 push.a=5");
    }

    #[test]
    fn circles_do_no_harm() {
        let edges = [("build.a", "push.a"), ("push.a", "build.a")];
        assert_eq!(path(&story(), &edges), "build.b=10");
    }

    #[test]
    fn many_stages_are_linear() {
        let ids: Vec<String> = (0..50_000).map(|n| format!("run.s{n}")).collect();
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut story = Story::new("big", &names);
        for (n, name) in names.iter().enumerate() {
            story.at(n as i64).start(name);
            story.at(n as i64 + 1).end(name, Outcome::Succeeded, "");
        }
        let edges: Vec<(StageId, StageId)> = names
            .windows(2)
            .map(|pair| (StageId::from(pair[0]), StageId::from(pair[1])))
            .collect();
        let state = story.state();
        let path = critical_path(&RunReport::with_edges(&state, &edges));
        assert_eq!(path.len(), 50_000);
    }
}
