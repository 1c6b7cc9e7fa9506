//! What a plan would do, found out by looking only: each stage is asked in order, with what the
//! stages before it would leave.

use globset::{GlobBuilder, GlobMatcher};

use super::build::{Plan, PlanError};
use super::graph::{Vertex, Why};
use super::types::Types;
use crate::base::{Masks, RunId, StageId};
use crate::event::Outcome;
use crate::lang::{Reference, expr};
use crate::ports::Readers;
use crate::ports::store::LAST_SUCCESS;
use crate::stage::{Forecast, PlanContext, Values, Verdict, When};

/// A plan with what each of its stages would do.
#[derive(Clone, Debug)]
pub struct Forecasts {
    /// The stages, in declaration order.
    pub stages: Vec<Planned>,
    /// Secrets that a run needs and that cannot be had here.
    pub missing: Vec<MissingSecret>,
}

/// A secret that cannot be had where the plan is made.
#[derive(Clone, Debug)]
pub struct MissingSecret {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
    /// Stages that need it.
    pub stages: Vec<StageId>,
}

/// What one stage would do.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What.
    pub forecast: Forecast,
}

/// Asks every stage what it would do.
pub async fn forecast(
    plan: &Plan,
    readers: &Readers,
    offline: bool,
) -> Result<Forecasts, PlanError> {
    let vars = plan.vars(readers).await;
    // A plan is made where the secrets of a run are not; it still shows most of what it would do.
    let (secrets, absent) = plan.fetch_some(readers, offline).await;
    let mut missing: Vec<MissingSecret> = absent
        .into_iter()
        .map(|(name, why)| MissingSecret {
            name,
            why,
            stages: Vec::new(),
        })
        .collect();
    let masks = Masks::with_late(secrets.values(), readers.late.clone());
    let values = plan.values(RunId::new(0, 0), readers, vars, secrets, offline);
    let tree = plan.tree(readers).await?;
    let places = plan.index();
    let mut forecasts: Vec<Option<Forecast>> = vec![None; plan.stages.len()];
    for at in plan.graph.order() {
        let stage = &plan.stages[at];
        let forecast = match before(plan, &forecasts, at) {
            Some(forecast) => forecast,
            None => match skipped(plan, at, &values, readers, None).await {
                Some(reason) => Forecast::new(Verdict::Skip, reason),
                None => {
                    let cx = PlanContext {
                        readers,
                        values: &values,
                        stage: &stage.id,
                        tree: tree.clone(),
                        offline,
                    };
                    let forecast = stage.body.forecast(&cx).await;
                    without(plan, at, &mut missing, forecast)
                }
            },
        };
        match forecast.verdict {
            Verdict::UpToDate => {
                values.record(&stage.id, Outcome::UpToDate, forecast.outputs.clone())
            }
            Verdict::Skip => values.record(&stage.id, Outcome::Skipped, Default::default()),
            _ => {}
        }
        forecasts[at] = Some(forecast);
    }
    let stages = forecasts
        .into_iter()
        .map(|forecast| Planned {
            forecast: masked(
                &masks,
                forecast.unwrap_or_else(|| Forecast::new(Verdict::Unknown, "part of a circle")),
            ),
        })
        .collect();
    for secret in &mut missing {
        secret.why = masks.mask(&secret.why);
        secret.stages.sort_by_key(|id| places.get(id).copied());
    }
    Ok(Forecasts { stages, missing })
}

/// What a stage would do if it had the secrets that are missing here: what it found without them
/// is no failure of a run.
fn without(
    plan: &Plan,
    at: usize,
    missing: &mut [MissingSecret],
    mut forecast: Forecast,
) -> Forecast {
    if missing.is_empty() {
        return forecast;
    }
    let stage = &plan.stages[at];
    let reads = plan.secrets_of(stage);
    for secret in missing.iter_mut().filter(|it| reads.contains(&it.name)) {
        secret.stages.push(stage.id.clone());
        let why = format!("secret `{}` is missing here", secret.name);
        if forecast.verdict == Verdict::Fail {
            forecast.verdict = Verdict::Unknown;
            forecast.reason = why;
        } else if !forecast.reason.contains(&why) {
            forecast.reason = format!("{}; {why}", forecast.reason);
        }
    }
    forecast
}

/// A diff may show lines of somebody's file, and a refusal words of somebody's server.
fn masked(masks: &Masks, forecast: Forecast) -> Forecast {
    let hide = |text: String| masks.mask(&text);
    Forecast {
        verdict: forecast.verdict,
        reason: hide(forecast.reason),
        effects: forecast.effects.into_iter().map(hide).collect(),
        diff: forecast.diff.map(hide),
        outputs: forecast
            .outputs
            .into_iter()
            .map(|(name, value)| (name, hide(value)))
            .collect(),
    }
}

/// What follows from the stages it waits for, without asking it.
fn before(plan: &Plan, forecasts: &[Option<Forecast>], at: usize) -> Option<Forecast> {
    for (from, why) in plan.graph.awaited(at) {
        let strict = matches!(
            why,
            Why::Data(_) | Why::Gate | Why::Needs { propagate: true }
        );
        if strict && let Some(at) = skipped_of(plan, forecasts, from) {
            let id = &plan.stages[at].id;
            return Some(Forecast::new(Verdict::Skip, format!("{id} is skipped")));
        }
    }
    None
}

/// The first stage that is skipped, of one or of "all of these".
fn skipped_of(plan: &Plan, forecasts: &[Option<Forecast>], vertex: usize) -> Option<usize> {
    match plan.graph.vertex(vertex) {
        Vertex::Stage(at) => {
            let verdict = forecasts[*at].as_ref()?.verdict;
            (verdict == Verdict::Skip).then_some(*at)
        }
        // All of them are above whoever waits, so this ends.
        Vertex::All(_) => plan
            .graph
            .awaited(vertex)
            .filter_map(|(part, _)| skipped_of(plan, forecasts, part))
            .min(),
    }
}

/// Why a stage is skipped, if it is.
async fn skipped(
    plan: &Plan,
    at: usize,
    values: &Values,
    readers: &Readers,
    outcome: Option<Outcome>,
) -> Option<String> {
    if let Some(reason) = plan.left_out.get(&at) {
        return Some(reason.clone());
    }
    let when = plan.stages[at].common.when.as_ref()?;
    condition(when, plan, values, readers, outcome).await.err()
}

/// Judges a condition: `Ok` if it holds (or cannot be known yet), else the reason why not.
pub async fn condition(
    when: &When,
    plan: &Plan,
    values: &Values,
    readers: &Readers,
    outcome: Option<Outcome>,
) -> Result<Verdict, String> {
    let commit = &plan.origin.commit;
    if !when.branches.is_empty() {
        let fits = commit
            .branch
            .as_deref()
            .is_some_and(|branch| any(&when.branches, branch));
        if !fits {
            let on = commit
                .branch
                .as_deref()
                .map_or("no branch".to_owned(), |branch| format!("branch {branch}"));
            return Err(format!("on {on}, not on {}", when.branches.join(" or ")));
        }
    }
    if !when.tags.is_empty() {
        let fits = commit
            .tag
            .as_deref()
            .is_some_and(|tag| any(&when.tags, tag));
        if !fits {
            let on = commit
                .tag
                .as_deref()
                .map_or("no tag".to_owned(), |tag| format!("tag {tag}"));
            return Err(format!("for {on}, not for {}", when.tags.join(" or ")));
        }
    }
    if !when.outcomes.is_empty()
        && let Some(outcome) = outcome
        && !when.outcomes.contains(&outcome)
    {
        return Err(format!("the run {outcome}"));
    }
    if !when.changed.is_empty() {
        changed(when, plan, readers).await?;
    }
    match &when.expr {
        Some(expr) => evaluate(expr, plan, values).await,
        None => Ok(Verdict::Run),
    }
}

/// `changed` compares with the last successful run on the branch, else with what was there
/// before the push; if neither is known, everything counts as changed.
async fn changed(when: &When, plan: &Plan, readers: &Readers) -> Result<(), String> {
    let commit = &plan.origin.commit;
    let key = format!(
        "{} {}",
        plan.pipeline,
        commit.branch.as_deref().unwrap_or(&commit.reference)
    );
    let last = readers.store.fact(LAST_SUCCESS, &key).ok().flatten();
    let before = match &plan.origin.cause {
        crate::event::Trigger::Push { before } => before.clone(),
        _ => None,
    };
    let Some(base) = last.or(before) else {
        return Ok(());
    };
    let Ok(Some(paths)) = readers.workspace.changed(&base, &commit.sha).await else {
        return Ok(());
    };
    if touches(&when.changed, &paths) {
        return Ok(());
    }
    Err(format!(
        "nothing that fits {} changed since {}",
        when.changed.join(" "),
        base.get(..7).unwrap_or(&base)
    ))
}

/// Whether a path fits the patterns: some without `!`, and none with.
pub fn touches(patterns: &[String], paths: &[String]) -> bool {
    let (without, with): (Vec<&String>, Vec<&String>) =
        patterns.iter().partition(|p| p.starts_with('!'));
    let compile = |patterns: Vec<&String>| -> Vec<GlobMatcher> {
        patterns
            .iter()
            .filter_map(|pattern| glob(pattern.trim_start_matches('!')))
            .collect()
    };
    let (exclude, include) = (compile(without), compile(with));
    paths.iter().any(|path| {
        let included = include.is_empty() || include.iter().any(|glob| glob.is_match(path));
        included && !exclude.iter().any(|glob| glob.is_match(path))
    })
}

fn glob(pattern: &str) -> Option<GlobMatcher> {
    let glob = GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .ok()?;
    Some(glob.compile_matcher())
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns
        .iter()
        .filter_map(|pattern| glob(pattern))
        .any(|glob| glob.is_match(text))
}

async fn evaluate(expr: &expr::Expr, plan: &Plan, values: &Values) -> Result<Verdict, String> {
    let types = Types {
        stages: &plan.stages,
        decls: &plan.decls,
        inputs: &plan.takes,
    };
    let mut known = std::collections::HashMap::new();
    let mut later = false;
    for (path, _) in expr.references() {
        let Ok(reference) = Reference::parse(&path.join(".")) else {
            continue;
        };
        match values.lookup(&reference).await {
            Ok(text) => {
                let value = types
                    .of(&path)
                    .and_then(|ty| expr::Value::parse(&ty, text.expose()));
                known.extend(value.map(|value| (path, value)));
            }
            Err(crate::stage::Missing::Later { .. }) => later = true,
            Err(_) => {}
        }
    }
    if later {
        return Ok(Verdict::Unknown);
    }
    match expr.eval(&|path| known.get(path).cloned()) {
        Ok(true) => Ok(Verdict::Run),
        Ok(false) => Err(format!("`{}` does not hold", expr.text())),
        Err(error) => Err(format!("`{}` cannot be judged: {error}", expr.text())),
    }
}

#[cfg(test)]
mod tests {
    use super::touches;

    #[test]
    fn patterns_with_exclusions() {
        let words = |list: &[&str]| {
            list.iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let check = |patterns: &[&str], paths: &[&str]| touches(&words(patterns), &words(paths));
        assert!(check(&["src/**"], &["docs/a.md", "src/a/b.rs"]));
        assert!(!check(&["src/**"], &["docs/a.md"]));
        assert!(!check(&["**", "!docs/**"], &["docs/a.md"]));
        assert!(check(&["!docs/**"], &["src/a.rs"]));
        assert!(
            !check(&["src/*"], &["src/a/b.rs"]),
            "a single star stays in its directory"
        );
    }
}
