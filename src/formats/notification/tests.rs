//! Notifications as registries send them, by their documentation, shortened only in what is of no
//! account here; and what nobody sends.

use serde_json::json;

use super::*;

#[track_caller]
fn check(body: &Value, expected: &[&str]) {
    let found = repositories(body.to_string().as_bytes());
    let expected: Vec<String> = expected.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(found, Ok(expected), "{body:#}");
}

#[test]
fn the_distribution_registry() {
    // "Work with notifications": an envelope; a push tells of each layer and of the manifest.
    let event = |action: &str, media_type: &str, repository: &str| {
        json!({
            "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
            "timestamp": "2026-03-09T14:44:26.402973972-08:00",
            "action": action,
            "target": {
                "mediaType": media_type,
                "size": 708,
                "digest": "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf",
                "length": 708,
                "repository": repository,
                "url": format!("http://192.168.100.227:5000/v2/{repository}/manifests/latest"),
                "tag": "latest",
            },
            "request": { "host": "192.168.100.227:5000", "method": "PUT" },
            "actor": {},
            "source": { "addr": "xtal.local:5000" },
        })
    };
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let layer = "application/octet-stream";
    for (events, expected) in [
        (vec![event("push", docker, "a/b")], vec!["a/b"]),
        (vec![event("push", index, "a/b")], vec!["a/b"]),
        (
            vec![
                event("push", layer, "a/layers"),
                event("mount", layer, "a/mounted"),
                event("pull", docker, "a/pulled"),
                event("delete", docker, "a/deleted"),
                event("push", docker, "a/b"),
                event("push", docker, "a/b"),
                event("push", docker, "c"),
            ],
            vec!["a/b", "c"],
        ),
        (vec![], vec![]),
    ] {
        check(&json!({ "events": events }), &expected);
    }
    check(
        &json!({ "events": [{ "action": "push", "target": { "repository": "a/b" } }] }),
        &["a/b"],
    );
}

#[test]
fn registries_of_clouds() {
    // "Azure Container Registry webhook reference".
    let azure = |action: &str, media_type: &str| {
        json!({
            "id": "cb8c3971-9adc-488b-xxxx-43cbb4974ff5",
            "timestamp": "2026-11-17T16:52:01.343145347Z",
            "action": action,
            "target": {
                "mediaType": media_type,
                "size": 524,
                "digest": "sha256:xxxxd5c8786bb9e621a45ece0dbxxxx1cdc624ad20da9fe62e9d25490f33xxxx",
                "length": 524,
                "repository": "shop/app",
                "tag": "v1",
            },
            "request": { "host": "acme.azurecr.io", "method": "PUT" },
        })
    };
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    check(&azure("push", docker), &["shop/app"]);
    check(&azure("delete", docker), &[]);
    check(&json!({ "id": "1", "action": "ping" }), &[]);
    // A chart is pushed by another word and is nobody's image.
    check(&azure("chart_push", "application/vnd.acr.helm.chart"), &[]);

    // "Amazon ECR events and EventBridge".
    let ecr = |action: &str, result: &str| {
        json!({
            "version": "0",
            "id": "13cde686-328b-6117-af20-0e5566167482",
            "detail-type": "ECR Image Action",
            "source": "aws.ecr",
            "account": "123456789012",
            "time": "2026-11-16T01:54:34Z",
            "region": "ap-northeast-1",
            "resources": [],
            "detail": {
                "result": result,
                "repository-name": "shop/app-repo",
                "image-digest": "sha256:7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd1234",
                "action-type": action,
                "image-tag": "latest",
            },
        })
    };
    check(&ecr("PUSH", "SUCCESS"), &["shop/app-repo"]);
    check(&ecr("PUSH", "FAILURE"), &[]);
    check(&ecr("DELETE", "SUCCESS"), &[]);
    let scan = json!({
        "source": "aws.ecr",
        "detail-type": "ECR Image Scan",
        "detail": { "scan-status": "COMPLETE", "repository-name": "shop/app-repo" },
    });
    check(&scan, &[]);

    // "Configure Pub/Sub notifications" of Artifact Registry, as Pub/Sub pushes them.
    let google = |inner: Value| {
        let data = STANDARD.encode(inner.to_string());
        json!({
            "message": { "data": data, "messageId": "2070443601311540", "publishTime": "2026-02-26T19:13:55.749Z" },
            "subscription": "projects/acme/subscriptions/gcr",
        })
    };
    let host = "asia-northeast1-docker.pkg.dev/acme/shop/app";
    for (inner, expected) in [
        (
            json!({ "action": "INSERT", "digest": format!("{host}@sha256:6ec128e2"), "tag": format!("{host}:v1") }),
            vec![host],
        ),
        (
            json!({ "action": "INSERT", "digest": format!("{host}@sha256:6ec128e2") }),
            vec![host],
        ),
        (
            json!({ "action": "INSERT", "digest": "localhost:5000/app@sha256:00" }),
            vec!["localhost:5000/app"],
        ),
        (
            json!({ "action": "DELETE", "tag": format!("{host}:v1") }),
            vec![],
        ),
    ] {
        check(&google(inner), &expected);
    }
}

#[test]
fn registries_of_forges_and_others() {
    // "Webhooks" of Docker Hub.
    let hub = json!({
        "callback_url": "https://registry.hub.docker.com/u/acme/web/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/",
        "push_data": { "pushed_at": 1_417_566_161, "pusher": "trustedbuilder", "tag": "latest" },
        "repository": {
            "date_created": 1_417_494_799, "is_official": false, "is_private": true,
            "name": "web", "namespace": "acme", "owner": "acme", "repo_name": "acme/web",
            "repo_url": "https://registry.hub.docker.com/u/acme/web/", "status": "Active",
        },
    });
    check(&hub, &["acme/web"]);

    // "Webhook events and payloads" of GitHub: `registry_package`, `package`, `ping`.
    let github = |kind: &str, package_type: &str| {
        json!({
            "action": "published",
            kind: {
                "id": 2_210_400, "name": "App", "namespace": "Acme", "ecosystem": package_type,
                "package_type": package_type, "owner": { "login": "Acme", "id": 1 },
                "package_version": { "version": "sha256:0a1b", "container_metadata": { "tag": { "name": "v1" } } },
            },
            "repository": { "id": 1, "full_name": "Acme/source" },
            "sender": { "login": "someone" },
        })
    };
    check(&github("registry_package", "CONTAINER"), &["acme/app"]);
    check(&github("package", "container"), &["acme/app"]);
    check(&github("package", "npm"), &[]);
    check(
        &json!({ "zen": "Keep it logically awesome.", "hook_id": 1, "hook": {} }),
        &[],
    );

    // Gitea and Forgejo: `package`.
    let gitea = |kind: &str| {
        json!({
            "action": "created",
            "repository": null,
            "package": {
                "id": 7, "owner": { "login": "acme", "username": "acme" }, "type": kind,
                "name": "shop/app", "version": "1.2.0",
            },
            "sender": { "login": "ci" },
        })
    };
    check(&gitea("container"), &["acme/shop/app"]);
    check(&gitea("cargo"), &[]);

    // "Configure Webhook Notifications" of Harbor: its own format and CloudEvents.
    let repository = json!({
        "date_created": 1_701_922_000, "name": "app", "namespace": "shop",
        "repo_full_name": "shop/app", "repo_type": "private",
    });
    let resources = json!([{ "digest": "sha256:954b", "tag": "v1", "resource_url": "harbor.example.com/shop/app:v1" }]);
    for (kind, expected) in [
        ("PUSH_ARTIFACT", vec!["shop/app"]),
        ("DELETE_ARTIFACT", vec![]),
        ("SCANNING_COMPLETED", vec![]),
    ] {
        let body = json!({
            "type": kind, "occur_at": 1_586_922_308, "operator": "admin",
            "event_data": { "resources": resources, "repository": repository },
        });
        check(&body, &expected);
    }
    for (kind, expected) in [
        ("harbor.artifact.pushed", vec!["shop/app"]),
        ("harbor.artifact.deleted", vec![]),
    ] {
        let body = json!({
            "specversion": "1.0", "id": "3bd1c1e4", "source": "/projects/2/webhook/policies/15",
            "type": kind, "datacontenttype": "application/json", "operator": "robot$ci",
            "data": { "resources": resources, "repository": repository },
        });
        check(&body, &expected);
    }

    // "Repository Notifications" of Quay; tags were once an object.
    for tags in [json!(["latest"]), json!({ "latest": "b750fe79" })] {
        let body = json!({
            "name": "app", "repository": "acme/app", "namespace": "acme",
            "docker_url": "quay.io/acme/app", "homepage": "https://quay.io/repository/acme/app",
            "updated_tags": tags,
        });
        check(&body, &["acme/app"]);
    }
}

#[test]
fn what_is_none_is_refused() {
    for (body, error) in [
        ("", NotificationError::NotJson),
        ("{", NotificationError::NotJson),
        ("repository=acme/app", NotificationError::NotJson),
        ("\u{feff}{}", NotificationError::NotJson),
        ("{}", NotificationError::Unknown),
        ("[]", NotificationError::Unknown),
        ("null", NotificationError::Unknown),
        ("\"acme/app\"", NotificationError::Unknown),
        (
            r#"{"events":{"action":"push"}}"#,
            NotificationError::Unknown,
        ),
        (r#"{"action":"push"}"#, NotificationError::Unknown),
        (
            r#"{"repository":{"repo_name":7}}"#,
            NotificationError::Unknown,
        ),
        (
            r#"{"repository":7,"updated_tags":[]}"#,
            NotificationError::Unknown,
        ),
        (r#"{"message":{"data":"%%%"}}"#, NotificationError::Unknown),
        (
            r#"{"message":{"data":"bm8ganNvbg=="}}"#,
            NotificationError::Unknown,
        ),
        (
            r#"{"type":"harbor.artifact.pushed"}"#,
            NotificationError::Unknown,
        ),
    ] {
        assert_eq!(repositories(body.as_bytes()), Err(error), "{body}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(
        repositories(deep.as_bytes()),
        Err(NotificationError::NotJson)
    );
    assert_eq!(repositories(b"\xff\xfe"), Err(NotificationError::NotJson));
    let large = vec![b' '; LARGEST + 1];
    assert_eq!(repositories(&large), Err(NotificationError::TooLarge));
}

#[test]
fn names_that_are_none_are_left_out() {
    let long = "a".repeat(401);
    for name in ["", "a\u{1b}[31m", "a b", "a\nb", "$(id)", "a?b", "ä", &long] {
        check(&json!({ "repository": name, "updated_tags": [] }), &[]);
    }
    // However many it names, a bounded number is taken notice of.
    let many = (0..2_000)
        .map(|n| json!({ "action": "push", "target": { "repository": format!("r{n}") } }));
    let body = json!({ "events": many.collect::<Vec<_>>() }).to_string();
    assert!(body.len() < LARGEST);
    assert_eq!(
        repositories(body.as_bytes()).map(|names| names.len()),
        Ok(MOST)
    );
}
