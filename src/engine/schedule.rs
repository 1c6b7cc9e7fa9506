//! Decides what may start: a pure state machine over a graph and the outcomes so far.
//!
//! A vertex is settled once everything it waits for is. Then either it may start, or it is
//! skipped or blocked, which settles it and may settle others. Each edge is looked at once, so a
//! whole run costs time linear in the graph. Nothing here waits, reads a clock or does work.
//!
//! Block wins over skip: if one producer failed and another was skipped, the failure is the news.

use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::plan::{Graph, Vertex, Why};

/// How a stage stands for those that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It did its work, or had nothing to do.
    Good,
    /// It was skipped.
    Skipped,
    /// It went wrong and may: its outputs are missing, nothing else.
    Allowed,
    /// It went wrong, or something it waits for did.
    Bad,
}

/// What the schedule decided about a stage without it having run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is skipped because of a stage.
    Skip(usize),
    /// It is blocked by a stage.
    Block(usize),
    /// It was left out from the beginning.
    LeaveOut,
}

/// By what a stage's start is bounded, beside its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// It works on this machine.
    Local,
    /// The container engine builds for it, and shares its machine among builds by itself.
    Build,
    /// It waits for others.
    Remote,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::Local, Self::Build, Self::Remote];
}

/// The state of a run's schedule.
#[derive(Debug)]
pub struct Schedule {
    graph: Arc<Graph>,
    /// Unsettled vertices each vertex waits for.
    waits: Vec<u32>,
    settled: Vec<Option<Settled>>,
    left_out: Vec<bool>,
    lanes: Vec<Lane>,
    weight: Vec<u64>,
    /// Stages that may start, by lane: heaviest first, then in order.
    ready: [BinaryHeap<Ready>; Lane::ALL.len()],
    decided: VecDeque<(usize, Decision)>,
    open: usize,
}

#[derive(Clone, Copy, Debug)]
struct Settled {
    standing: Standing,
    /// The stage that is to be named as the reason.
    cause: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    weight: u64,
    order: std::cmp::Reverse<usize>,
}

impl Schedule {
    /// A schedule in which nothing has happened yet.
    ///
    /// `durations` are expected milliseconds by stage; `left_out` tells which stages will not run.
    pub fn new(
        graph: Arc<Graph>,
        durations: &[u64],
        lanes: &[Lane],
        left_out: impl Fn(usize) -> bool,
    ) -> Self {
        let vertices = graph.vertices();
        let waits = (0..vertices)
            .map(|at| graph.awaited(at).count() as u32)
            .collect();
        Self {
            waits,
            settled: vec![None; vertices],
            left_out: (0..graph.stages()).map(left_out).collect(),
            lanes: lanes.to_vec(),
            weight: weights(&graph, durations),
            ready: Default::default(),
            decided: VecDeque::new(),
            open: graph.stages(),
            graph,
        }
    }

    /// Tells how stages ended before (a resumed run), then opens what waits for nothing.
    pub fn begin(&mut self, ended: impl IntoIterator<Item = (usize, Standing)>) {
        let mut before = vec![false; self.graph.vertices()];
        for (stage, standing) in ended {
            before[stage] = true;
            self.settled[stage] = Some(Settled {
                standing,
                cause: stage,
            });
            self.open -= 1;
        }
        let mut work: VecDeque<usize> = VecDeque::new();
        for (at, ended) in before.iter().enumerate() {
            if *ended {
                work.push_back(at);
            } else if self.waits[at] == 0 {
                self.settle_if_due(at, &mut work);
            }
        }
        self.spread(work);
    }

    /// The next stage of a lane to start.
    pub fn next(&mut self, lane: Lane) -> Option<usize> {
        self.ready[lane as usize].pop().map(|ready| ready.order.0)
    }

    /// A stage ended.
    pub fn finish(&mut self, stage: usize, standing: Standing) {
        if self.settled[stage].is_some() {
            return;
        }
        self.settled[stage] = Some(Settled {
            standing,
            cause: stage,
        });
        self.open -= 1;
        self.spread(VecDeque::from([stage]));
    }

    /// What was decided since the last call, in order.
    pub fn decided(&mut self) -> Option<(usize, Decision)> {
        self.decided.pop_front()
    }

    /// Whether every stage has ended.
    pub fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Takes out every stage that has not ended and that `keep` does not name, and returns them.
    /// They count as gone wrong, all at once: none of them is decided about for another's sake.
    pub fn drain(&mut self, keep: impl Fn(usize) -> bool) -> Vec<usize> {
        let drained: Vec<usize> = (0..self.graph.stages())
            .filter(|at| self.settled[*at].is_none() && !keep(*at))
            .collect();
        for heap in &mut self.ready {
            heap.retain(|ready| keep(ready.order.0));
        }
        for at in &drained {
            self.settled[*at] = Some(Settled {
                standing: Standing::Bad,
                cause: *at,
            });
        }
        self.open -= drained.len();
        self.spread(drained.iter().copied().collect());
        drained
    }

    fn spread(&mut self, mut work: VecDeque<usize>) {
        let graph = Arc::clone(&self.graph);
        while let Some(at) = work.pop_front() {
            for (to, _) in graph.waiting(at) {
                self.waits[to] -= 1;
                if self.waits[to] == 0 {
                    self.settle_if_due(to, &mut work);
                }
            }
        }
    }

    /// Everything a vertex waits for is settled: opens it, or settles it too.
    fn settle_if_due(&mut self, at: usize, work: &mut VecDeque<usize>) {
        if self.settled[at].is_some() {
            return;
        }
        let (mut skip, mut block) = (None, None);
        let mut worst = Settled {
            standing: Standing::Good,
            cause: at,
        };
        for (from, why) in self.graph.awaited(at) {
            let Some(settled) = self.settled[from] else {
                continue;
            };
            // Of several, the first in the text is named: the others often follow from it.
            let first = |cause: Option<usize>| {
                Some(cause.map_or(settled.cause, |cause| cause.min(settled.cause)))
            };
            let (ours, theirs) = (rank(worst.standing), rank(settled.standing));
            if theirs > ours || (theirs == ours && settled.cause < worst.cause) {
                worst = settled;
            }
            match judge(why, settled.standing) {
                Standing::Skipped => skip = first(skip),
                Standing::Bad => block = first(block),
                _ => {}
            }
        }
        match self.graph.vertex(at) {
            Vertex::All(_) => {
                self.settled[at] = Some(worst);
                work.push_back(at);
            }
            Vertex::Stage(stage) => {
                let decision = match (self.left_out[*stage], block, skip) {
                    (true, _, _) => Decision::LeaveOut,
                    (_, Some(cause), _) => Decision::Block(cause),
                    (_, None, Some(cause)) => Decision::Skip(cause),
                    (_, None, None) => {
                        let ready = Ready {
                            weight: self.weight[at],
                            order: std::cmp::Reverse(at),
                        };
                        self.ready[self.lanes[at] as usize].push(ready);
                        return;
                    }
                };
                let standing = match decision {
                    Decision::Block(_) => Standing::Bad,
                    _ => Standing::Skipped,
                };
                self.settled[at] = Some(Settled {
                    standing,
                    cause: at,
                });
                self.open -= 1;
                self.decided.push_back((at, decision));
                work.push_back(at);
            }
        }
    }
}

fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Good => 0,
        Standing::Allowed => 1,
        Standing::Skipped => 2,
        Standing::Bad => 3,
    }
}

/// What an edge makes of the one waited for: good, or the reason not to start.
fn judge(why: &Why, standing: Standing) -> Standing {
    match (why, standing) {
        (Why::Last | Why::Part, _) | (_, Standing::Good) => Standing::Good,
        (_, Standing::Bad) => Standing::Bad,
        // Outputs are missing.
        (Why::Data(_), Standing::Skipped | Standing::Allowed) => Standing::Skipped,
        (Why::Gate | Why::Needs { propagate: true }, Standing::Skipped) => Standing::Skipped,
        (Why::Gate | Why::Needs { .. } | Why::Above | Why::Optional(_), _) => Standing::Good,
    }
}

/// The longest way from each vertex to the end, by expected durations.
fn weights(graph: &Graph, durations: &[u64]) -> Vec<u64> {
    let mut weight = vec![0u64; graph.vertices()];
    let mut waiting: Vec<u32> = (0..graph.vertices())
        .map(|at| graph.waiting(at).count() as u32)
        .collect();
    let mut open: Vec<usize> = (0..graph.vertices())
        .filter(|at| waiting[*at] == 0)
        .collect();
    while let Some(at) = open.pop() {
        let longest = graph
            .waiting(at)
            .map(|(to, _)| weight[to])
            .max()
            .unwrap_or(0);
        weight[at] = longest.saturating_add(durations.get(at).copied().unwrap_or(0));
        for (from, _) in graph.awaited(at) {
            waiting[from] -= 1;
            if waiting[from] == 0 {
                open.push(from);
            }
        }
    }
    weight
}

#[cfg(test)]
mod tests;
