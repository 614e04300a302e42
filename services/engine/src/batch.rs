//! Many inputs in one pod: those of one index of a batch.
//!
//! Each input is computed as it would be in a pod of its own, several at a time, and a failure of one does not stop the
//! others. At the end the pod leaves a report of what is done and what failed and why, since only results may be created
//! and nothing may be listed. A pod that dies leaves none; the next one of its index skips what has its result.

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
    batch::{self, Batch, Done, Entry, Failed, Manifest, Report},
    config::{Config, Engine},
    outcome::LOG_TAIL_BYTES,
};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell, Semaphore};

use crate::{
    config::{Settings, Step, Stop},
    failure::Failure,
    log::LogTail,
    process,
    program::Program,
    run,
    store::{Contents, Objects},
};

/// Inputs in hand at a time for each thread, so that reading and writing overlap with computing.
const IN_HAND_PER_THREAD: usize = 8;
/// After so many results that do not exist, the others are not looked for first.
const LOOKS: usize = 16;
/// An input that takes longer than this is worth looking for its result first.
const WORTH_A_LOOK: Duration = Duration::from_millis(250);
/// Most bytes of logs in one report; what exceeds it is shortened to [`SHORT_TAIL`].
const TAILS_MAX: usize = 512 * 1024;
const SHORT_TAIL: usize = 2 * 1024;
/// Reason code of a run that was told to stop.
const STOPPED: &str = "stopped";

/// What to compute of a batch, and where.
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
    /// How often pods of this index have failed before.
    pub failures: u32,
    /// Folder for temporary files.
    pub work_dir: std::path::PathBuf,
    /// Threads to compute with.
    pub threads: usize,
    /// Where to die, for tests.
    pub stop: Option<Stop>,
}

/// What an input of a batch is computed with, beside what every input has.
#[derive(Clone, Debug)]
pub struct Shared {
    /// As many permits as there are threads to compute with.
    pub threads: Arc<Semaphore>,
    /// How long an input may be computed.
    pub timeout: Duration,
    /// What is logged for this input.
    pub log: LogTail,
}

/// How an input fared.
enum Fared {
    Done(Done),
    Failed(Failed),
    /// The pod was told to stop.
    Stopped(Failure),
}

/// Makes sure that every input of this index has its result, or that the report says why not.
///
/// # Errors
/// When an input has none for a reason that a retry may cure, or the batch itself cannot be worked on.
pub async fn run(
    settings: &BatchSettings,
    program: Option<&Program>,
    objects: &impl Objects,
) -> Result<run::Done, Failure> {
    let manifest = manifest(settings, objects).await?;
    let cached =
        Cached { objects, common: Mutex::default(), fresh: Cell::new(settings.failures == 0), looks: Cell::new(0) };
    let mut inputs: Vec<(u32, &Entry)> = settings
        .batch
        .inputs_of(settings.index)
        .filter_map(|input| Some((input, manifest.entries.get(input as usize)?)))
        .collect();
    // An input that ends the whole pod does so again: every other pod comes to it from the other side.
    if settings.failures % 2 == 1 {
        inputs.reverse();
    }
    let count = inputs.len();
    let in_hand = match (program, settings.failures) {
        (None, 0) => settings.threads * IN_HAND_PER_THREAD,
        _ => settings.threads,
    };
    tracing::info!(session = settings.batch.session, inputs = count, index = settings.index, "computing a batch");
    let permits = Arc::new(Semaphore::new(settings.threads));
    let works: Vec<_> =
        inputs.into_iter().map(|(input, entry)| one(settings, program, &cached, &permits, input, entry)).collect();
    let mut fared = futures::stream::iter(works).buffer_unordered(in_hand.max(1));
    let (mut done, mut failed) = (Vec::with_capacity(count), Vec::new());
    while let Some(one) = fared.next().await {
        match one {
            Fared::Done(one) => done.push(one),
            Fared::Failed(one) => failed.push(one),
            // The others are ended with it.
            Fared::Stopped(failure) => return Err(failure),
        }
    }
    let again = failed.iter().filter(|failed| !failed.permanent).count();
    let first = failed.iter().find(|failed| !failed.permanent).map(|failed| failed.message.clone());
    let permanently = failed.len() - again;
    report(settings, objects, done, failed).await?;
    process::stop_if_asked(settings.stop.as_ref(), Step::Reported);
    match first {
        Some(first) => {
            let message = format!("{again} of {count} inputs have no result yet; one of them: {first}");
            Err(Failure::transient("inputs-failed", message))
        }
        None => {
            tracing::info!(inputs = count, failed = permanently, "every input is computed or can never be");
            Ok(run::Done::Completed)
        }
    }
}

async fn manifest(settings: &BatchSettings, objects: &impl Objects) -> Result<Manifest, Failure> {
    let (bucket, name) = (&settings.batch.bucket, settings.batch.manifest());
    let Some(contents) = objects.read(bucket, &name, None).await? else {
        let message = format!("the manifest gs://{bucket}/{name} does not exist, so there is nothing left to do");
        return Err(Failure::permanent("manifest-missing", message));
    };
    Manifest::decode(&contents.bytes, &settings.batch)
        .map_err(|error| Failure::permanent("malformed-manifest", format!("{error:#}")))
}

/// Computes one input, unless its result exists.
async fn one(
    settings: &BatchSettings,
    program: Option<&Program>,
    objects: &Cached<'_, impl Objects>,
    threads: &Arc<Semaphore>,
    input: u32,
    entry: &Entry,
) -> Fared {
    let started = Timestamp::now();
    let engine = settings.config.business(&settings.batch.business).map(|business| &business.engine);
    let timeout = Duration::from_secs(engine.as_ref().map_or(u32::MAX, |engine| engine.timeout_secs).into());
    let work = &entry.work;
    let log = LogTail::new(LOG_TAIL_BYTES, &work.session, &work.job);
    let own = Settings {
        config: settings.config.clone(),
        work: work.clone(),
        index: None,
        work_dir: settings.work_dir.clone(),
        threads: 1,
        stop: settings.stop.clone(),
        shared: Some(Shared { threads: threads.clone(), timeout, log: log.clone() }),
    };
    let began = Instant::now();
    let limited = program.map(|program| limited(program, engine.ok(), timeout));
    let ended = run::run(&own, limited.as_ref(), objects).await;
    let finished = Timestamp::now();
    if began.elapsed() > WORTH_A_LOOK {
        objects.fresh.set(false);
    }
    match ended {
        Ok(_) => Fared::Done(Done { input, started, finished }),
        Err(failure) if failure.code == STOPPED => Fared::Stopped(failure),
        Err(failure) => {
            let Failure { permanent, code, message } = failure;
            log.line(&format!("{code}: {message}"));
            Fared::Failed(Failed {
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

/// The program with what is configured for it; an input takes no longer than an input may in any case.
fn limited(program: &Program, engine: Option<&Engine>, most: Duration) -> Program {
    let program = engine.map_or_else(|| program.clone(), |engine| program.configured(&engine.program));
    Program { timeout: Some(program.timeout.map_or(most, |own| own.min(most))), ..program }
}

/// Leaves the report.
async fn report(
    settings: &BatchSettings,
    objects: &impl Objects,
    done: Vec<Done>,
    mut failed: Vec<Failed>,
) -> anyhow::Result<()> {
    shorten(&mut failed);
    let report =
        Report { schema: batch::SCHEMA, pod: settings.pod.clone(), cpu_seconds: process::cpu_seconds(), done, failed };
    let bytes = serde_json::to_vec(&report).context("encode the report of a batch")?;
    let name = settings.batch.report(settings.index, &settings.pod);
    match objects.write_once(&settings.batch.bucket, &name, bytes.into(), Properties::json()).await? {
        Written::New(_) => Ok(()),
        // Only a first try of this very write can have left it, or a container that ran before in this pod.
        Written::Exists => bail!("write {name}, which exists already"),
    }
}

/// Keeps the logs of the first to fail, and of the others their ends.
fn shorten(failed: &mut [Failed]) {
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

/// Objects, of which the session's common data are read once for all inputs, and of which no more are looked for than it
/// takes: when none of the first inputs has a result, no pod was here before, and to compute a tiny input twice costs
/// less than to ask for every one. The write decides in any case.
struct Cached<'o, O> {
    objects: &'o O,
    common: Mutex<HashMap<String, Arc<OnceCell<Option<Contents>>>>>,
    /// No result was found yet, and inputs take next to no time.
    fresh: Cell<bool>,
    looks: Cell<usize>,
}

impl<O: Objects> Objects for Cached<'_, O> {
    async fn exists(&self, bucket: &str, object: &str) -> anyhow::Result<bool> {
        let exists = self.objects.exists(bucket, object).await?;
        self.looks.set(self.looks.get() + 1);
        self.fresh.set(self.fresh.get() && !exists);
        Ok(exists)
    }

    async fn probably_exists(&self, bucket: &str, object: &str) -> anyhow::Result<bool> {
        if self.fresh.get() && self.looks.get() >= LOOKS { Ok(false) } else { self.exists(bucket, object).await }
    }

    async fn read(&self, bucket: &str, object: &str, generation: Option<i64>) -> anyhow::Result<Option<Contents>> {
        // An input is read at its generation, common data as they are.
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
