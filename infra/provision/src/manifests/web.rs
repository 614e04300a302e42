//! The web apps, in a namespace of their own.

use std::path::Path;

use anyhow::Context as _;
use contract::{config, names};
use serde::Serialize;
use tera::Tera;

use super::{Extras, File, WEB_NAMESPACE, endpoint_ports, objects};
use crate::environment::{Auth, Environment, Iap, IapApp, WebAccess};

/// One web app.
#[derive(Default, Serialize)]
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
#[derive(Clone, Serialize)]
struct Values<'a> {
    environment: &'a str,
    app: Option<&'a App<'a>>,
    /// All of them.
    apps: &'a [App<'a>],
    workload_identity: bool,
    internal: bool,
    base_path: &'a str,
    /// Identity-Aware Proxy, when it lets people in.
    iap: Option<&'a Iap>,
    oauth_secret: Option<&'a str>,
    people_json: &'a str,
    endpoint_ports: Vec<u16>,
    config_json: String,
    config_hash: String,
}

/// The files of the web apps that there are images of. Their configuration has the businesses that they serve and no
/// other.
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
    let (accounts, web) = (&environment.accounts, &extras.web);
    let monitor = web.monitor.as_deref().map(|image| {
        let (account, email) = ("web-monitor", accounts.web_monitor.as_str());
        App { name: "monitor", image, account, email, asks_cluster: true, ..behind(iap.map(|iap| &iap.monitor)) }
    });
    let client = web.client.as_deref().map(|image| {
        let (account, email) = ("web-client", accounts.web_client.as_str());
        App { name: "client", image, account, email, ..behind(iap.map(|iap| &iap.client)) }
    });
    let has_monitor = monitor.is_some();
    let apps: Vec<App<'_>> = monitor.into_iter().chain(client).collect();
    let values = Values {
        environment: &environment.name,
        app: None,
        apps: &apps,
        workload_identity: environment.auth == Auth::WorkloadIdentity,
        internal: environment.web.access == WebAccess::Internal,
        base_path: &environment.web.base_path,
        iap,
        oauth_secret: iap.and_then(|iap| iap.oauth_secret.as_deref()),
        people_json: &people_json,
        endpoint_ports: endpoint_ports(&config.endpoints),
        config_hash: names::hash(&[&config_json, &people_json], 16),
        config_json: config_json.clone(),
    };
    let folder = Path::new("manifests").join(WEB_NAMESPACE);
    let file = |name: &str, template: &str, values: &Values<'_>| {
        let (text, objects) = objects(tera, template, values)?;
        anyhow::Ok(File { path: folder.join(name), text, objects })
    };
    let mut files = vec![file("namespace.yaml", "web-namespace.yaml", &values)?];
    if has_monitor {
        files.push(file("nodes.yaml", "web-nodes.yaml", &values)?);
    }
    for app in &apps {
        files.push(file(&format!("{}.yaml", app.name), "web.yaml", &Values { app: Some(app), ..values.clone() })?);
    }
    if iap.is_some() {
        files.push(file("iap.yaml", "web-iap.yaml", &values)?);
    }
    Ok(files)
}

/// What Identity-Aware Proxy has to do with an app.
fn behind(app: Option<&IapApp>) -> App<'_> {
    let host = app.map(|app| app.host.as_str()).unwrap_or_default();
    let audience = app.and_then(|app| app.audience.as_deref()).unwrap_or_default();
    App { host, audience, ..App::default() }
}
