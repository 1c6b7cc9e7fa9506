//! A container's specification in the engine's words.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, Mount as ApiMount, MountType,
    MountVolumeOptions, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};

use super::error::check_name;
use super::publish;
use crate::ports::engine::{ContainerSpec, Mount, Network};

/// What the engine is asked to create.
pub(super) fn body(spec: &ContainerSpec) -> Result<ContainerCreateBody, String> {
    let mut exposed = Vec::new();
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for text in &spec.publish {
        let port = publish::parse(text)?;
        let binding = PortBinding {
            host_ip: Some(port.address),
            host_port: Some(port.port),
        };
        exposed.push(port.container.clone());
        let list = bindings.entry(port.container).or_default();
        list.get_or_insert_default().push(binding);
    }
    exposed.sort_unstable();
    exposed.dedup();
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        mounts.push(api_mount(mount, &spec.labels)?);
    }
    for (name, _) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("\"{name}\" is no name of an environment variable"));
        }
    }
    let (mode, networking) = match &spec.network {
        None => (None, None),
        Some(Network::None) => (Some("none".to_owned()), None),
        Some(Network::Host) => (Some("host".to_owned()), None),
        Some(Network::Named { name, aliases }) => {
            let endpoint = EndpointSettings {
                aliases: Some(aliases.clone()),
                ..Default::default()
            };
            let networking = NetworkingConfig {
                endpoints_config: Some(HashMap::from([(name.clone(), endpoint)])),
            };
            (Some(name.clone()), Some(networking))
        }
    };
    let memory = spec
        .memory
        .map(|bytes| i64::try_from(bytes).map_err(|_| "the memory limit is too large"))
        .transpose()?;
    let host = HostConfig {
        memory,
        network_mode: mode,
        port_bindings: (!bindings.is_empty()).then_some(bindings),
        mounts: (!mounts.is_empty()).then_some(mounts),
        restart_policy: spec.restart.then_some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        ..Default::default()
    };
    let stdin = spec.stdin.is_some().then_some(true);
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        // One empty string is how the engine is told to forget the image's own.
        entrypoint: spec.entrypoint.clone().map(|entrypoint| {
            if entrypoint.is_empty() {
                vec![String::new()]
            } else {
                entrypoint
            }
        }),
        cmd: spec.command.clone(),
        env: Some(
            spec.env
                .iter()
                .map(|(name, value)| format!("{name}={}", value.expose()))
                .collect(),
        ),
        labels: Some(spec.labels.clone().into_iter().collect()),
        working_dir: spec.workdir.clone(),
        user: spec.user.clone(),
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        attach_stdin: stdin,
        open_stdin: stdin,
        stdin_once: stdin,
        host_config: Some(host),
        networking_config: networking,
        ..Default::default()
    })
}

fn api_mount(mount: &Mount, labels: &BTreeMap<String, String>) -> Result<ApiMount, String> {
    if !mount.target.starts_with('/') {
        return Err(format!(
            "\"{}\" is no absolute path in a container",
            mount.target
        ));
    }
    let bind = mount.source.starts_with('/');
    if !bind {
        check_name("volume", &mount.source).map_err(|error| error.to_string())?;
    }
    Ok(ApiMount {
        target: Some(mount.target.clone()),
        source: Some(mount.source.clone()),
        typ: Some(if bind {
            MountType::BIND
        } else {
            MountType::VOLUME
        }),
        read_only: Some(mount.read_only),
        // A volume made for a run is reaped with it.
        volume_options: (!bind).then(|| MountVolumeOptions {
            labels: Some(labels.clone().into_iter().collect()),
            ..Default::default()
        }),
        ..Default::default()
    })
}
