//! Whether a rollout is done, in progress, or cannot succeed: a pure function of the Deployment, its Pods, and what
//! was seen of them.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentCondition, ReplicaSet},
    core::v1::Pod,
};

use super::refusal;

mod cause;
mod container;
mod pod;

pub use cause::{Cause, On, Verdict, Why};

/// Annotation on the Pod template: hash of the configuration it was rendered with.
pub const CONFIG_HASH: &str = "deskgrid.dev/config-hash";
/// Annotation of a Deployment and its ReplicaSets: which of them makes its Pods now.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Condition of a Deployment and of a ReplicaSet whose Pods are refused.
const REFUSED: &str = "ReplicaFailure";
/// How many times longer a refusal is borne that may pass.
const PASSING: u32 = 6;

/// How long something may go on before it counts as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A Pod that no node takes, while no node is being made for it.
    pub unscheduled: Duration,
    /// An image that cannot be pulled for a reason that may pass.
    pub pulling: Duration,
    /// A Pod whose containers cannot be made: a Secret that is missing, a volume that cannot be mounted.
    pub creating: Duration,
    /// A container that has started and is not ready.
    pub unready: Duration,
    /// Pods that the API server refuses; the next try may go well.
    pub refused: Duration,
    /// One that Google refuses: a grant takes a while to be known everywhere.
    pub identity: Duration,
}

impl Patience {
    /// On a real cluster: IAM says that a grant takes two minutes as a rule, and may take seven; an autoscaler checks
    /// every ten seconds.
    pub const GOOGLE: Self = Self {
        unscheduled: Duration::from_secs(45),
        pulling: Duration::from_secs(60),
        creating: Duration::from_secs(20),
        unready: Duration::from_secs(20),
        refused: Duration::from_secs(5),
        identity: Duration::from_secs(7 * 60),
    };
    /// On an Autopilot cluster, which takes minutes to create a node before an event says so.
    pub const AUTOPILOT: Self = Self { unscheduled: Duration::from_secs(5 * 60), ..Self::GOOGLE };
    /// On a laptop cloud, where grants count at once.
    pub const LOCAL: Self = Self {
        unscheduled: Duration::from_secs(10),
        pulling: Duration::from_secs(10),
        creating: Duration::from_secs(5),
        unready: Duration::from_secs(10),
        refused: Duration::from_secs(1),
        identity: Duration::from_secs(10),
    };
    /// At the end of all time that there was.
    pub(super) const NONE: Self = Self {
        unscheduled: Duration::ZERO,
        pulling: Duration::ZERO,
        creating: Duration::ZERO,
        unready: Duration::ZERO,
        refused: Duration::ZERO,
        identity: Duration::ZERO,
    };
}

/// A Pod with what was seen of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The Pod.
    pub pod: &'a Pod,
    /// How long it has been in the stage it is in.
    pub lasting: Duration,
    /// What happened to it, oldest first.
    pub events: &'a [Happening],
    /// The last lines of its log; of the container's run before, when it ended.
    pub log: &'a str,
}

/// Something that happened to a Pod, as one of its events reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// A word for it, such as `FailedMount`.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Time since it was seen to happen last.
    pub ago: Duration,
}

/// What the API server says when it refuses Pods.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Its words.
    pub message: &'a str,
    /// How long it has refused them.
    pub lasting: Duration,
}

/// How far a Pod has come; time is measured in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No node took it.
    Unscheduled,
    /// Its containers are being made.
    Creating,
    /// They run, and their startup probes have not found them well yet.
    Starting,
    /// They have started and are not ready.
    Unready,
    /// All is well with it, or it is going.
    Other,
}

pub(super) use pod::{is_current, restarts, stage};

/// Whether Pods of one of its ReplicaSets are refused: of the present one, or while that has no failure of an older one
/// (`getReplicaFailures` of Kubernetes' Deployment controller).
pub(super) fn has_refusals(deployment: &Deployment) -> bool {
    let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == REFUSED && condition.status == "True")
}

/// What the API server said when it refused Pods of the Deployment's present template; nothing when it does not.
pub(super) fn refused<'a>(deployment: &Deployment, mut sets: impl Iterator<Item = &'a ReplicaSet>) -> Option<&'a str> {
    let revision = deployment.metadata.annotations.as_ref()?.get(REVISION)?;
    let uid = deployment.metadata.uid.as_ref()?;
    let current = sets.find(|set| {
        set.metadata.annotations.as_ref().is_some_and(|annotations| annotations.get(REVISION) == Some(revision))
            && set.metadata.owner_references.iter().flatten().any(|owner| owner.uid == *uid)
    })?;
    let mut conditions = current.status.as_ref()?.conditions.iter().flatten();
    let failure = conditions.find(|condition| condition.type_ == REFUSED && condition.status == "True")?;
    Some(failure.message.as_deref().unwrap_or_default())
}

/// Judges a rollout, whose Pods may be [`refused`]. Pods of an older template do not count.
pub fn verdict<'a>(
    deployment: &Deployment,
    refused: Option<Refusal<'_>>,
    pods: impl Iterator<Item = Seen<'a>>,
    patience: &Patience,
) -> Verdict {
    let generation = deployment.metadata.generation.unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation.unwrap_or_default() < generation {
        return Verdict::waiting("the Deployment controller has not seen it yet");
    }
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let count = |count: Option<i32>| count.unwrap_or_default();
    if count(status.updated_replicas) >= desired
        && count(status.available_replicas) >= desired
        && count(status.replicas) <= count(status.updated_replicas)
    {
        return Verdict::Ready;
    }
    let mut waiting = None;
    for seen in pods.filter(|seen| is_current(deployment, seen.pod)) {
        match pod::judge(seen, patience) {
            Some(failed @ Verdict::Failed(_)) => return failed,
            Some(why @ Verdict::Waiting { .. }) => waiting = Some(why),
            _ => {}
        }
    }
    if let Some(refused) = refused {
        return refusal_of_pods(refused, patience);
    }
    // A new node may take longer than the deadline of the Deployment.
    let scaling = matches!(waiting, Some(Verdict::Waiting { on: On::Node, .. }));
    let stuck = |condition: &&DeploymentCondition| condition.type_ == "Progressing" && condition.status == "False";
    if let Some(stuck) = status.conditions.iter().flatten().find(stuck).filter(|_| !scaling) {
        let so_far = match waiting {
            Some(Verdict::Waiting { why, .. }) => format!(" ({why})"),
            _ => String::new(),
        };
        let message = stuck.message.clone().unwrap_or_default();
        return Verdict::Failed(Cause::new(Why::Stuck, format!("it makes no progress: {message}{so_far}")));
    }
    let progress = format!("{} of {desired} pods are ready", count(status.available_replicas));
    waiting.unwrap_or_else(|| Verdict::waiting(progress))
}

/// Judges a refusal of Pods: the controller tries again and again, and what may pass is given more tries.
fn refusal_of_pods(refused: Refusal<'_>, patience: &Patience) -> Verdict {
    let Refusal { message, lasting } = refused;
    let seen = format!("its pods are refused: {message}");
    let patience = if refusal::may_pass(message) { patience.refused * PASSING } else { patience.refused };
    if lasting < patience {
        return Verdict::waiting(seen);
    }
    let why = match refusal::cause(message) {
        Some(refusal::Cause::Quota) => Why::Quota,
        _ => Why::Admission,
    };
    Verdict::Failed(Cause::new(why, seen))
}
