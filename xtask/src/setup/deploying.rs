//! Deploying an environment or a part of it: with which images and how patiently, and what is told meanwhile.

use std::sync::Arc;

use provision::{
    Cloud, Environment, deploy,
    environment::CloudKind,
    manifests::{Extras, Images, WebImages},
    presence,
};

use super::noted_web_images;
use crate::{context, output::Output};

/// The images of a deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Of what every business has.
    pub(crate) services: Images,
    /// Of the web apps; one without is not deployed.
    pub(crate) web: WebImages,
}

impl Chosen {
    /// These, and of the web apps those of the last build; what that did not make stays as it runs.
    ///
    /// # Errors
    /// When the cluster must be asked and cannot be.
    pub(crate) async fn built(environment: &Environment, cloud: &Cloud, services: Images) -> anyhow::Result<Self> {
        let noted = noted_web_images(environment);
        let is_whole = noted.monitor.is_some() && noted.client.is_some();
        let web = if is_whole { noted } else { first_of(noted, running(environment, cloud).await?) };
        Ok(Self { services, web })
    }

    /// These, which somebody named; the web apps stay as they run, whatever was built here when.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub(crate) async fn named(environment: &Environment, cloud: &Cloud, services: Images) -> anyhow::Result<Self> {
        let web = first_of(running(environment, cloud).await?, noted_web_images(environment));
        Ok(Self { services, web })
    }
}

/// The web apps' images as they run; none when the environment has no web apps.
async fn running(environment: &Environment, cloud: &Cloud) -> anyhow::Result<WebImages> {
    if !environment.web.enabled {
        return Ok(WebImages::default());
    }
    deploy::live_web_images(cloud.cluster()?).await
}

/// Each app's image from `one`, or else from `other`.
fn first_of(one: WebImages, other: WebImages) -> WebImages {
    WebImages { monitor: one.monitor.or(other.monitor), client: one.client.or(other.client) }
}

/// Renders, applies, and waits until everything is ready.
///
/// # Errors
/// When a template, the cluster or a rollout fails; says why.
pub(crate) async fn deploy(
    environment: &Environment,
    cloud: &Cloud,
    images: Images,
    foreign: deploy::Foreign,
    output: &Output,
) -> anyhow::Result<deploy::Report> {
    let images = Chosen::built(environment, cloud, images).await?;
    let options = deploy::Options { foreign, ..deploy_options(environment, images) };
    deploy_with(environment, cloud, &options, output).await
}

/// As [`deploy`], a part of an environment, with the images that the rest of it runs; nothing where nothing runs yet.
///
/// # Errors
/// As [`deploy`].
pub(crate) async fn deploy_part(
    environment: &Environment,
    cloud: &Cloud,
    only: deploy::Only,
    foreign: deploy::Foreign,
    output: &Output,
) -> anyhow::Result<Option<deploy::Report>> {
    let client = match &cloud.kubernetes {
        Ok(client) if presence::has_cluster(environment, cloud).await? => client,
        _ => return Ok(None),
    };
    let Some(services) = deploy::live_images(environment, client).await? else { return Ok(None) };
    let images = Chosen { services, web: deploy::live_web_images(client).await? };
    let options = deploy::Options { only, foreign, ..deploy_options(environment, images) };
    Ok(Some(deploy_with(environment, cloud, &options, output).await?))
}

/// How an environment is deployed unless told otherwise.
pub(crate) fn deploy_options(environment: &Environment, images: Chosen) -> deploy::Options {
    let patience = match environment.cloud {
        CloudKind::Google => deploy::Patience::GOOGLE,
        CloudKind::Local => deploy::Patience::LOCAL,
    };
    let extras = Extras { web: images.web, pod_monitoring: false };
    deploy::Options {
        patience,
        extras,
        ..deploy::Options::new(images.services, context::generated(environment))
    }
}

/// As [`deploy`], told in every respect.
///
/// # Errors
/// As [`deploy`].
pub(crate) async fn deploy_with(
    environment: &Environment,
    cloud: &Cloud,
    options: &deploy::Options,
    output: &Output,
) -> anyhow::Result<deploy::Report> {
    let told = *output;
    let progress: deploy::Progress = Arc::new(move |event| match event {
        deploy::Event::Ready { deployment, elapsed_ms } => {
            told.note(format_args!("  {deployment} runs ({elapsed_ms} ms)"));
        }
        deploy::Event::Applied(applied) if applied.change == deploy::Change::Pruned => {
            let namespace = applied.namespace.unwrap_or_default();
            told.note(format_args!("  took away the {} {} of {namespace}", applied.kind, applied.name));
        }
        deploy::Event::Applied(applied) => {
            told.detail(format_args!("  {:?} {} {}", applied.change, applied.kind, applied.name));
        }
        deploy::Event::Key { account } => told.note(format_args!("  a new key of {account} is in its Secret")),
        deploy::Event::KeyGone { account } => {
            told.note(format_args!("  {account} is deployed no longer, and has no key"))
        }
        deploy::Event::Token => told.note("  made a token for the web apps; `cargo xtask open monitor` shows it"),
        deploy::Event::Waiting { deployment } => told.detail(format_args!("  waiting for {deployment}")),
        deploy::Event::Delayed { deployment, why } => told.note(format_args!("  {deployment} waits: {why}")),
        deploy::Event::RollingBack => told.note("  a rollout failed; taking everything back"),
        deploy::Event::RolledBack { what } => told.note(format_args!("  {what}")),
    });
    deploy::run(environment, cloud, options, &progress).await
}
