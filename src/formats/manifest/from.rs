//! Writes the version of an image into the `FROM` lines of a Dockerfile that start from it.

use super::image::reference;
use super::{Change, EditError, Image, Place};
use crate::formats::dockerfile::{self, Base, Dockerfile};
use crate::formats::image_reference::ImageReference;

pub(super) fn apply(
    text: &str,
    image: &Image,
    place: &Place,
) -> Result<(String, Vec<Change>), EditError> {
    let wanted = match place {
        Place::Everywhere => None,
        // A stage is what comes closest to a container.
        Place::Container(name) => Some(name.as_str()),
        Place::At(_) => {
            return Err(EditError::new(
                "a Dockerfile has no paths; name the stage with `container=`, or no place at all",
            ));
        }
    };
    if text.len() > dockerfile::MAX_TEXT {
        return Err(EditError::new(format!(
            "text is larger than {} bytes",
            dockerfile::MAX_TEXT
        )));
    }
    let before = dockerfile::parse(text);
    let mut after = text.to_owned();
    let mut changes = Vec::new();
    let mut found = false;
    // From the end, so that places before it stay where they are.
    for (index, stage) in before.stages.iter().enumerate().rev() {
        let Some(Base::Image(old)) = before.base(index) else {
            continue;
        };
        let Some(parsed) = ImageReference::parse(old) else {
            continue;
        };
        let name = stage.name.as_ref().map(|name| name.value.as_str());
        let chosen = match wanted {
            Some(wanted) => name == Some(wanted),
            None => parsed.is_of(&image.name),
        };
        if !chosen {
            continue;
        }
        found = true;
        let value = reference(&parsed, image)?;
        if value == old {
            continue;
        }
        let span = stage.image.span;
        if text.get(span.start..span.end) != Some(old) {
            return Err(EditError::new(format!(
                "FROM {old} is not written in one piece, so it is not edited"
            )));
        }
        after.replace_range(span.start..span.end, &value);
        changes.push(Change {
            place: match name {
                Some(name) => format!("FROM of {name}"),
                None => "FROM".to_owned(),
            },
            before: old.to_owned(),
            after: value,
            line: text[..span.start].matches('\n').count() + 1,
        });
    }
    if !found {
        let bases: Vec<&str> = (0..before.stages.len())
            .filter_map(|index| match before.base(index) {
                Some(Base::Image(name) | Base::Variable(name)) => Some(name),
                _ => None,
            })
            .take(8)
            .collect();
        let there = match bases.is_empty() {
            true => "it starts from no image".to_owned(),
            false => format!("it starts from {}", bases.join(", ")),
        };
        return Err(EditError::new(format!(
            "no stage starts from {}; {there}",
            wanted.unwrap_or(&image.name)
        )));
    }
    changes.reverse();
    if !same(&before, &dockerfile::parse(&after), &changes) {
        return Err(EditError::new(
            "the edit would change more than this image, so it is not made",
        ));
    }
    Ok((after, changes))
}

/// Whether two Dockerfiles differ in the changed images only.
fn same(before: &Dockerfile, after: &Dockerfile, changes: &[Change]) -> bool {
    let values = |file: &Dockerfile| -> Vec<String> {
        let mut all = Vec::new();
        for stage in &file.stages {
            let parts = [&stage.platform, &stage.name];
            all.extend(
                parts.map(|part| part.as_ref().map_or(String::new(), |it| it.value.clone())),
            );
            all.push(format!("{} {}", stage.args.len(), stage.mounts.len()));
            all.extend(
                stage
                    .copies
                    .iter()
                    .map(|copy| copy.destination.value.clone()),
            );
        }
        all
    };
    let differing: Vec<_> = before
        .stages
        .iter()
        .zip(&after.stages)
        .filter(|(old, new)| old.image.value != new.image.value)
        .collect();
    before.stages.len() == after.stages.len()
        && before.problems.len() == after.problems.len()
        && values(before) == values(after)
        && differing.len() == changes.len()
        && differing
            .iter()
            .zip(changes)
            .all(|((_, new), change)| new.image.value == change.after)
}
