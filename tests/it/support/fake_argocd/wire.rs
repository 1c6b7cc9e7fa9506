//! The interface as published: `assets/swagger.json` of Argo CD ("ApplicationService",
//! "SessionService") for paths, methods, parameters and fields. Two things it does not say are from
//! how the server is documented to behave: bodies are plain JSON, so that a whole number is a number,
//! and since 2.10 whatever is no GET needs the content type `application/json`.
//!
//! The server passes over what it does not know. A client that sends such a thing is wrong all the
//! same, which is kept as a breach.

use serde_json::{Map, Value};

/// A request as it came.
pub struct Ask {
    pub method: String,
    /// Below `/api/v1/`, decoded.
    pub parts: Vec<String>,
    pub query: Vec<(String, String)>,
    pub content_type: Option<String>,
    pub authorization: Option<String>,
    pub body: Vec<u8>,
}

/// An answer: status and body.
pub type Said = (u16, String);

/// An error in the words of the gateway.
pub fn error(status: u16, code: u32, message: &str) -> Said {
    let body = serde_json::json!({"error": message, "code": code, "message": message});
    (status, body.to_string())
}

/// Where an application is.
const PLACE: &[(&str, Kind)] = &[("appNamespace", Kind::Text), ("project", Kind::Text)];

/// What a value must be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Flag,
    Number,
    Texts,
    /// An object with these fields.
    Of(&'static [(&'static str, Kind)]),
    /// A list of such objects.
    Many(&'static [(&'static str, Kind)]),
}

const HOOK: &[(&str, Kind)] = &[("force", Kind::Flag)];
const SYNC: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("appNamespace", Kind::Text),
    ("project", Kind::Text),
    ("revision", Kind::Text),
    ("revisions", Kind::Texts),
    ("sourcePositions", Kind::Texts),
    ("dryRun", Kind::Flag),
    ("prune", Kind::Flag),
    ("manifests", Kind::Texts),
    (
        "infos",
        Kind::Many(&[("name", Kind::Text), ("value", Kind::Text)]),
    ),
    (
        "resources",
        Kind::Many(&[
            ("group", Kind::Text),
            ("kind", Kind::Text),
            ("name", Kind::Text),
            ("namespace", Kind::Text),
            ("exclude", Kind::Flag),
        ]),
    ),
    (
        "strategy",
        Kind::Of(&[("hook", Kind::Of(HOOK)), ("apply", Kind::Of(HOOK))]),
    ),
    ("syncOptions", Kind::Of(&[("items", Kind::Texts)])),
    (
        "retryStrategy",
        Kind::Of(&[("limit", Kind::Number), ("refresh", Kind::Flag)]),
    ),
];
const ROLLBACK: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("appNamespace", Kind::Text),
    ("project", Kind::Text),
    ("id", Kind::Number),
    ("dryRun", Kind::Flag),
    ("prune", Kind::Flag),
];
const SESSION: &[(&str, Kind)] = &[
    ("username", Kind::Text),
    ("password", Kind::Text),
    ("token", Kind::Text),
];
const APP: &[(&str, Kind)] = &[
    ("refresh", Kind::Text),
    ("project", Kind::Text),
    ("projects", Kind::Text),
    ("resourceVersion", Kind::Text),
    ("selector", Kind::Text),
    ("repo", Kind::Text),
    ("appNamespace", Kind::Text),
];
const LIST: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("projects", Kind::Text),
    ("selector", Kind::Text),
    ("repo", Kind::Text),
    ("appNamespace", Kind::Text),
    // Of the gateway, and in no description: the fields to be told of.
    ("fields", Kind::Text),
];
const MANIFESTS: &[(&str, Kind)] = &[
    ("revision", Kind::Text),
    ("revisions", Kind::Text),
    ("sourcePositions", Kind::Number),
    ("noCache", Kind::Flag),
    ("appNamespace", Kind::Text),
    ("project", Kind::Text),
];
const MANAGED: &[(&str, Kind)] = &[
    ("namespace", Kind::Text),
    ("name", Kind::Text),
    ("version", Kind::Text),
    ("group", Kind::Text),
    ("kind", Kind::Text),
    ("appNamespace", Kind::Text),
    ("project", Kind::Text),
];
const LOGS: &[(&str, Kind)] = &[
    ("namespace", Kind::Text),
    ("podName", Kind::Text),
    ("container", Kind::Text),
    ("sinceSeconds", Kind::Number),
    ("tailLines", Kind::Number),
    ("follow", Kind::Flag),
    ("untilTime", Kind::Text),
    ("filter", Kind::Text),
    ("kind", Kind::Text),
    ("group", Kind::Text),
    ("resourceName", Kind::Text),
    ("previous", Kind::Flag),
    ("appNamespace", Kind::Text),
    ("project", Kind::Text),
];

type Fields = &'static [(&'static str, Kind)];

/// The parameters and the fields of the body that a call may have; `None` if there is no such call.
fn call(method: &str, path: &[&str]) -> Option<(Fields, Option<Fields>)> {
    Some(match (method, path) {
        ("POST", ["session"]) => (&[], Some(SESSION)),
        ("GET", ["applications"]) => (LIST, None),
        ("GET", ["applications", _]) => (APP, None),
        ("GET", ["applications", _, "manifests"]) => (MANIFESTS, None),
        ("GET", ["applications", _, "managed-resources"]) => (MANAGED, None),
        ("GET", ["applications", _, "syncwindows"]) => (PLACE, None),
        ("GET", ["applications", _, "logs"]) => (LOGS, None),
        ("DELETE", ["applications", _, "operation"]) => (PLACE, None),
        ("POST", ["applications", _, "sync"]) => (&[], Some(SYNC)),
        ("POST", ["applications", _, "rollback"]) => (&[], Some(ROLLBACK)),
        _ => return None,
    })
}

/// The body of a request that is spelled as it must be; what is not is answered as the server does,
/// or, where it shrugs, noted.
pub fn spelled(ask: &Ask, breaches: &mut Vec<String>) -> Result<Value, Said> {
    let parts: Vec<&str> = ask.parts.iter().map(String::as_str).collect();
    let name = format!("{} {}", ask.method, parts.join("/"));
    if ask.method != "GET" && ask.content_type.as_deref() != Some("application/json") {
        breaches.push(format!("{name} has no content type"));
        return Err((415, "Invalid content type\n".to_owned()));
    }
    let Some((params, fields)) = call(&ask.method, &parts) else {
        breaches.push(format!("there is no {name}"));
        let known = ["GET", "POST", "DELETE"]
            .iter()
            .any(|method| call(method, &parts).is_some());
        return Err(match known {
            true => error(405, 12, "Method Not Allowed"),
            false => error(404, 5, "Not Found"),
        });
    };
    for (key, value) in &ask.query {
        let Some((_, kind)) = params.iter().find(|(known, _)| known == key) else {
            breaches.push(format!("{name} has no parameter {key}"));
            continue;
        };
        let fits = match kind {
            Kind::Flag => matches!(value.as_str(), "true" | "false"),
            Kind::Number => value.parse::<i64>().is_ok(),
            _ => true,
        };
        if !fits {
            breaches.push(format!("{name}: {key}={value}"));
            return Err(error(400, 3, &format!("parsing field {key}: {value}")));
        }
        if key == "refresh" && !matches!(value.as_str(), "normal" | "hard") {
            breaches.push(format!("refresh={value}"));
        }
    }
    let Some(fields) = fields else {
        if !ask.body.is_empty() {
            breaches.push(format!("{name} has a body"));
        }
        return Ok(Value::Null);
    };
    let body: Value = serde_json::from_slice(&ask.body).map_err(|why| {
        breaches.push(format!("{name}: {why}"));
        error(400, 3, &why.to_string())
    })?;
    let Some(object) = body.as_object() else {
        breaches.push(format!("{name}: the body is no object"));
        return Err(error(400, 3, "json: cannot unmarshal"));
    };
    object_fits(&name, object, fields, breaches).map_err(|why| {
        breaches.push(why.clone());
        error(400, 3, &why)
    })?;
    // What stands in the path wins; two names for one thing are a mistake.
    if let ["applications", app, _] = parts.as_slice()
        && object.get("name").is_some_and(|name| name != app)
    {
        breaches.push(format!("{name} is of {}", object["name"]));
    }
    Ok(body)
}

fn object_fits(
    place: &str,
    object: &Map<String, Value>,
    fields: Fields,
    breaches: &mut Vec<String>,
) -> Result<(), String> {
    for (name, value) in object {
        let place = format!("{place}.{name}");
        match fields.iter().find(|(known, _)| known == name) {
            Some((_, kind)) => fits(&place, value, *kind, breaches)?,
            None => breaches.push(format!("there is no {place}")),
        }
    }
    Ok(())
}

fn fits(place: &str, value: &Value, kind: Kind, breaches: &mut Vec<String>) -> Result<(), String> {
    let right = match kind {
        Kind::Text => value.is_string(),
        Kind::Flag => value.is_boolean(),
        Kind::Number => value.is_i64(),
        Kind::Texts => value
            .as_array()
            .is_some_and(|list| list.iter().all(Value::is_string)),
        Kind::Of(fields) => match value.as_object() {
            Some(object) => return object_fits(place, object, fields, breaches),
            None => false,
        },
        Kind::Many(fields) => match value.as_array() {
            Some(list) => {
                for one in list {
                    fits(place, one, Kind::Of(fields), breaches)?;
                }
                true
            }
            None => false,
        },
    };
    match right {
        true => Ok(()),
        false => Err(format!("json: cannot unmarshal {value} into {place}")),
    }
}
