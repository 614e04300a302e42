//! One input: read it at its generation, compute, write the result once.
//!
//! The process can be killed at any point and run again, also twice at the same time: the result's name follows from
//! the identity of the work, and only the first write of that name counts.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::Context as _;
use bytes::Bytes;
use cloud::storage::{Properties, Written};
use contract::labels;

use crate::{
    VERSION,
    compute::{self, Input, Output},
    config::{Settings, Step},
    failure::Failure,
    process,
    program::{self, Program},
    store::{Contents, Objects},
};

/// How a run succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// This run wrote the result.
    Completed,
    /// The result existed already.
    AlreadyDone,
}

impl Done {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::AlreadyDone => "already-done",
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Completed => "the result was written",
            Self::AlreadyDone => "the result existed already",
        }
    }
}

/// Computes the result unless it exists.
///
/// # Errors
/// When there is no result; the failure says whether a retry may help.
pub async fn run(settings: &Settings, program: Option<&Program>, objects: &impl Objects) -> Result<Done, Failure> {
    run_counted(settings, program, objects).await.map(|(done, _)| done)
}

/// As [`run`], and how many rows have an error in the result, if this run wrote it.
///
/// # Errors
/// As [`run`].
pub async fn run_counted(
    settings: &Settings,
    program: Option<&Program>,
    objects: &impl Objects,
) -> Result<(Done, Option<u32>), Failure> {
    let work = &settings.work;
    let identity = &work.identity;
    let output = work.output(settings.index);
    // Both requests are sent together, because most runs are the first of their input.
    let (exists, input) = tokio::join!(
        objects.probably_exists(&identity.bucket, &output),
        objects.read(&identity.bucket, &identity.object, Some(identity.generation)),
    );
    if exists? {
        return Ok((Done::AlreadyDone, None));
    }
    let Some(input) = input? else {
        // Another run may have written the result, and the orchestrator deleted the input, since the first check.
        if objects.exists(&identity.bucket, &output).await? {
            return Ok((Done::AlreadyDone, None));
        }
        let message =
            format!("the input gs://{}/{}#{} does not exist", identity.bucket, identity.object, identity.generation);
        return Err(Failure::permanent("input-missing", message));
    };
    tracing::info!(session = %work.session, job = %work.job, bytes = input.bytes.len(), "read the input");
    process::kill_if_requested(settings.stop.as_ref(), Step::Read);

    let started = Instant::now();
    let computed = match program {
        None => run_kernel(settings, objects, input).await,
        Some(program) => {
            let program = program.with_defaults(&settings.config.business(&work.business)?.engine.program);
            run_program(settings, &program, objects, &input).await.map_err(|failure| match settings.rows() {
                // Lines that a program reports are those of its part.
                Some(rows) => {
                    let rows = format!("counted from the header of rows {} to {}", rows.start + 1, rows.end);
                    Failure { message: format!("{} ({rows} of the table)", failure.message), ..failure }
                }
                None => failure,
            })
        }
    }?;
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(bytes = computed.bytes.len(), seconds, "computed the result");
    process::kill_if_requested(settings.stop.as_ref(), Step::Computed);

    let row_errors = u32::try_from(computed.row_errors).ok();
    let properties = properties(settings, &computed, seconds);
    let written = objects.write_once(&identity.bucket, &output, Bytes::from(computed.bytes), properties).await?;
    process::kill_if_requested(settings.stop.as_ref(), Step::Written);
    Ok(match written {
        Written::New(_) => (Done::Completed, row_errors),
        Written::Exists => (Done::AlreadyDone, None),
    })
}

/// Content type and metadata of the result object.
fn properties(settings: &Settings, computed: &Output, seconds: f64) -> Properties {
    let work = &settings.work;
    let mut metadata = BTreeMap::from([
        ("business".to_owned(), work.business.clone()),
        ("session".to_owned(), work.session.clone()),
        ("job".to_owned(), work.job.clone()),
        ("engine-version".to_owned(), VERSION.to_owned()),
        ("compute-seconds".to_owned(), format!("{seconds:.6}")),
    ]);
    // The CPU time of a process that computes many inputs cannot be divided between them.
    if settings.shared.is_none() {
        metadata.insert("cpu-seconds".to_owned(), format!("{:.6}", process::cpu_seconds()));
    }
    if let Some(seed) = computed.seed {
        metadata.insert("seed".to_owned(), seed.to_string());
    }
    if computed.row_errors > 0 {
        metadata.insert(labels::METADATA_ROW_ERRORS.to_owned(), computed.row_errors.to_string());
    }
    if let (Some(index), Some(count)) = (settings.index, work.tasks) {
        metadata.insert("index".to_owned(), index.to_string());
        metadata.insert("count".to_owned(), count.to_string());
    }
    Properties { content_type: computed.content_type.clone(), metadata }
}

/// Computes on a thread of its own, so that the runtime's thread keeps connections and credentials alive.
async fn run_kernel(settings: &Settings, objects: &impl Objects, input: Contents) -> Result<Output, Failure> {
    let market = match compute::market(settings.work.common.iter().map(String::as_str))? {
        Some(name) => Some(read_common(settings, objects, name).await?.bytes),
        None => None,
    };
    let name = settings.work.identity.object.clone();
    let (rows, share, threads) = (settings.rows(), settings.task(), settings.threads);
    let _permit = match &settings.shared {
        Some(shared) => Some(shared.threads.acquire().await.context("wait for a thread")?),
        None => None,
    };
    let work = move || {
        let input =
            Input { bytes: &input.bytes, name: &name, content_type: &input.content_type, market: market.as_deref() };
        match rows {
            Some(rows) => compute::compute_rows(input, &rows, threads),
            None => compute::compute(input, share, threads),
        }
    };
    let computing = tokio::task::spawn_blocking(work);
    let Some(shared) = &settings.shared else { return computing.await.context("compute the result")? };
    match tokio::time::timeout(shared.timeout, computing).await {
        Ok(computed) => computed.context("compute the result")?,
        // Its thread cannot be stopped; it ends with this process.
        Err(_) => {
            let message = format!("the input was computed for longer than {} s", shared.timeout.as_secs());
            Err(Failure::transient("timeout", message))
        }
    }
}

async fn run_program(
    settings: &Settings,
    program: &Program,
    objects: &impl Objects,
    input: &Contents,
) -> Result<Output, Failure> {
    let work = &settings.work;
    let scratch = program::Scratch::new(&settings.work_dir)?;
    match settings.rows() {
        Some(rows) => scratch.write_input(&kernel::table::part(&input.bytes, rows))?,
        None => scratch.write_input(&input.bytes)?,
    }
    for name in &work.common {
        let contents = read_common(settings, objects, name).await?;
        write_common(scratch.common(), name, &contents.bytes)?;
    }
    program::run(program, &scratch, settings.task(), settings.shared.as_ref().map(|shared| &shared.log)).await
}

async fn read_common(settings: &Settings, objects: &impl Objects, name: &str) -> Result<Contents, Failure> {
    let work = &settings.work;
    let object = contract::object::common(&work.business, &work.session, name);
    objects.read(&work.identity.bucket, &object, None).await?.ok_or_else(|| {
        let message = format!("the common data gs://{}/{object} does not exist", work.identity.bucket);
        Failure::permanent("common-data-missing", message)
    })
}

fn write_common(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
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
