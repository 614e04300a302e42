//! The web apps, in a namespace of their own.

use std::path::Path;

use anyhow::Context as _;
use common::{config, names};
use serde::Serialize;
use tera::Tera;

use super::{Extras, File, WEB_NAMESPACE, endpoint_ports, objects};
use crate::environment::{Auth, Environment, Iap, IapApp, WebAccess};

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
    /// Host and audience behind Identity-Aware Proxy; empty without it, or while the audience is not known.
    host: &'a str,
    audience: &'a str,
}

/// What the templates may use.
#[derive(Serialize)]
struct Values<'a> {
    environment: &'a str,
    app: Option<&'a App<'a>>,
    /// All of them.
    apps: &'a [App<'a>],
    workload_identity: bool,
    internal: bool,
    /// Identity-Aware Proxy, when it lets people in.
    iap: Option<&'a Iap>,
    oauth_secret: Option<&'a str>,
    people_json: &'a str,
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
    let iap = environment.web.iap.as_ref();
    let people_json = iap.map(|iap| serde_json::to_string_pretty(&iap.people)).transpose();
    let people_json = people_json.context("encode who may see what")?.unwrap_or_default();
    let app = |name, image, account, email, asks_cluster, behind: Option<&'_ IapApp>| {
        let host = behind.map(|app| app.host.as_str()).unwrap_or_default();
        let audience = behind.and_then(|app| app.audience.as_deref()).unwrap_or_default();
        App { name, image, account, email, asks_cluster, host, audience }
    };
    let (accounts, web) = (&environment.accounts, &extras.web);
    let monitor = web.monitor.as_deref().map(|image| {
        app("monitor", image, "web-monitor", accounts.web_monitor.as_str(), true, iap.map(|iap| &iap.monitor))
    });
    let client = web.client.as_deref().map(|image| {
        app("client", image, "web-client", accounts.web_client.as_str(), false, iap.map(|iap| &iap.client))
    });
    let has_monitor = monitor.is_some();
    let apps: Vec<App<'_>> = monitor.into_iter().chain(client).collect();
    let values = |app| Values {
        environment: &environment.name,
        app,
        apps: &apps,
        workload_identity: environment.auth == Auth::WorkloadIdentity,
        internal: environment.web.access == WebAccess::Internal,
        iap,
        oauth_secret: iap.and_then(|iap| iap.oauth_secret.as_deref()),
        people_json: &people_json,
        endpoint_ports: endpoint_ports(&config.endpoints),
        config_hash: names::hash(&[&config_json, &people_json], 16),
        config_json: config_json.clone(),
    };
    let folder = Path::new("manifests").join(WEB_NAMESPACE);
    let file = |name: &str, template: &str, app: Option<&App<'_>>| {
        let (text, objects) = objects(tera, template, &values(app))?;
        anyhow::Ok(File { path: folder.join(name), text, objects })
    };
    let mut files = vec![file("namespace.yaml", "web-namespace.yaml", None)?];
    if has_monitor {
        files.push(file("nodes.yaml", "web-nodes.yaml", None)?);
    }
    for app in &apps {
        files.push(file(&format!("{}.yaml", app.name), "web.yaml", Some(app))?);
    }
    if iap.is_some() {
        files.push(file("iap.yaml", "web-iap.yaml", None)?);
    }
    Ok(files)
}
