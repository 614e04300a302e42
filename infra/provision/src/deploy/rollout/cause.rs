//! Why a rollout fails, and what to do about each cause.

use serde::Serialize;

use super::super::refusal::{ADMISSION, QUOTA};

/// What is to be said of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it runs.
    Ready,
    /// Not yet.
    Waiting {
        /// On what it waits.
        why: String,
        /// Who or what takes the time.
        on: On,
    },
    /// It cannot succeed by waiting.
    Failed(Cause),
}

impl Verdict {
    /// Not yet, for this reason.
    pub(super) fn waiting(why: impl Into<String>) -> Self {
        Self::Waiting { why: why.into(), on: On::Cluster }
    }
}

/// What takes the time while a rollout waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// The cluster, which takes seconds.
    Cluster,
    /// A grant, which takes minutes until it is known everywhere.
    Grant,
    /// A node that is being made, which takes minutes.
    Node,
}

/// Why a rollout fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Kind of cause.
    pub why: Why,
    /// What was seen, with the last lines of a log where they say more.
    pub seen: String,
}

impl Cause {
    /// A cause as it was seen.
    pub(super) fn new(why: Why, seen: impl Into<String>) -> Self {
        Self { why, seen: seen.into() }
    }

    /// The same, with the last lines of a log.
    pub(super) fn with_log(mut self, log: &str) -> Self {
        if !log.trim().is_empty() {
            self.seen.push_str("\nits last log lines are:\n");
            self.seen.push_str(log.trim_end());
        }
        self
    }
}

/// Kinds of cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The image cannot be pulled.
    ImagePull,
    /// A container ends again and again.
    CrashLoop,
    /// No node takes a pod, and none is on its way.
    Unschedulable,
    /// A quota is used up.
    Quota,
    /// A policy refuses the pods.
    Admission,
    /// Google does not let the pod be who it should be.
    Identity,
    /// It runs, but its probes say that it does not work.
    Probe,
    /// A container cannot be made: something that it names is missing.
    PodConfig,
    /// None of these, but it does not come on.
    Stuck,
}

impl Why {
    /// Its stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::ImagePull => "image-pull",
            Self::CrashLoop => "crash-loop",
            Self::Unschedulable => "unschedulable",
            Self::Quota => "quota",
            Self::Admission => "admission",
            Self::Identity => "identity",
            Self::Probe => "probe",
            Self::PodConfig => "pod-config",
            Self::Stuck => "rollout-stuck",
        }
    }

    /// What to do about it.
    pub fn next(self) -> &'static str {
        match self {
            Self::ImagePull => {
                "see whether the registry has that image (`cargo xtask build` makes it), and whether the nodes' \
                 account may read the registry (roles/artifactregistry.reader)"
            }
            Self::CrashLoop => "see what its log says; `cargo xtask deploy` deploys a corrected version",
            Self::Unschedulable => {
                "make room: more or larger nodes (`cluster.nodes`, `cluster.machine_type`), a higher limit of the \
                 autoscaler, or smaller requests; the rollout goes on by itself when a node has room"
            }
            Self::Quota => QUOTA,
            Self::Admission => ADMISSION,
            Self::Identity => {
                "`cargo xtask provision` makes the binding between the Kubernetes and the Google account; a new one \
                 takes two minutes to be known as a rule, and at times seven"
            }
            Self::Probe => "see what its log says; `cargo xtask logs --orchestrator` shows all of it",
            Self::PodConfig => "deploy again: `cargo xtask deploy` makes what is missing",
            Self::Stuck => "`kubectl describe deployment,pod -n NAMESPACE -l app=orchestrator` shows all that is known",
        }
    }
}
