//! `bump`: edits files as the stage of that name does, from a shell. All files or none.

use std::path::Path;

use super::app::{App, Exit, Failure};
use super::args::Bump;
use crate::formats::diff;
use crate::formats::manifest::{Change, Edit, KUSTOMIZATIONS, MAX_TEXT, Place};

/// One file, before and after.
struct Edited<'a> {
    path: &'a Path,
    before: String,
    after: String,
    changes: Vec<Change>,
}

/// `bump`.
pub(super) fn run(app: &App<'_>, args: &Bump) -> Result<Exit, Failure> {
    if args.image.len() > 1 && (args.container.is_some() || args.at.is_some()) {
        return Err(Failure::usage(
            "--at and --container name one place, but there are several images",
            "give one --image",
        ));
    }
    let piped = args.files.iter().any(|path| path == Path::new("-"));
    if piped && args.files.len() > 1 {
        return Err(Failure::usage(
            "standard input cannot be edited together with files",
            "give `-` alone",
        ));
    }
    let mut all = Vec::new();
    for path in &args.files {
        all.push(edit(app, args, path)?);
    }
    let changed = all.iter().any(|file| !file.changes.is_empty());
    if args.dry_run || args.check {
        let text: String = all
            .iter()
            .map(|file| diff::unified(&file.path.to_string_lossy(), &file.before, &file.after))
            .collect();
        app.print(&text)?;
        return Ok(match changed && args.check {
            true => Exit::FAILED,
            false => Exit::SUCCESS,
        });
    }
    if piped {
        return app.print(
            &all.iter()
                .map(|file| file.after.as_str())
                .collect::<String>(),
        );
    }
    for file in all.iter().filter(|file| file.before != file.after) {
        app.files.write(&app.here.join(file.path), &file.after)?;
    }
    app.write(|out| {
        for file in &all {
            for change in &file.changes {
                writeln!(
                    out,
                    "{}:{} {}: {} → {}",
                    file.path.display(),
                    change.line,
                    change.place,
                    shown(&change.before),
                    shown(&change.after)
                )?;
            }
        }
        Ok(())
    })
}

/// A value of a file must not pose as a line of ours.
fn shown(value: &str) -> String {
    match value.is_empty() || value.chars().any(char::is_control) {
        true => format!("{value:?}"),
        false => value.to_owned(),
    }
}

fn edit<'a>(app: &App<'_>, args: &Bump, path: &'a Path) -> Result<Edited<'a>, Failure> {
    let piped = path == Path::new("-");
    let before = match piped {
        true => app.files.input(MAX_TEXT as u64)?,
        false => app.files.read(&app.here.join(path), MAX_TEXT as u64)?,
    };
    let name = path.to_string_lossy();
    let mut after = before.clone();
    let mut changes = Vec::new();
    for edit in edits(args, path) {
        let format = edit.format(args.format, &name);
        let edited = edit.apply(format, &after).map_err(|error| Failure {
            exit: Exit::FAILED,
            message: format!("{name}: {}: {error}", edit.place()),
            help: Some("nothing was written".to_owned()),
        })?;
        after = edited.0;
        changes.extend(edited.1);
    }
    Ok(Edited {
        path,
        before,
        after,
        changes,
    })
}

/// The edits of a file, in the order of the options in the manual.
fn edits(args: &Bump, path: &Path) -> Vec<Edit> {
    let at = |path: &str| match &args.document {
        Some(document) => format!("{document}:{path}"),
        None => path.to_owned(),
    };
    let sets = args.set.iter().map(|set| (set, false));
    let literals = args.literal.iter().map(|set| (set, true));
    let mut edits: Vec<Edit> = sets
        .chain(literals)
        .map(|(set, literal)| Edit::Set {
            path: at(&set.path),
            value: set.value.clone(),
            literal,
            create: args.create,
        })
        .collect();
    let name = path.file_name().map(|name| name.to_string_lossy());
    let kustomization = name.is_some_and(|name| KUSTOMIZATIONS.contains(&&*name));
    for image in &args.image {
        edits.push(match kustomization || image.entry.is_some() {
            true => Edit::Kustomize {
                image: image.image.clone(),
                name: image.entry.clone(),
                alias: image.image.name.clone(),
                create: args.create,
            },
            false => Edit::Image {
                image: image.image.clone(),
                place: match (&args.container, &args.at) {
                    (Some(container), _) => Place::Container(container.clone()),
                    (None, Some(path)) => Place::At(at(path)),
                    (None, None) => Place::Everywhere,
                },
            },
        });
    }
    edits.extend(args.matches.chunks_exact(2).map(|pair| Edit::Match {
        pattern: pair[0].clone(),
        value: pair[1].clone(),
    }));
    edits.extend(args.marker.iter().map(|marker| Edit::Marker {
        name: marker.name.clone(),
        value: marker.value.clone(),
    }));
    edits
}
