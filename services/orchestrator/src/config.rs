//! What the orchestrator is told, read once from environment variables and the files they name.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use contract::{
    config::{self, Business, Endpoints},
    labels,
};

/// Everything the orchestrator is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The business it serves.
    pub business: Business,
    /// The namespace its Jobs live in.
    pub namespace: String,
    /// Endpoints that replace Google's own.
    pub endpoints: Endpoints,
    /// The Job template: a Kubernetes Job as JSON.
    pub template: String,
    /// Port of the probes and the metrics.
    pub port: u16,
    /// Which log lines to write, as `tracing-subscriber` reads it.
    pub log_filter: String,
    /// How often and how long.
    pub timing: Timing,
}

/// How often and how long; the defaults are production's.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two sweeps.
    pub sweep_every: Duration,
    /// Age from which an input without Job and outcome is published again.
    pub sweep_age: Duration,
    /// Until the same input is published once more, for it may well wait in the backlog.
    pub sweep_again: Duration,
    /// How long nothing must come of the subscription for priority, while slots are scarce, until the other one is served.
    pub priority_quiet: Duration,
    /// Between two looks at what was decided about sessions.
    pub controls_every: Duration,
    /// How long intake and settling together may take to stop; less than the pod's grace period.
    pub stop_within: Duration,
    /// How long a message is kept in hand through failures that a retry may cure, before it goes back to Pub/Sub.
    pub retry_within: Duration,
}

impl Timing {
    /// What production uses.
    pub const PRODUCTION: Self = Self {
        sweep_every: Duration::from_secs(300),
        sweep_age: Duration::from_secs(3600),
        sweep_again: Duration::from_secs(6 * 3600),
        priority_quiet: Duration::from_millis(300),
        controls_every: Duration::from_secs(3),
        stop_within: Duration::from_secs(20),
        retry_within: Duration::from_secs(1800),
    };
}

impl Config {
    /// Builds the configuration from environment variables.
    ///
    /// # Errors
    /// When variables are missing (all of them are named), or a file they name is not what it should be.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let names = [labels::ENV_CONFIG, labels::ENV_JOB_TEMPLATE, labels::ENV_BUSINESS, labels::ENV_NAMESPACE];
        let values = names.map(|name| variables.get(name).map(String::as_str).filter(|value| !value.is_empty()));
        let [Some(config), Some(template), Some(business), Some(namespace)] = values else {
            let missing: Vec<&str> =
                names.iter().zip(values).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
            bail!("these environment variables are missing: {}", missing.join(", "));
        };
        let port = match variables.get(labels::ENV_PORT_HTTP) {
            Some(port) => port.parse().with_context(|| format!("{}={port:?} is not a port", labels::ENV_PORT_HTTP))?,
            None => 8080,
        };
        let config = config::Config::read(Path::new(config))?;
        Ok(Self {
            business: config.business(business)?.clone(),
            namespace: namespace.to_owned(),
            endpoints: config.endpoints,
            template: std::fs::read_to_string(template).with_context(|| format!("read the Job template {template}"))?,
            port,
            log_filter: variables.get("RUST_LOG").cloned().unwrap_or_else(|| "info".to_owned()),
            timing: Timing::PRODUCTION,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_variable_is_named_at_once() {
        let some = BTreeMap::from([(labels::ENV_NAMESPACE.to_owned(), "bu1".to_owned())]);
        let error = Config::from_variables(&some).unwrap_err().to_string();
        assert!(error.contains(labels::ENV_CONFIG) && error.contains(labels::ENV_JOB_TEMPLATE), "{error}");
        assert!(error.contains(labels::ENV_BUSINESS) && !error.contains(labels::ENV_NAMESPACE), "{error}");
    }
}
