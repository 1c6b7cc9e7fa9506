//! Configurations of clusters, read with suspicion: they may be of any size, name any file, and be
//! written by somebody else. No message shows any of their content but names.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use secrecy::SecretString;

use super::fault::{shortened, why};
use crate::base::Secret;

/// Most bytes of a configuration, or of a file it names. Those of hundreds of clusters are smaller.
const MOST: u64 = 4 << 20;

/// An address and a token.
pub(super) fn by_token(
    base: &Path,
    server: &str,
    token: &Secret,
    authority: Option<&str>,
) -> Result<Config, String> {
    let address = server
        .parse()
        .map_err(|error| format!("\"{server}\" is no address: {error}"))?;
    let mut config = Config::new(address);
    config.auth_info.token = Some(SecretString::from(token.expose().trim().to_owned()));
    if let Some(authority) = authority {
        let text = match authority.contains("-----BEGIN") {
            true => authority.to_owned(),
            false => small(&at(base, authority))?,
        };
        config.root_cert = Some(authorities(&text, "its `certificate-authority`")?);
    }
    Ok(config)
}

/// Certificates as PEM; at least one.
pub(super) fn authorities(text: &str, place: &str) -> Result<Vec<Vec<u8>>, String> {
    let ders: Result<Vec<_>, _> =
        <rustls::pki_types::CertificateDer as rustls::pki_types::pem::PemObject>::pem_slice_iter(
            text.as_bytes(),
        )
        .map(|found| found.map(|der| der.to_vec()))
        .collect();
    let ders = ders.map_err(|error| format!("{place}: {error}"))?;
    match ders.is_empty() {
        true => Err(format!(
            "{place} holds no certificate: it begins with `-----BEGIN CERTIFICATE-----`"
        )),
        false => Ok(ders),
    }
}

/// The configuration that is given as text or as a path, and where it is from.
pub(super) fn kubeconfig(base: &Path, config: &Secret) -> Result<(Kubeconfig, String), String> {
    let text = config.expose();
    let is_text = text.contains('\n') || text.trim_start().starts_with('{');
    if !is_text {
        let path = at(base, text.trim());
        let hint = "write the path of a file, or the configuration itself";
        let config = read(&path).map_err(|why| match path.is_file() {
            true => format!("its kubeconfig {why}"),
            false => format!("its kubeconfig {why}; {hint}"),
        })?;
        return Ok((config, path.display().to_string()));
    }
    if text.len() as u64 > MOST {
        return Err(format!("its kubeconfig is larger than {} MiB", MOST >> 20));
    }
    let mut config = Kubeconfig::from_yaml(text)
        .map_err(|error| format!("its kubeconfig {}", unreadable(&error)))?;
    placed(&mut config, base)?;
    Ok((config, "its kubeconfig".to_owned()))
}

/// The configuration of the environment, if there is one.
pub(super) fn ambient() -> Result<Option<Kubeconfig>, String> {
    let paths = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let paths: Vec<PathBuf> = std::env::split_paths(&paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if !paths.is_empty() {
        let mut all = Kubeconfig::default();
        for path in paths {
            let more = read(&path).map_err(|why| format!("KUBECONFIG: {why}"))?;
            all = all
                .merge(more)
                .map_err(|error| format!("KUBECONFIG: {}: {}", path.display(), why(&error)))?;
        }
        return Ok(Some(all));
    }
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        return Ok(None);
    };
    let path = home.join(".kube/config");
    match path.exists() {
        true => read(&path).map(Some),
        false => Ok(None),
    }
}

fn read(path: &Path) -> Result<Kubeconfig, String> {
    sized(path)?;
    Kubeconfig::read_from(path)
        .map_err(|error| format!("{} {}", path.display(), unreadable(&error)))
}

/// Why it cannot be read. What the parser says may show a piece of it, so only the place is told.
fn unreadable(error: &KubeconfigError) -> String {
    let KubeconfigError::Parse(error) = error else {
        return format!("cannot be read: {}", why(error));
    };
    match error.location() {
        Some(at) => format!(
            "is no Kubernetes configuration: see line {}, column {}",
            at.line(),
            at.column()
        ),
        None => "is no Kubernetes configuration".to_owned(),
    }
}

/// Paths of a configuration that is no file are relative to the project. A program is not looked for
/// there: what the project holds is not what whoever wrote the configuration meant.
fn placed(config: &mut Kubeconfig, base: &Path) -> Result<(), String> {
    let absolute = |path: &mut Option<String>| {
        if let Some(path) = path {
            *path = base.join(&path).display().to_string();
        }
    };
    for named in &mut config.clusters {
        if let Some(cluster) = &mut named.cluster {
            absolute(&mut cluster.certificate_authority);
        }
    }
    for named in &mut config.auth_infos {
        let Some(user) = &mut named.auth_info else {
            continue;
        };
        absolute(&mut user.client_certificate);
        absolute(&mut user.client_key);
        absolute(&mut user.token_file);
        let plugin = user
            .exec
            .as_ref()
            .and_then(|plugin| plugin.command.as_deref());
        if let Some(command) = plugin
            && command.contains('/')
            && Path::new(command).is_relative()
        {
            return Err(format!(
                "its kubeconfig names the credential plugin {}, a relative path, and is no file to which it could be \
                 relative; write its absolute path, or a name that is found in PATH",
                shortened(command)
            ));
        }
    }
    Ok(())
}

/// The connection a context stands for.
pub(super) async fn chosen(
    config: Kubeconfig,
    context: Option<&str>,
    place: &str,
) -> Result<Config, String> {
    let names: Vec<&str> = config.contexts.iter().map(|it| it.name.as_str()).collect();
    let there = match names.as_slice() {
        [] => "it has none".to_owned(),
        names => format!("it has {}", shortened(&names.join(", "))),
    };
    let current = config.current_context.as_deref();
    let Some(name) = context.or(current.filter(|it| !it.is_empty())) else {
        return Err(format!(
            "{place} has no current context: name one by `context`; {there}"
        ));
    };
    if !names.contains(&name) {
        return Err(format!(
            "{place} has no context \"{}\": {there}",
            shortened(name)
        ));
    }
    checked(&config, name).map_err(|why| format!("{place}: {why}"))?;
    let options = KubeConfigOptions {
        context: Some(name.to_owned()),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(config, &options)
        .await
        .map_err(|error| format!("{place}: {}", why(&error)))
}

/// What must hold of what a context names, before any of it is used.
fn checked(config: &Kubeconfig, name: &str) -> Result<(), String> {
    let context = config.contexts.iter().find(|it| it.name == name);
    let Some(context) = context.and_then(|it| it.context.as_ref()) else {
        return Ok(());
    };
    let cluster = config.clusters.iter().find(|it| it.name == context.cluster);
    if let Some(cluster) = cluster.and_then(|it| it.cluster.as_ref()) {
        if cluster.insecure_skip_tls_verify == Some(true) {
            return Err(format!(
                "its cluster {} says `insecure-skip-tls-verify`: whoever is in between would get the credentials; \
                 give the authority by `certificate-authority-data` instead, or the name of the certificate by \
                 `tls-server-name`",
                shortened(&context.cluster)
            ));
        }
        let path = cluster.certificate_authority.as_deref();
        if let Some(path) = path.filter(|_| cluster.certificate_authority_data.is_none()) {
            sized(Path::new(path)).map_err(|why| format!("its `certificate-authority` {why}"))?;
        }
    }
    let user = config
        .auth_infos
        .iter()
        .find(|it| Some(&it.name) == context.user.as_ref());
    match user.and_then(|it| it.auth_info.as_ref()) {
        Some(user) => identity(user),
        None => Ok(()),
    }
}

/// A certificate and its key come together.
fn identity(user: &AuthInfo) -> Result<(), String> {
    let has_certificate =
        user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let has_key = user.client_key.is_some() || user.client_key_data.is_some();
    let (one, other) = match (has_certificate, has_key) {
        (true, false) => ("client-certificate", "client-key"),
        (false, true) => ("client-key", "client-certificate"),
        _ => ("", ""),
    };
    if one != other {
        return Err(format!(
            "its user has a `{one}` without a `{other}`; add `{other}` or `{other}-data`"
        ));
    }
    let files = [
        (
            "client-certificate",
            &user.client_certificate,
            user.client_certificate_data.is_none(),
        ),
        (
            "client-key",
            &user.client_key,
            user.client_key_data.is_none(),
        ),
    ];
    for (name, path, used) in files {
        if let Some(path) = path
            && used
        {
            sized(Path::new(path)).map_err(|why| format!("its `{name}` {why}"))?;
        }
    }
    Ok(())
}

/// A path relative to the project or the home directory.
fn at(base: &Path, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => base.join(path),
    }
}

/// Refuses what is no file, such as a device that never ends, and what is too large.
pub(super) fn sized(path: &Path) -> Result<(), String> {
    let place = path.display();
    let found = std::fs::metadata(path).map_err(|error| format!("{place}: {error}"))?;
    if !found.is_file() {
        return Err(format!("{place} is no file"));
    }
    if found.len() > MOST {
        return Err(format!("{place} is larger than {} MiB", MOST >> 20));
    }
    Ok(())
}

/// A small file's text.
pub(super) fn small(path: &Path) -> Result<String, String> {
    sized(path)?;
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(told)?;
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(told)?;
    Ok(text)
}
