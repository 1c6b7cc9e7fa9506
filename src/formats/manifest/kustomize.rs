//! Edits `images:` of a kustomization: `newTag`, `digest` and, where it differs, `newName`.

use super::image::pinned;
use super::{Change, EditError, Image, changed, parse_path};
use crate::formats::image_reference::same_repository;
use crate::formats::yaml::{self, Problem};

/// Most entries of `images:`.
const MAX_ENTRIES: usize = 2_000;

/// One entry, as it is.
struct Entry {
    index: usize,
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

pub(super) fn apply(
    text: &str,
    image: &Image,
    name: Option<&str>,
    alias: &str,
    create: bool,
) -> Result<(String, Vec<Change>), EditError> {
    let entries = entries(text)?;
    match find(&entries, image, name, alias)? {
        Some(entry) => update(text, entry, image, create),
        None if create => add(text, image, name),
        None => {
            let names: Vec<&str> = entries
                .iter()
                .map(|entry| entry.name.as_str())
                .take(8)
                .collect();
            let there = match names.is_empty() {
                true => "it has no entries".to_owned(),
                false => format!("its names are {}", names.join(", ")),
            };
            Err(EditError::new(format!(
                "`images` has no entry for {}; {there}; add one with `create`",
                name.unwrap_or(&image.name)
            )))
        }
    }
}

fn entries(text: &str) -> Result<Vec<Entry>, EditError> {
    let mut entries = Vec::new();
    let leaves = yaml::leaves(text, |leaf| leaf.path.starts_with(".images["))?;
    for leaf in leaves {
        let rest = &leaf.path[".images[".len()..];
        let Some((index, key)) = rest.split_once("].") else {
            continue;
        };
        let Ok(index) = index.parse::<usize>() else {
            continue;
        };
        if index >= MAX_ENTRIES {
            return Err(EditError::new(format!(
                "`images` has more than {MAX_ENTRIES} entries"
            )));
        }
        if entries
            .last()
            .is_none_or(|entry: &Entry| entry.index != index)
        {
            entries.push(Entry {
                index,
                name: String::new(),
                new_name: None,
                new_tag: None,
                digest: None,
            });
        }
        let Some(entry) = entries.last_mut() else {
            continue;
        };
        match key {
            "name" => entry.name = leaf.value,
            "newName" => entry.new_name = Some(leaf.value),
            "newTag" => entry.new_tag = Some(leaf.value),
            "digest" => entry.digest = Some(leaf.value),
            _ => {}
        }
    }
    Ok(entries)
}

/// The entry that is meant: by its name if that is said; else by what it makes of the image, by the
/// image's name, or by what the pipeline calls the image.
fn find<'a>(
    entries: &'a [Entry],
    image: &Image,
    name: Option<&str>,
    alias: &str,
) -> Result<Option<&'a Entry>, EditError> {
    let only = |wanted: &dyn Fn(&Entry) -> bool| -> Result<Option<&'a Entry>, EditError> {
        let mut found = entries.iter().filter(|entry| wanted(entry));
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => Err(EditError::new(format!(
                "`images` has several entries for {}, the {}. and the {}.; say which with `name=`",
                name.unwrap_or(&image.name),
                first.index + 1,
                second.index + 1
            ))),
            (first, _) => Ok(first),
        }
    };
    if let Some(name) = name {
        return only(&|entry| entry.name == name);
    }
    let made = |entry: &Entry| {
        let name = entry.new_name.as_ref().unwrap_or(&entry.name);
        same_repository(name, &image.name)
    };
    if let Some(entry) = only(&made)? {
        return Ok(Some(entry));
    }
    if let Some(entry) = only(&|entry| same_repository(&entry.name, &image.name))? {
        return Ok(Some(entry));
    }
    only(&|entry| entry.name == alias)
}

fn update(
    text: &str,
    entry: &Entry,
    image: &Image,
    create: bool,
) -> Result<(String, Vec<Change>), EditError> {
    let mut wanted: Vec<(&str, String)> = Vec::new();
    let made = entry.new_name.as_ref().unwrap_or(&entry.name);
    if !same_repository(made, &image.name) {
        wanted.push(("newName", image.name.clone()));
    }
    match (&image.digest, &entry.digest) {
        (None, Some(_)) => {
            return Err(pinned(&format!("the entry {} of `images`", entry.name)));
        }
        (None, None) => wanted.push(("newTag", image.tag.clone())),
        (Some(digest), _) => {
            if entry.new_tag.is_some() {
                wanted.push(("newTag", image.tag.clone()));
            }
            wanted.push(("digest", digest.clone()));
        }
    }
    let mut text = text.to_owned();
    let mut changes = Vec::new();
    for (key, value) in wanted {
        let path = format!(".images[{}].{key}", entry.index);
        let at = parse_path(&path)?;
        let edited = yaml::write(&text, &at, yaml::Wanted::Text(&value), create);
        let edited = edited.map_err(|error| match error.problem {
            Problem::NotFound if !create => EditError::new(format!(
                "the entry {} of `images` has no {key}; add it with `create`",
                entry.name
            )),
            _ => error.into(),
        })?;
        let place = format!(".images[name={}].{key}", entry.name);
        let (after, change) = changed(edited, &place, &value);
        text = after;
        changes.extend(change);
    }
    Ok((text, changes))
}

fn add(text: &str, image: &Image, name: Option<&str>) -> Result<(String, Vec<Change>), EditError> {
    let mut fields = vec![("name", name.unwrap_or(&image.name))];
    if name.is_some_and(|name| !same_repository(name, &image.name)) {
        fields.push(("newName", &image.name));
    }
    match &image.digest {
        Some(digest) => fields.push(("digest", digest)),
        None => fields.push(("newTag", &image.tag)),
    }
    let edited = yaml::append(text, &parse_path(".images")?, &fields)?;
    let (key, value) = fields[fields.len() - 1];
    let place = format!(".images[name={}].{key}", fields[0].1);
    Ok(changed(edited, &place, value))
}
