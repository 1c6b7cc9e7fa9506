//! Manifests: read from the commit or built by kustomize, images put in by their repository, and put
//! in the order in which a cluster takes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;

use super::workload::{containers, text};
use super::{Kubernetes, spec::Apply, wanted::Pinned};
use crate::formats::kubernetes_objects;
use crate::ports::process::{ProcessError, ProcessSpec, Program};
use crate::ports::{Output, Progress};
use crate::stage::{Failure, Missing, StageContext, Values};

/// Most bytes of one manifest and of what kustomize prints.
const MOST: usize = 8 << 20;
/// Most files of a directory.
const FILES: usize = 1000;
/// Most objects of a stage.
const OBJECTS: usize = 5000;
const OVERLAYS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// What others refer to comes first. Kinds that are not named come after these and before
/// [`LAST`].
const FIRST: [&str; 17] = [
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "ResourceQuota",
    "LimitRange",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "ConfigMap",
    "Secret",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
];
/// What admits and routes comes last.
const LAST: [&str; 5] = [
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Ingress",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
];

/// An object to apply.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// The object.
    pub(super) object: Value,
    /// Where it stands.
    pub(super) origin: String,
    /// Whether fields of others are taken.
    pub(super) force: bool,
}

/// Manifests of a stage, and what is known only once it runs.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// In the order in which they are applied.
    pub(super) objects: Vec<Manifest>,
    /// Directories that kustomize has to build.
    pub(super) overlays: Vec<String>,
}

impl Kubernetes {
    /// Reads all manifests; overlays are built only where processes may be started.
    pub(super) async fn manifests(
        &self,
        values: &Values,
        builder: Option<&StageContext<'_>>,
        pinned: &[Pinned],
    ) -> Result<Manifests, Failure> {
        let mut all = Manifests::default();
        for apply in &self.applies {
            let mut of_apply = Vec::new();
            for path in &apply.paths {
                let path = values.plain(path).await?;
                let sources = sources(values, &path).await?;
                for source in sources {
                    let (text, origin) = match source {
                        Source::File(path) => (read(values, &path).await?, path),
                        Source::Overlay(dir) => match builder {
                            None => {
                                all.overlays.push(dir);
                                continue;
                            }
                            Some(cx) => (built(cx, &dir).await?, dir),
                        },
                    };
                    let objects = kubernetes_objects::objects(&text)
                        .map_err(|why| Failure::failed(format!("{origin}: {why}")))?;
                    of_apply.extend(objects.into_iter().map(|object| Manifest {
                        object,
                        origin: origin.clone(),
                        force: apply.force,
                    }));
                }
            }
            let complete = all.overlays.is_empty();
            substitute(apply, &mut of_apply, pinned, complete)?;
            all.objects.extend(of_apply);
        }
        if all.objects.len() > OBJECTS {
            return Err(Failure::failed(format!(
                "there are {} manifests; at most {OBJECTS} are applied by one stage",
                all.objects.len()
            )));
        }
        unique(&all.objects)?;
        all.objects
            .sort_by_key(|manifest| rank(text(&manifest.object, "/kind")));
        Ok(all)
    }
}

enum Source {
    File(String),
    Overlay(String),
}

/// What a path stands for: a file, the manifests of a directory, or an overlay.
async fn sources(values: &Values, path: &str) -> Result<Vec<Source>, Failure> {
    let workspace = &*values.workspace;
    let sha = (!values.dirty).then_some(values.commit.sha.as_str());
    let Some(names) = workspace.entries(sha, Path::new(path)).await? else {
        return Ok(vec![Source::File(path.to_owned())]);
    };
    if names.iter().any(|name| OVERLAYS.contains(&name.as_str())) {
        return Ok(vec![Source::Overlay(path.to_owned())]);
    }
    let mut files: Vec<String> = names
        .into_iter()
        .filter(|name| {
            let end = name.rsplit_once('.').map(|(_, end)| end);
            matches!(end, Some("yaml" | "yml" | "json"))
        })
        .map(|name| format!("{}/{name}", path.trim_end_matches('/')))
        .collect();
    files.sort();
    if files.is_empty() || files.len() > FILES {
        return Err(Failure::failed(format!(
            "directory {path} holds {} manifests (`.yaml`, `.yml`, `.json`); 1 to {FILES} are applied",
            files.len()
        )));
    }
    Ok(files.into_iter().map(Source::File).collect())
}

async fn read(values: &Values, path: &str) -> Result<String, Failure> {
    let sha = (!values.dirty).then_some(values.commit.sha.as_str());
    let bytes = values
        .workspace
        .read(sha, Path::new(path), MOST as u64)
        .await?
        .ok_or_else(|| Missing::Absent(format!("{path} does not exist in the commit")))?;
    String::from_utf8(bytes).map_err(|_| Failure::failed(format!("{path} is not text")))
}

/// What kustomize makes of an overlay.
async fn built(cx: &StageContext<'_>, dir: &str) -> Result<String, Failure> {
    let programs: [&[&str]; 2] = [&["kustomize", "build"], &["kubectl", "kustomize"]];
    for program in programs {
        let gathered = Gathered::default();
        let mut command: Vec<String> = program.iter().map(|&word| word.to_owned()).collect();
        command.push(format!("./{}", dir.trim_start_matches("./")));
        let spec = ProcessSpec {
            program: Program::Command(command),
            workdir: PathBuf::from(&cx.tree),
            env: Vec::new(),
            marker: format!("{}/{}", cx.run, cx.stage),
            grace: cx.grace,
        };
        let program = program.join(" ");
        match cx.world.host.run(&spec, &gathered, &cx.cancel).await {
            Err(ProcessError::Start { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(status) => {
                let out = gathered.text(dir)?;
                if status == 0 {
                    cx.say(format!("built {dir} by {program}"));
                    return Ok(out);
                }
                let last = out.lines().rev().find(|line| !line.trim().is_empty());
                return Err(Failure::failed(format!(
                    "{program} of {dir} exited with status {status}: {}",
                    super::pods::said(last.unwrap_or("it says nothing"))
                )));
            }
        }
    }
    Err(Failure::failed(format!(
        "{dir} is a kustomize overlay, and neither `kustomize` nor `kubectl` is installed here; install one of them"
    )))
}

/// What a process printed, up to a bound.
#[derive(Default)]
struct Gathered(Mutex<Vec<u8>>);

impl Gathered {
    fn text(&self, dir: &str) -> Result<String, Failure> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if bytes.len() > MOST {
            return Err(Failure::failed(format!(
                "kustomize makes more than {MOST} bytes of {dir}"
            )));
        }
        String::from_utf8(bytes)
            .map_err(|_| Failure::failed(format!("what kustomize makes of {dir} is not text")))
    }
}

impl Output for Gathered {
    fn log(&self, bytes: &[u8]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= MOST {
            all.extend_from_slice(bytes);
        }
    }

    fn log_shared(&self, bytes: Bytes) {
        self.log(&bytes);
    }

    fn progress(&self, _progress: Progress) {}
}

/// Puts images in by their repository.
fn substitute(
    apply: &Apply,
    manifests: &mut [Manifest],
    pinned: &[Pinned],
    complete: bool,
) -> Result<(), Failure> {
    for image in &apply.images {
        let Some(pin) = pinned.iter().find(|pin| pin.image == image.value) else {
            continue;
        };
        let mut found = false;
        let mut there = BTreeSet::new();
        for manifest in manifests.iter_mut() {
            each_image(&mut manifest.object, &mut |text| {
                let repository = repository(text);
                if repository == pin.name {
                    found = true;
                    return Some(pin.reference.clone());
                }
                there.insert(repository.to_owned());
                None
            });
        }
        if !found && complete {
            let there: Vec<String> = there.into_iter().take(20).collect();
            let there = match there.as_slice() {
                [] => "no container at all".to_owned(),
                there => there.join(", "),
            };
            return Err(Failure::failed(format!(
                "no container in the manifests is of image `{}`, whose repository is {}; there is {there}",
                image.value, pin.name
            )));
        }
    }
    Ok(())
}

/// Visits the image of every container of every pod template, also those of kinds nobody here knows.
fn each_image(value: &mut Value, visit: &mut dyn FnMut(&str) -> Option<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let is_list = matches!(
                    key.as_str(),
                    "containers" | "initContainers" | "ephemeralContainers"
                );
                if let (true, Value::Array(list)) = (is_list, &mut *value) {
                    for container in list {
                        if let Some(image) = container.get_mut("image")
                            && let Some(new) = image.as_str().and_then(&mut *visit)
                        {
                            *image = Value::String(new);
                        }
                    }
                } else {
                    each_image(value, visit);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| each_image(value, visit)),
        _ => {}
    }
}

/// An image's name without tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        // A port is followed by a path.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// Every object once.
fn unique(manifests: &[Manifest]) -> Result<(), Failure> {
    let mut seen = std::collections::BTreeMap::new();
    for manifest in manifests {
        let object = &manifest.object;
        let key = [
            "/apiVersion",
            "/kind",
            "/metadata/namespace",
            "/metadata/name",
        ]
        .map(|at| text(object, at).to_owned());
        if let Some(other) = seen.insert(key, &manifest.origin) {
            return Err(Failure::failed(format!(
                "{} {} stands in {other} and in {}; keep one of them",
                text(object, "/kind").to_lowercase(),
                text(object, "/metadata/name"),
                manifest.origin
            )));
        }
    }
    Ok(())
}

fn rank(kind: &str) -> usize {
    let first = FIRST.iter().position(|it| *it == kind);
    let last = LAST.iter().position(|it| *it == kind);
    match (first, last) {
        (Some(first), _) => first,
        (None, Some(last)) => FIRST.len() + 1 + last,
        (None, None) => FIRST.len(),
    }
}

/// The images of all containers of a workload, which is what its roll-out brings.
pub(super) fn images(workload: &Value) -> Vec<(String, String)> {
    containers(workload)
        .into_iter()
        .map(|(_, name, image)| (name.to_owned(), image.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_repository_is_what_is_left_of_an_image() {
        for (image, name) in [
            ("web", "web"),
            ("web:1", "web"),
            ("localhost:5000/web", "localhost:5000/web"),
            ("localhost:5000/web:1", "localhost:5000/web"),
            ("localhost:5000/web:1@sha256:0", "localhost:5000/web"),
        ] {
            assert_eq!(repository(image), name);
        }
    }

    #[test]
    fn images_are_found_wherever_there_are_containers() {
        let mut cron = json!({"kind": "CronJob", "image": "no", "spec": {"jobTemplate": {"spec": {"template": {"spec": {
            "containers": [{"name": "a", "image": "web:1"}], "initContainers": [{"name": "b", "image": "other"}]}}}}}});
        let mut seen = Vec::new();
        each_image(&mut cron, &mut |image| {
            seen.push(image.to_owned());
            (image == "web:1").then(|| "web@sha256:0".to_owned())
        });
        assert_eq!(seen, ["web:1", "other"]);
        assert_eq!(
            cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"],
            "web@sha256:0"
        );
    }

    #[test]
    fn what_others_need_comes_first() {
        let mut kinds = [
            "Ingress",
            "Deployment",
            "Service",
            "Namespace",
            "Widget",
            "CustomResourceDefinition",
        ];
        kinds.sort_by_key(|kind| rank(kind));
        assert_eq!(
            kinds,
            [
                "Namespace",
                "CustomResourceDefinition",
                "Service",
                "Deployment",
                "Widget",
                "Ingress"
            ]
        );
    }
}
