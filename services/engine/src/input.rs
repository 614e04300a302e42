//! One input: read it at its generation, compute, write the result once.
//!
//! The process can be killed at any point and run again, also twice at the same time: the result's name follows from
//! the identity of the work, and only the first write of that name counts.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::Context as _;
use bytes::Bytes;
use cloud::storage::{Properties, Written};
use contract::{labels, message::Work};
use kernel::Share;

use crate::{
    VERSION,
    compute::{self, Input, Output},
    config::{Settings, Step},
    failure::Failure,
    process,
    program::{self, Position, Program},
    resident,
    store::{Contents, Objects},
};

/// How a run succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// This run wrote the result.
    Completed,
    /// The result existed already.
    AlreadyDone,
    /// Every item of the range is recorded.
    Recorded,
    /// An engine of a pool that is not needed any more.
    Released,
}

impl Done {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Completed | Self::Recorded | Self::Released => "completed",
            Self::AlreadyDone => "already-done",
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Completed => "the result was written",
            Self::AlreadyDone => "the result existed already",
            Self::Recorded => "every item has a result or a failure",
            Self::Released => "no orchestrator needs this engine",
        }
    }
}

/// Computes the result unless it exists.
///
/// # Errors
/// When there is no result; the failure says whether a retry may help.
pub async fn run(settings: &Settings, program: Option<&Program>, objects: &impl Objects) -> Result<Done, Failure> {
    let work = &settings.work;
    let identity = &work.identity;
    let output = work.output();
    // Both requests are sent together, because most runs are the first of their input.
    let (exists, input) = tokio::join!(
        objects.describe(&identity.bucket, &output),
        objects.read(&identity.bucket, &identity.object, Some(identity.generation)),
    );
    if exists?.is_some() {
        return Ok(Done::AlreadyDone);
    }
    let Some(input) = input? else {
        // Another run may have written the result, and the orchestrator deleted the input, since the first check.
        if objects.describe(&identity.bucket, &output).await?.is_some() {
            return Ok(Done::AlreadyDone);
        }
        return Err(missing(identity));
    };
    tracing::info!(session = %work.session, job = %work.job, bytes = input.bytes.len(), "read the input");
    process::kill_if_requested(settings.stop.as_ref(), Step::Read);

    let started = Instant::now();
    let computed = match program {
        None => run_kernel(settings, objects, input).await,
        Some(program) => {
            let program = program.with_defaults(&settings.config.business(&work.business)?.engine.program);
            run_program(settings, &program, objects, &input).await
        }
    }?;
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(bytes = computed.bytes.len(), seconds, "computed the result");
    process::kill_if_requested(settings.stop.as_ref(), Step::Computed);

    let properties = properties(work, &computed, seconds, Some(process::cpu_seconds()));
    let written = objects.write_once(&identity.bucket, &output, Bytes::from(computed.bytes), properties).await?;
    process::kill_if_requested(settings.stop.as_ref(), Step::Written);
    Ok(match written {
        Written::New(_) => Done::Completed,
        Written::Exists => Done::AlreadyDone,
    })
}

/// Reason code of an input that does not exist.
pub(crate) const MISSING: &str = "input-missing";

/// The failure of an input that does not exist.
pub(crate) fn missing(identity: &contract::Identity) -> Failure {
    let contract::Identity { bucket, object, generation, .. } = identity;
    Failure::permanent(MISSING, format!("the input gs://{bucket}/{object}#{generation} does not exist"))
}

/// Content type and metadata of the result object; the CPU time where it is known for this result alone.
pub(crate) fn properties(work: &Work, computed: &Output, seconds: f64, cpu_seconds: Option<f64>) -> Properties {
    let mut metadata = BTreeMap::from([
        ("business".to_owned(), work.business.clone()),
        ("session".to_owned(), work.session.clone()),
        ("job".to_owned(), work.job.clone()),
        ("engine-version".to_owned(), VERSION.to_owned()),
        ("compute-seconds".to_owned(), format!("{seconds:.6}")),
    ]);
    if let Some(seconds) = cpu_seconds {
        metadata.insert("cpu-seconds".to_owned(), format!("{seconds:.6}"));
    }
    if let Some(seed) = computed.seed {
        metadata.insert("seed".to_owned(), seed.to_string());
    }
    if computed.row_errors > 0 {
        metadata.insert(labels::METADATA_ROW_ERRORS.to_owned(), computed.row_errors.to_string());
    }
    Properties { content_type: computed.content_type.clone(), metadata }
}

/// Computes on a thread of its own, so that the runtime's thread keeps connections and credentials alive.
async fn run_kernel(settings: &Settings, objects: &impl Objects, input: Contents) -> Result<Output, Failure> {
    let market = match compute::market(settings.work.common.iter().map(String::as_str))? {
        Some(name) => Some(read_common(&settings.work, objects, name).await?.bytes),
        None => None,
    };
    let name = settings.work.identity.object.clone();
    let threads = settings.threads;
    let work = move || {
        let input =
            Input { bytes: &input.bytes, name: &name, content_type: &input.content_type, market: market.as_deref() };
        compute::compute(input, Share::ALL, threads)
    };
    tokio::task::spawn_blocking(work).await.context("compute the result")?
}

async fn run_program(
    settings: &Settings,
    program: &Program,
    objects: &impl Objects,
    input: &Contents,
) -> Result<Output, Failure> {
    let work = &settings.work;
    let scratch = program::Scratch::new(&settings.work_dir)?;
    for name in &work.common {
        let contents = read_common(&settings.work, objects, name).await?;
        write_common(scratch.common(), name, &contents.bytes)?;
    }
    resident::run_once(program, &scratch, &input.bytes, Position::ALONE).await
}

/// Reads an object of the session's common data.
pub(crate) async fn read_common(work: &Work, objects: &impl Objects, name: &str) -> Result<Contents, Failure> {
    let object = contract::object::common(&work.business, &work.session, name);
    objects.read(&work.identity.bucket, &object, None).await?.ok_or_else(|| {
        let message = format!("the common data gs://{}/{object} does not exist", work.identity.bucket);
        Failure::permanent("common-data-missing", message)
    })
}

/// Writes an object of the common data for programs.
pub(crate) fn write_common(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    contract::names::check_job(name).with_context(|| format!("use the common data {name:?}"))?;
    let path = folder.join(name);
    let context = || format!("write {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(context)?;
    }
    std::fs::write(&path, bytes).with_context(context)
}

#[cfg(test)]
pub(crate) mod tests;
