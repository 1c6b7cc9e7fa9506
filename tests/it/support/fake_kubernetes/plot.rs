//! Roll-outs and jobs that follow a plot, look by look.

use serde_json::{Value, json};

use super::wire::Ask;
use super::{Said, State, key};

/// What happens at one look after another. The last beat lasts.
#[derive(Clone, Debug)]
pub enum Beat {
    /// The answer is from before the change.
    Stale,
    /// So many pods are new and available.
    New(u64),
    /// The new pod's container waits, for this reason and with this message.
    Waits(&'static str, &'static str),
    /// The new pod's container crashes again and again, with this status and reason.
    Crashes(i64, &'static str),
    /// No node takes the new pod.
    Unschedulable(&'static str),
    /// The new pod is evicted.
    Evicted(&'static str),
    /// The new pod runs and is not ready, and the cluster warns.
    Warns(&'static str, &'static str),
    /// The new pod cannot even be made.
    Quota(&'static str),
    /// The new pods come up, whatever was before.
    Heals,
    /// Everything runs.
    Completes,
    /// It took too long by the cluster's own count.
    Deadline,
    /// Somebody else rolls out.
    Theirs,
    /// Somebody pauses it.
    Paused,
    /// Somebody scales it to zero.
    Zero,
    /// It is not there.
    Deleted,
    /// The look is throttled, however often it is tried.
    Throttled,
    /// The look brings nothing.
    Lost,
    /// The job's pod runs.
    JobRuns,
    /// The job's pod cannot start.
    JobWaits(&'static str, &'static str),
    /// The job's pod ends with this status, for this reason.
    JobEnds(i64, &'static str),
}

impl State {
    /// A roll-out begins.
    pub(super) fn begin(&mut self, before: &Value) {
        if self.moved
            && let Some(next) = self.next_plot.take()
        {
            self.plot = next;
        }
        if !before.is_null() {
            self.stale = Some(before.clone());
        }
        self.moved = true;
    }

    /// One beat further; an answer, if it is not what the objects say.
    pub(super) fn play(&mut self, ask: &Ask) -> Option<Said> {
        if ask.plural == "jobs" {
            self.play_job(ask);
            return None;
        }
        let rolls = matches!(
            ask.plural.as_str(),
            "deployments" | "statefulsets" | "daemonsets"
        );
        if !rolls || !self.moved {
            return None;
        }
        let beat = match self.plot.len() {
            0 | 1 => self.plot.front().cloned(),
            _ => self.plot.pop_front(),
        }?;
        match beat {
            Beat::Stale => self.stale.clone().map(Said::fine),
            Beat::Throttled => Some(Said::no(429, "TooManyRequests", "slow down")),
            Beat::Lost => Some(Said::no(500, "InternalError", "etcdserver: no leader")),
            Beat::Deleted => Some(Said::no(404, "NotFound", "not found")),
            beat => {
                self.happens(ask, &beat);
                None
            }
        }
    }

    fn happens(&mut self, ask: &Ask, beat: &Beat) {
        let at = key(&ask.api, &ask.plural, &ask.namespace, &ask.name);
        let Some(mut object) = self.objects.get(&at).cloned() else {
            return;
        };
        let name = ask.name.clone();
        let hash = match object["kind"].as_str() {
            Some("Deployment") => {
                object["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
                    .as_str()
                    .unwrap_or("1")
                    .to_owned()
            }
            _ => {
                let update = object["status"]["updateRevision"].as_str().unwrap_or("");
                update.rsplit('-').next().unwrap_or("1").to_owned()
            }
        };
        let pod = format!("{name}-{hash}-new");
        let replicas = object["spec"]["replicas"].as_u64().unwrap_or(1);
        object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
        let mut progress = |new: u64, available: u64| {
            object["status"]["replicas"] = json!(replicas + 1);
            for key in ["updatedReplicas", "updatedNumberScheduled"] {
                object["status"][key] = json!(new);
            }
            for key in ["availableReplicas", "readyReplicas", "numberAvailable"] {
                object["status"][key] = json!(available);
            }
        };
        let waiting = |state: Value, last: Value| {
            json!({"phase": "Pending", "containerStatuses": [
            {"name": "app", "ready": false, "state": state, "lastState": last}]})
        };
        match beat {
            Beat::New(number) => {
                progress(*number, replicas);
                // What was said of the roll-out before stays until this one gets on.
                if *number > 0 {
                    object["status"]["conditions"] = json!([]);
                }
            }
            Beat::Waits(reason, message) => {
                progress(1, replicas);
                let state = json!({"waiting": {"reason": reason, "message": message}});
                self.put_pod(&pod, &name, &hash, waiting(state, json!({})));
            }
            Beat::Crashes(code, reason) => {
                progress(1, replicas);
                let state =
                    json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
                let last = json!({"terminated": {"exitCode": code, "reason": reason}});
                self.put_pod(&pod, &name, &hash, waiting(state, last));
            }
            Beat::Unschedulable(message) => {
                progress(1, replicas);
                let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                    "reason": "Unschedulable", "message": message}]});
                self.put_pod(&pod, &name, &hash, status);
            }
            Beat::Evicted(message) => {
                progress(1, replicas);
                let status = json!({"phase": "Failed", "reason": "Evicted", "message": message});
                self.put_pod(&pod, &name, &hash, status);
            }
            Beat::Warns(reason, message) => {
                progress(1, replicas);
                let status = json!({"phase": "Running", "containerStatuses": [
                    {"name": "app", "ready": false, "state": {"running": {}}}]});
                self.put_pod(&pod, &name, &hash, status);
                let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("{pod}.1"), "namespace": "main"},
                    "involvedObject": {"kind": "Pod", "name": pod}, "type": "Warning", "reason": reason, "message": message});
                self.keep("v1", "events", event);
            }
            Beat::Quota(message) => {
                progress(0, replicas);
                let set = key("apps/v1", "replicasets", "main", &format!("{name}-{hash}"));
                if let Some(set) = self.objects.get_mut(&set) {
                    set["status"] = json!({"conditions": [{"type": "ReplicaFailure", "status": "True",
                        "reason": "FailedCreate", "message": message}]});
                }
            }
            Beat::Heals | Beat::Completes => {
                let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
                self.put_pod(&pod, &name, &hash, ready);
                if matches!(beat, Beat::Heals) {
                    progress(1, replicas);
                } else {
                    progress(replicas, replicas);
                    object["status"]["replicas"] = json!(replicas);
                    object["status"]["currentRevision"] =
                        object["status"]["updateRevision"].clone();
                }
                object["status"]["conditions"] = json!([]);
            }
            Beat::Deadline => {
                object["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
                    "reason": "ProgressDeadlineExceeded", "lastUpdateTime": format!("2026-01-01T00:00:{hash:0>2}Z"),
                    "message": format!("ReplicaSet \"{name}-{hash}\" has timed out progressing.")}]);
            }
            Beat::Theirs => {
                let generation = object["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
                object["metadata"]["generation"] = json!(generation);
                object["spec"]["template"]["spec"]["containers"][0]["image"] =
                    json!("localhost:5000/app:theirs");
            }
            Beat::Paused => object["spec"]["paused"] = json!(true),
            Beat::Zero => object["spec"]["replicas"] = json!(0),
            _ => self
                .complaints
                .push(format!("{beat:?} is nothing that happens to a workload")),
        }
        // Its status is written all the time, and that makes a version.
        self.keep(&ask.api, &ask.plural, object);
    }

    fn play_job(&mut self, ask: &Ask) {
        let at = key(&ask.api, &ask.plural, &ask.namespace, &ask.name);
        let Some(mut job) = self.objects.get(&at).cloned() else {
            return;
        };
        let beat = match self.job_plot.len() {
            0 | 1 => self.job_plot.front().cloned(),
            _ => self.job_plot.pop_front(),
        };
        let container = job["spec"]["template"]["spec"]["containers"][0]["name"].clone();
        let state = match &beat {
            Some(Beat::JobWaits(reason, message)) => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            Some(Beat::JobEnds(code, reason)) => {
                let end = if *code == 0 { "Complete" } else { "Failed" };
                job["status"]["conditions"] = json!([{"type": end, "status": "True",
                    "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}]);
                let reason = if reason.is_empty() { "Error" } else { reason };
                json!({"terminated": {"exitCode": code, "reason": if *code == 0 { "Completed" } else { reason }}})
            }
            _ => json!({"running": {}}),
        };
        self.keep("batch/v1", "jobs", job);
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "migrate-pod", "namespace": "main", "labels": {"job-name": ask.name}},
            "status": {"phase": "Running", "containerStatuses": [{"name": container, "ready": false, "state": state}]}});
        self.keep("v1", "pods", pod);
    }
}
