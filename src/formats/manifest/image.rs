//! Finds an image in a manifest by its repository, a container or a path, and writes its version.

use super::{Change, EditError, Format, Image, Place, changed, from, parse_path};
use crate::formats::image_reference::{ImageReference, same_repository};
use crate::formats::yaml::{self, Leaf, Problem, Wanted};

/// Most places of one image in one file.
const MAX_PLACES: usize = 1_000;

pub(super) fn apply(
    format: Format,
    text: &str,
    image: &Image,
    place: &Place,
) -> Result<(String, Vec<Change>), EditError> {
    match (format, place) {
        (Format::Yaml, Place::At(path)) => at(text, image, path),
        (Format::Yaml, _) => found(text, image, place),
        (Format::Dockerfile, _) => from::apply(text, image, place),
        (other, _) => Err(EditError::new(format!(
            "images are not looked for in a {} file; point at the value with `set`, `match` or `marker`",
            other.as_str()
        ))),
    }
}

/// The reference that takes the place of another: the name stays as it is written.
pub(super) fn reference(old: &ImageReference<'_>, image: &Image) -> Result<String, EditError> {
    let name = if old.is_of(&image.name) {
        old.name
    } else {
        &image.name
    };
    match (&image.digest, old.digest, old.tag) {
        (None, None, _) => Ok(format!("{name}:{}", image.tag)),
        (None, Some(digest), _) => Err(pinned(&format!("{name}@{digest}"))),
        (Some(digest), _, None) => Ok(format!("{name}@{digest}")),
        (Some(digest), _, Some(_)) => Ok(format!("{name}:{}@{digest}", image.tag)),
    }
}

/// The refusal to replace a digest by a tag, or to write a tag that a digest overrules.
pub(super) fn pinned(what: &str) -> EditError {
    EditError::new(format!(
        "{what} is pinned by its digest, which a tag would not change; write the digest too, with `pinned`"
    ))
}

/// Writes an image wherever it is the value of a key `image`.
fn found(text: &str, image: &Image, place: &Place) -> Result<(String, Vec<Change>), EditError> {
    let mut others: Vec<String> = Vec::new();
    let mut many = 0_usize;
    let leaves = yaml::leaves(text, |leaf| {
        if leaf.key.as_deref() != Some("image") {
            return false;
        }
        let wanted = match place {
            Place::Container(name) => leaf.name.as_deref() == Some(name),
            _ => ImageReference::parse(&leaf.value).is_some_and(|old| old.is_of(&image.name)),
        };
        many += usize::from(wanted);
        let other = match place {
            Place::Container(_) => leaf.name.clone(),
            _ => Some(leaf.value.clone()),
        };
        if let Some(other) = other
            && !wanted
            && others.len() < 8
            && other.len() <= 120
            && !others.contains(&other)
        {
            others.push(other);
        }
        wanted && many <= MAX_PLACES
    })?;
    if many > MAX_PLACES {
        return Err(EditError::new(format!(
            "there are more than {MAX_PLACES} places that name it"
        )));
    }
    if leaves.is_empty() {
        let what = match place {
            Place::Container(name) => format!("no container is called {name}"),
            _ => format!("no image here is of {}", image.name),
        };
        let there = match others.is_empty() {
            true => "there is no key `image` at all".to_owned(),
            false => format!("there are {}", others.join(", ")),
        };
        return Err(EditError::new(format!("{what}; {there}")));
    }
    let mut text = text.to_owned();
    let mut changes = Vec::new();
    for leaf in leaves {
        let value = successor(&leaf, image)?;
        let edited = yaml::set_leaf(&text, &leaf, Wanted::Text(&value))?;
        let (after, change) = changed(edited, &leaf.path, &value);
        text = after;
        changes.extend(change);
    }
    Ok((text, changes))
}

fn successor(leaf: &Leaf, image: &Image) -> Result<String, EditError> {
    let old = ImageReference::parse(&leaf.value).ok_or_else(|| {
        EditError::new(format!(
            "line {}: {} is {:?}, which is no reference to an image",
            leaf.line, leaf.path, leaf.value
        ))
    })?;
    reference(&old, image)
        .map_err(|error| EditError::new(format!("line {}: {}: {error}", leaf.line, leaf.path)))
}

/// Keys of a mapping that names an image in pieces, as charts have them.
const NAMES: [&str; 3] = ["repository", "name", "image"];

/// Writes an image at a path: a whole reference, or the pieces of a mapping.
fn at(text: &str, image: &Image, path: &str) -> Result<(String, Vec<Change>), EditError> {
    let place = parse_path(path)?;
    match yaml::get(text, &place) {
        Ok(scalar) => {
            let value = match ImageReference::parse(&scalar.value) {
                Some(old) => reference(&old, image)?,
                None if scalar.value.is_empty() => fresh(image),
                None => {
                    return Err(EditError::new(format!(
                        "line {}: {path} is {:?}, which is no reference to an image",
                        scalar.line, scalar.value
                    )));
                }
            };
            return Ok(changed(yaml::set(text, &place, &value)?, path, &value));
        }
        Err(error) if error.problem == Problem::NotScalar => {}
        Err(error) => return Err(error.into()),
    }
    let piece = |key: &str| -> Result<Option<String>, EditError> {
        let path = parse_path(&format!("{path}.{key}"))?;
        match yaml::get(text, &path) {
            Ok(scalar) => Ok(Some(scalar.value)),
            Err(error) if error.problem == Problem::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let mut wanted: Vec<(&str, String)> = Vec::new();
    if let Some(spec) = piece("spec")? {
        let value = match ImageReference::parse(&spec) {
            Some(old) => reference(&old, image)?,
            None => fresh(image),
        };
        wanted.push(("spec", value));
    } else {
        let registry = piece("registry")?;
        let mut name = None;
        for key in NAMES {
            if let Some(value) = piece(key)? {
                name = Some((key, value));
                break;
            }
        }
        let (tag, digest) = (piece("tag")?, piece("digest")?);
        if tag.is_none() && digest.is_none() {
            return Err(EditError::new(format!(
                "{path} has neither `tag`, `digest` nor `spec`, so it names no version of an image"
            )));
        }
        let (host, repository) = image
            .name
            .split_once('/')
            .unwrap_or(("docker.io", &image.name));
        let registry = registry.filter(|registry| !registry.is_empty());
        if let Some((key, repo)) = name {
            let old = match &registry {
                Some(registry) => format!("{registry}/{repo}"),
                None => repo,
            };
            let same = same_repository(&old, &image.name);
            match registry {
                _ if same => {}
                Some(_) => {
                    wanted.push(("registry", host.to_owned()));
                    wanted.push((key, repository.to_owned()));
                }
                None => wanted.push((key, image.name.clone())),
            }
        }
        let pinned_now = digest.as_ref().is_some_and(|digest| !digest.is_empty());
        match (&image.digest, tag.is_some()) {
            (None, _) if pinned_now => return Err(pinned(path)),
            (None, false) => {
                return Err(EditError::new(format!(
                    "{path} has no `tag`; write the digest with `pinned`"
                )));
            }
            (None, true) => wanted.push(("tag", image.tag.clone())),
            (Some(new), true) if digest.is_none() => {
                // Charts join the two with a colon, so this is how they are pinned.
                wanted.push(("tag", format!("{}@{new}", image.tag)));
            }
            (Some(new), has_tag) => {
                if has_tag {
                    wanted.push(("tag", image.tag.clone()));
                }
                wanted.push(("digest", new.clone()));
            }
        }
    }
    let mut text = text.to_owned();
    let mut changes = Vec::new();
    for (key, value) in wanted {
        let path = format!("{path}.{key}");
        let edited = yaml::set(&text, &parse_path(&path)?, &value)?;
        let (after, change) = changed(edited, &path, &value);
        text = after;
        changes.extend(change);
    }
    Ok((text, changes))
}

fn fresh(image: &Image) -> String {
    match &image.digest {
        Some(digest) => format!("{}:{}@{digest}", image.name, image.tag),
        None => format!("{}:{}", image.name, image.tag),
    }
}
