//! Renders the Kubernetes objects of an environment from the templates in `manifests/`, and proves them before use.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use contract::{config, exit, expansion, names, quantity};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tera::{Kwargs, State, Tera};

use crate::environment::{Auth, Business, ClusterMode, Environment};

mod validate;
mod web;

pub use validate::validate;

/// Every template, by its name.
const TEMPLATES: [(&str, &str); 16] = [
    ("cluster.yaml", include_str!("../../../manifests/cluster.yaml")),
    ("namespace.yaml", include_str!("../../../manifests/namespace.yaml")),
    ("quota.yaml", include_str!("../../../manifests/quota.yaml")),
    ("service-accounts.yaml", include_str!("../../../manifests/service-accounts.yaml")),
    ("rbac.yaml", include_str!("../../../manifests/rbac.yaml")),
    ("web-access.yaml", include_str!("../../../manifests/web-access.yaml")),
    ("network.yaml", include_str!("../../../manifests/network.yaml")),
    ("engine-job.yaml", include_str!("../../../manifests/engine-job.yaml")),
    ("engine-pool.yaml", include_str!("../../../manifests/engine-pool.yaml")),
    ("config.yaml", include_str!("../../../manifests/config.yaml")),
    ("orchestrator.yaml", include_str!("../../../manifests/orchestrator.yaml")),
    ("monitoring.yaml", include_str!("../../../manifests/monitoring.yaml")),
    ("web-namespace.yaml", include_str!("../../../manifests/web-namespace.yaml")),
    ("web-nodes.yaml", include_str!("../../../manifests/web-nodes.yaml")),
    ("web-iap.yaml", include_str!("../../../manifests/web-iap.yaml")),
    ("web.yaml", include_str!("../../../manifests/web.yaml")),
];
/// Templates that become part of the configuration instead of objects: the Job of an input, and an engine of the pool.
const JOB: &str = "engine-job.yaml";
const POOL: &str = "engine-pool.yaml";
/// What every business has, in the order in which to apply it.
const OF_BUSINESS: [&str; 7] = [
    "namespace.yaml",
    "quota.yaml",
    "service-accounts.yaml",
    "rbac.yaml",
    "network.yaml",
    "config.yaml",
    "orchestrator.yaml",
];
/// Namespace of the web apps.
pub const WEB_NAMESPACE: &str = "deskgrid";

/// References of the images that `build` made; by digest on a real cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// The orchestrator.
    pub orchestrator: String,
    /// The engine.
    pub engine: String,
}

/// One rendered file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Path below the environment's folder, such as `manifests/bu1/orchestrator.yaml`.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The Kubernetes objects in it.
    pub objects: Vec<Value>,
}

/// Everything that was rendered for an environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The generated configuration, `config.json`.
    pub config: config::Config,
    /// Files with Kubernetes objects, in the order in which to apply them.
    pub files: Vec<File>,
}

/// Images of the web apps; each is deployed when there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebImages {
    /// The monitor.
    pub monitor: Option<String>,
    /// The client.
    pub client: Option<String>,
}

impl WebImages {
    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.monitor.is_none() && self.client.is_none()
    }
}

/// What else is rendered, where it can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// The web apps, when the environment has them switched on.
    pub web: WebImages,
    /// The cluster has Google's collectors of metrics.
    pub pod_monitoring: bool,
    /// Serial numbers of the certificates of pools, by business: another one starts an orchestrator anew.
    pub pool_certificates: BTreeMap<String, u64>,
}

/// Renders and validates every object of an environment but the extras. Needs no cloud.
///
/// # Errors
/// As [`render_with`].
pub fn render(environment: &Environment, endpoints: &config::Endpoints, images: &Images) -> anyhow::Result<Rendered> {
    render_with(environment, endpoints, images, &Extras::default())
}

/// Renders and validates every object of an environment. Needs no cloud.
///
/// # Errors
/// When a template uses what does not exist, or makes what Kubernetes does not know; names the template.
pub fn render_with(
    environment: &Environment,
    endpoints: &config::Endpoints,
    images: &Images,
    extras: &Extras,
) -> anyhow::Result<Rendered> {
    let tera = templates()?;
    let config = environment.config(endpoints);
    let (text, objects) = objects(&tera, "cluster.yaml", &serde_json::json!({}))?;
    let mut files = vec![File { path: Path::new("manifests").join("cluster.yaml"), text, objects }];
    for business in &environment.businesses {
        files.extend(business_files(&tera, environment, &config, business, images, extras)?);
    }
    if environment.web.enabled && !extras.web.is_empty() {
        files.extend(web::files(&tera, environment, &config, extras)?);
    }
    Ok(Rendered { config, files })
}

impl Rendered {
    /// Writes `config.json` and the manifests below `folder`; manifests of businesses that are gone go too.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let manifests = folder.join("manifests");
        if manifests.exists() {
            std::fs::remove_dir_all(&manifests).with_context(|| format!("clear {}", manifests.display()))?;
        }
        let config = serde_json::to_string_pretty(&self.config).context("encode the configuration")? + "\n";
        let files = self.files.iter().map(|file| (folder.join(&file.path), file.text.as_str()));
        for (path, text) in files.chain([(folder.join("config.json"), config.as_str())]) {
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Every object, in the order in which to apply them.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.files.iter().flat_map(|file| &file.objects)
    }
}

#[derive(Serialize)]
struct Account<'a> {
    name: &'a str,
    email: &'a str,
}

/// What the templates may use.
#[derive(Serialize)]
struct Values<'a> {
    environment: &'a str,
    business: &'a config::Business,
    images: &'a Images,
    /// The desk's own image, or the engine.
    engine_image: &'a str,
    accounts: [Account<'a>; 2],
    workload_identity: bool,
    /// Google places the pods, and keeps what may be interrupted apart.
    autopilot: bool,
    wrapped: bool,
    command: &'a [String],
    disk: &'a str,
    /// The work folder and the logs: Autopilot grants a Pod what it requests, and 1 GiB without a request.
    ephemeral_storage: String,
    /// The same, divided between a desk's program in a pool and the engine beside it: one has the work folder, and both
    /// have logs.
    ephemeral_storage_program: String,
    ephemeral_storage_engine: String,
    pool_service: String,
    pool_host: String,
    pool_certificate: Option<String>,
    exit_permanent: u8,
    config_json: String,
    job_json: String,
    /// With a pool.
    pool_json: Option<String>,
    config_hash: String,
    pod_monitoring: bool,
    /// Ports of the endpoints that are not Google's own.
    endpoint_ports: Vec<u16>,
}

/// Room for the logs of an engine beside its work folder, in bytes.
const LOGS_BYTES: u64 = 1 << 30;

/// Ports of endpoints that are not Google's own: what runs in the cluster must be let out to them.
fn endpoint_ports(endpoints: &config::Endpoints) -> Vec<u16> {
    let urls = [&endpoints.pubsub, &endpoints.storage].into_iter().flatten();
    let port = |url: &String| url.trim_end_matches('/').rsplit_once(':')?.1.parse().ok();
    let ports: BTreeSet<u16> = urls.filter_map(port).filter(|port| *port != 443).collect();
    ports.into_iter().collect()
}

fn business_files(
    tera: &Tera,
    environment: &Environment,
    config: &config::Config,
    business: &Business,
    images: &Images,
    extras: &Extras,
) -> anyhow::Result<Vec<File>> {
    let only = config.only(&business.name);
    let disk_bytes = quantity::bytes(&business.engine.disk).unwrap_or_default();
    let mut values = Values {
        environment: &environment.name,
        business: only.business(&business.name)?,
        images,
        engine_image: business.engine.image.as_deref().unwrap_or(&images.engine),
        accounts: [
            Account { name: "orchestrator", email: &business.accounts.orchestrator },
            Account { name: "engine", email: &business.accounts.engine },
        ],
        workload_identity: environment.auth == Auth::WorkloadIdentity,
        autopilot: environment.cluster.mode == ClusterMode::Autopilot,
        wrapped: !business.engine.command.is_empty(),
        command: &business.engine.command,
        disk: &business.engine.disk,
        ephemeral_storage: (disk_bytes + LOGS_BYTES).to_string(),
        ephemeral_storage_program: (disk_bytes + LOGS_BYTES / 2).to_string(),
        ephemeral_storage_engine: (LOGS_BYTES / 2).to_string(),
        pool_service: names::pool_service(&business.namespace),
        pool_host: names::pool_host(&business.namespace),
        pool_certificate: None,
        exit_permanent: exit::PERMANENT,
        config_json: serde_json::to_string_pretty(&only).context("encode the configuration")?,
        job_json: String::new(),
        pool_json: None,
        config_hash: String::new(),
        pod_monitoring: extras.pod_monitoring,
        endpoint_ports: endpoint_ports(&config.endpoints),
    };
    values.job_json = job(tera, JOB, &values)?;
    if business.pool.is_some() {
        values.pool_json = Some(job(tera, POOL, &values)?);
    }
    // A certificate is no configuration, and has an annotation of its own.
    let parts: Vec<&str> =
        [&values.config_json, &values.job_json].into_iter().chain(&values.pool_json).map(String::as_str).collect();
    values.config_hash = names::hash(&parts, 16);
    values.pool_certificate = extras.pool_certificates.get(&business.name).map(u64::to_string);
    if business.pool.is_some() {
        values.pool_json = Some(job(tera, POOL, &values)?);
    }
    let mut files = Vec::new();
    let served = environment.web.enabled && environment.web.businesses.contains(&business.name);
    let access = (served && extras.web.monitor.is_some()).then_some("web-access.yaml");
    let monitoring = extras.pod_monitoring.then_some("monitoring.yaml");
    for name in OF_BUSINESS.into_iter().chain(access).chain(monitoring) {
        let (text, objects) = objects(tera, name, &values)?;
        let path = Path::new("manifests").join(&business.name).join(name);
        files.push(File { path, text, objects });
    }
    Ok(files)
}

/// The Job of a template, as JSON.
fn job(tera: &Tera, name: &str, values: &Values<'_>) -> anyhow::Result<String> {
    let (_, job) = objects(tera, name, values)?;
    let [job] = job.as_slice() else { bail!("the template {name} must hold exactly one object") };
    serde_json::to_string_pretty(job).with_context(|| format!("encode the template {name}"))
}

/// One template with its values: the text and the validated objects in it.
fn objects(tera: &Tera, name: &str, values: &impl Serialize) -> anyhow::Result<(String, Vec<Value>)> {
    let context = tera::Context::from_serialize(values).map_err(|error| anyhow::anyhow!("{error}"))?;
    // A condition on a variable that does not exist would quietly be false.
    let used = tera.get_template_variables(name).map_err(|error| anyhow::anyhow!("{error}"))?;
    if let Some(unknown) = used.iter().find(|variable| !context.contains_key(variable)) {
        bail!("the template {name} uses {unknown:?}, which does not exist");
    }
    let text = tera
        .render(name, &context)
        // Its display shows the place in the template; it keeps no more in its sources.
        .map_err(|error| anyhow::anyhow!("{error}").context(format!("render the template {name}")))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| anyhow::anyhow!("{error}").context(format!("parse what the template {name} became")))?;
    for object in &objects {
        validate(object).with_context(|| format!("validate what the template {name} became"))?;
    }
    Ok((text, objects))
}

fn templates() -> anyhow::Result<Tera> {
    let mut tera = Tera::new();
    tera.register_filter("json", |value: tera::Value, _: Kwargs, _: &State<'_>| json(&value));
    // For `env`, `command` and `args`. JSON has a `$` in its texts only.
    tera.register_filter("literal", |value: tera::Value, _: Kwargs, _: &State<'_>| {
        json(&value).map(|text| expansion::escape(&text))
    });
    tera.add_raw_templates(TEMPLATES.to_vec())
        .map_err(|error| anyhow::anyhow!("{error}").context("read the templates"))?;
    Ok(tera)
}

/// A value as JSON, which is YAML too: the safe way to quote.
fn json(value: &tera::Value) -> tera::TeraResult<String> {
    if value.is_undefined() {
        return Err(tera::Error::message("the value does not exist"));
    }
    serde_json::to_string(value).map_err(tera::Error::message)
}

#[cfg(test)]
mod tests;
