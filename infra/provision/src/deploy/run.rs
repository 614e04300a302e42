//! What the verb calls: render, write down, look, apply, and wait until everything runs.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use contract::labels;
use kube::Client;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Applied, Change, Foreign, LIMIT, Looking, Outlook, Patience, access, apply, carry, failure, handout, look,
    namespaces, reach,
    rollouts::{self, Waited},
};
use crate::{
    Cloud,
    environment::{Auth, Environment, WebAccess},
    manifests::{Extras, Images, Rendered, WEB_NAMESPACE, render_with},
    trouble::Trouble,
};

/// API of Google's collectors of metrics.
const MONITORING: &str = "monitoring.googleapis.com/v1";

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
    /// What somebody agreed may be deleted; without it everything that is no longer wanted.
    pub may_delete: Option<Vec<Applied>>,
    /// Take everything back when an object is refused or a rollout fails.
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
            may_delete: None,
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
    /// A rollout cannot succeed.
    Failed {
        /// Deployment, as `namespace/name`.
        deployment: String,
        /// Why.
        why: String,
    },
    /// What failed is taken back.
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
    if let Some(agreed) = &options.may_delete {
        only_agreed(&environment.name, agreed, &outlook)?;
    }
    let rollouts = rollouts::of(&wanted, options);
    let mut objects = match carry::carry_out(client, &outlook).await {
        Ok(objects) => objects,
        Err(error) if options.rollback => {
            let notes = failure::take_back(client, &outlook, &rollouts, progress).await;
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
            notes.extend(failure::take_back(client, &outlook, &rollouts, progress).await);
        }
        return Err(failure::told(environment, cloud, failures, notes).await);
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

/// Whether nothing would be deleted beyond what somebody agreed to.
fn only_agreed(environment: &str, agreed: &[Applied], outlook: &Outlook) -> anyhow::Result<()> {
    let more: Vec<String> = outlook
        .pruned()
        .filter(|gone| !agreed.contains(gone))
        .map(|gone| format!("{} {}", gone.kind, gone.name))
        .collect();
    if more.is_empty() {
        return Ok(());
    }
    Err(Trouble {
        code: "plan-moved",
        what: "the cluster is not as it was when it was looked at; nothing was deleted".to_owned(),
        on: format!("environment {environment}"),
        why: format!("these would be deleted too: {}", more.join(", ")),
        next: "deploy again, and see what it would delete".to_owned(),
    }
    .into())
}

pub(super) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
