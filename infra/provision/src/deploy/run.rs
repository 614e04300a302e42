//! What the verb calls: render, write down, apply, and wait until every orchestrator runs.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use common::labels;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use serde::Serialize;
use tokio::time::Instant;

use super::{Applied, Change, Foreign, apply, applyset, wait};
use crate::{
    Cloud,
    environment::{Auth, Environment},
    keys,
    manifests::{Images, render},
};

/// The Deployment of every business.
pub(crate) const ORCHESTRATOR: &str = "orchestrator";

/// How to deploy.
#[derive(Clone, Debug)]
pub struct Options {
    /// Images to run.
    pub images: Images,
    /// Folder that what was rendered is written to.
    pub folder: PathBuf,
    /// Only this business; what is written down is still everything.
    pub only: Option<String>,
    /// Namespaces of our names that somebody else made.
    pub foreign: Foreign,
    /// How long a rollout may take.
    pub limit: Duration,
}

/// What happens during a deployment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// An object is in the cluster.
    Applied(Applied),
    /// A new key of an account is in its Secret.
    Key {
        /// Email of the account.
        account: String,
    },
    /// A rollout is waited for.
    Waiting {
        /// Business.
        business: String,
    },
    /// A rollout is done.
    Ready {
        /// Business.
        business: String,
        /// Milliseconds it took.
        elapsed_ms: u64,
    },
}

/// Told of every event; must not block.
pub type Progress = Arc<dyn Fn(Event) + Send + Sync>;

/// What was deployed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every object with what happened to it.
    pub objects: Vec<Applied>,
    /// Objects that are new, different or gone.
    pub changed: usize,
    /// Milliseconds of it all.
    pub elapsed_ms: u64,
}

/// Deploys an environment. Safe to run again.
///
/// # Errors
/// When something cannot be rendered, written down or applied; or when an orchestrator does not run, with the reasons
/// of all that do not.
pub async fn run(
    environment: &Environment,
    cloud: &Cloud,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let client = cloud.cluster()?;
    let rendered = render(environment, &cloud.endpoints, &options.images)?;
    rendered.write(&options.folder)?;
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut rendered = rendered;
    for file in &mut rendered.files {
        file.objects
            .retain(|object| wanted(object["metadata"]["labels"][labels::BUSINESS].as_str().unwrap_or_default()));
    }
    if environment.auth == Auth::Key {
        let mut namespaces = rendered.clone();
        for file in &mut namespaces.files {
            file.objects.retain(|object| object["kind"] == "Namespace");
        }
        apply(client, &environment.name, &namespaces, options.foreign).await?;
        for business in environment.businesses.iter().filter(|business| wanted(&business.name)) {
            for account in keys::ensure(environment, business, cloud, client).await? {
                progress(Event::Key { account });
            }
        }
    }
    let mut objects = apply(client, &environment.name, &rendered, options.foreign).await?;
    if options.only.is_none() {
        let present: BTreeSet<&str> =
            environment.businesses.iter().map(|business| business.namespace.as_str()).collect();
        objects.extend(applyset::close_departed(client, &environment.name, &present).await?);
    }
    for applied in &objects {
        progress(Event::Applied(applied.clone()));
    }
    let businesses = environment.businesses.iter().filter(|business| wanted(&business.name));
    let waits = businesses.map(|business| async move {
        progress(Event::Waiting { business: business.name.clone() });
        wait(client, &business.namespace, ORCHESTRATOR, options.limit).await?;
        progress(Event::Ready { business: business.name.clone(), elapsed_ms: millis(started) });
        anyhow::Ok(())
    });
    let failures: Vec<String> =
        join_all(waits).await.into_iter().filter_map(|result| Some(format!("{:#}", result.err()?))).collect();
    if !failures.is_empty() {
        anyhow::bail!("{}", failures.join("\n"));
    }
    let changed = objects.iter().filter(|applied| applied.change != Change::Unchanged).count();
    Ok(Report { objects, changed, elapsed_ms: millis(started) })
}

/// The images that an environment runs already, by the first orchestrator found; none before the first deploy.
///
/// # Errors
/// When the cluster cannot be asked.
pub async fn live_images(environment: &Environment, client: &Client) -> anyhow::Result<Option<Images>> {
    for business in &environment.businesses {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &business.namespace);
        let live = deployments.get_opt(ORCHESTRATOR).await;
        let Some(live) = live.with_context(|| format!("read the orchestrator of {}", business.name))? else { continue };
        let engine = live.metadata.annotations.unwrap_or_default().remove(labels::ANNOTATION_ENGINE_IMAGE);
        let containers = live.spec.and_then(|spec| spec.template.spec).map(|spec| spec.containers).unwrap_or_default();
        let orchestrator = containers.into_iter().next().and_then(|container| container.image);
        if let (Some(orchestrator), Some(engine)) = (orchestrator, engine) {
            return Ok(Some(Images { orchestrator, engine }));
        }
    }
    Ok(None)
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
