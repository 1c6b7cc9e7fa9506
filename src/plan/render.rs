//! A plan on paper: text, JSON, Graphviz, Mermaid.

use std::fmt::Write as _;

use super::build::Plan;
use super::forecast::Forecasts;
use super::graph::{Vertex, Why};

/// Text for people.
pub fn text(plan: &Plan, forecasts: &Forecasts, chained: &[&str]) -> String {
    let mut out = String::new();
    let commit = &plan.origin.commit;
    let what = commit
        .tag
        .as_deref()
        .map(|tag| format!("tag {tag}"))
        .or_else(|| {
            commit
                .branch
                .as_deref()
                .map(|branch| format!("branch {branch}"))
        })
        .unwrap_or_else(|| "no branch".to_owned());
    let _ = writeln!(
        out,
        "plan of {} at {} ({what})",
        plan.pipeline,
        commit.short_sha()
    );
    out.push('\n');
    let width = plan
        .stages
        .iter()
        .map(|stage| stage.id.as_str().len())
        .max()
        .unwrap_or(0)
        .min(40);
    for (at, stage) in plan.stages.iter().enumerate() {
        let forecast = &forecasts.stages[at].forecast;
        let sign = match forecast.verdict.as_str() {
            "run" => '+',
            "up-to-date" => '=',
            "skip" => '-',
            "fail" => '!',
            _ => '?',
        };
        let id = stage.id.as_str();
        let _ = writeln!(
            out,
            "{sign} {id:<width$}  {:<10}  {}",
            forecast.verdict.as_str(),
            forecast.reason
        );
        let waits = waits(plan, at);
        if !waits.is_empty() {
            let _ = writeln!(out, "  {:<width$}  after {waits}", "");
        }
        if let Some(diff) = &forecast.diff {
            for line in diff.lines() {
                let _ = writeln!(out, "      {line}");
            }
        }
    }
    let effects: Vec<(&str, &str)> = plan
        .stages
        .iter()
        .zip(&forecasts.stages)
        .flat_map(|(stage, planned)| {
            planned
                .forecast
                .effects
                .iter()
                .map(|effect| (stage.id.as_str(), effect.as_str()))
        })
        .collect();
    out.push('\n');
    let unknown = plan
        .stages
        .iter()
        .zip(&forecasts.stages)
        .any(|(stage, planned)| {
            stage.kind.effect && planned.forecast.verdict.as_str() == "unknown"
        });
    if effects.is_empty() && unknown {
        out.push_str("what would change outside is not known\n");
    } else if effects.is_empty() {
        out.push_str("nothing outside would change\n");
    } else {
        out.push_str("would change:\n");
        for (stage, effect) in effects {
            let _ = writeln!(out, "  {stage:<width$}  {effect}");
        }
    }
    if !forecasts.missing.is_empty() {
        out.push_str("a run needs, and has not here:\n");
        for secret in &forecasts.missing {
            let stages: Vec<&str> = secret.stages.iter().map(|id| id.as_str()).collect();
            let _ = write!(out, "  secret {}  {}", secret.name, secret.why);
            let _ = match stages.as_slice() {
                [] => writeln!(out),
                stages => writeln!(out, " ({})", stages.join(", ")),
            };
        }
    }
    if !chained.is_empty() {
        let _ = writeln!(out, "then, if it succeeds: {}", chained.join(", "));
    }
    out
}

/// What a stage waits for, with the reasons. A long list is cut.
fn waits(plan: &Plan, at: usize) -> String {
    const SHOWN: usize = 6;
    let edges: Vec<String> = plan
        .graph
        .awaited(at)
        .map(|(from, why)| format!("{} ({})", name(plan, from), why.describe()))
        .collect();
    let mut text = edges
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if edges.len() > SHOWN {
        let _ = write!(text, " and {} more", edges.len() - SHOWN);
    }
    text
}

fn name(plan: &Plan, vertex: usize) -> String {
    match plan.graph.vertex(vertex) {
        Vertex::Stage(stage) => plan.stages[*stage].id.to_string(),
        Vertex::All(what) => what.to_string(),
    }
}

/// One JSON object.
pub fn json(plan: &Plan, forecasts: Option<&Forecasts>, chained: &[&str]) -> serde_json::Value {
    let stages: Vec<serde_json::Value> = plan
        .stages
        .iter()
        .enumerate()
        .map(|(at, stage)| {
            let after: Vec<serde_json::Value> = plan
                .graph
                .awaited(at)
                .map(|(from, why)| serde_json::json!({ "on": name(plan, from), "why": why.describe() }))
                .collect();
            let mut value = serde_json::json!({
                "id": stage.id,
                "kind": stage.kind.name(),
                "effect": stage.kind.effect,
                "after": after,
            });
            if let Some(forecasts) = forecasts {
                let forecast = &forecasts.stages[at].forecast;
                value["verdict"] = forecast.verdict.as_str().into();
                value["reason"] = forecast.reason.clone().into();
                value["effects"] = forecast.effects.clone().into();
                value["diff"] = forecast.diff.clone().into();
                value["outputs"] = serde_json::json!(forecast.outputs);
            }
            value
        })
        .collect();
    let mut value = serde_json::json!({
        "pipeline": plan.pipeline,
        "commit": plan.origin.commit,
        "stages": stages,
        "chained": chained,
    });
    if let Some(forecasts) = forecasts {
        let missing = forecasts.missing.iter().map(|secret| {
            serde_json::json!({
                "secret": secret.name,
                "why": secret.why,
                "stages": secret.stages,
            })
        });
        value["missing"] = missing.collect();
    }
    value
}

/// Graphviz.
pub fn dot(plan: &Plan) -> String {
    let mut out = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n",
        quote(&plan.pipeline)
    );
    for vertex in 0..plan.graph.vertices() {
        let shape = match plan.graph.vertex(vertex) {
            Vertex::Stage(stage) if plan.stages[*stage].kind.effect => " [style=bold]",
            Vertex::Stage(_) => "",
            Vertex::All(_) => " [shape=point, xlabel=\"all\"]",
        };
        let _ = writeln!(out, "  {}{shape};", quote(&name(plan, vertex)));
    }
    for vertex in 0..plan.graph.vertices() {
        for (to, why) in plan.graph.waiting(vertex) {
            let style = if matches!(why, Why::Data(_)) {
                ""
            } else {
                ", style=dashed"
            };
            let _ = writeln!(
                out,
                "  {} -> {} [label={}{style}];",
                quote(&name(plan, vertex)),
                quote(&name(plan, to)),
                quote(&why.describe())
            );
        }
    }
    out.push_str("}\n");
    out
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Mermaid.
pub fn mermaid(plan: &Plan) -> String {
    let mut out = String::from("flowchart LR\n");
    for vertex in 0..plan.graph.vertices() {
        let label = name(plan, vertex).replace('"', "#quot;");
        let _ = match plan.graph.vertex(vertex) {
            Vertex::Stage(stage) if plan.stages[*stage].kind.effect => {
                writeln!(out, "  v{vertex}[[\"{label}\"]]")
            }
            Vertex::Stage(_) => writeln!(out, "  v{vertex}[\"{label}\"]"),
            Vertex::All(_) => writeln!(out, "  v{vertex}((\"{label}\"))"),
        };
    }
    for vertex in 0..plan.graph.vertices() {
        for (to, why) in plan.graph.waiting(vertex) {
            let label = why.describe().replace('"', "#quot;");
            let _ = writeln!(out, "  v{vertex} -->|\"{label}\"| v{to}");
        }
    }
    out
}

/// Stages with what each waits for, without a forecast.
pub fn outline(plan: &Plan) -> String {
    let width = plan
        .stages
        .iter()
        .map(|stage| stage.id.as_str().len())
        .max()
        .unwrap_or(0)
        .min(40);
    let mut out = String::new();
    for (at, stage) in plan.stages.iter().enumerate() {
        let waits = waits(plan, at);
        let effect = if stage.kind.effect { "*" } else { " " };
        let after = if waits.is_empty() {
            "at once".to_owned()
        } else {
            format!("after {waits}")
        };
        let _ = writeln!(out, "{effect} {:<width$}  {after}", stage.id.as_str());
    }
    out.push_str("\n* changes something outside the run\n");
    out
}
