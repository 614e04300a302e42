//! Deploys an environment or a part of it: chooses images and patience, and prints the progress.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use cli::output::Output;
use provision::{
    Cloud, Environment, deploy,
    environment::{CloudKind, ClusterMode},
    manifests::{Extras, Images, WebImages},
    presence,
};

use super::preview_images;
use crate::{
    binaries::Binaries,
    building::{self, Step},
    context,
    globals::Globals,
    image_notes,
};

/// The images of a deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Of what every business has.
    pub(crate) services: Images,
    /// Of the web apps; one without is not deployed.
    pub(crate) web: WebImages,
}

impl Chosen {
    /// Newly built images, and for the web apps those of the last build; an app without one keeps its running image.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn built(environment: &Environment, cloud: &Cloud, services: Images) -> anyhow::Result<Self> {
        let noted = image_notes::read_web(environment);
        let is_whole = noted.monitor.is_some() && noted.client.is_some();
        let web = if is_whole { noted } else { first_of(noted, running(environment, cloud).await?) };
        Ok(Self { services, web })
    }

    /// Images that the user named; the web apps keep their running images.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn named(environment: &Environment, cloud: &Cloud, services: Images) -> anyhow::Result<Self> {
        let web = first_of(running(environment, cloud).await?, image_notes::read_web(environment));
        Ok(Self { services, web })
    }

    /// Those of the present source: by digest where they are there, and by the tag that they will get where they are
    /// to be built yet. Makes none of them.
    ///
    /// # Errors
    /// When the source does not build on a laptop, or the registry does not answer.
    pub(crate) async fn foreseen(environment: &Environment, cloud: &Cloud, output: &Output) -> anyhow::Result<Self> {
        let references = match environment.cloud {
            CloudKind::Local => preview_images(environment, &Binaries::build(output).await?)?,
            CloudKind::Google => {
                let steps = building::foreseen(environment, cloud, output).await?;
                for step in steps.iter().filter(|step| step.present.is_none()) {
                    output.note(format_args!("  {} would be built: {}", step.image, step.tag));
                }
                steps.into_iter().map(reference).collect()
            }
        };
        Self::of(references)
    }

    /// These references, by the name of the image.
    fn of(mut references: BTreeMap<String, String>) -> anyhow::Result<Self> {
        let mut take = |name: &str| references.remove(name);
        let web = WebImages { monitor: take("monitor"), client: take("client") };
        let mut needed = |name: &str| take(name).with_context(|| format!("find the image {name}"));
        Ok(Self { services: Images { orchestrator: needed("orchestrator")?, engine: needed("engine")? }, web })
    }
}

/// Name and reference of the image that a step is about, as far as it is known before the step is done.
fn reference(step: Step) -> (String, String) {
    (step.image.to_owned(), step.present.unwrap_or(step.tag))
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

/// Renders, applies, and waits until everything is ready, in the environment's own cluster.
///
/// # Errors
/// When a template, the cluster or a rollout fails; says why.
pub async fn deploy(
    environment: &Environment,
    cloud: &Cloud,
    images: Images,
    foreign: deploy::Foreign,
    output: &Output,
) -> anyhow::Result<deploy::Report> {
    let images = Chosen::built(environment, cloud, images).await?;
    let options = deploy::Options { foreign, ..deploy_options(environment, &Globals::default(), images) };
    deploy_agreed(environment, cloud, &options, None, output).await
}

/// A part of an environment, planned.
pub(crate) struct Part {
    options: deploy::Options,
    pub(crate) plan: deploy::Plan,
}

/// Plans the deploy of a part of an environment, with the images that the rest of it runs; nothing where nothing runs
/// yet.
///
/// # Errors
/// When the cluster does not answer, or somebody else owns what would change.
pub(crate) async fn plan_part(
    environment: &Environment,
    globals: &Globals,
    cloud: &Cloud,
    only: deploy::Only,
    foreign: deploy::Foreign,
) -> anyhow::Result<Option<Part>> {
    let client = match &cloud.kubernetes {
        Ok(client) if presence::has_cluster(environment, cloud).await? => client,
        _ => return Ok(None),
    };
    let Some(services) = deploy::live_images(environment, client).await? else { return Ok(None) };
    let images = Chosen { services, web: deploy::live_web_images(client).await? };
    let options = deploy::Options { only, foreign, ..deploy_options(environment, globals, images) };
    let plan = deploy::plan(environment, cloud, &options).await?;
    plan.check()?;
    Ok(Some(Part { options, plan }))
}

/// Carries out the deploy of a part that was planned, if one was; to a business it does only what was agreed to. What
/// all businesses share follows from the file, in which somebody else may have changed another one since.
///
/// # Errors
/// As [`deploy`].
pub(crate) async fn deploy_part(
    environment: &Environment,
    globals: &Globals,
    cloud: &Cloud,
    agreed: Option<&Part>,
    output: &Output,
) -> anyhow::Result<Option<deploy::Report>> {
    let Some(Part { options, plan: agreed }) = agreed else { return Ok(None) };
    let (only, foreign) = (options.only.clone(), options.foreign);
    let namespace = match &only {
        deploy::Only::Business(name) => environment.business(name).map(|business| business.namespace.as_str()),
        deploy::Only::Everything | deploy::Only::Web => None,
    };
    let Some(Part { options, plan }) = plan_part(environment, globals, cloud, only, foreign).await? else {
        return Ok(None);
    };
    // A namespace is in none, and has its own name.
    let home = |applied: &deploy::Applied| applied.namespace.as_ref().unwrap_or(&applied.name).clone();
    deploy::check_unmoved(agreed, &plan, |applied| namespace.is_some_and(|namespace| home(applied) == namespace))?;
    Ok(Some(carry_out_deploy(environment, cloud, &options, &plan, output).await?))
}

/// Plans a deploy, checks that it does nothing beyond the plan that was agreed to, and carries it out.
///
/// # Errors
/// When the cluster changed since; as [`deploy::plan`], [`deploy::Plan::check`] and [`carry_out_deploy`].
pub(crate) async fn deploy_agreed(
    environment: &Environment,
    cloud: &Cloud,
    options: &deploy::Options,
    agreed: Option<&deploy::Plan>,
    output: &Output,
) -> anyhow::Result<deploy::Report> {
    let plan = deploy::plan(environment, cloud, options).await?;
    if let Some(agreed) = agreed {
        deploy::check_unmoved(agreed, &plan, |_| true)?;
    }
    plan.check()?;
    carry_out_deploy(environment, cloud, options, &plan, output).await
}

/// The default options of a deploy.
pub(crate) fn deploy_options(environment: &Environment, globals: &Globals, images: Chosen) -> deploy::Options {
    let extras = Extras { web: images.web, ..Extras::default() };
    deploy::Options {
        patience: patience(environment, globals),
        extras,
        ..deploy::Options::new(images.services, context::generated(environment))
    }
}

/// How patient to be: as the cluster needs that is meant, which need not be that of the environment.
fn patience(environment: &Environment, globals: &Globals) -> deploy::Patience {
    match environment.cloud {
        CloudKind::Local if globals.context().is_none() => deploy::Patience::LOCAL,
        CloudKind::Google | CloudKind::Local => match environment.cluster.mode {
            ClusterMode::Autopilot => deploy::Patience::AUTOPILOT,
            ClusterMode::Standard => deploy::Patience::GOOGLE,
        },
    }
}

/// Carries out the plan of a deploy, and waits until everything is ready.
///
/// # Errors
/// When the cluster or a rollout fails; says why.
pub(crate) async fn carry_out_deploy(
    environment: &Environment,
    cloud: &Cloud,
    options: &deploy::Options,
    plan: &deploy::Plan,
    output: &Output,
) -> anyhow::Result<deploy::Report> {
    let shown = *output;
    let progress: deploy::Progress = Arc::new(move |event| match event {
        deploy::Event::Ready { deployment, elapsed_ms } => {
            shown.note(format_args!("  {deployment} runs ({elapsed_ms} ms)"));
        }
        deploy::Event::Applied(applied) if applied.change == deploy::Change::Pruned => {
            let namespace = applied.namespace.unwrap_or_default();
            shown.note(format_args!("  deleted the {} {} of {namespace}", applied.kind, applied.name));
        }
        deploy::Event::Applied(applied) => {
            shown.detail(format_args!("  {:?} {} {}", applied.change, applied.kind, applied.name));
        }
        deploy::Event::Key { account } => shown.note(format_args!("  a new key of {account} is in its Secret")),
        deploy::Event::Certificate { name } => {
            shown.note(format_args!("  a new certificate of {name} is in its Secret"))
        }
        deploy::Event::KeyGone { account } => {
            shown.note(format_args!("  {account} is deployed no longer, and has no key"))
        }
        deploy::Event::Token => shown.note("  made a token for the web apps; `cargo xtask open monitor` shows it"),
        deploy::Event::Waiting { deployment } => shown.detail(format_args!("  waiting for {deployment}")),
        deploy::Event::Delayed { deployment, why } => shown.note(format_args!("  {deployment} waits: {why}")),
        deploy::Event::Failed { deployment, why } => {
            shown.note(format_args!("  {deployment} failed: {}", why.lines().next().unwrap_or_default()));
        }
        deploy::Event::RollingBack => shown.note("  it failed; rolling back"),
        deploy::Event::RolledBack { what } => shown.note(format_args!("  {what}")),
    });
    deploy::carry_out(environment, cloud, options, plan, &progress).await
}

#[cfg(test)]
mod tests {
    use provision::environment::{self, Overrides};

    use super::*;

    #[test]
    fn what_is_not_built_yet_is_foreseen_by_its_tag() {
        let step = |image: &'static str, present: Option<&str>| Step {
            image,
            tag: format!("r/{image}:source"),
            present: present.map(str::to_owned),
        };
        let there = step("engine", Some("r/engine@sha256:1"));
        let steps = [step("orchestrator", None), there, step("monitor", None)];
        let chosen = Chosen::of(steps.into_iter().map(reference).collect()).unwrap();
        let services = Images { orchestrator: "r/orchestrator:source".into(), engine: "r/engine@sha256:1".into() };
        let web = WebImages { monitor: Some("r/monitor:source".into()), client: None };
        assert_eq!(chosen, Chosen { services, web });
    }

    #[test]
    fn a_cluster_of_the_kubeconfig_is_given_the_time_that_a_real_one_needs() {
        let patience_of = |cloud: &str, context: Option<&str>| {
            let text = format!("project = \"desk-one\"\nlocation = \"europe-west1\"\n{cloud}\n[businesses.bu1]\n");
            let environment = environment::parse("e", "e.toml", &text, &Overrides::new()).unwrap();
            let shared = cli::Globals { context: context.map(Into::into), ..cli::Globals::default() };
            let globals = Globals { shared, ..Globals::default() };
            patience(&environment, &globals)
        };
        let laptop = "cloud = \"local\"";
        assert_eq!(patience_of(laptop, None), deploy::Patience::LOCAL);
        assert_eq!(patience_of(laptop, Some("")), deploy::Patience::LOCAL);
        assert_eq!(patience_of(laptop, Some("kind-kind")), deploy::Patience::GOOGLE);
        assert_eq!(patience_of("", None), deploy::Patience::GOOGLE);
        assert_eq!(patience_of("cluster.mode = \"autopilot\"", None), deploy::Patience::AUTOPILOT);
    }
}
