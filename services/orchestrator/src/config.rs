//! The orchestrator's configuration, read once from environment variables and the files they name.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use contract::{
    config::{self, Business, Endpoints},
    labels,
};

/// The orchestrator's configuration.
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
    /// The pool, of a business that has one.
    pub pool: Option<PoolConfig>,
    /// Address of the probes and the metrics.
    pub listen: SocketAddr,
    /// Which log lines to write, as `tracing-subscriber` reads it.
    pub log_filter: String,
    /// Intervals and timeouts.
    pub timing: Timing,
}

/// What the orchestrator needs for its pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The template of an engine: a Kubernetes Job as JSON.
    pub template: String,
    /// Folder of the certificate and its key.
    pub certificates: PathBuf,
    /// Address of the streams of engines.
    pub listen: SocketAddr,
    /// The name of its pod.
    pub pod: String,
}

impl PoolConfig {
    fn from_variables(variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let required = |name: &str| variables.get(name).with_context(|| format!("{name} is not set"));
        let template = required(labels::ENV_POOL_TEMPLATE)?;
        Ok(Self {
            template: std::fs::read_to_string(template).with_context(|| format!("read the template {template}"))?,
            certificates: required(labels::ENV_POOL_TLS)?.into(),
            listen: address(variables, labels::ENV_PORT_POOL, labels::POOL_PORT)?,
            pod: required(labels::ENV_POD_NAME)?.clone(),
        })
    }
}

/// The usual port, of every address. A node of the laptop cloud sets a port in a variable: nothing outside of the laptop
/// may reach that.
fn address(variables: &BTreeMap<String, String>, name: &str, usual: u16) -> anyhow::Result<SocketAddr> {
    let Some(port) = variables.get(name) else { return Ok((Ipv4Addr::UNSPECIFIED, usual).into()) };
    let port: u16 = port.parse().with_context(|| format!("{name}={port:?} is not a port"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// Intervals and timeouts.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two sweeps.
    pub sweep_interval: Duration,
    /// Age from which an input without a Job and an outcome is requeued.
    pub sweep_age: Duration,
    /// Between two times that the same input is requeued, since its message may wait in the backlog.
    pub requeue_interval: Duration,
    /// How long the subscription for priority must send nothing, while slots are scarce, until the other one is served.
    pub priority_quiet: Duration,
    /// Between two reads of the decisions about sessions.
    pub controls_interval: Duration,
    /// How long intake and settling together may take to stop; less than the pod's grace period.
    pub stop_timeout: Duration,
    /// How long a message with transient failures is retried before it is nacked.
    pub retry_timeout: Duration,
}

impl Timing {
    /// The values of production.
    pub const PRODUCTION: Self = Self {
        sweep_interval: Duration::from_secs(300),
        sweep_age: Duration::from_secs(3600),
        requeue_interval: Duration::from_secs(6 * 3600),
        priority_quiet: Duration::from_millis(300),
        controls_interval: Duration::from_secs(3),
        stop_timeout: Duration::from_secs(20),
        retry_timeout: Duration::from_secs(1800),
    };
}

impl Config {
    /// Builds the configuration from environment variables.
    ///
    /// # Errors
    /// When variables are missing (all of them are named), or a file they name cannot be read.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let names = [labels::ENV_CONFIG, labels::ENV_JOB_TEMPLATE, labels::ENV_BUSINESS, labels::ENV_NAMESPACE];
        let values = names.map(|name| variables.get(name).map(String::as_str).filter(|value| !value.is_empty()));
        let [Some(config), Some(template), Some(business), Some(namespace)] = values else {
            let missing: Vec<&str> =
                names.iter().zip(values).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
            bail!("these environment variables are missing: {}", missing.join(", "));
        };
        let listen = address(variables, labels::ENV_PORT_HTTP, 8080)?;
        let config = config::Config::read(Path::new(config))?;
        let business = config.business(business)?.clone();
        let has_pool = business.pool.is_some();
        Ok(Self {
            pool: has_pool.then(|| PoolConfig::from_variables(variables)).transpose()?,
            business,
            namespace: namespace.to_owned(),
            endpoints: config.endpoints,
            template: std::fs::read_to_string(template).with_context(|| format!("read the Job template {template}"))?,
            listen,
            log_filter: variables.get("RUST_LOG").cloned().unwrap_or_else(|| "info".to_owned()),
            timing: Timing::PRODUCTION,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_variable_is_named_in_one_error() {
        let some = BTreeMap::from([(labels::ENV_NAMESPACE.to_owned(), "bu1".to_owned())]);
        let error = Config::from_variables(&some).unwrap_err().to_string();
        assert!(error.contains(labels::ENV_CONFIG) && error.contains(labels::ENV_JOB_TEMPLATE), "{error}");
        assert!(error.contains(labels::ENV_BUSINESS) && !error.contains(labels::ENV_NAMESPACE), "{error}");
    }

    #[test]
    fn nothing_outside_of_a_laptop_reaches_it() {
        let check = |variables: &[(&str, &str)], expected: &str| {
            let variables = variables.iter().map(|(name, port)| ((*name).to_owned(), (*port).to_owned())).collect();
            assert_eq!(address(&variables, "PORT", 8080).unwrap().to_string(), expected);
        };
        check(&[("PORT", "70")], "127.0.0.1:70");
        check(&[], "0.0.0.0:8080");
        assert!(address(&BTreeMap::from([("PORT".to_owned(), "x".to_owned())]), "PORT", 8080).is_err());
    }
}
