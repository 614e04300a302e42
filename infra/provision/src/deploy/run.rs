//! A deploy: render, write the files, preview, apply, and wait until everything runs.

use std::collections::BTreeSet;

use contract::labels;
use kube::Client;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Applied, Change, access, apply,
    event::{Event, Progress, elapsed_ms},
    failure, keys, namespaces,
    options::{Only, Options},
    preview::{Preview, PreviewOptions, preview_rendered},
    reach,
    rollouts::{self, Waited},
    write,
};
use crate::{
    Cloud,
    environment::{Auth, Environment, WebAccess},
    failure::Failure,
    manifests::{Extras, Rendered, WEB_NAMESPACE, render_with},
};

/// API of Google's collectors of metrics.
const MONITORING: &str = "monitoring.googleapis.com/v1";

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

/// Finds out what a deploy would do, without a write.
///
/// # Errors
/// When something cannot be rendered, is somebody else's, or the cluster does not answer.
pub async fn preview(environment: &Environment, cloud: &Cloud, options: &Options) -> anyhow::Result<Preview> {
    let everything = rendered(environment, cloud, options).await?;
    preview_part(environment, cloud.cluster()?, &everything, options).await
}

/// Renders what this cluster can have.
async fn rendered(environment: &Environment, cloud: &Cloud, options: &Options) -> anyhow::Result<Rendered> {
    let asked = reach::with_timeout(cloud.cluster()?.list_api_group_resources(MONITORING)).await;
    let pod_monitoring = match asked {
        Ok(resources) => resources.resources.iter().any(|resource| resource.kind == "PodMonitoring"),
        Err(error) if reach::is_missing(&error) => false,
        Err(error) => return Err(error.context("ask the cluster what it has")),
    };
    let extras = Extras { pod_monitoring, ..options.extras.clone() };
    render_with(environment, &cloud.endpoints, &options.images, &extras)
}

async fn preview_part(
    environment: &Environment,
    client: &Client,
    everything: &Rendered,
    options: &Options,
) -> anyhow::Result<Preview> {
    // Only a deploy of everything knows what left.
    let present = (options.only == Only::Everything).then(|| present(environment, everything));
    let how = PreviewOptions { foreign: options.foreign, force_conflicts: options.force_conflicts };
    preview_rendered(client, &environment.name, &only(everything, options), present.as_ref(), how).await
}

/// Namespaces that are still wanted. The web apps are while they are switched on, also when nobody knows their images.
fn present(environment: &Environment, everything: &Rendered) -> BTreeSet<String> {
    let mut present = namespaces(everything);
    if environment.web.enabled {
        present.insert(WEB_NAMESPACE.to_owned());
    }
    present
}

/// The objects of the part that is deployed. What no business has alone is the cluster's or the web apps', and those
/// belong to every part: they name the businesses.
fn only(everything: &Rendered, options: &Options) -> Rendered {
    let mut rendered = everything.clone();
    for file in &mut rendered.files {
        file.objects.retain(|object| {
            let business = object["metadata"]["labels"][labels::BUSINESS].as_str();
            business.is_none_or(|business| options.includes(business))
        });
    }
    rendered
}

/// Deploys an environment. Safe to run again; writes nothing when nothing is to be done.
///
/// # Errors
/// When something cannot be rendered, written down or applied; or when something does not run, with the reasons of all
/// that does not.
pub async fn run(
    environment: &Environment,
    cloud: &Cloud,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let client = cloud.cluster()?;
    let mut everything = rendered(environment, cloud, options).await?;
    everything.config.cluster = cloud.server.clone();
    everything.write(&options.folder)?;
    let desired = only(&everything, options);
    let has_web = namespaces(&desired).contains(WEB_NAMESPACE);
    if environment.auth == Auth::Key || has_web {
        // Secrets are made before what mounts them, and need the namespaces.
        let mut namespaces = desired.clone();
        for file in &mut namespaces.files {
            file.objects.retain(|object| object["kind"] == "Namespace");
        }
        apply(client, &environment.name, &namespaces, options.foreign).await?;
    }
    if environment.auth == Auth::Key {
        keys::provide(environment, cloud, client, &desired, progress).await?;
    }
    if has_web && environment.web.access != WebAccess::Iap && access::ensure(client).await? {
        progress(Event::Token);
    }
    let preview = preview_part(environment, client, &everything, options).await?;
    preview.check()?;
    if let Some(agreed) = &options.may_delete {
        only_agreed(&environment.name, agreed, &preview)?;
    }
    let rollouts = rollouts::of_rendered(&desired, options);
    let mut objects = match write::apply_preview(client, &preview).await {
        Ok(objects) => objects,
        Err(error) if options.rollback => {
            let notes = failure::roll_back(client, &preview, &rollouts, progress).await;
            return Err(failure::with_notes(error, &notes));
        }
        Err(error) => return Err(error),
    };
    for applied in &objects {
        progress(Event::Applied(applied.clone()));
    }
    let Waited { failures, left } = rollouts::wait(client, &rollouts, started, progress).await;
    if !failures.is_empty() {
        let mut notes: Vec<String> =
            left.iter().map(|deployment| format!("{deployment} was not waited for any longer")).collect();
        if options.rollback {
            notes.extend(failure::roll_back(client, &preview, &rollouts, progress).await);
        }
        return Err(failure::describe(environment, cloud, failures, notes).await);
    }
    let pruned = write::prune(client, &preview).await?;
    for gone in &pruned {
        progress(Event::Applied(gone.clone()));
    }
    let web_is_known = has_web || !environment.web.enabled;
    if environment.auth == Auth::Key && options.only == Only::Everything && web_is_known {
        keys::withdraw(environment, cloud, client, &desired, options.limit, progress).await?;
    }
    objects.extend(pruned);
    let changed = objects.iter().filter(|applied| applied.change != Change::Unchanged).count();
    Ok(Report { objects, changed, elapsed_ms: elapsed_ms(started) })
}

/// Whether nothing would be deleted beyond what somebody agreed to.
fn only_agreed(environment: &str, agreed: &[Applied], preview: &Preview) -> anyhow::Result<()> {
    let more: Vec<String> = preview
        .pruned()
        .filter(|gone| !agreed.contains(gone))
        .map(|gone| format!("{} {}", gone.kind, gone.name))
        .collect();
    if more.is_empty() {
        return Ok(());
    }
    Err(Failure {
        code: "plan-moved",
        what: "the cluster changed since the plan was made; nothing was deleted".to_owned(),
        on: format!("environment {environment}"),
        why: format!("these would be deleted too: {}", more.join(", ")),
        next: "deploy again, and see what it would delete".to_owned(),
    }
    .into())
}
