//! Loads projects, and writes a first one.

use std::path::{Path, PathBuf};

use super::app::{App, Exit, Failure};
use super::diagnostics::{self, DiagnosticFormat, Display};
use super::init as draft;
use crate::base::{Diagnostic, Source, Span};
use crate::pipeline::{Project, load};
use crate::plan::check;

/// A project with everything that is wrong with it.
pub(super) struct Loaded {
    pub(super) project: Project,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Loads and checks the project of a directory.
pub(super) fn read(app: &App<'_>, dir: &Path) -> Result<Loaded, Failure> {
    let mut diagnostics = Vec::new();
    let mut sources = Vec::new();
    for (path, text) in app.files.project(dir)? {
        let name = shown(app, Path::new(&path));
        match text {
            Ok(text) => sources.push(Source::new(name, text)),
            Err(why) => {
                let source = Source::new(name, "");
                diagnostics.push(
                    Diagnostic::error(
                        "PW0005",
                        format!("the file cannot be read: {why}"),
                        &source,
                        Span::new(0, 0),
                    )
                    .help("mend or remove the file"),
                );
            }
        }
    }
    let (project, mut problems) = load(sources);
    diagnostics.append(&mut problems);
    diagnostics.extend(check(&project));
    Ok(Loaded {
        project,
        diagnostics,
    })
}

/// A path as people in the present directory would write it.
fn shown(app: &App<'_>, path: &Path) -> String {
    let path = path.strip_prefix(&app.here).unwrap_or(path);
    path.to_string_lossy().into_owned()
}

/// Loads the repository's project; prints what is wrong with it and fails if that stops a run.
pub(super) fn sound(app: &App<'_>) -> Result<Project, Failure> {
    let dir = app.project_dir();
    if !app.files.is_dir(&dir) {
        return Err(Failure::usage(
            format!("there is no {}", dir.display()),
            "`pipewright init` writes a first pipeline; `--project DIR` names another directory",
        ));
    }
    let loaded = read(app, &dir)?;
    if loaded.diagnostics.iter().any(Diagnostic::is_error) {
        let files = loaded.project.sources.len();
        app.write(|out| {
            diagnostics::show(
                out,
                &loaded.diagnostics,
                &display(app, DiagnosticFormat::Full, files),
            )
        })?;
        return Err(Failure::usage(
            "the pipelines have errors; nothing was run",
            "mend them; `pipewright check` shows them again",
        ));
    }
    if loaded.project.pipelines.is_empty() {
        return Err(Failure::usage(
            format!("{} holds no pipeline", dir.display()),
            "write `pipeline NAME { … }` into a `.kdl` file there",
        ));
    }
    Ok(loaded.project)
}

pub(super) fn display(app: &App<'_>, format: DiagnosticFormat, files: usize) -> Display {
    Display {
        format,
        style: app.screen.style,
        columns: (app.screen.size)().0.clamp(40, 120),
        files,
    }
}

/// The project's directory relative to the repository, for the journal.
pub(super) fn directory(app: &App<'_>) -> String {
    let dir = app.project_dir();
    let relative: PathBuf = dir
        .strip_prefix(app.root())
        .map(Path::to_owned)
        .unwrap_or(dir);
    relative.to_string_lossy().into_owned()
}

/// `init`.
pub(super) fn init(app: &App<'_>) -> Result<Exit, Failure> {
    let root = app.root();
    let files = app.files.walk(&root, 4)?;
    let origin = origin(app, &root);
    let path = app
        .project_dir()
        .join(format!("{}.kdl", draft::pipeline_name(&files)));
    let text = draft::draft(&files, origin.as_deref(), "main");
    app.files.create(&path, &text).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "nothing was written; remove the file, or choose another directory with --project",
        )
    })?;
    let mut page = format!("wrote {}\n\nnext:\n", shown(app, &path));
    for command in draft::next_commands(&files, origin.as_deref()) {
        page.push_str(&format!("  {command}\n"));
    }
    app.print(&page)
}

/// The address of `origin`, without asking git for more than its configuration file says.
fn origin(app: &App<'_>, root: &Path) -> Option<String> {
    let config = app.files.read(&root.join(".git/config"), 1 << 20).ok()?;
    let section = config.split_once("[remote \"origin\"]")?.1;
    let section = section.split("\n[").next()?;
    let line = section
        .lines()
        .find_map(|line| line.trim().strip_prefix("url"))?;
    let url = line.trim_start().strip_prefix('=')?.trim();
    // A credential in the address must not end up in a file.
    Some(
        match url
            .split_once("://")
            .and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1)))
        {
            Some((scheme, rest)) => format!("{scheme}://{rest}"),
            None => url.to_owned(),
        },
    )
}
