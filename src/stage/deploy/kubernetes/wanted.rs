//! What should run, before the cluster is asked: the cluster, the namespace, and images by digest.

use std::collections::BTreeMap;

use super::Kubernetes;
use crate::base::Text;
use crate::lang::Template;
use crate::ports::cluster::{Access, Cluster, Thing};
use crate::stage::{Missing, Values};

/// An image by its declaration and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    /// Its declaration.
    pub(super) image: String,
    /// Registry and repository.
    pub(super) name: String,
    /// `name@digest`.
    pub(super) reference: String,
}

/// A workload and the images its containers get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Container and image.
    pub(super) images: Vec<(String, String)>,
}

impl Target {
    pub(super) fn thing(&self, namespace: &str) -> Thing {
        Thing {
            api: "apps/v1".to_owned(),
            kind: self.kind.to_owned(),
            namespace: namespace.to_owned(),
            name: self.name.clone(),
        }
    }
}

/// What should run.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) cluster: Cluster,
    /// As it is written; the cluster's own if absent.
    pub(super) namespace: Option<String>,
    pub(super) pinned: Vec<Pinned>,
    pub(super) targets: Vec<Target>,
    /// Whether it goes back to what an earlier run deployed.
    pub(super) back: bool,
}

impl Wanted {
    pub(super) fn reference(&self, image: &str) -> Option<&str> {
        let pin = self.pinned.iter().find(|pin| pin.image == image)?;
        Some(&pin.reference)
    }

    /// What runs once it is done, in words that mean the same in every run: images by digest. A
    /// cluster counts revisions too, and gives one another number when it is gone back to.
    pub(super) fn revision(&self) -> String {
        let pairs = self.pinned.iter();
        pairs
            .map(|pin| format!("{}={}", pin.image, pin.reference))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Kubernetes {
    /// What should run; as an earlier run left it if `back` is its revision.
    pub(super) async fn wanted(
        &self,
        values: &Values,
        back: Option<&String>,
    ) -> Result<Wanted, Missing> {
        let cluster = cluster(values, &self.cluster.value).await?;
        let namespace = maybe(values, self.namespace.as_ref()).await?;
        let earlier = back.map(|revision| parsed(revision));
        let mut pinned: Vec<Pinned> = Vec::new();
        for image in self.images() {
            if pinned.iter().any(|pin| pin.image == image.value) {
                continue;
            }
            let facts = values.image(&image.value).await?;
            let name = facts.name();
            let reference = match &earlier {
                Some(earlier) => earlier
                    .get(image.value.as_str())
                    .ok_or_else(|| {
                        Missing::Absent(format!(
                            "the earlier run did not deploy image `{}`",
                            image.value
                        ))
                    })?
                    .to_string(),
                None => facts.pinned(&values.digest(&image.value).await?.0),
            };
            pinned.push(Pinned {
                image: image.value.clone(),
                name,
                reference,
            });
        }
        pinned.sort_by(|a, b| a.image.cmp(&b.image));
        let mut targets: Vec<Target> = Vec::new();
        for rollout in &self.rollouts {
            let pin = pinned.iter().find(|pin| pin.image == rollout.image.value);
            let Some(pin) = pin else { continue };
            let pair = (rollout.container.clone(), pin.reference.clone());
            let same = targets
                .iter_mut()
                .find(|target| target.kind == rollout.kind && target.name == rollout.name);
            match same {
                Some(target) => target.images.push(pair),
                None => targets.push(Target {
                    kind: rollout.kind,
                    name: rollout.name.clone(),
                    images: vec![pair],
                }),
            }
        }
        Ok(Wanted {
            cluster,
            namespace,
            pinned,
            targets,
            back: back.is_some(),
        })
    }
}

fn parsed(revision: &str) -> BTreeMap<&str, &str> {
    let pairs = revision.split(' ');
    pairs.filter_map(|pair| pair.split_once('=')).collect()
}

async fn maybe(values: &Values, template: Option<&Template>) -> Result<Option<String>, Missing> {
    match template {
        None => Ok(None),
        Some(template) => values.plain(template).await.map(Some),
    }
}

/// A cluster by its declaration.
async fn cluster(values: &Values, name: &str) -> Result<Cluster, Missing> {
    let decl = values
        .decls
        .clusters
        .get(name)
        .ok_or_else(|| Missing::Absent(format!("kubernetes `{name}` is not declared")))?;
    let decl = &decl.value;
    let secret = async |template: &Template| values.text(template).await.map(Text::into_secret);
    let context = maybe(values, decl.context.as_ref()).await?;
    let access = match (&decl.server, &decl.token, &decl.kubeconfig) {
        (Some(server), Some(token), _) => Access::Token {
            server: values.plain(server).await?,
            token: secret(token).await?,
            authority: maybe(values, decl.authority.as_ref()).await?,
        },
        (_, _, Some(config)) => Access::Kubeconfig {
            config: secret(config).await?,
            context,
        },
        _ if decl.in_cluster => Access::InCluster,
        _ => Access::Ambient { context },
    };
    Ok(Cluster {
        name: name.to_owned(),
        access,
        base: values.workspace.root().to_owned(),
    })
}
