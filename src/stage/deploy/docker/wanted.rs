//! What should run, with everything resolved.

use std::collections::BTreeMap;

use super::{CONFIG_LABEL, DEPLOY_LABEL, Docker, IMAGE_LABEL};
use crate::base::{Digest, Text};
use crate::ports::engine::{ContainerSpec, ContainerState, Mount, Network};
use crate::stage::{Done, Missing, Values};

/// What should run, with everything resolved.
pub(super) struct Wanted {
    pub(super) spec: ContainerSpec,
    pub(super) config: String,
    pub(super) pinned: String,
}

impl Docker {
    pub(super) async fn wanted(&self, values: &Values, stage: &str) -> Result<Wanted, Missing> {
        let facts = values.image(&self.image.value).await?;
        let (digest, _) = values.digest(&self.image.value).await?;
        let pinned = facts.pinned(&digest);
        let mut env = Vec::new();
        let mut shown_env = BTreeMap::new();
        for (key, template) in &self.env {
            let text = values.text(template).await?;
            // A secret takes part as a hash, so that a new secret is a new configuration.
            let shown = match &text {
                Text::Plain(text) => text.clone(),
                Text::Secret(secret) => {
                    Digest::of(format!("{stage} {key} {}", secret.expose()).as_bytes()).to_string()
                }
            };
            shown_env.insert(key.clone(), shown);
            env.push((key.clone(), text));
        }
        let mut mounts = Vec::new();
        for (source, target) in &self.mounts {
            mounts.push(Mount {
                source: values.plain(source).await?,
                target: target.clone(),
                read_only: false,
            });
        }
        let mut command = Vec::new();
        for template in &self.command {
            command.push(values.plain(template).await?);
        }
        let publish: Vec<String> = match &self.publish {
            Some(publish) => {
                let text = values.plain(publish).await?;
                text.split(',').map(|port| port.trim().to_owned()).collect()
            }
            None => Vec::new(),
        };
        let network = match &self.network {
            Some(network) => Some(values.plain(network).await?),
            None => None,
        };
        let user = match &self.user {
            Some(user) => Some(values.plain(user).await?),
            None => None,
        };
        let config = serde_json::json!({
            "version": 1, "image": pinned, "env": shown_env, "command": command, "publish": publish,
            "network": network, "user": user,
            "mounts": mounts.iter().map(|mount| format!("{}:{}", mount.source, mount.target)).collect::<Vec<_>>(),
        });
        let config = Digest::of(config.to_string().as_bytes()).to_string();
        let labels = BTreeMap::from([
            (DEPLOY_LABEL.to_owned(), self.name.clone()),
            (CONFIG_LABEL.to_owned(), config.clone()),
            (IMAGE_LABEL.to_owned(), pinned.clone()),
        ]);
        let spec = ContainerSpec {
            name: self.name.clone(),
            image: pinned.clone(),
            command: (!command.is_empty()).then_some(command),
            env,
            labels,
            user,
            mounts,
            network: network.and_then(|name| join(name, vec![self.name.clone()])),
            publish,
            restart: true,
            ..ContainerSpec::default()
        };
        Ok(Wanted {
            spec,
            config,
            pinned,
        })
    }

    pub(super) fn done(&self, state: &ContainerState, pinned: &str, done: Done) -> Done {
        let done = done.output("revision", pinned);
        match state.ports.first() {
            Some((_, host)) => {
                let host = host.replacen("0.0.0.0", "127.0.0.1", 1);
                done.output("url", format!("http://{host}"))
            }
            None => done,
        }
    }
}

/// A network by name. Three names are the engine's own, and know no host names.
pub(super) fn join(name: String, aliases: Vec<String>) -> Option<Network> {
    match name.as_str() {
        "none" => Some(Network::None),
        "host" => Some(Network::Host),
        "bridge" | "default" => None,
        _ => Some(Network::Named { name, aliases }),
    }
}
