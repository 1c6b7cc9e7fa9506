//! The service account of a pod: the files its kubelet mounts and renews, and the address it is told.

use std::path::PathBuf;

use kube::config::Config;

use super::config::{authorities, sized, small};

/// Where the kubelet mounts it.
const DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The service account of the pod this process runs in, if it runs in one.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    directory: PathBuf,
    host: Option<String>,
    port: Option<String>,
}

impl ServiceAccount {
    /// As the environment says.
    pub fn of_pod() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            directory: PathBuf::from(DIRECTORY),
            host: set("KUBERNETES_SERVICE_HOST"),
            port: set("KUBERNETES_SERVICE_PORT"),
        }
    }

    /// One whose files are in another directory.
    pub fn at(directory: PathBuf, host: &str, port: u16) -> Self {
        Self {
            directory,
            host: Some(host.to_owned()),
            port: Some(port.to_string()),
        }
    }

    /// Whether there is anything of it.
    pub(super) fn exists(&self) -> bool {
        self.host.is_some() && self.directory.exists()
    }

    /// How it reaches its cluster.
    pub(super) fn config(&self) -> Result<Config, String> {
        let absent = |why: String| {
            format!(
                "this process does not run in a pod that has a service account: {why}; declare `kubeconfig`, or an \
                 address and `token`"
            )
        };
        let unset = |name: &str| absent(format!("{name} is not set"));
        let host = self.host.as_deref();
        let host = host.ok_or_else(|| unset("KUBERNETES_SERVICE_HOST"))?;
        let port = self.port.as_deref();
        let port = port.ok_or_else(|| unset("KUBERNETES_SERVICE_PORT"))?;
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let server = format!("https://{host}:{port}");
        let address = server
            .parse()
            .map_err(|error| format!("the pod's \"{server}\" is no address: {error}"))?;
        let (token, authority) = (self.directory.join("token"), self.directory.join("ca.crt"));
        // A pod may be told not to have one.
        sized(&token)
            .map_err(|why| absent(format!("{why} (is `automountServiceAccountToken` false?)")))?;
        let mut config = Config::new(address);
        config.root_cert = Some(authorities(
            &small(&authority)?,
            "the service account's ca.crt",
        )?);
        config.auth_info.token_file = Some(token.display().to_string());
        config.root_cert_file = Some(authority);
        config.default_namespace = small(&self.directory.join("namespace"))?.trim().to_owned();
        Ok(config)
    }
}
