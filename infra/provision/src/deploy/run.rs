//! What the verb calls: render, write down, look, apply, and wait until everything runs.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use common::labels;
use futures::future::join_all;
use kube::Client;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Applied, Change, Failed, Foreign, LIMIT, Looking, Outlook, Patience, Rollout, Why, access, apply, carry, handout, look,
    namespaces, reach, rollback::roll_back, wait_for,
};
use crate::{
    Cloud,
    environment::{Auth, Environment, WebAccess},
    manifests::{Extras, Images, Rendered, WEB_NAMESPACE, render_with},
    plan,
    resource::Kind,
    trouble::Trouble,
};

/// API of Google's collectors of metrics.
const MONITORING: &str = "monitoring.googleapis.com/v1";
/// Time for which a rollout waits on one and the same before it is told.
const QUIET: Duration = Duration::from_secs(3);

/// How to deploy.
#[derive(Clone, Debug)]
pub struct Options {
    /// Images to run.
    pub images: Images,
    /// What is deployed beside the businesses, where it can be.
    pub extras: Extras,
    /// Folder that what was rendered is written to.
    pub folder: PathBuf,
    /// Only this part; what is written down is still everything.
    pub only: Only,
    /// Namespaces of our names that somebody else made.
    pub foreign: Foreign,
    /// Take over fields that others own.
    pub force_conflicts: bool,
    /// Take everything back when a rollout fails.
    pub rollback: bool,
    /// How long a rollout may take; a safety net.
    pub limit: Duration,
    /// When each kind of trouble counts as a failure.
    pub patience: Patience,
}

impl Options {
    /// Deploys everything, refuses what is somebody else's, and takes nothing back.
    pub fn new(images: Images, folder: PathBuf) -> Self {
        Self {
            images,
            extras: Extras::default(),
            folder,
            only: Only::Everything,
            foreign: Foreign::Refuse,
            force_conflicts: false,
            rollback: false,
            limit: LIMIT,
            patience: Patience::GOOGLE,
        }
    }

    fn wants(&self, business: &str) -> bool {
        match &self.only {
            Only::Everything => true,
            Only::Business(only) => only == business,
            Only::Web => false,
        }
    }
}

/// What of an environment is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// All of it; what is not wanted any more is taken away.
    #[default]
    Everything,
    /// One business, and the web apps, which are told of it.
    Business(String),
    /// The web apps, after a business went.
    Web,
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
    /// What is no longer deployed has no key any more.
    KeyGone {
        /// Email of the account.
        account: String,
    },
    /// A token for the web apps was made.
    Token,
    /// A rollout is waited for.
    Waiting {
        /// Deployment, as `namespace/name`.
        deployment: String,
    },
    /// A rollout waits on something.
    Delayed {
        /// Deployment, as `namespace/name`.
        deployment: String,
        /// On what.
        why: String,
    },
    /// A rollout is done.
    Ready {
        /// Deployment, as `namespace/name`.
        deployment: String,
        /// Milliseconds it took.
        elapsed_ms: u64,
    },
    /// A failed rollout is taken back.
    RollingBack,
    /// Something was taken back.
    RolledBack {
        /// What.
        what: String,
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

/// Finds out what a deploy would do, without a write.
///
/// # Errors
/// When something cannot be rendered, is somebody else's, or the cluster cannot be asked.
pub async fn preview(environment: &Environment, cloud: &Cloud, options: &Options) -> anyhow::Result<Outlook> {
    let everything = rendered(environment, cloud, options).await?;
    outlook(environment, cloud.cluster()?, &everything, options).await
}

/// Renders what this cluster can have.
async fn rendered(environment: &Environment, cloud: &Cloud, options: &Options) -> anyhow::Result<Rendered> {
    let asked = reach::within(cloud.cluster()?.list_api_group_resources(MONITORING)).await;
    let pod_monitoring = match asked {
        Ok(resources) => resources.resources.iter().any(|resource| resource.kind == "PodMonitoring"),
        Err(error) if reach::is_missing(&error) => false,
        Err(error) => return Err(error.context("ask the cluster what it has")),
    };
    let extras = Extras { pod_monitoring, ..options.extras.clone() };
    render_with(environment, &cloud.endpoints, &options.images, &extras)
}

async fn outlook(
    environment: &Environment,
    client: &Client,
    everything: &Rendered,
    options: &Options,
) -> anyhow::Result<Outlook> {
    // Only a deploy of everything knows what left.
    let present = (options.only == Only::Everything).then(|| present(environment, everything));
    let looking = Looking { foreign: options.foreign, force_conflicts: options.force_conflicts };
    look(client, &environment.name, &only(everything, options), present.as_ref(), looking).await
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
/// belong to every part: they are told which businesses there are.
fn only(everything: &Rendered, options: &Options) -> Rendered {
    let mut rendered = everything.clone();
    for file in &mut rendered.files {
        file.objects.retain(|object| {
            let business = object["metadata"]["labels"][labels::BUSINESS].as_str();
            business.is_none_or(|business| options.wants(business))
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
    let everything = rendered(environment, cloud, options).await?;
    everything.write(&options.folder)?;
    let wanted = only(&everything, options);
    let has_web = namespaces(&wanted).contains(WEB_NAMESPACE);
    if environment.auth == Auth::Key || has_web {
        // Secrets are made before what mounts them, and need the namespaces.
        let mut namespaces = wanted.clone();
        for file in &mut namespaces.files {
            file.objects.retain(|object| object["kind"] == "Namespace");
        }
        apply(client, &environment.name, &namespaces, options.foreign).await?;
    }
    if environment.auth == Auth::Key {
        handout::give(environment, cloud, client, &wanted, progress).await?;
    }
    if has_web && environment.web.access != WebAccess::Iap && access::ensure(client).await? {
        progress(Event::Token);
    }
    let outlook = outlook(environment, client, &everything, options).await?;
    outlook.check()?;
    let mut objects = carry::carry_out(client, &outlook).await?;
    for applied in &objects {
        progress(Event::Applied(applied.clone()));
    }
    let rollouts = rollouts(&wanted, options);
    let failures = wait_all(client, &rollouts, started, progress).await;
    if !failures.is_empty() {
        let mut notes = Vec::new();
        if options.rollback {
            notes = take_back(client, &outlook, &rollouts, progress).await;
        }
        return Err(failure(environment, cloud, failures, notes).await);
    }
    let pruned = carry::prune(client, &outlook).await?;
    for gone in &pruned {
        progress(Event::Applied(gone.clone()));
    }
    let web_is_known = has_web || !environment.web.enabled;
    if environment.auth == Auth::Key && options.only == Only::Everything && web_is_known {
        handout::take_back(environment, cloud, client, &wanted, options.limit, progress).await?;
    }
    objects.extend(pruned);
    let changed = objects.iter().filter(|applied| applied.change != Change::Unchanged).count();
    Ok(Report { objects, changed, elapsed_ms: millis(started) })
}

/// Every Deployment among the objects.
fn rollouts(rendered: &Rendered, options: &Options) -> Vec<Rollout> {
    let deployments = rendered.objects().filter(|object| object["kind"] == "Deployment");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let rollout = |object: &serde_json::Value| Rollout {
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
        limit: options.limit,
        patience: options.patience,
    };
    deployments.map(rollout).collect()
}

async fn wait_all(client: &Client, rollouts: &[Rollout], started: Instant, progress: &Progress) -> Vec<anyhow::Error> {
    let waits = rollouts.iter().map(|rollout| async move {
        let deployment = format!("{}/{}", rollout.namespace, rollout.name);
        progress(Event::Waiting { deployment: deployment.clone() });
        let begun = Instant::now();
        let told = |why: &str| {
            if begun.elapsed() >= QUIET {
                progress(Event::Delayed { deployment: deployment.clone(), why: why.to_owned() });
            }
        };
        wait_for(client, rollout, &told).await?;
        progress(Event::Ready { deployment: deployment.clone(), elapsed_ms: millis(started) });
        anyhow::Ok(())
    });
    join_all(waits).await.into_iter().filter_map(Result::err).collect()
}

/// Takes a deploy back and says what came of that.
async fn take_back(client: &Client, outlook: &Outlook, rollouts: &[Rollout], progress: &Progress) -> Vec<String> {
    progress(Event::RollingBack);
    let mut notes = match roll_back(client, outlook).await {
        Ok(told) if told.is_empty() => {
            return vec!["nothing was taken back: there was no version before this one".to_owned()];
        }
        Ok(told) => told,
        Err(error) => return vec![format!("it could not be taken back: {error:#}")],
    };
    for what in &notes {
        progress(Event::RolledBack { what: what.clone() });
    }
    notes = vec![format!("{} objects were taken back", notes.len())];
    let waits = rollouts.iter().map(|rollout| async move {
        match wait_for(client, rollout, &|_| {}).await {
            Ok(()) => format!("{}/{} runs as before", rollout.namespace, rollout.name),
            Err(error) => format!("{}/{} does not run as before: {error:#}", rollout.namespace, rollout.name),
        }
    });
    notes.extend(join_all(waits).await);
    notes
}

/// What to tell of rollouts that failed.
async fn failure(
    environment: &Environment,
    cloud: &Cloud,
    failures: Vec<anyhow::Error>,
    notes: Vec<String>,
) -> anyhow::Error {
    let failed: Vec<Failed> = failures.iter().filter_map(|error| error.downcast_ref::<Failed>().cloned()).collect();
    let Some(first) = failed.first() else {
        let all: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
        return anyhow::anyhow!("{}", all.join("\n"));
    };
    let mut why: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    if failed.iter().any(|failed| failed.cause.why == Why::Identity)
        && let Some(gap) = missing_identity(environment, cloud).await
    {
        why.push(gap);
    }
    why.extend(notes);
    let on: Vec<&str> = failed.iter().map(|failed| failed.deployment.as_str()).collect();
    let namespace = first.deployment.split('/').next().unwrap_or_default();
    Trouble {
        code: first.cause.why.code(),
        what: format!("{} of the rollouts failed", failures.len()),
        on: on.join(", "),
        why: why.join("\n"),
        next: first.cause.why.next().replace("NAMESPACE", namespace),
    }
    .into()
}

/// What of the identities is not as it should be, if that can be found out.
async fn missing_identity(environment: &Environment, cloud: &Cloud) -> Option<String> {
    let silent: crate::apply::Progress = Arc::new(|_| {});
    let plan = crate::look(environment, cloud, plan::Options::default(), &silent).await.ok()?;
    let is_identity = |id: &crate::resource::Id| id.is_policy() || id.kind == Kind::ServiceAccount;
    let missing = plan.pending().filter(|change| is_identity(&change.id)).map(|change| change.id.to_string());
    let missing: Vec<String> = missing.collect();
    match missing.is_empty() {
        true => {
            Some("every binding of the environment is there: a new one takes up to two minutes to be known".to_owned())
        }
        false => Some(format!("these are not as they should be: {}", missing.join(", "))),
    }
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
