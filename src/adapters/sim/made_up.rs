//! Files that a lenient world makes up, for an edit to find what it is to change.

use serde_json::{Map, Value, json};

use crate::formats::yaml::{Path, PathStep};

/// Names of a kustomization, of which a directory has one.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Most items of a list that are made up.
const ITEMS: usize = 64;

/// Whether the file is one by another name that is asked for too.
pub(super) fn is_other_name(path: &str, asked: &[String]) -> bool {
    let (directory, name) = divided(path);
    if !KUSTOMIZATIONS[1..].contains(&name) {
        return false;
    }
    let first = asked.iter().map(|other| divided(other));
    first
        .into_iter()
        .any(|(other, name)| other == directory && name == KUSTOMIZATIONS[0])
}

fn divided(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// What stands in a file that nobody declared: what `keys` lead to in it, and enough for any other
/// edit to find a document to work on.
pub(super) fn placeholder(path: &str, keys: &[(String, String)]) -> String {
    let (_, name) = divided(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut document = json!({"simulated": true});
    for (file, key) in keys {
        if file.trim_start_matches("./") == path
            && let Ok(key) = Path::parse(key)
        {
            put(&mut document, key.steps());
        }
    }
    match (name, extension) {
        (name, _) if KUSTOMIZATIONS.contains(&name) => {
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n".to_owned()
        }
        (_, "yaml" | "yml") => {
            let mut text = "# stands in for the real file\n".to_owned();
            block(&document, 0, &mut text);
            text
        }
        (_, "json") => format!("{document:#}\n"),
        (_, "toml") => "# stands in for the real file\nsimulated = true\n".to_owned(),
        _ => "# stands in for the real file\n".to_owned(),
    }
}

/// Puts a text where the steps lead, and makes the way there.
fn put(value: &mut Value, steps: &[PathStep]) {
    let Some((step, rest)) = steps.split_first() else {
        if !value.is_object() && !value.is_array() {
            *value = json!("simulated");
        }
        return;
    };
    let next = match step {
        PathStep::Key(key) => {
            if !value.is_object() {
                *value = json!({});
            }
            &mut value[key]
        }
        PathStep::Index(at) => {
            let Some(items) = list(value) else { return };
            while items.len() <= (*at).min(ITEMS) {
                items.push(json!({"simulated": true}));
            }
            match items.get_mut(*at) {
                Some(item) => item,
                None => return,
            }
        }
        PathStep::Where(key, wanted) => {
            let Some(items) = list(value) else { return };
            let found = items.iter().position(|item| item[key] == json!(wanted));
            let at = found.unwrap_or_else(|| {
                items.push(json!({key: wanted}));
                items.len() - 1
            });
            &mut items[at]
        }
    };
    put(next, rest);
}

fn list(value: &mut Value) -> Option<&mut Vec<Value>> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut()
}

/// Writes a value as YAML, one key or item a line.
fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = " ".repeat(depth);
    match value {
        Value::Object(map) => entries(map, &indent, depth, text),
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                block(item, depth + 2, &mut inner);
                let inner = inner.trim_start();
                text.push_str(&format!("{indent}- {inner}"));
            }
        }
        scalar => text.push_str(&format!("{indent}{}\n", word(scalar))),
    }
}

fn entries(map: &Map<String, Value>, indent: &str, depth: usize, text: &mut String) {
    for (key, value) in map {
        let key = word(&json!(key));
        match value {
            Value::Object(_) | Value::Array(_) => {
                text.push_str(&format!("{indent}{key}:\n"));
                block(value, depth + 2, text);
            }
            scalar => text.push_str(&format!("{indent}{key}: {}\n", word(scalar))),
        }
    }
}

/// A scalar, in quotes where it could be read as another.
fn word(scalar: &Value) -> String {
    match scalar.as_str() {
        Some(text)
            if text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && text.len() > 3 =>
        {
            text.to_owned()
        }
        _ => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::yaml;

    #[test]
    fn keys_that_are_asked_for_are_there() {
        let keys = [
            (
                "a/deployment.yaml",
                ".spec.template.spec.containers[0].image",
            ),
            (
                "a/deployment.yaml",
                ".spec.template.spec.containers[name=web].image",
            ),
            ("a/deployment.yaml", ".on"),
            ("b.yaml", ".other"),
        ];
        let keys = keys.map(|(file, key)| (file.to_owned(), key.to_owned()));
        let text = placeholder("a/deployment.yaml", &keys);
        for (file, key) in &keys[..3] {
            let path = Path::parse(key).unwrap();
            let found = yaml::get(&text, &path);
            assert_eq!(found.unwrap().value, "simulated", "{file} {key} in\n{text}");
        }
        assert!(!text.contains("other"), "{text}");
    }

    #[test]
    fn a_directory_has_one_kustomization() {
        let asked = KUSTOMIZATIONS.map(|name| format!("main/{name}"));
        let made: Vec<_> = asked
            .iter()
            .filter(|path| !is_other_name(path, &asked))
            .collect();
        assert_eq!(made, [&asked[0]]);
        let only = ["main/Kustomization".to_owned()];
        assert!(!is_other_name(&only[0], &only));
    }
}
