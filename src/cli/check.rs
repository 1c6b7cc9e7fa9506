//! `check`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::app::{App, Exit, Failure};
use super::args::Check;
use super::{diagnostics, project};
use crate::base::Diagnostic;

/// Checks projects and prints every problem.
pub(super) fn run(app: &App<'_>, args: &Check) -> Result<Exit, Failure> {
    let mut found = Vec::new();
    let mut files = 0;
    for dir in directories(app, args)? {
        let mut loaded = project::read(app, &dir)?;
        files += loaded.project.sources.len();
        found.append(&mut loaded.diagnostics);
    }
    let display = project::display(app, args.format, files);
    app.write(|out| diagnostics::show(out, &found, &display))?;
    Ok(if found.iter().any(Diagnostic::is_error) {
        Exit::FAILED
    } else {
        Exit::SUCCESS
    })
}

/// The projects that were asked for: a directory stands for itself and all below it, a file for
/// the project it belongs to, since references go across files.
fn directories(app: &App<'_>, args: &Check) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut dirs = BTreeSet::new();
    let asked: Vec<PathBuf> = if args.paths.is_empty() {
        vec![app.project_dir()]
    } else {
        args.paths.iter().map(|path| app.here.join(path)).collect()
    };
    for path in asked {
        if app.files.is_dir(&path) {
            let below = app.files.projects(&path)?;
            if below.is_empty() {
                return Err(Failure::usage(
                    format!("{} holds no `.kdl` file", path.display()),
                    "name a directory with pipelines; `pipewright init` writes a first one",
                ));
            }
            dirs.extend(below);
        } else {
            app.files.read(&path, 4 << 20)?;
            dirs.extend(path.parent().map(|dir| dir.to_owned()));
        }
    }
    Ok(dirs)
}
