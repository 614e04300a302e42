//! The engine's configuration: environment variables only, read once and checked whole.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail};
use contract::{
    config::{Business, Config},
    labels,
    message::Work,
};
use kernel::Share;

use crate::program::Position;

/// Kubernetes's default path of a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The environment variables of this process, as far as they are text.
pub fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What to compute, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The environment's configuration.
    pub config: Config,
    /// What to compute.
    pub work: Work,
    /// Name of this pod; empty where it has none and computes a single input.
    pub pod: String,
    /// Folder for temporary files.
    pub work_dir: PathBuf,
    /// Threads to compute with.
    pub threads: usize,
    /// Where to kill the process, for tests.
    pub stop: Option<Stop>,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// Names every variable that is missing or wrong.
    pub fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let mut wrong = Vec::new();
        let config = required(variables, labels::ENV_CONFIG)
            .and_then(|path| Config::read(Path::new(path)))
            .map_err(|error| wrong.push(format!("{error:#}")))
            .ok();
        let work = required(variables, labels::ENV_WORK)
            .and_then(|text| serde_json::from_str::<Work>(text).with_context(|| format!("parse {}", labels::ENV_WORK)))
            .map_err(|error| wrong.push(format!("{error:#}")))
            .ok();
        let pod = match &work {
            Some(Work { pack: Some(_), .. }) => required(variables, labels::ENV_POD),
            Some(_) | None => Ok(variables.get(labels::ENV_POD).map_or("", String::as_str)),
        };
        let pod = pod.map_err(|error| wrong.push(format!("{error:#}"))).ok();
        let threads = threads(variables).map_err(|error| wrong.push(format!("{error:#}"))).ok();
        let stop = Stop::read(variables).map_err(|error| wrong.push(format!("{error:#}"))).ok();
        let (Some(config), Some(work), Some(pod), Some(threads), Some(stop)) = (config, work, pod, threads, stop)
        else {
            bail!("read the environment variables: {}", wrong.join("; "));
        };
        check_work(&config, &work)?;
        Ok(Self { config, work, pod: pod.to_owned(), work_dir: work_dir(variables), threads, stop })
    }
}

/// Checks that work is of a business of this environment, and that it is an input or a range.
///
/// # Errors
/// When it is not.
pub fn check_work(config: &Config, work: &Work) -> anyhow::Result<()> {
    let bucket = &config.business(&work.business)?.bucket;
    if *bucket != work.identity.bucket {
        bail!("compute an input in {}: the bucket of {} is {bucket}", work.identity.bucket, work.business);
    }
    if let Some(Err(why)) = work.pack.as_ref().map(contract::pack::Pack::check) {
        bail!("compute {}: {why}", work.job);
    }
    if work.pack.is_some() && work.range().is_none() {
        let first = work.identity.first.map_or("none".to_owned(), |first| first.to_string());
        bail!("compute {}: it is a pack, and the work names no range of it (first item: {first})", work.job);
    }
    Ok(())
}

/// The settings of an engine in a pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// The environment's configuration.
    pub config: Config,
    /// The business that it computes for.
    pub business: Business,
    /// Items that it computes at the same time.
    pub slots: u32,
    /// Where its orchestrators are.
    pub orchestrators: Orchestrators,
    /// Its slot in the pool.
    pub slot: u32,
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub uid: String,
    /// Node of its pod.
    pub node: String,
    /// Folder for temporary files.
    pub work_dir: PathBuf,
    /// Threads to compute with.
    pub threads: usize,
    /// Where to kill the process, for tests.
    pub stop: Option<Stop>,
}

/// Where the orchestrators of a pool are, and how an engine and they authenticate.
#[derive(Clone, Debug)]
pub struct Orchestrators {
    /// SRV name of the ready ones.
    pub service: String,
    /// The name in their certificate.
    pub name: String,
    /// Path of their certificate authorities, PEM.
    pub authorities: PathBuf,
    /// Path of the engine's token.
    pub token: PathBuf,
    /// The name server, when it is not the system's.
    pub name_server: Option<SocketAddr>,
}

impl PoolSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// When a variable is missing or wrong, or the business has no pool.
    pub fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let text = |name| required(variables, name).map(str::to_owned);
        let config = Config::read(Path::new(required(variables, labels::ENV_CONFIG)?))?;
        let business = config.business(required(variables, labels::ENV_BUSINESS)?)?.clone();
        let pool = business.pool.with_context(|| format!("serve {}: it has no pool", business.name))?;
        let orchestrators = Orchestrators {
            service: text(labels::ENV_POOL_SERVICE)?,
            name: text(labels::ENV_POOL_NAME)?,
            authorities: text(labels::ENV_POOL_CA)?.into(),
            token: text(labels::ENV_POOL_TOKEN)?.into(),
            name_server: parsed(variables, labels::ENV_NAME_SERVER, "an address and a port")?,
        };
        Ok(Self {
            slots: pool.slots,
            orchestrators,
            slot: parsed(variables, labels::ENV_POOL_SLOT, "a number")?
                .with_context(|| format!("{} is not set", labels::ENV_POOL_SLOT))?,
            pod: text(labels::ENV_POD_NAME)?,
            uid: text(labels::ENV_POD_UID)?,
            node: text(labels::ENV_NODE_NAME)?,
            work_dir: work_dir(variables),
            threads: threads(variables)?,
            stop: Stop::read(variables)?,
            config,
            business,
        })
    }
}

/// Folder for temporary files.
pub fn work_dir(variables: &BTreeMap<String, String>) -> PathBuf {
    variables.get(labels::ENV_WORK_DIR).map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Threads to compute with.
///
/// # Errors
/// When the variable is not a number from 1 to 1024.
pub fn threads(variables: &BTreeMap<String, String>) -> anyhow::Result<usize> {
    match parsed::<usize>(variables, labels::ENV_THREADS, "a number")? {
        Some(threads) if (1..=1024).contains(&threads) => Ok(threads),
        Some(threads) => bail!("{}={threads} is not a number from 1 to 1024", labels::ENV_THREADS),
        None => Ok(std::thread::available_parallelism().map_or(1, Into::into)),
    }
}

/// The file for the termination message: the configured one, or Kubernetes's default if it exists; else `None`.
pub fn termination_log(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    match variables.get(labels::ENV_TERMINATION_LOG) {
        Some(path) => Some(path.into()),
        None => Some(PathBuf::from(TERMINATION_LOG)).filter(|path| path.exists()),
    }
}

/// Index of the item and number of items for `try`.
///
/// # Errors
/// When a variable is not a number, or the index is not below the number.
pub fn local_position(variables: &BTreeMap<String, String>) -> anyhow::Result<Position<'_>> {
    let share = Share {
        index: parsed(variables, labels::ENV_INDEX, "a number")?.unwrap_or(0),
        count: parsed(variables, labels::ENV_COUNT, "a number")?.unwrap_or(1),
    };
    if share.index >= share.count {
        bail!("{}={} is not below {}={}", labels::ENV_INDEX, share.index, labels::ENV_COUNT, share.count);
    }
    Ok(Position { share, name: variables.get(labels::ENV_NAME).map(String::as_str) })
}

/// A step after which the engine kills itself once, for tests; see [`labels::ENV_ENGINE_STOP_AT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// After which step.
    pub at: Step,
    /// The engine kills itself only if it can create this file, so once.
    pub once: PathBuf,
}

/// A step of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The input was read.
    Read,
    /// The result was computed.
    Computed,
    /// The result was written.
    Written,
    /// A part of a range was written.
    Part,
    /// An engine of a pool received items.
    PoolReceived,
    /// An engine of a pool computed an item.
    PoolComputed,
    /// An engine of a pool sent how items ended.
    PoolSent,
}

impl Stop {
    fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Option<Self>> {
        let at = match variables.get(labels::ENV_ENGINE_STOP_AT).map(String::as_str) {
            None | Some("") => return Ok(None),
            Some("read") => Step::Read,
            Some("computed") => Step::Computed,
            Some("written") => Step::Written,
            Some("part") => Step::Part,
            Some("pool-received") => Step::PoolReceived,
            Some("pool-computed") => Step::PoolComputed,
            Some("pool-sent") => Step::PoolSent,
            Some(other) => {
                let steps = "read, computed, written, part, pool-received, pool-computed, pool-sent";
                bail!("{}={other:?} is none of {steps}", labels::ENV_ENGINE_STOP_AT)
            }
        };
        let once = required(variables, labels::ENV_ENGINE_STOP_ONCE)?;
        Ok(Some(Self { at, once: once.into() }))
    }
}

fn required<'v>(variables: &'v BTreeMap<String, String>, name: &str) -> anyhow::Result<&'v str> {
    variables.get(name).map(String::as_str).with_context(|| format!("{name} is not set"))
}

fn parsed<T: FromStr>(variables: &BTreeMap<String, String>, name: &str, wanted: &str) -> anyhow::Result<Option<T>> {
    match variables.get(name) {
        Some(value) => match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("{name}={value:?} is not {wanted}"),
        },
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
