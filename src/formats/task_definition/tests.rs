//! What is read, set, compared and refused of a task definition.

use serde_json::json;

use super::*;

fn parsed(value: Value) -> TaskDefinition {
    TaskDefinition::from_value(value).expect("it is a task definition")
}

fn sample() -> TaskDefinition {
    parsed(json!({
        "family": "web",
        "networkMode": "awsvpc",
        "cpu": "256",
        "aKeyOfTomorrow": { "deep": [1, null, []] },
        "containerDefinitions": [
            {
                "name": "web",
                "image": "old:1",
                "environment": [
                    { "name": "B", "value": "x=y==" },
                    { "name": "A", "value": "" }
                ],
                "secrets": [
                    { "name": "TOKEN", "valueFrom": "arn:aws:ssm:x" },
                    { "name": "ALSO", "valueFrom": "arn:aws:ssm:z" }
                ],
                "command": [],
                "healthCheck": null,
                "portMappings": [{ "containerPort": 80 }]
            },
            { "name": "side", "image": "side:1", "essential": false }
        ]
    }))
}

#[test]
fn unknown_keys_empty_lists_and_nulls_survive() {
    let before = sample();
    let mut after = before.clone();
    let change = ContainerChange {
        image: Some("new:2".to_owned()),
        ..ContainerChange::default()
    };
    after.set("web", &change).expect("the container is there");
    let text = serde_json::to_string(after.as_json()).expect("JSON");
    let expected = serde_json::to_string(before.as_json())
        .expect("JSON")
        .replace("old:1", "new:2");
    assert_eq!(text, expected);
}

#[test]
fn an_answer_of_describe_is_read_without_what_the_service_wrote() {
    let read = parsed(json!({
        "taskDefinition": {
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7",
            "family": "web",
            "revision": 7,
            "status": "ACTIVE",
            "registeredAt": 1700000000.1,
            "registeredBy": "arn:aws:iam::123456789012:user/x",
            "requiresAttributes": [],
            "compatibilities": ["EC2"],
            "containerDefinitions": [{ "name": "web", "image": "a" }]
        },
        "tags": [{ "key": "team", "value": "a" }]
    }));
    let keys: Vec<&str> = read.as_json().keys().map(String::as_str).collect();
    assert_eq!(keys, ["family", "containerDefinitions", "tags"]);
}

#[test]
fn variables_are_set_in_place_or_at_the_end() {
    let mut definition = sample();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let change = ContainerChange {
        env: vec![pair("B", "a=b=c"), pair("NEW", "1")],
        secrets: vec![pair("TOKEN", "arn:aws:ssm:y")],
        labels: vec![pair("team", "a")],
        command: Some(vec!["serve".to_owned(), "--port=80".to_owned()]),
        ..ContainerChange::default()
    };
    definition.set("web", &change).expect("it can be set");
    let web = definition.container("web").expect("it is there");
    assert_eq!(
        web["environment"],
        json!([
            { "name": "B", "value": "a=b=c" },
            { "name": "A", "value": "" },
            { "name": "NEW", "value": "1" }
        ])
    );
    assert_eq!(web["secrets"][0]["valueFrom"], "arn:aws:ssm:y");
    assert_eq!(web["dockerLabels"], json!({ "team": "a" }));
    assert_eq!(web["command"], json!(["serve", "--port=80"]));
}

#[test]
fn what_cannot_be_set_says_why() {
    let pair = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned())];
    for (name, change, expected) in [
        (
            "api",
            ContainerChange::default(),
            "it has no container `api`; it has web, side",
        ),
        (
            "web",
            ContainerChange {
                env: pair("TOKEN", "x"),
                ..ContainerChange::default()
            },
            "container `web` has `TOKEN` as a secret already; remove it there first",
        ),
        (
            "web",
            ContainerChange {
                secrets: pair("A", "x"),
                ..ContainerChange::default()
            },
            "container `web` has `A` as a plain variable already; remove it there first",
        ),
        (
            "web",
            ContainerChange {
                log_options: pair("awslogs-group", "x"),
                ..ContainerChange::default()
            },
            "it is not a task definition: container `web` has no `logConfiguration`, so no option of it can be set",
        ),
    ] {
        let mut definition = sample();
        let error = definition.set(name, &change).expect_err("it cannot be set");
        assert_eq!(error.to_string(), expected);
        assert_eq!(definition, sample(), "nothing was changed");
    }
}

#[test]
fn what_is_no_task_definition_is_refused() {
    for (text, expected) in [
        ("{", "it is not JSON: "),
        ("[]", "it is not a task definition: it is no object"),
        (
            "{}",
            "it is not a task definition: it lacks `containerDefinitions`",
        ),
        (
            r#"{"containerDefinitions":{}}"#,
            "it is not a task definition: `containerDefinitions` is no array",
        ),
        (
            r#"{"containerDefinitions":[{}]}"#,
            "it is not a task definition: containerDefinitions[0] has no name",
        ),
        (
            r#"{"family":1,"containerDefinitions":[]}"#,
            "it is not a task definition: `family` is no string",
        ),
    ] {
        let error = TaskDefinition::parse(text).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let huge = " ".repeat(LONGEST + 1);
    assert_eq!(
        TaskDefinition::parse(&huge),
        Err(TaskDefinitionError::TooLarge(LONGEST + 1))
    );
}

#[test]
fn what_the_service_fills_in_is_no_difference() {
    let sent = sample();
    let described = parsed(json!({
        "taskDefinitionArn": "arn", "revision": 3, "status": "ACTIVE",
        "family": "web",
        "networkMode": "awsvpc",
        "cpu": ".25 vCPU",
        "volumes": [],
        "placementConstraints": [],
        "aKeyOfTomorrow": { "deep": [1, null, []] },
        "containerDefinitions": [
            {
                "name": "web", "image": "old:1", "cpu": 0, "essential": true,
                "environment": [
                    { "name": "A", "value": "" },
                    { "name": "B", "value": "x=y==" }
                ],
                "secrets": [
                    { "valueFrom": "arn:aws:ssm:x", "name": "TOKEN" },
                    { "name": "ALSO", "valueFrom": "arn:aws:ssm:z" }
                ],
                "portMappings": [{ "containerPort": 80, "hostPort": 80, "protocol": "tcp" }],
                "mountPoints": [], "volumesFrom": [], "systemControls": []
            },
            { "name": "side", "image": "side:1", "essential": false, "cpu": 0 }
        ]
    }));
    assert_eq!(sent.changes_from(&described), []);
    assert!(sent.means_the_same(&described));
}

#[test]
fn a_real_difference_is_told_by_its_field() {
    let before = sample();
    let mut after = before.clone();
    let change = ContainerChange {
        image: Some("new:2".to_owned()),
        env: vec![("NEW".to_owned(), "1".to_owned())],
        ..ContainerChange::default()
    };
    after.set("web", &change).expect("it can be set");
    assert!(!after.means_the_same(&before));
    let lines: Vec<String> = after
        .changes_from(&before)
        .into_iter()
        .map(|change| {
            let side = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            format!(
                "{}: {} -> {}",
                change.path,
                side(change.before),
                side(change.after)
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "containerDefinitions[web].environment[NEW].name: - -> \"NEW\"",
            "containerDefinitions[web].environment[NEW].value: - -> \"1\"",
            "containerDefinitions[web].image: \"old:1\" -> \"new:2\"",
        ]
    );
    // Order of arguments means something, a port on another host too.
    for (field, one, other) in [
        ("command", json!(["a", "b"]), json!(["b", "a"])),
        (
            "portMappings",
            json!([{ "containerPort": 80, "hostPort": 8080 }]),
            json!([{ "containerPort": 80 }]),
        ),
        ("essential", json!(false), json!(true)),
    ] {
        let with = |value: Value| {
            let mut container = json!({ "name": "a", "image": "i" });
            container[field] = value;
            parsed(json!({ "networkMode": "bridge", "containerDefinitions": [container] }))
        };
        assert!(!with(one).means_the_same(&with(other)), "{field}");
    }
}
