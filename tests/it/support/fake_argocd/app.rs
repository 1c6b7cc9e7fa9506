//! An application of the fake: where it is, and how it goes on, look by look.

use serde_json::{Value, json};

use super::{NEW, OLD};

/// What an application does at one look after another once it was synced. The last beat lasts.
#[derive(Clone, Debug)]
pub enum Beat {
    /// The answer is from before the sync.
    Stale,
    /// Asked for, not begun.
    Pending,
    /// At work, and a hook with its phase.
    Running(&'static str),
    /// The operation failed because of a hook: its message.
    HookFails(&'static str),
    /// The operation failed because of a resource: its message.
    SyncFails(&'static str),
    /// The operation has ended well, and the health is this.
    Health(&'static str),
    /// It has ended well and was not compared since.
    Uncompared,
    /// It has ended well, and a resource is out of sync all the same.
    OutOfSync,
    /// Somebody syncs this revision instead.
    Theirs(&'static str),
    /// It is at this revision by itself, synced and healthy.
    At(&'static str),
    /// It is by itself at what its repository has now, synced and healthy.
    AtTip,
    /// It cannot be compared.
    Broken(&'static str),
    /// It is gone.
    Deleted,
    /// A status instead of an answer.
    Status(u16),
    /// Something that is not JSON.
    Garbage,
}

/// Tells what a repository has now.
type Tip = Box<dyn Fn() -> String + Send>;

/// An application.
pub struct App {
    name: String,
    plot: Vec<Beat>,
    at: usize,
    pub auto: bool,
    pub health: &'static str,
    /// What it was compared with before anything happened.
    pub revision: String,
    /// The operation asked for: its revision and infos.
    operation: Option<(String, Value)>,
    /// Whether the operation at hand was asked of us, and is a way back.
    synced: bool,
    back: bool,
    time: i64,
    pub history: Vec<(i64, String)>,
    pub missing: bool,
    /// Applications of which it consists.
    pub children: Vec<&'static str>,
    pub repository: String,
    tip: Option<Tip>,
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .expect("a time")
        .to_string()
}

impl App {
    pub fn new(name: &str, plot: &[Beat]) -> Self {
        Self {
            name: name.to_owned(),
            plot: plot.to_vec(),
            at: 0,
            auto: false,
            health: "Healthy",
            revision: OLD.to_owned(),
            operation: None,
            synced: false,
            back: false,
            time: 1_800_000_000,
            history: vec![(0, OLD.to_owned())],
            missing: false,
            children: Vec::new(),
            repository: "https://git.example.com/m.git".to_owned(),
            tip: None,
        }
    }

    /// From now on it follows a repository, of which this tells the commit.
    pub fn follow(&mut self, tip: impl Fn() -> String + Send + 'static) {
        self.tip = Some(Box::new(tip));
    }

    /// Another plot, from its beginning.
    pub fn then(&mut self, plot: &[Beat]) {
        self.plot = plot.to_vec();
        self.at = 0;
    }

    /// Begins an operation.
    pub(super) fn begin(&mut self, revision: String, infos: Value, back: bool) -> Value {
        self.time += 10;
        self.at = 0;
        self.synced = true;
        self.back = back;
        let id = self.history.last().map_or(0, |(id, _)| id + 1);
        self.history.push((id, revision.clone()));
        if !back {
            self.revision.clone_from(&revision);
        }
        self.operation = Some((revision, infos));
        self.shown(&Beat::Pending)
    }

    /// How it is at the next look.
    pub(super) fn next(&mut self) -> Beat {
        if !self.synced && !self.auto {
            return Beat::Stale;
        }
        let beat = self.plot.get(self.at).or(self.plot.last()).cloned();
        self.at += 1;
        beat.unwrap_or(Beat::Health("Healthy"))
    }

    /// How it is told of, in the words of `v1alpha1Application`.
    pub(super) fn shown(&self, beat: &Beat) -> Value {
        let tip = || {
            self.tip
                .as_ref()
                .map_or_else(|| NEW.to_owned(), |tip| tip())
        };
        let (revision, infos) = self.operation.clone().unwrap_or((tip(), Value::Null));
        let mut resources = vec![
            json!({"group": "apps", "version": "v1", "kind": "Deployment",
            "namespace": "default", "name": "web", "status": "Synced", "health": {"status": "Healthy"}}),
        ];
        resources.extend(self.children.iter().map(|name| {
            json!({"group": "argoproj.io", "version": "v1alpha1", "kind": "Application",
                "namespace": "argocd", "name": name, "status": "Synced"})
        }));
        let history = self.history.iter();
        let history: Vec<Value> = history
            .map(|(id, revision)| json!({"id": id, "revision": revision, "deployedAt": stamp(self.time)}))
            .collect();
        let mut app = json!({
            "metadata": {"name": self.name, "namespace": "argocd"},
            "spec": {
                "project": "default",
                "source": {"repoURL": self.repository, "path": ".", "targetRevision": "main"},
                "destination": {"server": "https://kubernetes.default.svc"},
                "syncPolicy": if self.auto { json!({"automated": {"prune": true}}) } else { json!({}) }
            },
            "status": {
                "sync": {"status": "OutOfSync", "revision": if self.synced { OLD } else { &self.revision }},
                "health": {"status": self.health},
                "reconciledAt": stamp(self.time + 5),
                "history": history,
                "resources": resources
            }
        });
        let operation = |phase: &str, revision: &str, infos: &Value, results: Value| {
            let mut state = json!({
                "phase": phase, "message": if phase == "Running" { "waiting for completion of hook batch/Job/migrate" } else { "one or more synchronization tasks completed" },
                "startedAt": stamp(self.time),
                "operation": {"sync": {"revision": revision}, "info": infos},
                "syncResult": {"revision": revision, "resources": results}
            });
            if phase != "Running" {
                state["finishedAt"] = json!(stamp(self.time + 3));
            }
            state
        };
        let synced = |app: &mut Value, revision: &str| {
            // Who went back is compared with what it follows, and out of sync with that.
            app["status"]["sync"] = match self.back {
                true => json!({"status": "OutOfSync", "revision": self.revision}),
                false => json!({"status": "Synced", "revision": revision}),
            };
        };
        let hook = |phase: &str, message: &str| {
            json!([{"group": "batch", "version": "v1", "kind": "Job", "namespace": "default", "name": "migrate",
            "hookType": "PreSync", "hookPhase": phase, "message": message, "syncPhase": "PreSync"}])
        };
        match beat {
            Beat::Stale => {}
            Beat::Pending => {
                app["operation"] = json!({"sync": {"revision": revision}, "info": infos});
            }
            Beat::Running(phase) => {
                app["status"]["operationState"] =
                    operation("Running", &revision, &infos, hook(phase, ""));
            }
            Beat::HookFails(message) => {
                app["status"]["operationState"] =
                    operation("Failed", &revision, &infos, hook("Failed", message));
            }
            Beat::SyncFails(message) => {
                let results = json!([{"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "default", "name": "web", "status": "SyncFailed", "message": message}]);
                app["status"]["operationState"] = operation("Failed", &revision, &infos, results);
            }
            Beat::Health(health) => {
                app["status"]["operationState"] =
                    operation("Succeeded", &revision, &infos, json!([]));
                synced(&mut app, &revision);
                app["status"]["health"] = json!({"status": health});
                app["status"]["resources"][0]["health"] = json!({"status": health, "message": if *health == "Healthy" { "" } else { "0 of 2 pods are ready" }});
            }
            Beat::Uncompared => {
                app["status"]["operationState"] =
                    operation("Succeeded", &revision, &infos, json!([]));
                synced(&mut app, &revision);
                app["status"]["reconciledAt"] = json!(stamp(self.time - 1));
            }
            Beat::OutOfSync => {
                app["status"]["operationState"] =
                    operation("Succeeded", &revision, &infos, json!([]));
                app["status"]["sync"]["revision"] = json!(revision);
                app["status"]["resources"][0]["status"] = json!("OutOfSync");
            }
            Beat::Theirs(theirs) => {
                app["status"]["operationState"] =
                    operation("Succeeded", theirs, &Value::Null, json!([]));
                app["status"]["operationState"]["startedAt"] = json!(stamp(self.time + 1));
                synced(&mut app, theirs);
            }
            Beat::At(revision) => {
                app["status"]["operationState"] =
                    operation("Succeeded", revision, &Value::Null, json!([]));
                synced(&mut app, revision);
            }
            Beat::AtTip => {
                let revision = tip();
                app["status"]["operationState"] =
                    operation("Succeeded", &revision, &Value::Null, json!([]));
                synced(&mut app, &revision);
            }
            Beat::Broken(message) => {
                app["status"]["conditions"] =
                    json!([{"type": "ComparisonError", "message": message}]);
                app["status"]["sync"]["status"] = json!("Unknown");
            }
            Beat::Deleted | Beat::Status(_) | Beat::Garbage => {}
        }
        app
    }
}
