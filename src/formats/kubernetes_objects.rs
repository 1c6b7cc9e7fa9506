//! Kubernetes manifests: YAML or JSON of one or more objects, read as Kubernetes' own tools read them
//! (YAML 1.1: `on` is true, `0644` is octal). Reads only; keys that nobody here knows survive.

use serde_json::Value;

/// Most objects of one text.
const OBJECTS: usize = 5000;

/// The objects of a text; lists are taken apart, empty documents left out.
pub fn objects(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| format!("it is no YAML: {error}"))?;
    let mut objects = Vec::new();
    for document in documents {
        take(document, &mut objects)?;
    }
    Ok(objects)
}

fn take(document: Value, objects: &mut Vec<Value>) -> Result<(), String> {
    if document.is_null() {
        return Ok(());
    }
    let nth = objects.len() + 1;
    let text = |at: &str| {
        let value = document.pointer(at).and_then(Value::as_str);
        value.filter(|text| !text.is_empty())
    };
    let Some(kind) = text("/kind").map(str::to_owned) else {
        return Err(format!("object {nth} has no `kind`: it is no manifest"));
    };
    if text("/apiVersion").is_none() {
        return Err(format!("object {nth} ({kind}) has no `apiVersion`"));
    }
    if kind.ends_with("List")
        && let Some(Value::Array(items)) = document.get("items")
    {
        for item in items.clone() {
            take(item, objects)?;
        }
        return Ok(());
    }
    match text("/metadata/name") {
        None if text("/metadata/generateName").is_some() => {
            return Err(format!(
                "object {nth} ({kind}) has a generated name: applying it twice would make two"
            ));
        }
        None => return Err(format!("object {nth} ({kind}) has no name")),
        Some(name) if name.contains(['/', '%', '?', '#']) || name.len() > 253 => {
            return Err(format!("object {nth} ({kind}) has no proper name"));
        }
        Some(_) => {}
    }
    if objects.len() >= OBJECTS {
        return Err(format!("it holds more than {OBJECTS} objects"));
    }
    objects.push(document);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_as_kubectl_reads_them() {
        let text = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndefaultMode: 0644\nother: 10\nflag: yes\nquoted: \"0644\"\n---\n# nothing\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: X, metadata: {name: b}}\n- {apiVersion: v1, kind: Z, metadata: {name: c}}\n";
        let all = objects(text).expect("objects");
        let kinds: Vec<&str> = all.iter().filter_map(|it| it["kind"].as_str()).collect();
        assert_eq!(kinds, ["Secret", "X", "Z"]);
        assert_eq!(all[0]["defaultMode"], 420);
        assert_eq!(all[0]["flag"], true);
        assert_eq!(all[0]["quoted"], "0644");
        assert_eq!(all[0]["other"], 10);
        let json = r#"{"apiVersion": "v1", "kind": "X", "metadata": {"name": "b"}}"#;
        assert_eq!(objects(json).expect("objects").len(), 1);
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for (text, why) in [
            ("a: [", "no YAML"),
            ("a: b", "no `kind`"),
            ("kind: X", "no `apiVersion`"),
            ("kind: X\napiVersion: v1", "has no name"),
            (
                "kind: X\napiVersion: v1\nmetadata: {generateName: a-}",
                "generated name",
            ),
            (
                "kind: X\napiVersion: v1\nmetadata: {name: ../../x}",
                "proper name",
            ),
            ("kind: X\nkind: Y\napiVersion: v1", "no YAML"),
        ] {
            let error = objects(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        let bomb = (0..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
            format!("{text}a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1)
        });
        assert!(objects(&bomb).is_err(), "a bomb of aliases");
    }
}
