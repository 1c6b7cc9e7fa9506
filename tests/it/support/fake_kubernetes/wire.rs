//! How calls are spelled: paths, parameters, content types. Whatever the OpenAPI description does not
//! have is refused.

use serde_json::Value;

use super::Said;

/// A call, taken apart.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `get`, `list`, `patch`, `apply`, `create`, `delete`, `log`, `discover`.
    pub verb: &'static str,
    /// `apps/v1`.
    pub api: String,
    /// `deployments`.
    pub plural: String,
    pub namespace: String,
    pub name: String,
    pub query: Vec<(String, String)>,
    pub body: Value,
}

impl Ask {
    pub fn param(&self, name: &str) -> Option<&str> {
        let mut all = self.query.iter();
        all.find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn is_dry(&self) -> bool {
        self.param("dryRun").is_some()
    }

    /// `patch deployments`; a rehearsal is one of its own.
    pub fn name(&self) -> String {
        let verb = if self.is_dry() { "rehearse" } else { self.verb };
        format!("{verb} {}", self.plural)
    }
}

/// Resources every cluster has: whether they have a namespace.
pub const RESOURCES: &[(&str, &str, &str, bool)] = &[
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Pod", "pods", true),
    ("v1", "Event", "events", true),
    ("v1", "Service", "services", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("apps/v1", "ControllerRevision", "controllerrevisions", true),
    ("batch/v1", "Job", "jobs", true),
    ("batch/v1", "CronJob", "cronjobs", true),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
    ("example.com/v1", "Widget", "widgets", true),
];

/// Parameters a call may have.
fn params(verb: &str) -> &'static [&'static str] {
    match verb {
        "list" => &[
            "labelSelector",
            "fieldSelector",
            "limit",
            "continue",
            "resourceVersion",
            "timeoutSeconds",
            "pretty",
        ],
        "get" => &["pretty", "resourceVersion"],
        "patch" | "apply" => &[
            "dryRun",
            "fieldManager",
            "fieldValidation",
            "force",
            "pretty",
        ],
        "create" => &["dryRun", "fieldManager", "fieldValidation", "pretty"],
        "delete" => &[
            "dryRun",
            "gracePeriodSeconds",
            "orphanDependents",
            "propagationPolicy",
            "pretty",
        ],
        "log" => &[
            "container",
            "follow",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "tailLines",
            "timestamps",
            "pretty",
        ],
        _ => &[],
    }
}

fn bad(message: impl Into<String>) -> Said {
    Said::no(400, "BadRequest", message)
}

/// Takes a call apart.
pub fn spelled(
    method: &str,
    path: &str,
    header: &impl Fn(&str) -> Option<String>,
    body: &[u8],
) -> Result<Ask, Said> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), decoded(value))
        })
        .collect();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (api, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return Err(bad(format!("there is no path {path}"))),
    };
    let mut ask = Ask {
        verb: "discover",
        api,
        plural: "kinds".to_owned(),
        namespace: String::new(),
        name: String::new(),
        query,
        body: Value::Null,
    };
    let (namespace, rest) = match rest {
        [] if method == "GET" => return Ok(ask),
        ["namespaces", namespace, plural, rest @ ..] => {
            ask.plural = (*plural).to_owned();
            ((*namespace).to_owned(), rest)
        }
        [plural, rest @ ..] => {
            ask.plural = (*plural).to_owned();
            (String::new(), rest)
        }
        [] => return Err(bad("nothing is named")),
    };
    ask.namespace = namespace;
    let known = RESOURCES
        .iter()
        .find(|it| it.0 == ask.api && it.2 == ask.plural);
    match known {
        None => {
            return Err(Said::no(
                404,
                "NotFound",
                format!("the server could not find {}", ask.plural),
            ));
        }
        Some(known) if known.3 == ask.namespace.is_empty() => {
            return Err(bad(format!("{} and its namespace: {path}", ask.plural)));
        }
        Some(_) => {}
    }
    let kind = header("content-type").unwrap_or_default();
    ask.verb = match (method, rest) {
        ("GET", []) => "list",
        ("GET", [name]) => {
            ask.name = (*name).to_owned();
            "get"
        }
        ("GET", [name, "log"]) if ask.plural == "pods" => {
            ask.name = (*name).to_owned();
            "log"
        }
        ("POST", []) => "create",
        ("DELETE", [name]) => {
            ask.name = (*name).to_owned();
            "delete"
        }
        ("PATCH", [name]) => {
            ask.name = (*name).to_owned();
            match kind.as_str() {
                "application/apply-patch+yaml" => "apply",
                "application/strategic-merge-patch+json" if ask.api != "example.com/v1" => "patch",
                other => {
                    return Err(Said::no(
                        415,
                        "UnsupportedMediaType",
                        format!("the body of the request was in an unknown format: {other}"),
                    ));
                }
            }
        }
        _ => {
            return Err(Said::no(
                405,
                "MethodNotAllowed",
                format!("{method} {path}"),
            ));
        }
    };
    for (name, value) in &ask.query {
        if !params(ask.verb).contains(&name.as_str()) {
            return Err(bad(format!("{} has no parameter {name}", ask.verb)));
        }
        if name == "dryRun" && value != "All" {
            return Err(bad(format!("dryRun={value}")));
        }
    }
    if !matches!(ask.verb, "get" | "list" | "log") {
        ask.body = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?,
        };
    }
    strict(&ask, &kind)?;
    Ok(ask)
}

/// What must hold of a call beyond its spelling.
fn strict(ask: &Ask, kind: &str) -> Result<(), Said> {
    let manager = ask.param("fieldManager").unwrap_or_default();
    if manager.len() > 128 {
        return Err(bad("fieldManager is longer than 128"));
    }
    match ask.verb {
        "apply" => {
            if manager.is_empty() {
                return Err(Said::no(
                    422,
                    "Invalid",
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value",
                ));
            }
            let body = &ask.body;
            if body["apiVersion"] != ask.api.as_str()
                || body["kind"].as_str().is_none()
                || body["metadata"]["name"] != ask.name.as_str()
            {
                return Err(bad("the object is not what its path says"));
            }
            if !body["metadata"]["managedFields"].is_null() {
                return Err(bad("metadata.managedFields must be nil"));
            }
            let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default();
            if !ask.namespace.is_empty() && namespace != ask.namespace {
                return Err(bad("the namespace of the object is not that of its path"));
            }
        }
        "patch" => {
            if ask.param("force").is_some() {
                return Err(Said::no(
                    422,
                    "Invalid",
                    "force: Forbidden: may not be specified for non-apply patch",
                ));
            }
            if manager.is_empty() {
                return Err(bad("a patch of nobody"));
            }
        }
        "create" => {
            if kind != "application/json" {
                return Err(Said::no(415, "UnsupportedMediaType", kind));
            }
            let own = ask.body["metadata"]["namespace"].as_str();
            if own.is_some_and(|own| own != ask.namespace) {
                return Err(bad("the namespace of the object is not that of its path"));
            }
        }
        "list" => {
            if ask.param("limit").is_none() {
                return Err(bad("a list without a limit may be of any size"));
            }
            let fields = ask.param("fieldSelector").unwrap_or_default();
            let allowed: &[&str] = match ask.plural.as_str() {
                "events" => &[
                    "involvedObject.kind",
                    "involvedObject.name",
                    "reason",
                    "type",
                    "metadata.name",
                ],
                "pods" => &["metadata.name", "status.phase", "spec.nodeName"],
                _ => &["metadata.name"],
            };
            for part in fields.split(',').filter(|part| !part.is_empty()) {
                let name = part.split('=').next().unwrap_or_default();
                if !allowed.contains(&name) {
                    return Err(bad(format!("field label not supported: {name}")));
                }
            }
        }
        "log" => {
            if ask.param("limitBytes").is_none() {
                return Err(bad("a log without a limit may be of any size"));
            }
            if let Some(time) = ask.param("sinceTime")
                && (!time.ends_with('Z') || time.contains('.'))
            {
                return Err(bad(format!("sinceTime={time} is not RFC 3339 in seconds")));
            }
        }
        _ => {}
    }
    Ok(())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = String::from_utf8(hex).unwrap_or_default();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
