//! The environment that every container of a pod begins with, and the kubeconfig in the pod's folder.

use std::{collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::settings::Settings;
use crate::kubernetes::value;

/// Variable with the address of the cluster's name server: a laptop has one `/etc/resolv.conf` for all.
const NAME_SERVER: &str = "DESKGRID_NAME_SERVER";

/// A kubeconfig with one cluster, one user and one context.
pub fn kubeconfig(url: &str, ca_pem: &str, token: &str, namespace: &str, name: &str) -> Value {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name, "preferences": {},
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": ca}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
    })
}

/// The environment before what a container says itself; makes the pod's folders.
pub(super) fn environment(
    settings: &Settings,
    pod: &Value,
    folder: &Path,
    token: Option<&str>,
    metadata: Option<SocketAddr>,
    ports: &BTreeMap<String, u16>,
) -> anyhow::Result<Vec<(String, String)>> {
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).context("make the pod's folder")?;
    let mut all = settings.extra_env.clone();
    let mut add = |name: &str, text: String| all.push((name.to_owned(), text));
    add("HOME", folder.display().to_string());
    add("TMPDIR", temporary.display().to_string());
    add("HOSTNAME", value::name(pod).to_owned());
    add("KUBERNETES_SERVICE_HOST", settings.api.ip().to_string());
    add("KUBERNETES_SERVICE_PORT", settings.api.port().to_string());
    add(NAME_SERVER, settings.name_server.to_string());
    if let Some(address) = metadata {
        add("GCE_METADATA_HOST", address.to_string());
    }
    if let Some(token) = token {
        let folder = folder.join("serviceaccount");
        fs::create_dir_all(&folder).context("make the service account's folder")?;
        let path = folder.join("kubeconfig");
        let url = format!("https://{}", settings.api);
        let namespace = value::namespace(pod);
        let config = kubeconfig(&url, &settings.ca_pem, token, namespace, "in-cluster");
        for (file, content) in [
            ("kubeconfig", config.to_string()),
            ("token", token.to_owned()),
            ("ca.crt", settings.ca_pem.clone()),
            ("namespace", namespace.to_owned()),
        ] {
            let path = folder.join(file);
            fs::write(&path, content).with_context(|| format!("write {file}"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(|| format!("protect {file}"))?;
        }
        add("KUBECONFIG", path.display().to_string());
    }
    for (name, port) in ports.iter().filter(|(name, _)| name.parse::<u16>().is_err()) {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        add(&format!("DESKGRID_PORT_{name}"), port.to_string());
    }
    Ok(all)
}
