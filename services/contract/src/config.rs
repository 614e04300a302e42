//! The generated configuration that every service reads.
//!
//! `provision` and `deploy` compute it from the environment file; a service reads the copy in its ConfigMap, which
//! holds only the business it serves.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Schema version of the configuration this program writes.
pub const SCHEMA: u32 = 1;

/// The configuration of an environment, or the part of it for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// Name of the environment.
    pub environment: String,
    /// Google Cloud project id.
    pub project: String,
    /// Google Cloud location of cluster, bucket and registry.
    pub location: String,
    /// Bucket of the environment.
    pub bucket: String,
    /// Endpoints that replace Google's own.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// The cluster on Google Cloud, in the copy for people; services run in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Businesses by name.
    pub businesses: BTreeMap<String, Business>,
}

/// Endpoints that replace Google's own, each like `http://127.0.0.1:8085`; an absent one means Google's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Pub/Sub, gRPC and REST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubsub: Option<String>,
    /// Cloud Storage, JSON and gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

/// The API server of a cluster on Google Cloud, which takes Google's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Address, `https://…`.
    pub server: String,
    /// Certificate authority in base64, of an address that no public one vouches for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// The configuration of a business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Business {
    /// Name; also the prefix of its objects.
    pub name: String,
    /// Bucket that holds its objects.
    pub bucket: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Full name of the topic, `projects/P/topics/T`.
    pub topic: String,
    /// Full name of the subscription, `projects/P/subscriptions/S`.
    pub subscription: String,
    /// Full name of the filtered subscription that is drained first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_subscription: Option<String>,
    /// Full name of the events topic.
    pub events_topic: String,
    /// Maximum number of active Kubernetes Jobs.
    pub max_active_jobs: u32,
    /// Number of finished Kubernetes Jobs above which a further one stays only for a minute.
    #[serde(default = "finished_jobs", skip_serializing_if = "is_finished_jobs")]
    pub max_finished_jobs: u32,
    /// What computes the items of a message.
    pub dispatch: Dispatch,
    /// The pool of engines; present exactly when `dispatch` is [`Dispatch::Pool`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Where results are stored.
    #[serde(default, skip_serializing_if = "Results::is_auto")]
    pub results: Results,
    /// Whether an upload under `B/input/` is a submission by itself.
    pub submit_on_upload: bool,
    /// Whether the orchestrator takes messages. If not, it only settles existing Jobs.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub intake: bool,
    /// Kueue LocalQueue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// How long finished Jobs, results and outcomes are kept.
    pub retention: Retention,
    /// How the engine runs.
    pub engine: Engine,
}

impl Business {
    /// How many ranges of a pack are computed at a time, for [`crate::pack::Pack::new`]: one in each Job. The engines of
    /// a pool share the items of a range, and its ranges are only as many as show how far it is.
    pub fn ranges_at_once(&self) -> u32 {
        if self.pool.is_some() { 8 } else { self.max_active_jobs }
    }
}

/// Default of [`Business::max_finished_jobs`].
pub const MAX_FINISHED_JOBS: u32 = 2000;

fn finished_jobs() -> u32 {
    MAX_FINISHED_JOBS
}

fn is_finished_jobs(value: &u32) -> bool {
    *value == MAX_FINISHED_JOBS
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// What computes the items of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dispatch {
    /// One Kubernetes Job per message.
    #[default]
    #[serde(alias = "batch")]
    Job,
    /// Engines that stay and compute one item after another.
    Pool,
}

/// The engines of a business that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Minimum number of engines.
    pub min: u32,
    /// Maximum number of engines.
    pub max: u32,
    /// Number of items that one engine computes at once.
    pub slots: u32,
    /// Seconds without work after which an engine above the minimum is released.
    pub idle_secs: u32,
    /// Run on spot nodes.
    pub spot: bool,
}

/// Where results are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Results {
    /// Small results in the outcome, large ones in objects.
    #[default]
    Auto,
    /// All results in objects.
    Objects,
}

impl Results {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// How long finished Jobs, results and outcomes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Seconds a finished Kubernetes Job stays (`ttlSecondsAfterFinished`).
    pub finished_jobs_secs: u32,
    /// Days results stay in the bucket.
    pub output_days: u32,
    /// Days outcomes stay in the bucket; longer than the 7 days for which Pub/Sub keeps messages.
    pub outcome_days: u32,
}

impl Retention {
    /// The time before which a Job may have lost its outcome. A Job that was requested later and has no outcome was
    /// never settled. The limit is a day stricter than the deletion of outcomes, because clocks differ.
    pub fn expired_before(&self, now: Timestamp) -> Timestamp {
        expired_before(self.outcome_days, now)
    }
}

/// As [`Retention::expired_before`], when outcomes are kept for so many days.
pub fn expired_before(outcome_days: u32, now: Timestamp) -> Timestamp {
    let days = i64::from(outcome_days.saturating_sub(1));
    now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN)
}

/// How the engine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Command of a desk's own program; empty for the built-in kernel.
    #[serde(default)]
    pub command: Vec<String>,
    /// CPU request and limit, as a Kubernetes quantity.
    pub cpu: String,
    /// Memory request and limit, as a Kubernetes quantity.
    pub memory: String,
    /// Retries of a failed pod (`backoffLimit`).
    pub retries: u32,
    /// Seconds a pod may run (its `activeDeadlineSeconds`).
    pub timeout_secs: u32,
    /// Run on spot nodes.
    pub spot: bool,
    /// Limits of a desk's own program, and the meaning of its exit codes.
    #[serde(default, skip_serializing_if = "Program::is_default")]
    pub program: Program,
}

/// Limits of a desk's own program, and the meaning of its exit codes; options of `engine exec` take precedence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Exit codes that mean that the input can never work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permanent_exit_codes: Vec<u8>,
    /// Seconds it may run on one input; only the pod's own limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u32>,
    /// Maximum size of its result in bytes; the engine's own limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<u64>,
    /// It stays and reads one input after another (`engine exec --resident`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resident: bool,
}

impl Program {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// When the file cannot be read, is not JSON of this shape, or has another schema version.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read the configuration {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("parse the configuration {}", path.display()))
    }

    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = serde_json::from_str(text)?;
        if config.schema != SCHEMA {
            bail!("the schema version is {}, this program knows {SCHEMA}; deploy again", config.schema);
        }
        Ok(config)
    }

    /// The business called `name`.
    ///
    /// # Errors
    /// When there is none; the error names the existing ones.
    pub fn business(&self, name: &str) -> anyhow::Result<&Business> {
        self.businesses.get(name).with_context(|| {
            let known: Vec<&str> = self.businesses.keys().map(String::as_str).collect();
            format!("no business {name:?} in environment {}; its businesses are {}", self.environment, known.join(", "))
        })
    }

    /// This configuration with only the business called `name`, as that business's services see it.
    pub fn only(&self, name: &str) -> Self {
        let mut config = self.clone();
        config.businesses.retain(|business, _| business == name);
        config
    }
}

/// The environment variables of this process, without those that are not UTF-8. Only this function reads them; other
/// code takes the map.
pub fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::business;

    #[test]
    fn a_service_sees_only_its_own_business() {
        let config = Config {
            schema: SCHEMA,
            environment: "e".into(),
            project: "p".into(),
            location: "l".into(),
            bucket: "p-bucket".into(),
            endpoints: Endpoints::default(),
            cluster: None,
            businesses: ["bu1", "bu2"].map(|name| (name.to_owned(), business(name))).into(),
        };
        let text = serde_json::to_string(&config.only("bu1")).unwrap();
        assert!(!text.contains("bu2"));
        assert_eq!(Config::parse(&text).unwrap().business("bu1").unwrap().name, "bu1");
        assert!(Config::parse(&text.replace("\"schema\":1", "\"schema\":9")).is_err());
        assert!(config.business("bu3").unwrap_err().to_string().contains("bu1, bu2"));
    }
}
