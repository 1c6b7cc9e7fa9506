//! `pipewright bump` as one uses it from a shell.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::program::{Ended, Program};

const VALUES: &str = "# 前面\r\nfront:\r\n  imageTag: v1   # here\r\n  replicas: 3\r\n";
const MANIFEST: &str = "\
kind: Deployment
metadata: {name: front}
spec:
  replicas: 1
  containers:
  - name: app
    image: 'r.io/app:v1'
---
kind: Deployment
metadata: {name: back}
spec:
  replicas: 1
";
const KUSTOMIZATION: &str = "images:\n- name: r.io/web\n  newTag: v1\n";

fn files() -> Program {
    Program::with_files(&[
        ("values.yaml", VALUES),
        ("k8s/all.yaml", MANIFEST),
        ("prod/kustomization.yaml", KUSTOMIZATION),
        (".env", "TAG=v1\nOTHER=v1\n"),
    ])
}

fn read(program: &Program, path: &str) -> String {
    std::fs::read_to_string(program.repo.path().join(path)).expect("it is there")
}

#[test]
fn values_are_set_and_all_else_stays() {
    let program = files();
    let path = program.repo.path().join("values.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    let set = [
        "bump",
        "values.yaml",
        "--set",
        ".front.imageTag=1234567",
        "--literal",
        ".front.replicas=5",
        "--set",
        ".front.new=a b",
        "--create",
    ];
    let ended = program.expect(&set, 0);
    assert_eq!(
        ended.out,
        "values.yaml:3 .front.imageTag: v1 → 1234567\n\
         values.yaml:5 .front.new: \"\" → a b\n\
         values.yaml:4 .front.replicas: 3 → 5\n"
    );
    assert_eq!(
        read(&program, "values.yaml"),
        "# 前面\r\nfront:\r\n  imageTag: \"1234567\"   # here\r\n  replicas: 5\r\n  new: a b\r\n"
    );
    let mode = std::fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(program.expect(&set, 0).out, "");
}

#[test]
fn a_refusal_leaves_every_file_as_it_was() {
    let program = files();
    let before = ["values.yaml", "k8s/all.yaml"].map(|path| read(&program, path));
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &[
                "bump",
                "values.yaml",
                "k8s/all.yaml",
                "--set",
                ".front.imageTag=v2",
            ],
            1,
            "has no key \"front\"",
        ),
        (
            &["bump", "k8s/all.yaml", "--set", ".spec.replicas=2"],
            1,
            "in several documents",
        ),
        (
            &["bump", "values.yaml", "--image", "r.io/x:1"],
            1,
            "no key `image`",
        ),
        (&["bump", "none.yaml", "--set", ".a=b"], 2, "none.yaml"),
        (&["bump", "values.yaml"], 2, "--set"),
        (&["bump", "values.yaml", "--set", "..a=b"], 2, "not a path"),
        (
            &["bump", "values.yaml", "--literal", ".front.replicas=many"],
            1,
            "no number",
        ),
        (
            &["bump", "-", "values.yaml", "--set", ".a=b"],
            2,
            "standard input",
        ),
        (
            &["bump", "values.yaml", "--match", "(a)(b)", "c"],
            1,
            "2 groups",
        ),
    ];
    for (args, code, message) in cases {
        let Ended { err, .. } = program.expect(args, *code);
        assert!(err.contains(message), "{args:?}: {err}");
    }
    assert_eq!(
        before,
        ["values.yaml", "k8s/all.yaml"].map(|path| read(&program, path))
    );
}

#[test]
fn documents_images_entries_and_patterns() {
    let program = files();
    let bump = |args: &[&str]| program.expect(&[&["bump"], args].concat(), 0).out;
    bump(&[
        "k8s/all.yaml",
        "--literal",
        "kind=Deployment/name=back:.spec.replicas=2",
    ]);
    bump(&[
        "k8s/all.yaml",
        "--document",
        "name=front",
        "--literal",
        ".spec.replicas=3",
    ]);
    bump(&["k8s/all.yaml", "--image", "r.io/app:v2"]);
    let expected = MANIFEST
        .replacen("replicas: 1", "replicas: 3", 1)
        .replacen("replicas: 1", "replicas: 2", 1)
        .replace("app:v1", "app:v2");
    assert_eq!(read(&program, "k8s/all.yaml"), expected);
    bump(&["k8s/all.yaml", "--container", "app", "--image", "o.io/x:1"]);
    assert_eq!(
        read(&program, "k8s/all.yaml"),
        expected.replace("r.io/app:v2", "o.io/x:1")
    );
    bump(&[
        "prod/kustomization.yaml",
        "--image",
        "r.io/web:v2",
        "--image",
        "app=r.io/app:v3",
        "--create",
    ]);
    assert_eq!(
        read(&program, "prod/kustomization.yaml"),
        "images:\n- name: r.io/web\n  newTag: v2\n- name: app\n  newName: r.io/app\n  newTag: v3\n"
    );
    bump(&[".env", "--match", "^TAG=(.*)$", "v2"]);
    assert_eq!(read(&program, ".env"), "TAG=v2\nOTHER=v1\n");
}

#[test]
fn a_look_writes_nothing_and_standard_input_goes_to_standard_output() {
    let program = files();
    let args = ["bump", "values.yaml", "--set", ".front.imageTag=v2"];
    let dry = program.expect(&[&args[..], &["--dry-run"]].concat(), 0).out;
    assert!(
        dry.contains("-  imageTag: v1   # here\r\n+  imageTag: v2   # here\r\n"),
        "{dry}"
    );
    assert_eq!(
        program.expect(&[&args[..], &["--check"]].concat(), 1).out,
        dry
    );
    assert_eq!(read(&program, "values.yaml"), VALUES);
    program.expect(&args, 0);
    assert_eq!(
        program.expect(&[&args[..], &["--check"]].concat(), 0).out,
        ""
    );

    let mut child = program
        .command(&["bump", "-", "--set", ".front.imageTag=v2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(VALUES.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        VALUES.replace("v1", "v2")
    );
}
