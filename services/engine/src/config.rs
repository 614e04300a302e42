//! The engine's configuration: environment variables only, read once and checked whole.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use contract::{batch::Batch, config::Config, labels, message::Work, table};
use kernel::Share;
use tokio::sync::Semaphore;

use crate::log::LogTail;

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
    /// Index of this task when the Job is split.
    pub index: Option<u32>,
    /// Folder for temporary files.
    pub work_dir: PathBuf,
    /// Threads to compute with.
    pub threads: usize,
    /// Where to kill the process, for tests.
    pub stop: Option<Stop>,
    /// Set when the input is in a batch.
    pub shared: Option<Shared>,
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
        let index = work
            .as_ref()
            .map_or(Ok(None), |work| task_index(variables, work.tasks))
            .map_err(|error| wrong.push(format!("{error:#}")))
            .ok();
        let threads = threads(variables).map_err(|error| wrong.push(format!("{error:#}"))).ok();
        let stop = Stop::read(variables).map_err(|error| wrong.push(format!("{error:#}"))).ok();
        let (Some(config), Some(work), Some(index), Some(threads), Some(stop)) = (config, work, index, threads, stop)
        else {
            bail!("read the environment variables: {}", wrong.join("; "));
        };
        let bucket = &config.business(&work.business)?.bucket;
        if *bucket != work.identity.bucket {
            bail!("compute an input in {}: the bucket of {} is {bucket}", work.identity.bucket, work.business);
        }
        Ok(Self { config, work, index, work_dir: work_dir(variables), threads, stop, shared: None })
    }

    /// The rows that this process computes when its input is a table that is split.
    pub fn rows(&self) -> Option<Range<usize>> {
        Some(table::rows_of(self.index?, self.work.rows_per_task?))
    }

    /// Index of this task and number of tasks.
    pub fn task(&self) -> Share {
        match (self.index, self.work.tasks) {
            (Some(index), Some(count)) => Share { index, count },
            _ => Share::ALL,
        }
    }
}

/// Which inputs of a batch to compute, and where.
#[derive(Clone, Debug)]
pub struct BatchSettings {
    /// The environment's configuration.
    pub config: Config,
    /// The batch.
    pub batch: Batch,
    /// Index of this pod.
    pub index: u32,
    /// Name of this pod.
    pub pod: String,
    /// How many pods of this index have failed before.
    pub failures: u32,
    /// Folder for temporary files.
    pub work_dir: PathBuf,
    /// Threads to compute with.
    pub threads: usize,
    /// Where to kill the process, for tests.
    pub stop: Option<Stop>,
}

/// What an input of a batch shares with the others, or has for itself only in a batch.
#[derive(Clone, Debug)]
pub struct Shared {
    /// As many permits as there are threads to compute with.
    pub threads: Arc<Semaphore>,
    /// How long an input may be computed.
    pub timeout: Duration,
    /// The log of this input.
    pub log: LogTail,
}

impl BatchSettings {
    /// Reads the settings of one index of a batch; `None` when the Job is no batch.
    ///
    /// # Errors
    /// Names every variable that is missing or wrong.
    pub fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Option<Self>> {
        let Some(text) = variables.get(labels::ENV_BATCH) else { return Ok(None) };
        let mut wrong = Vec::new();
        let mut note = |error: anyhow::Error| wrong.push(format!("{error:#}"));
        let config = required(variables, labels::ENV_CONFIG).and_then(|path| Config::read(Path::new(path)));
        let config = config.map_err(&mut note).ok();
        let batch = serde_json::from_str::<Batch>(text).with_context(|| format!("parse {}", labels::ENV_BATCH));
        let batch = batch.map_err(&mut note).ok();
        let index = batch.as_ref().map_or(Ok(None), |batch| task_index(variables, Some(batch.indexes)));
        let index = index.map_err(&mut note).ok().flatten();
        let pod = required(variables, labels::ENV_POD).map_err(&mut note).ok();
        // The variable is empty where the Job controller does not count failures by index.
        let failures = match variables.get(labels::ENV_FAILURES).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(_) => parsed(variables, labels::ENV_FAILURES),
        };
        let failures = failures.map_err(&mut note).ok();
        let threads = threads(variables).map_err(&mut note).ok();
        let stop = Stop::read(variables).map_err(&mut note).ok();
        let (Some(config), Some(batch), Some(index), Some(pod), Some(failures), Some(threads), Some(stop)) =
            (config, batch, index, pod, failures, threads, stop)
        else {
            bail!("read the environment variables: {}", wrong.join("; "));
        };
        let bucket = &config.business(&batch.business)?.bucket;
        if *bucket != batch.bucket {
            bail!("compute inputs in {}: the bucket of {} is {bucket}", batch.bucket, batch.business);
        }
        Ok(Some(Self {
            config,
            batch,
            index,
            pod: pod.to_owned(),
            failures: failures.unwrap_or(0),
            work_dir: work_dir(variables),
            threads,
            stop,
        }))
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
    match parsed::<usize>(variables, labels::ENV_THREADS)? {
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

/// Index and number of tasks for `try`.
///
/// # Errors
/// When a variable is not a number, or the index is not below the number.
pub fn local_share(variables: &BTreeMap<String, String>) -> anyhow::Result<Share> {
    let share = Share {
        index: parsed(variables, labels::ENV_INDEX)?.unwrap_or(0),
        count: parsed(variables, labels::ENV_COUNT)?.unwrap_or(1),
    };
    if share.index >= share.count {
        bail!("{}={} is not below {}={}", labels::ENV_INDEX, share.index, labels::ENV_COUNT, share.count);
    }
    Ok(share)
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
    /// The report of an index of a batch was written.
    Reported,
}

impl Stop {
    fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Option<Self>> {
        let at = match variables.get(labels::ENV_ENGINE_STOP_AT).map(String::as_str) {
            None | Some("") => return Ok(None),
            Some("read") => Step::Read,
            Some("computed") => Step::Computed,
            Some("written") => Step::Written,
            Some("reported") => Step::Reported,
            Some(other) => {
                bail!("{}={other:?} is none of read, computed, written, reported", labels::ENV_ENGINE_STOP_AT)
            }
        };
        let once = required(variables, labels::ENV_ENGINE_STOP_ONCE)?;
        Ok(Some(Self { at, once: once.into() }))
    }
}

fn task_index(variables: &BTreeMap<String, String>, tasks: Option<u32>) -> anyhow::Result<Option<u32>> {
    let Some(tasks) = tasks else { return Ok(None) };
    let name = labels::ENV_JOB_COMPLETION_INDEX;
    required(variables, name)?;
    let index: Option<u32> = parsed(variables, name)?;
    if index.is_none_or(|index| index >= tasks) {
        bail!("{name}={} is not below the number of tasks, {tasks}", index.unwrap_or_default());
    }
    Ok(index)
}

fn required<'v>(variables: &'v BTreeMap<String, String>, name: &str) -> anyhow::Result<&'v str> {
    variables.get(name).map(String::as_str).with_context(|| format!("{name} is not set"))
}

fn parsed<T: FromStr>(variables: &BTreeMap<String, String>, name: &str) -> anyhow::Result<Option<T>> {
    match variables.get(name) {
        Some(value) => match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("{name}={value:?} is not a number"),
        },
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
