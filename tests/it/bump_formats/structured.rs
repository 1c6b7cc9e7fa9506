//! Every value of some JSON and TOML texts is edited, and judged by readers that the edit did not
//! ask for places.

use pipewright::formats::manifest::{Edit, Format};
use serde_json::Value;

const JSON: &[&str] = &[
    "{\n  \"name\": \"shop\",\n  \"version\": \"1.2.3\",\n  \"private\": true,\n  \"scripts\": {\"build\": \"tsc -p .\", \"a.b\": \"x \\\"y\\\"\"},\n  \"files\": [\"dist\", \"値\"],\n  \"n\": [1, -2.5e3, null, {\"deep\": [[\"z\"]]}]\n}\n",
    "[{\"image\":\"r.io/app:v1\",\"tags\":[]},{\"image\":\"r.io/web:v1\",\"env\":{}}]",
    "{\t\"a\" :\t{ \"b\"\t: \"\\u5024\\ud83d\\ude00\" } , \"c\" : \"\" }\n",
];

const TOML: &[&str] = &[
    "# 注\n[package]\nname = \"shop\"   # the name\nversion = '1.2.3'\nedition = 2024\n\n[dependencies]\nserde = { version = \"1\", features = [\"derive\", \"rc\"] }\n\"quoted.key\" = \"x\"\na.b.c = true\n\n[[bin]]\nname = \"one\"\n[[bin]]\nname = \"two\"\nwhen = 2024-01-31T10:00:00Z\nlist = [\n  1,\n  2.5, # two\n]\n",
    "title = \"\"\n[a]\n[a.b]\nx = 'raw \\ text'\ny = -1_000\n",
];

const VALUES: &[&str] = &["v2", "1e6", "it's \"q\" \\ 値", "", "true", "{[#,"];

/// What stands where, with the path of each single value.
fn leaves(value: &Value, path: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                leaves(
                    value,
                    &format!("{path}[{}]", Value::from(key.as_str())),
                    all,
                );
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, &format!("{path}[{index}]"), all);
            }
        }
        _ => all.push(path.to_owned()),
    }
}

fn json(text: &str) -> Value {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(body).expect("it is JSON")
}

/// TOML as JSON, so that one comparison serves both.
fn toml(text: &str) -> Value {
    fn table(table: &dyn toml_edit::TableLike) -> Value {
        let entries = table.iter().map(|(key, item)| (key.to_owned(), of(item)));
        Value::Object(entries.collect())
    }
    fn value(it: &toml_edit::Value) -> Value {
        match it {
            toml_edit::Value::String(text) => Value::from(text.value().as_str()),
            toml_edit::Value::Array(items) => Value::Array(items.iter().map(value).collect()),
            toml_edit::Value::InlineTable(inner) => table(inner),
            toml_edit::Value::Integer(it) => serde_json::json!({"integer": it.value()}),
            toml_edit::Value::Float(it) => serde_json::json!({"float": it.value()}),
            toml_edit::Value::Boolean(it) => Value::from(*it.value()),
            toml_edit::Value::Datetime(it) => Value::from(it.value().to_string()),
        }
    }
    fn of(item: &toml_edit::Item) -> Value {
        match item {
            toml_edit::Item::Value(inner) => value(inner),
            toml_edit::Item::Table(inner) => table(inner),
            toml_edit::Item::ArrayOfTables(tables) => {
                Value::Array(tables.iter().map(|inner| table(inner)).collect())
            }
            toml_edit::Item::None => Value::Null,
        }
    }
    let document: toml_edit::DocumentMut = text.parse().expect("it is TOML");
    table(document.as_table())
}

/// How many values of the other differ.
fn differing(a: &Value, b: &Value) -> usize {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => a
            .values()
            .zip(b.values())
            .map(|(a, b)| differing(a, b))
            .sum(),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).map(|(a, b)| differing(a, b)).sum()
        }
        _ => usize::from(a != b),
    }
}

fn judge(format: Format, read: fn(&str) -> Value, text: &str) -> usize {
    let before = read(text);
    let mut paths = Vec::new();
    leaves(&before, "", &mut paths);
    for (index, path) in paths.iter().enumerate() {
        // What stands for a number is one level deeper than the number.
        let path = path
            .trim_end_matches("[\"integer\"]")
            .trim_end_matches("[\"float\"]");
        let value = VALUES[index % VALUES.len()];
        let edit = Edit::Set {
            path: path.to_owned(),
            value: value.to_owned(),
            literal: false,
            create: false,
        };
        let (after, changes) = edit
            .apply(format, text)
            .unwrap_or_else(|error| panic!("{path} of {text}: {error}"));
        assert!(changes.len() <= 1, "{path}");
        assert_eq!(
            differing(&before, &read(&after)),
            changes.len(),
            "{path} of {after}"
        );
        // Each text is the other but for one stretch, which is within a line.
        let same = |(a, b): &(char, char)| a == b;
        let head: usize = text
            .chars()
            .zip(after.chars())
            .take_while(same)
            .map(|(c, _)| c.len_utf8())
            .sum();
        let ends = text[head..].chars().rev().zip(after[head..].chars().rev());
        let tail: usize = ends.take_while(same).map(|(c, _)| c.len_utf8()).sum();
        assert!(
            !text[head..text.len() - tail].contains('\n'),
            "{path} of {after}"
        );
        assert!(
            !after[head..after.len() - tail].contains('\n'),
            "{path} of {after}"
        );
    }
    paths.len()
}

#[test]
fn every_value_of_json_and_toml_is_edited_alone() {
    let mut edits = 0;
    for text in JSON {
        let tabs = text.replace("  ", "\t");
        let compact = json(text).to_string();
        for text in [
            (*text).to_owned(),
            text.replace('\n', "\r\n"),
            tabs,
            compact,
            format!("\u{feff}{text}"),
        ] {
            edits += judge(Format::Json, json, &text);
        }
    }
    for text in TOML {
        for text in [
            (*text).to_owned(),
            text.replace('\n', "\r\n"),
            text.trim_end().to_owned(),
        ] {
            edits += judge(Format::Toml, toml, &text);
        }
    }
    assert!(edits >= 120, "{edits}");
}
