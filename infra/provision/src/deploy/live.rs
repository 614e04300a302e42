//! Which images run already: a part of an environment is deployed as the rest of it runs, whatever was built since.

use anyhow::Context as _;
use contract::labels;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};

use crate::{
    environment::Environment,
    manifests::{Images, WEB_NAMESPACE, WebImages},
};

/// The Deployment of every business.
pub(crate) const ORCHESTRATOR: &str = "orchestrator";

/// The images that an environment runs already, by the first orchestrator found; none before the first deploy.
///
/// # Errors
/// When the cluster does not answer.
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

/// The images that the web apps run already; none before they were deployed first.
///
/// # Errors
/// When the cluster does not answer.
pub async fn live_web_images(client: &Client) -> anyhow::Result<WebImages> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), WEB_NAMESPACE);
    let image = async |app: &str| {
        let live = deployments.get_opt(app).await.with_context(|| format!("read the {app} that runs"))?;
        let containers = live.and_then(|live| live.spec?.template.spec).map(|pod| pod.containers).unwrap_or_default();
        anyhow::Ok(containers.into_iter().next().and_then(|container| container.image))
    };
    Ok(WebImages { monitor: image("monitor").await?, client: image("client").await? })
}
