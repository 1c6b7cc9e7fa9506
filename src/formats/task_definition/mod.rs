//! ECS task definitions as raw JSON: whatever keys somebody else put there stay as they are.
//!
//! Reads one, takes away what only the service writes, sets fields of containers, and compares
//! two by what they mean to the service. Calls nobody.
//!
//! Field names and defaults follow the Amazon ECS API reference (`RegisterTaskDefinition`,
//! `ContainerDefinition`).

mod compare;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use compare::FieldChange;

/// What `DescribeTaskDefinition` adds and `RegisterTaskDefinition` does not take.
const DESCRIBED_ONLY: &[&str] = &[
    "compatibilities",
    "taskDefinitionArn",
    "requiresAttributes",
    "revision",
    "status",
    "registeredAt",
    "deregisteredAt",
    "registeredBy",
    "deleteRequestedAt",
];

/// The service takes 64 KiB; more than this is not worth reading.
const LONGEST: usize = 1 << 20;

/// What can be wrong with a task definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskDefinitionError {
    /// It is no JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is JSON of another shape.
    #[error("it is not a task definition: {0}")]
    Shape(String),
    /// Too large to be one.
    #[error("it has {0} bytes; the service takes at most 65536")]
    TooLarge(usize),
    /// No container of that name.
    #[error(
        "it has no container `{name}`; it has {}",
        if present.is_empty() { "none".to_owned() } else { present.join(", ") }
    )]
    NoContainer {
        /// The name asked for.
        name: String,
        /// The names there are.
        present: Vec<String>,
    },
    /// One name for a plain variable and a secret.
    #[error("container `{container}` has `{variable}` as {there} already; remove it there first")]
    Twice {
        /// The container.
        container: String,
        /// The variable.
        variable: String,
        /// `a secret` or `a plain variable`.
        there: &'static str,
    },
}

/// What to set in one container. Everything not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerChange {
    /// The image.
    pub image: Option<String>,
    /// Environment variables. A value may hold `=`.
    pub env: Vec<(String, String)>,
    /// Environment variables filled by the service: name and ARN (or parameter name).
    pub secrets: Vec<(String, String)>,
    /// Docker labels.
    pub labels: Vec<(String, String)>,
    /// The command, argument by argument.
    pub command: Option<Vec<String>>,
    /// Options of the log driver that the container has.
    pub log_options: Vec<(String, String)>,
}

/// A task definition.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDefinition(Map<String, Value>);

impl TaskDefinition {
    /// Reads a task definition: the bare object, or the answer of `DescribeTaskDefinition` that
    /// holds it under `taskDefinition`. Keys that only the service writes are taken away.
    pub fn parse(text: &str) -> Result<Self, TaskDefinitionError> {
        if text.len() > LONGEST {
            return Err(TaskDefinitionError::TooLarge(text.len()));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value = serde_json::from_str(text)
            .map_err(|error| TaskDefinitionError::NotJson(error.to_string()))?;
        Self::from_value(value)
    }

    /// The same of a JSON value.
    pub fn from_value(value: Value) -> Result<Self, TaskDefinitionError> {
        let shape = |why: &str| TaskDefinitionError::Shape(why.to_owned());
        let Value::Object(mut object) = value else {
            return Err(shape("it is no object"));
        };
        if !object.contains_key("containerDefinitions")
            && let Some(Value::Object(mut inner)) = object.remove("taskDefinition")
        {
            // Tags stand beside the definition in an answer and inside it in a request.
            if let Some(tags) = object.remove("tags").filter(is_filled) {
                inner.insert("tags".to_owned(), tags);
            }
            object = inner;
        }
        let containers = match object.get("containerDefinitions") {
            Some(Value::Array(containers)) => containers,
            Some(_) => return Err(shape("`containerDefinitions` is no array")),
            None => return Err(shape("it lacks `containerDefinitions`")),
        };
        for (at, container) in containers.iter().enumerate() {
            if container.get("name").and_then(Value::as_str).is_none() {
                return Err(shape(&format!("containerDefinitions[{at}] has no name")));
            }
        }
        if let Some(family) = object.get("family")
            && !family.is_string()
        {
            return Err(shape("`family` is no string"));
        }
        for key in DESCRIBED_ONLY {
            object.shift_remove(*key);
        }
        Ok(Self(object))
    }

    /// The request to register it.
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Its family.
    pub fn family(&self) -> Option<&str> {
        self.0.get("family").and_then(Value::as_str)
    }

    /// A text field of the definition itself, such as `taskRoleArn` or `networkMode`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Its containers, in order.
    pub fn containers(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.0
            .get("containerDefinitions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
    }

    /// Names of its containers, in order.
    pub fn container_names(&self) -> Vec<String> {
        self.containers()
            .filter_map(|container| container.get("name")?.as_str())
            .map(str::to_owned)
            .collect()
    }

    /// A container by name.
    pub fn container(&self, name: &str) -> Result<&Map<String, Value>, TaskDefinitionError> {
        self.containers()
            .find(|container| container.get("name").and_then(Value::as_str) == Some(name))
            .ok_or_else(|| self.no_container(name))
    }

    /// Sets fields of a container.
    pub fn set(&mut self, name: &str, change: &ContainerChange) -> Result<(), TaskDefinitionError> {
        let missing = self.no_container(name);
        let container = self
            .0
            .get_mut("containerDefinitions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
            .find(|container| container.get("name").and_then(Value::as_str) == Some(name))
            .ok_or(missing)?;
        let lists = [
            (&change.env, "environment", "value", "secrets", "a secret"),
            (
                &change.secrets,
                "secrets",
                "valueFrom",
                "environment",
                "a plain variable",
            ),
        ];
        for (entries, _, _, other, there) in lists {
            let taken = entries
                .iter()
                .find(|(key, _)| names(container, other).any(|n| n == key));
            if let Some((variable, _)) = taken {
                return Err(TaskDefinitionError::Twice {
                    container: name.to_owned(),
                    variable: variable.clone(),
                    there,
                });
            }
        }
        for (entries, list, field, _, _) in lists {
            set_named(container, name, list, field, entries)?;
        }
        if let Some(image) = &change.image {
            container.insert("image".to_owned(), json!(image));
        }
        if let Some(command) = &change.command {
            container.insert("command".to_owned(), json!(command));
        }
        set_map(container, name, "dockerLabels", &change.labels)?;
        if !change.log_options.is_empty() {
            let Some(Value::Object(logging)) = container.get_mut("logConfiguration") else {
                return Err(TaskDefinitionError::Shape(format!(
                    "container `{name}` has no `logConfiguration`, so no option of it can be set"
                )));
            };
            set_map(logging, name, "options", &change.log_options)?;
        }
        Ok(())
    }

    fn no_container(&self, name: &str) -> TaskDefinitionError {
        TaskDefinitionError::NoContainer {
            name: name.to_owned(),
            present: self.container_names(),
        }
    }
}

/// Names in a list of named entries.
fn names<'a>(container: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = &'a str> {
    container
        .get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("name")?.as_str())
}

/// Sets entries of a list of `{name, field}` objects: in place if there, else at the end.
fn set_named(
    container: &mut Map<String, Value>,
    name: &str,
    list: &str,
    field: &str,
    entries: &[(String, String)],
) -> Result<(), TaskDefinitionError> {
    if entries.is_empty() {
        return Ok(());
    }
    let value = container.entry(list).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    let Value::Array(there) = value else {
        return Err(TaskDefinitionError::Shape(format!(
            "`{list}` of container `{name}` is no array"
        )));
    };
    for (key, text) in entries {
        let found = there
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some(key));
        match found {
            Some(entry) => {
                entry.insert(field.to_owned(), json!(text));
            }
            None => there.push(json!({ "name": key, field: text })),
        }
    }
    Ok(())
}

/// Sets entries of a text-to-text object.
fn set_map(
    object: &mut Map<String, Value>,
    container: &str,
    key: &str,
    entries: &[(String, String)],
) -> Result<(), TaskDefinitionError> {
    if entries.is_empty() {
        return Ok(());
    }
    let value = object.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    let Value::Object(there) = value else {
        return Err(TaskDefinitionError::Shape(format!(
            "`{key}` of container `{container}` is no object"
        )));
    };
    for (name, text) in entries {
        there.insert(name.clone(), json!(text));
    }
    Ok(())
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}
