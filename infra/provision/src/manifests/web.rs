//! The web apps, in a namespace of their own.

use std::path::Path;

use anyhow::Context as _;
use common::{config, names};
use serde::Serialize;
use tera::Tera;

use super::{Extras, File, WEB_NAMESPACE, endpoint_ports, objects};
use crate::environment::{Auth, Environment, WebAccess};

/// One web app.
#[derive(Serialize)]
struct App<'a> {
    name: &'static str,
    image: &'a str,
    /// Its Kubernetes service account, called after the Google one.
    account: &'static str,
    email: &'a str,
    /// Whether it asks the Kubernetes API server for anything.
    asks_cluster: bool,
}

/// What the templates may use.
#[derive(Serialize)]
struct Values<'a> {
    environment: &'a str,
    app: Option<&'a App<'a>>,
    workload_identity: bool,
    internal: bool,
    endpoint_ports: Vec<u16>,
    config_json: String,
    config_hash: String,
}

/// The files of the web apps that there are images of. They are told of the businesses that they serve and no other.
pub(super) fn files(
    tera: &Tera,
    environment: &Environment,
    config: &config::Config,
    extras: &Extras,
) -> anyhow::Result<Vec<File>> {
    let mut served = config.clone();
    served.businesses.retain(|name, _| environment.web.businesses.contains(name));
    let config_json = serde_json::to_string_pretty(&served).context("encode the configuration")?;
    let values = |app| Values {
        environment: &environment.name,
        app,
        workload_identity: environment.auth == Auth::WorkloadIdentity,
        internal: environment.web.access == WebAccess::Internal,
        endpoint_ports: endpoint_ports(&config.endpoints),
        config_hash: names::hash(&[&config_json], 16),
        config_json: config_json.clone(),
    };
    let app = |name, image, account, email, asks_cluster| App { name, image, account, email, asks_cluster };
    let accounts = &environment.accounts;
    let web = &extras.web;
    let monitor = web.monitor.as_deref().map(|image| app("monitor", image, "web-monitor", &accounts.web_monitor, true));
    let client = web.client.as_deref().map(|image| app("client", image, "web-client", &accounts.web_client, false));
    let folder = Path::new("manifests").join(WEB_NAMESPACE);
    let (text, found) = objects(tera, "web-namespace.yaml", &values(None))?;
    let mut files = vec![File { path: folder.join("namespace.yaml"), text, objects: found }];
    if monitor.is_some() {
        let (text, found) = objects(tera, "web-nodes.yaml", &values(None))?;
        files.push(File { path: folder.join("nodes.yaml"), text, objects: found });
    }
    for app in monitor.iter().chain(&client) {
        let (text, found) = objects(tera, "web.yaml", &values(Some(app)))?;
        files.push(File { path: folder.join(format!("{}.yaml", app.name)), text, objects: found });
    }
    Ok(files)
}
