//! The command line: arguments, and everything that turns results into text for people.
//!
//! Nothing here touches the world but through ports; `main` provides those.

mod advisories;
mod app;
pub mod args;
mod aws;
mod bump;
mod check;
pub mod completions;
pub mod diagnostics;
mod follow;
pub mod format;
mod images;
pub mod init;
mod issuer;
mod look;
pub mod man;
mod plan;
mod project;
mod prune;
pub mod reference;
mod report;
mod rollback;
mod run;
mod scan;
mod screen;
mod undo;
mod watch;

use args::Command;

pub use app::{AdvisoryDatabase, App, Exit, Failure, Screen, Worlds};

/// Runs commands that need no engine, registry or repository, and so no runtime. `None` means
/// that [`dispatch`] is needed.
pub fn dispatch_quick(app: &App<'_>, command: &Command) -> Option<Result<Exit, Failure>> {
    Some(match command {
        Command::Check(args) => check::run(app, args),
        Command::Bump(args) => bump::run(app, args),
        Command::Init => project::init(app),
        Command::Runs(args) => look::runs(app, args),
        Command::Show(args) => look::show(app, args),
        Command::Cancel(args) => look::cancel(app, args),
        Command::Prune(args) => prune::run(app, args),
        Command::Report(args) => report::report(app, args),
        Command::Graph(args) => plan::graph(app, args),
        Command::Logs(args) if !args.follow => look::logs(app, args),
        Command::Completions(args) => app.write(|out| completions::write(out, args.shell)),
        Command::Man => app.write(|out| man::write(out)),
        Command::Plan(_)
        | Command::Run(_)
        | Command::Rerun(_)
        | Command::Rollback(_)
        | Command::Logs(_)
        | Command::Advisories(_)
        | Command::Aws(_)
        | Command::Watch(_)
        | Command::Images(_)
        | Command::Scan(_) => return None,
    })
}

/// Runs the other commands.
pub async fn dispatch(app: &App<'_>, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Plan(args) => plan::run(app, args).await,
        Command::Aws(args::Aws::Policy(args)) => aws::policy(app, args).await,
        Command::Aws(args::Aws::Issuer(args)) => issuer::issuer(app, args),
        Command::Run(args) => run::run(app, args).await,
        Command::Rerun(args) => run::rerun(app, args).await,
        Command::Rollback(args) => rollback::rollback(app, args).await,
        Command::Logs(args) => follow::logs(app, args).await,
        Command::Advisories(args) => advisories::run(app, args).await,
        Command::Scan(args) => scan::scan(app, args).await,
        Command::Watch(args) => watch::watch(app, args).await,
        Command::Images(args) => images::images(app, args).await,
        other => dispatch_quick(app, other).unwrap_or(Ok(Exit::SUCCESS)),
    }
}
