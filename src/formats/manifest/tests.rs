//! Tables for editing manifests.

mod dockerfiles;
mod properties;

use super::*;

fn image(name: &str, digest: bool) -> Image {
    Image {
        name: name.to_owned(),
        tag: "v2".to_owned(),
        digest: digest.then(|| "sha256:ab".to_owned()),
    }
}

/// Text after an edit, or the message of its refusal; what changed once is up-to-date afterwards.
fn check(edit: &Edit, format: Format, before: &str, after: &str) {
    let (text, changes) = edit
        .apply(format, before)
        .unwrap_or_else(|error| panic!("{before:?}: {error}"));
    assert_eq!(text, after);
    assert_eq!(changes.is_empty(), before == after, "{changes:?}");
    let (again, changes) = edit.apply(format, &text).expect("twice is like once");
    assert_eq!((again.as_str(), changes), (after, Vec::new()));
}

fn refused(edit: &Edit, format: Format, before: &str, message: &str) {
    match edit.apply(format, before) {
        Ok((after, _)) => panic!("{before:?} became {after:?}"),
        Err(error) => assert!(error.message.contains(message), "{before:?}: {error}"),
    }
}

#[test]
fn images_are_found_by_their_repository() {
    let edit = |digest, place| Edit::Image {
        image: image("r.io/app", digest),
        place,
    };
    let yaml = Format::Yaml;
    let tag = edit(false, Place::Everywhere);
    check(
        &tag,
        yaml,
        "spec:\n  initContainers:\n  - {name: m, image: 'r.io/app:v1', args: [x]}\n  containers:\n  - image: r.io/app:v1 # 注\n    name: a\n  - image: r.io/app-web:v1\n---\nkind: Job\nimage: \"r.io/app\"\n",
        "spec:\n  initContainers:\n  - {name: m, image: 'r.io/app:v2', args: [x]}\n  containers:\n  - image: r.io/app:v2 # 注\n    name: a\n  - image: r.io/app-web:v1\n---\nkind: Job\nimage: \"r.io/app:v2\"\n",
    );
    refused(&tag, yaml, "image: r.io/web:1\n", "there are r.io/web:1");
    refused(&tag, yaml, "a: b\n", "no key `image` at all");
    refused(&tag, yaml, "image: r.io/app:1@sha256:00\n", "pinned");
    refused(&tag, yaml, "image: &i r.io/app:1\nb: *i\n", "repeated");
    let pinned = edit(true, Place::Everywhere);
    check(
        &pinned,
        yaml,
        "- image: r.io/app:1@sha256:00\n- image: r.io/app@sha256:00\n- image: r.io/app:1\n",
        "- image: r.io/app:v2@sha256:ab\n- image: r.io/app@sha256:ab\n- image: r.io/app:v2@sha256:ab\n",
    );
    let container = edit(false, Place::Container("front".to_owned()));
    check(
        &container,
        yaml,
        "- name: front\n  image: old.io/x:1\n- name: side\n  image: r.io/app:1\n",
        "- name: front\n  image: r.io/app:v2\n- name: side\n  image: r.io/app:1\n",
    );
    refused(&container, yaml, "- name: a\n  image: b\n", "there are a");
    let hub = Edit::Image {
        image: image("docker.io/library/nginx", false),
        place: Place::Everywhere,
    };
    check(&hub, yaml, "image: nginx:1\n", "image: nginx:v2\n");
}

#[test]
fn charts_name_images_in_pieces() {
    let edit = |digest| Edit::Image {
        image: image("r.io/a/app", digest),
        place: Place::At(".front.image".to_owned()),
    };
    let cases = [
        ("r.io/a/app:v1", "r.io/a/app:v2", false),
        ("\"\"", "\"r.io/a/app:v2\"", false),
        ("{spec: 'r.io/a/app:v1'}", "{spec: 'r.io/a/app:v2'}", false),
        (
            "{repository: r.io/a/app, tag: 1.0}",
            "{repository: r.io/a/app, tag: v2}",
            false,
        ),
        (
            "{name: old.io/app, tag: 1.0}",
            "{name: r.io/a/app, tag: v2}",
            false,
        ),
        (
            "{registry: r.io, repository: a/app, tag: x}",
            "{registry: r.io, repository: a/app, tag: v2}",
            false,
        ),
        (
            "{registry: o.io, repository: a/b, tag: x}",
            "{registry: r.io, repository: a/app, tag: v2}",
            false,
        ),
        ("{tag: x, digest: \"\"}", "{tag: v2, digest: \"\"}", false),
        (
            "{tag: x, digest: 'sha256:00'}",
            "{tag: v2, digest: 'sha256:ab'}",
            true,
        ),
        ("{tag: x}", "{tag: v2@sha256:ab}", true),
    ];
    for (before, after, digest) in cases {
        let text = |image: &str| format!("front:\n  image: {image}\nback: {{image: {{tag: y}}}}\n");
        check(&edit(digest), Format::Yaml, &text(before), &text(after));
    }
    let refusals = [
        ("{pull: Always}", "neither"),
        ("{tag: x, digest: 'sha256:00'}", "pinned"),
        ("{{ .Values.x }}", "neither"),
        ("[a]", "neither"),
    ];
    for (before, message) in refusals {
        let text = format!("front:\n  image: {before}\n");
        refused(&edit(false), Format::Yaml, &text, message);
    }
}

#[test]
fn entries_of_a_kustomization_are_changed_in_place() {
    let edit = |name: Option<&str>, digest, create| Edit::Kustomize {
        image: image("r.io/app", digest),
        name: name.map(str::to_owned),
        alias: "app".to_owned(),
        create,
    };
    let head = "# 二つ\nresources: [../../base]\n";
    let cases = [
        // by its name, its new name, and what the pipeline calls it
        (
            "images:\n- name: r.io/web\n  newTag: v1\n- name: r.io/app # x\n  newTag: 'v1'\n",
            "images:\n- name: r.io/web\n  newTag: v1\n- name: r.io/app # x\n  newTag: 'v2'\n",
            None,
            false,
            false,
        ),
        (
            "images:\n  - newTag: v1\n    newName: r.io/app\n    name: other\n",
            "images:\n  - newTag: v2\n    newName: r.io/app\n    name: other\n",
            None,
            false,
            false,
        ),
        (
            "images:\n- name: app\n  newName: o.io/app\n  newTag: v1\n",
            "images:\n- name: app\n  newName: r.io/app\n  newTag: v2\n",
            None,
            false,
            false,
        ),
        (
            "images:\n- name: app\n  newTag: v1\n",
            "images:\n- name: app\n  newTag: v2\n  newName: r.io/app\n",
            None,
            false,
            true,
        ),
        (
            "images:\n- name: x\n  newName: r.io/app\n  newTag: v1\n- name: y\n  newName: r.io/app\n  newTag: v1\n",
            "images:\n- name: x\n  newName: r.io/app\n  newTag: v1\n- name: y\n  newName: r.io/app\n  newTag: v2\n",
            Some("y"),
            false,
            false,
        ),
        // digests
        (
            "images:\n- name: r.io/app\n  digest: sha256:00\n",
            "images:\n- name: r.io/app\n  digest: sha256:ab\n",
            None,
            true,
            false,
        ),
        (
            "images:\n- name: r.io/app\n  newTag: v1\n",
            "images:\n- name: r.io/app\n  newTag: v2\n  digest: sha256:ab\n",
            None,
            true,
            true,
        ),
        // what is missing
        (
            "images:\n- name: r.io/app\n",
            "images:\n- name: r.io/app\n  newTag: v2\n",
            None,
            false,
            true,
        ),
        (
            "images:\n  - name: z\n    newTag: v1\n\n# end\n",
            "images:\n  - name: z\n    newTag: v1\n  - name: r.io/app\n    newTag: v2\n\n# end\n",
            None,
            false,
            true,
        ),
        (
            "images:\n  - name: z\n    newTag: v1",
            "images:\n  - name: z\n    newTag: v1\n  - name: front\n    newName: r.io/app\n    newTag: v2",
            Some("front"),
            false,
            true,
        ),
        (
            "",
            "images:\n- name: r.io/app\n  newTag: v2\n",
            None,
            false,
            true,
        ),
        (
            "",
            "images:\n- name: r.io/app\n  digest: sha256:ab\n",
            None,
            true,
            true,
        ),
    ];
    for (before, after, name, digest, create) in cases {
        let [before, after] = [before, after].map(|text| format!("{head}{text}"));
        check(&edit(name, digest, create), Format::Yaml, &before, &after);
        let [before, after] = [before, after].map(|text| text.replace('\n', "\r\n"));
        check(&edit(name, digest, create), Format::Yaml, &before, &after);
    }
    let refusals = [
        (
            "images:\n- name: r.io/web\n",
            "no entry for r.io/app; its names are r.io/web",
            false,
        ),
        ("", "it has no entries", false),
        ("images:\n- name: r.io/app\n", "has no newTag", false),
        (
            "images:\n- name: r.io/app\n  digest: sha256:00\n",
            "pinned",
            true,
        ),
        (
            "images:\n- name: r.io/app\n- name: r.io/app\n",
            "1. and the 2.",
            true,
        ),
        ("images: []\n", "no items", true),
        ("images: [{name: z}]\n", "not a block sequence", true),
        ("images:\n", "not a sequence", true),
        (
            "images:\n- name: r.io/app\n  newTag: a\n  newTag: b\n",
            "twice",
            true,
        ),
    ];
    for (before, message, create) in refusals {
        let text = format!("{head}{before}");
        refused(&edit(None, false, create), Format::Yaml, &text, message);
    }
}

#[test]
fn patterns_match_exactly_once() {
    let edit = |pattern: &str, value: &str| Edit::Match {
        pattern: pattern.to_owned(),
        value: value.to_owned(),
    };
    let text = Format::Text;
    check(
        &edit(r"^TAG=(\S+)$", "v2"),
        text,
        "A=1\nTAG=v1\nTAGS=v1\n",
        "A=1\nTAG=v2\nTAGS=v1\n",
    );
    check(&edit(r"\bv\d\b", "v2"), text, "x v1 y\r\n", "x v2 y\r\n");
    refused(
        &edit("v1", "v2"),
        text,
        "v1\nv1\n",
        "line 1 and again on line 2",
    );
    refused(&edit("v3", "v2"), text, "v1\n", "matches nothing");
    refused(&edit("(v)(1)", "v2"), text, "v1\n", "2 groups");
    refused(&edit("v1|(x)", "v2"), text, "v1\n", "captures nothing");
    refused(&edit("(", "v2"), text, "v1\n", "broken");
    refused(&edit("v1", "v2\nB=2"), text, "v1\n", "line break");
    let yaml = Format::Yaml;
    check(
        &edit(r"app:(\S+)", "v2"),
        yaml,
        "a: r.io/app:v1\nb: [v1]\n",
        "a: r.io/app:v2\nb: [v1]\n",
    );
    refused(
        &edit(r"a: (\S+)", "1e6"),
        yaml,
        "a: v1\n",
        "more than this value",
    );
    refused(
        &edit(r"a: (\S+)", "{x"),
        yaml,
        "a: v1\n",
        "more than this value",
    );
    refused(
        &edit(r"(v1)", "v2: x"),
        yaml,
        "a: v1\n",
        "more than this value",
    );
}

#[test]
fn markers_point_at_the_value_before_them() {
    let edit = |value: &str| Edit::Marker {
        name: "app".to_owned(),
        value: value.to_owned(),
    };
    let text = Format::Text;
    check(
        &edit("v2"),
        text,
        "A=v1\nTAG=v1 # pipewright: app\n",
        "A=v1\nTAG=v2 # pipewright: app\n",
    );
    check(
        &edit("v2"),
        text,
        "let v = \"v1\"; // pipewright: app\r\n",
        "let v = \"v2\"; // pipewright: app\r\n",
    );
    refused(&edit("v2"), text, "TAG=v1\n", "no comment");
    refused(&edit("v2"), text, "# pipewright: app\n", "no value before");
    refused(
        &edit("v2"),
        text,
        "a=1 # pipewright: app\nb=1 # pipewright: app\n",
        "line 1 and again on line 2",
    );
    refused(&edit("a\"b"), text, "a=\"1\" # pipewright: app\n", "quote");
    let yaml = Format::Yaml;
    check(
        &edit("1e6"),
        yaml,
        "a: v1   # pipewright: app\n",
        "a: \"1e6\"   # pipewright: app\n",
    );
    check(
        &edit("x: y"),
        yaml,
        "- 'v1' # pipewright: app\n",
        "- 'x: y' # pipewright: app\n",
    );
    refused(
        &edit("v2"),
        yaml,
        "{a: b, c: d} # pipewright: app\n",
        "2 values",
    );
}

#[test]
fn names_tell_the_format() {
    let cases = [
        ("a/values.yaml", Format::Yaml),
        ("x.YML", Format::Yaml),
        ("base/Kustomization", Format::Yaml),
        ("a.json", Format::Json),
        ("Cargo.toml", Format::Toml),
        ("build/app/Dockerfile.prod", Format::Dockerfile),
        ("app.dockerfile", Format::Dockerfile),
        ("Containerfile", Format::Dockerfile),
        ("main.tf", Format::Hcl),
        ("prod.auto.tfvars", Format::Hcl),
        (".env", Format::Text),
        ("yaml", Format::Text),
    ];
    for (path, format) in cases {
        assert_eq!(Format::of(path), format, "{path}");
        assert_eq!(Format::named(format.as_str()), Some(format));
    }
}

fn set(path: &str, value: &str, literal: bool, create: bool) -> Edit {
    Edit::Set {
        path: path.to_owned(),
        value: value.to_owned(),
        literal,
        create,
    }
}

#[test]
fn json_is_spliced() {
    let json = Format::Json;
    let text =
        "{\r\n\t\"a\": {\"b\" : \"v1\"},\r\n\t\"l\": [ {\"n\": \"x\", \"v\": 1.50} , 2 ]\r\n}";
    check(
        &set(".a.b", "v\"2\\", false, false),
        json,
        text,
        &text.replace("\"v1\"", "\"v\\\"2\\\\\""),
    );
    check(
        &set(".l[n=x].v", "2", true, false),
        json,
        text,
        &text.replace("1.50", "2"),
    );
    check(
        &set(".l[1]", "2", false, false),
        json,
        text,
        &text.replace(", 2 ]", ", \"2\" ]"),
    );
    check(
        &set(".a.c", "v", false, true),
        json,
        text,
        &text.replace("\"v1\"}", "\"v1\",\"c\" : \"v\"}"),
    );
    check(
        &set(".z", "true", true, true),
        json,
        text,
        &text.replace(" ]\r\n}", " ],\r\n\t\"z\": true\r\n}"),
    );
    check(
        &set(".a", "値\n", false, false),
        json,
        "\u{feff}{\"a\":\"\\ud83d\\ude00\"}\n",
        "\u{feff}{\"a\":\"値\\n\"}\n",
    );
    refused(
        &set(".a", "x", false, false),
        json,
        text,
        "not a single value",
    );
    refused(&set(".q", "x", false, false), json, text, "no key");
    refused(
        &set(".a", "x", false, false),
        json,
        "{\"a\": 1, \"a\": 2}",
        "twice",
    );
    refused(
        &set(".a", "x", false, false),
        json,
        "{\"a\": 1, // c\n}",
        "not JSON",
    );
    refused(
        &set(".a.b", "x", false, true),
        json,
        "{\"a\": {}}",
        "no entry beside it",
    );
    refused(
        &set("kind=A:.a", "x", false, false),
        json,
        "{\"a\": 1}",
        "only one",
    );
    refused(
        &set(".a", &"x".repeat(10), true, false),
        json,
        "{\"a\": 1}",
        "no number",
    );
    let deep = "[".repeat(5_000);
    refused(&set("[0]", "x", false, false), json, &deep, "not JSON");
    let pattern = Edit::Match {
        pattern: "v1".to_owned(),
        value: "v\"2".to_owned(),
    };
    refused(&pattern, json, text, "more than this value");
}

#[test]
fn toml_is_spliced() {
    let toml = Format::Toml;
    let text = "# 注\ntitle = 'v1' # c\n[a.b]\n  n = 1\n  list = [ \"x\", {y = \"z\"} ]\n\n[[t]]\nname = \"one\"\nv = 2024-01-31\n[[t]]\nname = \"two\"\nv = \"\"\"m\nl\"\"\"\n";
    check(
        &set(".title", "v2", false, false),
        toml,
        text,
        &text.replace("'v1'", "'v2'"),
    );
    check(
        &set(".title", "it's", false, false),
        toml,
        text,
        &text.replace("'v1'", "\"it's\""),
    );
    check(
        &set(".a.b.n", "2", true, false),
        toml,
        text,
        &text.replace("n = 1", "n = 2"),
    );
    check(
        &set(".a.b.list[1].y", "q\"", false, false),
        toml,
        text,
        &text.replace("\"z\"", "\"q\\\"\""),
    );
    check(
        &set(".t[name=one].v", "x", false, false),
        toml,
        text,
        &text.replace("2024-01-31", "\"x\""),
    );
    check(
        &set(".a.b.new", "x", false, true),
        toml,
        text,
        &text.replace("} ]\n", "} ]\n  new = \"x\"\n"),
    );
    check(
        &set(".x.\"k v\"", "y", false, true),
        toml,
        "[x]\r\na = 1 # c\r\n[y]\r\n",
        "[x]\r\na = 1 # c\r\n\"k v\" = \"y\"\r\n[y]\r\n",
    );
    refused(
        &set(".t[name=two].v", "x", false, false),
        toml,
        text,
        "several lines",
    );
    refused(
        &set(".a", "x", false, false),
        toml,
        text,
        "not a single value",
    );
    refused(
        &set(".a", "x", false, false),
        toml,
        "a = 1\na = 2\n",
        "not TOML",
    );
    refused(
        &set(".a", "null", true, false),
        toml,
        "a = 1\n",
        "no number",
    );
    refused(
        &set(".a.c", "x", false, true),
        toml,
        "a = {b = 1}\n",
        "one line",
    );
}
