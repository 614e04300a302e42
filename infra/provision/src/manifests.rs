//! Renders the Kubernetes objects of an environment from the templates in `manifests/`, and proves them before use.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use common::{config, exit, names};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tera::{Kwargs, State, Tera};

use crate::environment::{Auth, Business, ClusterMode, Environment};

mod validate;

pub use validate::validate;

const TEMPLATES: [(&str, &str); 6] = [
    ("namespace.yaml", include_str!("../../../manifests/namespace.yaml")),
    ("service-accounts.yaml", include_str!("../../../manifests/service-accounts.yaml")),
    ("rbac.yaml", include_str!("../../../manifests/rbac.yaml")),
    ("engine-job.yaml", include_str!("../../../manifests/engine-job.yaml")),
    ("config.yaml", include_str!("../../../manifests/config.yaml")),
    ("orchestrator.yaml", include_str!("../../../manifests/orchestrator.yaml")),
];
/// The template that becomes part of the configuration instead of an object.
const JOB: &str = "engine-job.yaml";

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

/// Renders and validates every object of an environment. Needs no cloud.
///
/// # Errors
/// When a template uses what does not exist, or makes what Kubernetes does not know; names the template.
pub fn render(environment: &Environment, endpoints: &config::Endpoints, images: &Images) -> anyhow::Result<Rendered> {
    let tera = templates()?;
    let config = environment.config(endpoints, &images.engine);
    let mut files = Vec::new();
    for business in &environment.businesses {
        files.extend(business_files(&tera, environment, &config, business, images)?);
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
    accounts: [Account<'a>; 2],
    workload_identity: bool,
    /// Google places the pods, and keeps what may be interrupted apart.
    autopilot: bool,
    wrapped: bool,
    /// The desk's command; Kubernetes would put variables in the place of `$(…)`.
    command: Vec<String>,
    disk: &'a str,
    exit_permanent: u8,
    config_json: String,
    job_json: String,
    config_hash: String,
}

fn business_files(
    tera: &Tera,
    environment: &Environment,
    config: &config::Config,
    business: &Business,
    images: &Images,
) -> anyhow::Result<Vec<File>> {
    let only = config.only(&business.name);
    let mut values = Values {
        environment: &environment.name,
        business: only.business(&business.name)?,
        images,
        accounts: [
            Account { name: "orchestrator", email: &business.accounts.orchestrator },
            Account { name: "engine", email: &business.accounts.engine },
        ],
        workload_identity: environment.auth == Auth::WorkloadIdentity,
        autopilot: environment.cluster.mode == ClusterMode::Autopilot,
        wrapped: !business.engine.command.is_empty(),
        command: business.engine.command.iter().map(|word| word.replace("$(", "$$(")).collect(),
        disk: &business.engine.disk,
        exit_permanent: exit::PERMANENT,
        config_json: serde_json::to_string_pretty(&only).context("encode the configuration")?,
        job_json: String::new(),
        config_hash: String::new(),
    };
    let (_, job) = objects(tera, JOB, &values)?;
    let [job] = job.as_slice() else { bail!("the template {JOB} must hold exactly one object") };
    values.job_json = serde_json::to_string_pretty(job).context("encode the Job template")?;
    values.config_hash = names::hash(&[&values.config_json, &values.job_json], 16);
    let mut files = Vec::new();
    for (name, _) in TEMPLATES.iter().filter(|(name, _)| *name != JOB) {
        let (text, objects) = objects(tera, name, &values)?;
        let path = Path::new("manifests").join(&business.name).join(name);
        files.push(File { path, text, objects });
    }
    Ok(files)
}

/// One template with its values: the text and the validated objects in it.
fn objects(tera: &Tera, name: &str, values: &Values<'_>) -> anyhow::Result<(String, Vec<Value>)> {
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
