//! Many inputs in one pod: those of one index of a batch.
//!
//! Each input is computed as it would be in a pod of its own, several at a time, and a failure of one does not stop the
//! others. At the end the pod writes a report: which inputs are done, and which failed and why. A pod that dies writes
//! no report; the next pod of its index skips the inputs that have a result.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use cloud::storage::{Properties, Written};
use contract::{
    batch::{self, Done, Entry, Failed, Manifest, Report},
    config::Engine,
    outcome::LOG_TAIL_BYTES,
};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell, Semaphore};

use crate::{
    config::{BatchSettings, Settings, Shared, Step},
    failure::{Failure, STOPPED},
    input,
    log::LogTail,
    process,
    program::Program,
    store::{Contents, Objects},
};

/// Inputs in progress for each thread, so that reading and writing overlap with computing.
const INPUTS_PER_THREAD: usize = 8;
/// After this many results that do not exist, the engine computes without checking for a result first.
const CHECKS_MAX: usize = 16;
/// An input that takes longer than this is worth a check for its result first.
const WORTH_A_CHECK: Duration = Duration::from_millis(250);
/// Limit of the logs in one report, in bytes; logs beyond it are cut to [`SHORT_TAIL`].
const TAILS_MAX: usize = 512 * 1024;
const SHORT_TAIL: usize = 2 * 1024;

/// How the run of an input ended.
enum RunResult {
    Done(Done),
    Failed(Failed),
    /// The pod received SIGTERM.
    Stopped(Failure),
}

/// Computes every input of this index that has no result, and reports those that failed.
///
/// # Errors
/// When an input has no result for a reason that a retry may remove, or the manifest cannot be read.
pub async fn run(
    settings: &BatchSettings,
    program: Option<&Program>,
    objects: &impl Objects,
) -> Result<input::Done, Failure> {
    let manifest = read_manifest(settings, objects).await?;
    let cached =
        Cached { objects, common: Mutex::default(), fresh: Cell::new(settings.failures == 0), checks: Cell::new(0) };
    let mut inputs: Vec<(u32, &Entry)> = settings
        .batch
        .inputs_of(settings.index)
        .filter_map(|input| Some((input, manifest.entries.get(input as usize)?)))
        .collect();
    // An input that kills the pod kills the next one too, so every other pod starts from the other end.
    if settings.failures % 2 == 1 {
        inputs.reverse();
    }
    let count = inputs.len();
    let concurrency = match (program, settings.failures) {
        (None, 0) => settings.threads * INPUTS_PER_THREAD,
        _ => settings.threads,
    };
    tracing::info!(session = settings.batch.session, inputs = count, index = settings.index, "computing a batch");
    let permits = Arc::new(Semaphore::new(settings.threads));
    let works: Vec<_> = inputs
        .into_iter()
        .map(|(input, entry)| compute_input(settings, program, &cached, &permits, input, entry))
        .collect();
    let mut results = futures::stream::iter(works).buffer_unordered(concurrency.max(1));
    let (mut done, mut failed) = (Vec::with_capacity(count), Vec::new());
    while let Some(one) = results.next().await {
        match one {
            RunResult::Done(one) => done.push(one),
            RunResult::Failed(one) => failed.push(one),
            // The signal stops the other inputs too.
            RunResult::Stopped(failure) => return Err(failure),
        }
    }
    let retryable = failed.iter().filter(|failed| !failed.permanent).count();
    let first = failed.iter().find(|failed| !failed.permanent).map(|failed| failed.message.clone());
    let permanently = failed.len() - retryable;
    write_report(settings, objects, done, failed).await?;
    process::kill_if_requested(settings.stop.as_ref(), Step::Reported);
    match first {
        Some(first) => {
            let message = format!("{retryable} of {count} inputs have no result yet; one of them: {first}");
            Err(Failure::transient("inputs-failed", message))
        }
        None => {
            tracing::info!(inputs = count, failed = permanently, "every input has a result or a permanent failure");
            Ok(input::Done::Completed)
        }
    }
}

async fn read_manifest(settings: &BatchSettings, objects: &impl Objects) -> Result<Manifest, Failure> {
    let (bucket, name) = (&settings.batch.bucket, settings.batch.manifest());
    let Some(contents) = objects.read(bucket, &name, None).await? else {
        let message = format!("the manifest gs://{bucket}/{name} does not exist, so every input is settled already");
        return Err(Failure::permanent("manifest-missing", message));
    };
    Manifest::decode(&contents.bytes, &settings.batch)
        .map_err(|error| Failure::permanent("malformed-manifest", format!("{error:#}")))
}

/// Computes one input, unless its result exists.
async fn compute_input(
    settings: &BatchSettings,
    program: Option<&Program>,
    objects: &Cached<'_, impl Objects>,
    threads: &Arc<Semaphore>,
    input: u32,
    entry: &Entry,
) -> RunResult {
    let started = Timestamp::now();
    let engine = settings.config.business(&settings.batch.business).map(|business| &business.engine);
    let timeout = Duration::from_secs(engine.as_ref().map_or(u32::MAX, |engine| engine.timeout_secs).into());
    let work = &entry.work;
    let log = LogTail::new(LOG_TAIL_BYTES, &work.session, &work.job);
    let input_settings = Settings {
        config: settings.config.clone(),
        work: work.clone(),
        index: None,
        work_dir: settings.work_dir.clone(),
        threads: 1,
        stop: settings.stop.clone(),
        shared: Some(Shared { threads: threads.clone(), timeout, log: log.clone() }),
    };
    let began = Instant::now();
    let limited = program.map(|program| with_limits(program, engine.ok(), timeout));
    let ended = input::run_counted(&input_settings, limited.as_ref(), objects).await;
    let finished = Timestamp::now();
    if began.elapsed() > WORTH_A_CHECK {
        objects.fresh.set(false);
    }
    match ended {
        Ok((_, row_errors)) => RunResult::Done(Done { input, started, finished, row_errors }),
        Err(failure) if failure.code == STOPPED => RunResult::Stopped(failure),
        Err(failure) => {
            let Failure { permanent, code, message } = failure;
            log.line(&format!("{code}: {message}"));
            RunResult::Failed(Failed {
                input,
                started,
                finished,
                permanent,
                code: code.to_owned(),
                message,
                log_tail: Some(log.text()),
            })
        }
    }
}

/// The program with the settings of its business; its timeout is never longer than that of an input.
fn with_limits(program: &Program, engine: Option<&Engine>, timeout_max: Duration) -> Program {
    let program = engine.map_or_else(|| program.clone(), |engine| program.with_defaults(&engine.program));
    Program { timeout: Some(program.timeout.map_or(timeout_max, |own| own.min(timeout_max))), ..program }
}

/// Writes the report.
async fn write_report(
    settings: &BatchSettings,
    objects: &impl Objects,
    done: Vec<Done>,
    mut failed: Vec<Failed>,
) -> anyhow::Result<()> {
    shorten_logs(&mut failed);
    let report =
        Report { schema: batch::SCHEMA, pod: settings.pod.clone(), cpu_seconds: process::cpu_seconds(), done, failed };
    let bytes = serde_json::to_vec(&report).context("encode the report of a batch")?;
    let name = settings.batch.report(settings.index, &settings.pod);
    match objects.write_once(&settings.batch.bucket, &name, bytes.into(), Properties::json()).await? {
        Written::New(_) => Ok(()),
        // Only an earlier attempt at this write, or an earlier container of this pod, can have created it.
        Written::Exists => bail!("write {name}, which exists already"),
    }
}

/// Keeps the logs of the first inputs whole, and cuts those of the others to their ends.
fn shorten_logs(failed: &mut [Failed]) {
    let mut left = TAILS_MAX;
    for tail in failed.iter_mut().filter_map(|failed| failed.log_tail.as_mut()) {
        if tail.len() > left.max(SHORT_TAIL) {
            let mut from = tail.len() - SHORT_TAIL;
            while !tail.is_char_boundary(from) {
                from += 1;
            }
            tail.drain(..from);
        }
        left = left.saturating_sub(tail.len());
    }
}

/// Objects with a cache of the session's common data, which are read once for all inputs.
///
/// It also saves checks for results: when none of the first inputs has a result, this is the first pod of its index,
/// and computing a tiny input twice costs less than a request for each. The write decides in any case.
struct Cached<'o, O> {
    objects: &'o O,
    common: Mutex<HashMap<String, Arc<OnceCell<Option<Contents>>>>>,
    /// No result was found yet, and every input was quick.
    fresh: Cell<bool>,
    checks: Cell<usize>,
}

impl<O: Objects> Objects for Cached<'_, O> {
    async fn exists(&self, bucket: &str, object: &str) -> anyhow::Result<bool> {
        let exists = self.objects.exists(bucket, object).await?;
        self.checks.set(self.checks.get() + 1);
        self.fresh.set(self.fresh.get() && !exists);
        Ok(exists)
    }

    async fn probably_exists(&self, bucket: &str, object: &str) -> anyhow::Result<bool> {
        if self.fresh.get() && self.checks.get() >= CHECKS_MAX { Ok(false) } else { self.exists(bucket, object).await }
    }

    async fn read(&self, bucket: &str, object: &str, generation: Option<i64>) -> anyhow::Result<Option<Contents>> {
        // An input has a generation; common data have none, and only they are cached.
        if generation.is_some() {
            return self.objects.read(bucket, object, generation).await;
        }
        let cell = self.common.lock().await.entry(object.to_owned()).or_default().clone();
        cell.get_or_try_init(|| self.objects.read(bucket, object, None)).await.cloned()
    }

    async fn write_once(
        &self,
        bucket: &str,
        object: &str,
        bytes: Bytes,
        properties: Properties,
    ) -> anyhow::Result<Written> {
        self.objects.write_once(bucket, object, bytes, properties).await
    }
}

#[cfg(test)]
mod tests;
