//! What a workload says of itself, as the cluster keeps it: its containers, and how its roll-out
//! stands by the rules of `kubectl rollout status`. Decides only; asks nothing.

use serde_json::{Map, Value, json};

/// Kinds of workloads that roll out, and the words for them.
pub(super) const WORKLOADS: [(&str, &[&str]); 3] = [
    ("Deployment", &["deployment", "deployments", "deploy"]),
    ("StatefulSet", &["statefulset", "statefulsets", "sts"]),
    ("DaemonSet", &["daemonset", "daemonsets", "ds"]),
];

/// Annotations of a workload that name the run and the stage which changed it last.
pub(super) const RUN: &str = "dev.pipewright.run";
pub(super) const STAGE: &str = "dev.pipewright.stage";

/// How a roll-out stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It has come to its end, and what there is to remark.
    Done(Option<String>),
    /// It will not.
    Failed(String),
    /// So many of so many pods, and what it waits for.
    Waiting(u64, u64, String),
}

pub(super) fn text<'a>(of: &'a Value, at: &str) -> &'a str {
    of.pointer(at).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn number(of: &Value, at: &str) -> u64 {
    of.pointer(at).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn items<'a>(of: &'a Value, at: &str) -> &'a [Value] {
    of.pointer(at)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The lists of containers of a pod.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Every container of a workload's pods: its list, its name and its image.
pub(super) fn containers(workload: &Value) -> Vec<(&'static str, &str, &str)> {
    LISTS
        .into_iter()
        .flat_map(|list| {
            let all = items(workload, &format!("/spec/template/spec/{list}"));
            all.iter()
                .map(move |it| (list, text(it, "/name"), text(it, "/image")))
        })
        .collect()
}

/// The image of a container.
pub(super) fn image_of<'a>(workload: &'a Value, container: &str) -> Option<&'a str> {
    let mut all = containers(workload).into_iter();
    all.find(|(_, name, _)| *name == container)
        .map(|(_, _, image)| image)
}

/// Whether its containers have these images.
pub(super) fn has_images(workload: &Value, images: &[(String, String)]) -> bool {
    images
        .iter()
        .all(|(container, image)| image_of(workload, container) == Some(image))
}

/// The patch that gives containers their images, for the very workload that was looked at.
pub(super) fn set_images(
    workload: &Value,
    images: &[(String, String)],
    annotations: &[(&str, String)],
) -> Value {
    let mut spec = Map::new();
    for list in LISTS {
        let of_list = |name: &str| {
            let mut all = containers(workload).into_iter();
            all.any(|(its, its_name, _)| its == list && its_name == name)
        };
        let changed: Vec<Value> = images
            .iter()
            .filter(|(container, _)| of_list(container))
            .map(|(container, image)| json!({"name": container, "image": image}))
            .collect();
        if !changed.is_empty() {
            spec.insert(list.to_owned(), json!(changed));
        }
    }
    json!({
        "metadata": {
            "resourceVersion": text(workload, "/metadata/resourceVersion"),
            "annotations": noted(annotations),
        },
        "spec": {"template": {"spec": spec}},
    })
}

pub(super) fn noted(annotations: &[(&str, String)]) -> Value {
    let pairs = annotations.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect::<Map<String, Value>>()
        .into()
}

/// How the roll-out of a workload stands.
pub(super) fn stand(workload: &Value) -> Stand {
    if !text(workload, "/metadata/deletionTimestamp").is_empty() {
        return Stand::Failed("somebody deletes it".to_owned());
    }
    let wanted = workload.pointer("/spec/replicas").and_then(Value::as_u64);
    let wanted = wanted.unwrap_or(1);
    let status = |key: &str| number(workload, &format!("/status/{key}"));
    let kind = text(workload, "/kind");
    if number(workload, "/metadata/generation") > status("observedGeneration") {
        let all = match kind {
            "DaemonSet" => status("desiredNumberScheduled"),
            _ => wanted,
        };
        return Stand::Waiting(0, all, "the cluster has not seen the change yet".to_owned());
    }
    match kind {
        "StatefulSet" => stateful_set(workload, wanted),
        "DaemonSet" => daemon_set(workload),
        _ => deployment(workload, wanted),
    }
}

fn deployment(workload: &Value, wanted: u64) -> Stand {
    let status = |key: &str| number(workload, &format!("/status/{key}"));
    let progressing = condition(workload, "Progressing");
    if let Some(it) = progressing
        && overdue(workload).is_some()
    {
        return Stand::Failed(format!(
            "it exceeded its progress deadline: {}",
            text(it, "/message").trim_end_matches('.')
        ));
    }
    let (updated, available) = (status("updatedReplicas"), status("availableReplicas"));
    if updated < wanted {
        let note = format!("{updated} of {wanted} pods are new");
        return Stand::Waiting(available.min(updated), wanted, note);
    }
    let old = status("replicas").saturating_sub(updated);
    if old > 0 {
        return Stand::Waiting(
            available.min(updated),
            wanted,
            format!("{old} old pods are on their way out"),
        );
    }
    if available < updated {
        let note = format!("{available} of {updated} new pods are available");
        return Stand::Waiting(available, wanted, note);
    }
    Stand::Done((wanted == 0).then(|| "it is scaled to zero: no pod runs".to_owned()))
}

const ON_DELETE: &str =
    "its update strategy is OnDelete: a pod gets the new image once somebody deletes it";

fn stateful_set(workload: &Value, wanted: u64) -> Stand {
    let status = |key: &str| number(workload, &format!("/status/{key}"));
    if text(workload, "/spec/updateStrategy/type") == "OnDelete" {
        return Stand::Done(Some(ON_DELETE.to_owned()));
    }
    let (updated, ready) = (status("updatedReplicas"), status("readyReplicas"));
    let partition = number(workload, "/spec/updateStrategy/rollingUpdate/partition");
    let new = wanted.saturating_sub(partition);
    if partition > 0 {
        if updated < new {
            let note = format!("{updated} of {new} pods beyond the partition are new");
            return Stand::Waiting(updated, new, note);
        }
    } else if text(workload, "/status/updateRevision") != text(workload, "/status/currentRevision")
        && updated < wanted
    {
        let note = format!("{updated} of {wanted} pods are new");
        return Stand::Waiting(updated.min(ready), wanted, note);
    }
    if ready < wanted {
        let note = format!("{ready} of {wanted} pods are ready");
        return Stand::Waiting(ready, wanted, note);
    }
    let note = match (partition, wanted) {
        (0, 0) => Some("it is scaled to zero: no pod runs".to_owned()),
        (0, _) => None,
        _ => Some(format!(
            "its partition is {partition}: {new} of {wanted} pods are new"
        )),
    };
    Stand::Done(note)
}

fn daemon_set(workload: &Value) -> Stand {
    let status = |key: &str| number(workload, &format!("/status/{key}"));
    if text(workload, "/spec/updateStrategy/type") == "OnDelete" {
        return Stand::Done(Some(ON_DELETE.to_owned()));
    }
    let wanted = status("desiredNumberScheduled");
    let (updated, available) = (status("updatedNumberScheduled"), status("numberAvailable"));
    if updated < wanted {
        let note = format!("{updated} of {wanted} pods are new");
        return Stand::Waiting(updated.min(available), wanted, note);
    }
    if available < wanted {
        let note = format!("{available} of {wanted} pods are available");
        return Stand::Waiting(available, wanted, note);
    }
    Stand::Done((wanted == 0).then(|| "no node takes its pods".to_owned()))
}

/// A condition of an object.
pub(super) fn condition<'a>(of: &'a Value, kind: &str) -> Option<&'a Value> {
    let all = items(of, "/status/conditions");
    all.iter().find(|it| text(it, "/type") == kind)
}

/// When the cluster said that its roll-out took too long, if that is what it says.
pub(super) fn overdue(workload: &Value) -> Option<&str> {
    let it = condition(workload, "Progressing")?;
    (text(it, "/reason") == "ProgressDeadlineExceeded").then(|| text(it, "/lastUpdateTime"))
}

/// Whether it was told to stand still.
pub(super) fn is_paused(workload: &Value) -> bool {
    workload.pointer("/spec/paused") == Some(&Value::Bool(true))
}

/// Pods wanted, where somebody sets a number.
pub(super) fn is_zero(workload: &Value) -> bool {
    workload.pointer("/spec/replicas").and_then(Value::as_u64) == Some(0)
}

/// The selector of its pods, as a query takes it.
pub(super) fn selector(workload: &Value) -> String {
    let mut parts = Vec::new();
    let labels = workload.pointer("/spec/selector/matchLabels");
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        parts.push(format!("{key}={}", value.as_str().unwrap_or("")));
    }
    for it in items(workload, "/spec/selector/matchExpressions") {
        let key = text(it, "/key");
        let values: Vec<&str> = items(it, "/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        parts.push(match text(it, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.join(",")
}

/// Whether an object belongs to another.
pub(super) fn is_owned(object: &Value, owner: &Value) -> bool {
    let uid = text(owner, "/metadata/uid");
    !uid.is_empty()
        && items(object, "/metadata/ownerReferences")
            .iter()
            .any(|it| text(it, "/uid") == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, spec: Value, status: Value) -> Value {
        json!({"kind": kind, "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status})
    }

    #[test]
    fn roll_outs_stand_as_kubectl_says() {
        let going = |done, all, note: &str| Stand::Waiting(done, all, note.to_owned());
        let done = |note: &str| Stand::Done((!note.is_empty()).then(|| note.to_owned()));
        let cases = [
            ("Deployment", json!({"replicas": 2}), json!({"observedGeneration": 1}),
             going(0, 2, "the cluster has not seen the change yet")),
            ("Deployment", json!({"replicas": 2}), json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 3, "availableReplicas": 2}),
             going(1, 2, "1 of 2 pods are new")),
            ("Deployment", json!({"replicas": 2}), json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3, "availableReplicas": 2}),
             going(2, 2, "1 old pods are on their way out")),
            ("Deployment", json!({"replicas": 2}), json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1}),
             going(1, 2, "1 of 2 new pods are available")),
            ("Deployment", json!({"replicas": 2}), json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}),
             done("")),
            ("Deployment", json!({"replicas": 0}), json!({"observedGeneration": 2}), done("it is scaled to zero: no pod runs")),
            ("Deployment", json!({}), json!({"observedGeneration": 2, "conditions": [
                {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"x-1\" has timed out progressing."}]}),
             Stand::Failed("it exceeded its progress deadline: ReplicaSet \"x-1\" has timed out progressing".to_owned())),
            ("StatefulSet", json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}), json!({"observedGeneration": 2}), done(ON_DELETE)),
            ("StatefulSet", json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}),
             json!({"observedGeneration": 2, "updatedReplicas": 0, "readyReplicas": 3}),
             going(0, 1, "0 of 1 pods beyond the partition are new")),
            ("StatefulSet", json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}),
             json!({"observedGeneration": 2, "updatedReplicas": 1, "readyReplicas": 3}),
             done("its partition is 2: 1 of 3 pods are new")),
            ("StatefulSet", json!({"replicas": 3}), json!({"observedGeneration": 2, "updatedReplicas": 1, "readyReplicas": 3, "updateRevision": "b", "currentRevision": "a"}),
             going(1, 3, "1 of 3 pods are new")),
            ("StatefulSet", json!({"replicas": 3}), json!({"observedGeneration": 2, "updatedReplicas": 3, "readyReplicas": 2, "updateRevision": "b", "currentRevision": "a"}),
             going(2, 3, "2 of 3 pods are ready")),
            ("StatefulSet", json!({"replicas": 3}), json!({"observedGeneration": 2, "updatedReplicas": 3, "readyReplicas": 3, "updateRevision": "b", "currentRevision": "b"}), done("")),
            ("DaemonSet", json!({}), json!({"observedGeneration": 2, "desiredNumberScheduled": 4, "updatedNumberScheduled": 1, "numberAvailable": 4}),
             going(1, 4, "1 of 4 pods are new")),
            ("DaemonSet", json!({}), json!({"observedGeneration": 2, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4, "numberAvailable": 3}),
             going(3, 4, "3 of 4 pods are available")),
            ("DaemonSet", json!({}), json!({"observedGeneration": 2, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4, "numberAvailable": 4}), done("")),
        ];
        for (kind, spec, status, expected) in cases {
            assert_eq!(
                stand(&of(kind, spec.clone(), status.clone())),
                expected,
                "{kind} {spec} {status}"
            );
        }
    }

    #[test]
    fn a_selector_is_a_query() {
        let workload = json!({"spec": {"selector": {"matchLabels": {"app": "x"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"}]}}});
        assert_eq!(selector(&workload), "app=x,tier in (a,b),!old");
    }
}
