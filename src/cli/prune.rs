//! `prune`: forgets old runs.

use super::app::{App, Exit, Failure};
use super::args::Prune;
use crate::base::{Timestamp, human_bytes};
use crate::ports::store::Retention;

/// So many newest successes of each pipeline stay in any case: the next run builds on them.
const SUCCESSES: usize = 1;

/// `prune`.
pub(super) fn run(app: &App<'_>, args: &Prune) -> Result<Exit, Failure> {
    let age = |age: std::time::Duration| {
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Timestamp((app.now)().0.saturating_sub(millis))
    };
    let policy = Retention {
        before: args.older_than.map(|it| age(it.0)),
        runs: args.keep,
        bytes: args.max_size.map(|it| it.0),
        successes: SUCCESSES,
        dry: args.dry_run,
    };
    let Some(pruned) = app.worlds.prune(&app.state_dir(), &policy)? else {
        return app.print("nothing has run here yet\n");
    };
    let mut text = String::new();
    if args.dry_run {
        for run in &pruned.runs {
            text.push_str(&format!("{run}\n"));
        }
    }
    let did = if args.dry_run {
        "would forget"
    } else {
        "forgot"
    };
    let many = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let caches = match pruned.caches {
        0 => String::new(),
        count => format!(" and {}", many(count, "unused cache")),
    };
    text.push_str(&format!(
        "{did} {}{caches}, {}\n",
        many(pruned.runs.len(), "run"),
        human_bytes(pruned.bytes)
    ));
    app.print(&text)
}
