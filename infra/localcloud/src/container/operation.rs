//! Operations: what they are going to do, how far they are, and whom they block.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::google::{
    call::time_text,
    error::{Error, Result},
};

/// Steps of a creation, each with its total; the names and totals are Google's.
const CREATION: [(&str, u32); 3] =
    [("CLUSTER_CONFIGURING", 8), ("CLUSTER_DEPLOYING", 12), ("CLUSTER_HEALTHCHECKING", 2)];
/// Part of its time, one in so many, that an operation is pending.
const PENDING_PART: u32 = 10;

/// What an operation does when it ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Effect {
    /// The cluster takes this form.
    Become(String, Value),
    /// The cluster goes.
    Remove(String),
}

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Operation {
    /// `operation-…`.
    pub name: String,
    /// `CREATE_CLUSTER` and so on.
    pub kind: String,
    /// Region or zone.
    pub location: String,
    /// Key of the cluster.
    pub cluster: String,
    /// Path of the resource that it is about, from `clusters/` on.
    pub target: String,
    start: Timestamp,
    end: Timestamp,
    effect: Option<Effect>,
}

impl Effect {
    /// Does it.
    pub(super) fn apply(self, clusters: &mut BTreeMap<String, Value>) {
        match self {
            Self::Become(key, cluster) => {
                clusters.insert(key, cluster);
            }
            Self::Remove(key) => {
                clusters.remove(&key);
            }
        }
    }
}

impl Operation {
    /// One that begins now.
    pub(super) fn begin(
        kind: &str,
        cluster: &str,
        target: String,
        now: Timestamp,
        takes: Duration,
        effect: Effect,
    ) -> Self {
        let (location, _) = cluster.split_once('/').unwrap_or((cluster, ""));
        let takes = SignedDuration::try_from(takes).unwrap_or(SignedDuration::ZERO);
        Self {
            name: format!("operation-{}-{:08x}", now.as_millisecond(), rand::random::<u32>()),
            kind: kind.to_owned(),
            location: location.to_owned(),
            cluster: cluster.to_owned(),
            target,
            start: now,
            end: now.checked_add(takes).unwrap_or(now),
            effect: Some(effect),
        }
    }

    /// What it does, once, when its time has come.
    pub(super) fn take_effect(&mut self, now: Timestamp) -> Option<Effect> {
        if now < self.end { None } else { self.effect.take() }
    }

    /// Refuses whatever else wants to change the cluster meanwhile.
    ///
    /// # Errors
    /// 400 failedPrecondition that names this operation, as long as it runs.
    pub(super) fn blocks(&self, cluster: &str) -> Result<()> {
        if self.cluster != cluster || self.effect.is_none() {
            return Ok(());
        }
        let doing = match self.kind.as_str() {
            "CREATE_CLUSTER" => "creating",
            "DELETE_CLUSTER" => "deleting",
            _ => "updating",
        };
        let name = cluster.rsplit('/').next().unwrap_or(cluster);
        Err(Error::failed_precondition(format!(
            "Operation {} is currently {doing} cluster {name}. Please wait and try again once it is done.",
            self.name
        ))
        .with_info("CLUSTER_ALREADY_HAS_OPERATION", "container.googleapis.com", Vec::new()))
    }

    /// As the API shows it.
    pub(super) fn show(&self, base: &str, number: u64, now: Timestamp) -> Value {
        let here = format!("{base}/v1/projects/{number}/locations/{}", self.location);
        let (total, passed) = (self.end.duration_since(self.start), now.duration_since(self.start));
        let status = match self.effect {
            None => "DONE",
            Some(_) if passed * i32::try_from(PENDING_PART).unwrap_or(1) < total => "PENDING",
            Some(_) => "RUNNING",
        };
        let mut shown = json!({
            "name": self.name,
            "operationType": self.kind,
            "selfLink": format!("{here}/operations/{}", self.name),
            "targetLink": format!("{here}/{}", self.target),
            "startTime": time_text(self.start),
            "status": status,
            // Of regions too.
            "zone": self.location,
        });
        if status == "DONE" {
            shown["endTime"] = json!(time_text(self.end));
        }
        if self.kind == "CREATE_CLUSTER" && status != "PENDING" {
            let done = if self.effect.is_none() { 1.0 } else { passed.as_secs_f64() / total.as_secs_f64() };
            shown["progress"] = json!({ "metrics": metrics(done) });
        }
        shown
    }
}

/// How far each step of a creation is when this part of all of it is done.
fn metrics(done: f64) -> Vec<Value> {
    let all: u32 = CREATION.iter().map(|(_, total)| total).sum();
    // Between 0 and `all`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped to a small range")]
    let mut left = (done.clamp(0.0, 1.0) * f64::from(all)) as u32;
    let mut metrics = Vec::new();
    for (name, total) in CREATION {
        let here = left.min(total);
        left -= here;
        metrics.push(json!({ "name": name, "intValue": here.to_string() }));
        metrics.push(json!({ "name": format!("{name}_TOTAL"), "intValue": total.to_string() }));
    }
    metrics
}
