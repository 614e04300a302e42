//! Computes an item, stores its result, and makes its record.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use cloud::storage::Written;
use contract::{
    config::Results,
    message::Work,
    outcome::{Reason, State, row_errors},
    pack::{ITEM_LOG_MAX, Item, ItemResult, inline_max, inline_result_max},
};
use kernel::Share;
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    time::sleep,
};

use super::{
    container::Container,
    inputs::{Loaded, Range, Reader},
};
use crate::{
    compute::Output,
    config::{PoolSettings, Step},
    failure::Failure,
    input,
    item::{compute_with_kernel, record_of, retry_pause},
    log::LogTail,
    process,
    program::Position,
    socket::Request,
    store::Objects,
};

/// Computes items.
#[derive(Debug)]
pub(super) struct Computation<'c, O> {
    settings: &'c PoolSettings,
    pub(super) reader: Reader<'c, O>,
    /// The desk's own program, if there is one.
    container: Option<Container>,
    /// Receives the items whose results are being stored.
    storing: UnboundedSender<pool::worker::Item>,
    /// Threads of the built-in kernel have a clone.
    threads: Arc<()>,
}

/// How an item ended.
#[derive(Debug)]
pub(super) struct Computed {
    /// Its record as JSON.
    pub(super) record: Bytes,
    /// How long the last try was computed.
    pub(super) seconds: f64,
}

/// A result, inside the record or beside it.
struct Stored {
    result: ItemResult,
    row_errors: u32,
}

impl<'c, O: Objects> Computation<'c, O> {
    pub(super) fn new(
        settings: &'c PoolSettings,
        reader: Reader<'c, O>,
        container: Option<Container>,
        storing: UnboundedSender<pool::worker::Item>,
    ) -> Self {
        Self { settings, reader, container, storing, threads: Arc::default() }
    }

    /// CPU time of all items until now.
    pub(super) fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds() + self.container.as_ref().map_or(0.0, Container::cpu_seconds)
    }

    /// Tells how many items a container computes alone, or will.
    pub(super) fn suspects(&self) -> Option<watch::Receiver<usize>> {
        self.container.as_ref().map(Container::suspects)
    }

    /// Number of threads that compute, whether somebody needs their results or not.
    pub(super) fn threads(&self) -> usize {
        Arc::strong_count(&self.threads) - 1
    }

    /// Computes an item, and tries again after failures that may pass.
    pub(super) async fn compute(&self, range: &Range, index: u32, threads: usize) -> Computed {
        range.begin();
        let mut seconds = 0.0;
        let mut item = match &range.work {
            Ok(work) => self.try_until_ended(range, work, index, threads, &mut seconds).await,
            Err(failure) => {
                tracing::error!("{failure}");
                let reason = Reason { code: failure.code.to_owned(), message: failure.message.clone() };
                Item::without_result(index, State::Failed, reason)
            }
        };
        item.name = range.file(index).map(str::to_owned);
        // A record has no keys that JSON cannot have; without a record, its item has failed for the orchestrator.
        Computed { record: serde_json::to_vec(&item).unwrap_or_default().into(), seconds }
    }

    async fn try_until_ended(&self, range: &Range, work: &Work, index: u32, threads: usize, seconds: &mut f64) -> Item {
        let mut attempt = 0;
        loop {
            let log = LogTail::new(inline_max(ITEM_LOG_MAX, range.len), &work.session, &work.job, index);
            let (stored, ended) = match self.try_once(range, work, index, threads, &log, seconds).await {
                Ok(stored) => (Some(stored), Ok(())),
                Err(failure) => (None, Err(failure)),
            };
            let retries = self.settings.business.engine.retries;
            if let Some(item) = record_of(index, attempt, retries, ended, *seconds, &log) {
                return match stored {
                    Some(Stored { result, row_errors }) => Item { result: Some(result), row_errors, ..item },
                    None => item,
                };
            }
            sleep(retry_pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn try_once(
        &self,
        range: &Range,
        work: &Work,
        index: u32,
        threads: usize,
        log: &LogTail,
        seconds: &mut f64,
    ) -> Result<Stored, Failure> {
        let Loaded { items, folder } = match range.load(&self.reader).await {
            // Another engine may have stored the result, and the orchestrator deleted the input.
            Err(failure) if failure.code == input::MISSING => {
                return self.stored(work, index).await?.ok_or(failure);
            }
            loaded => loaded?,
        };
        let timeout_secs = work.resources.timeout_secs.unwrap_or(self.settings.business.engine.timeout_secs);
        let computed = match (&self.container, folder) {
            (Some(container), Some(folder)) => {
                let Position { share: Share { index, count }, name } = items.position(index);
                let common = folder.path().file_name().unwrap_or_default().into();
                let program = self.settings.business.engine.program.clone();
                let request = Request { index, count, name: name.map(str::to_owned), common, program, timeout_secs };
                let ended = container.compute(&request, &items.input(index)?, log, seconds).await;
                ended.map_err(|failure| items.located(index, failure))
            }
            _ => {
                let limit = Duration::from_secs(timeout_secs.into());
                let began = Instant::now();
                let ended = match items.echo(index) {
                    Some(ended) => ended,
                    None => compute_with_kernel(items.clone(), index, threads, limit, self.threads.clone()).await,
                };
                *seconds = began.elapsed().as_secs_f64();
                ended
            }
        };
        process::kill_if_requested(self.settings.stop.as_ref(), Step::PoolComputed);
        self.store(range, work, index, computed?, *seconds).await
    }

    /// Puts a small result into the record, and writes a large one once.
    async fn store(
        &self,
        range: &Range,
        work: &Work,
        index: u32,
        output: Output,
        seconds: f64,
    ) -> Result<Stored, Failure> {
        let (row_errors, content_type) = (output.row_errors(), output.content_type.clone());
        let is_small = output.bytes.len() <= inline_result_max(range.len, range.file(index));
        if is_small && self.settings.business.results == Results::Auto {
            return Ok(Stored { result: ItemResult::inline(&output.bytes, &content_type), row_errors });
        }
        // The engine ends when nobody receives it.
        let _ = self.storing.send((range.name.clone(), index));
        let (bucket, object) = (&work.identity.bucket, work.item_output(index));
        let (properties, length) = (input::properties(work, &output, seconds, None), output.bytes.len() as u64);
        match self.reader.objects.write_once(bucket, &object, output.bytes.into(), properties).await? {
            Written::New(generation) => {
                let result = ItemResult::Object { object, generation, offset: 0, length, content_type };
                Ok(Stored { result, row_errors })
            }
            Written::Exists => {
                let stored = self.stored(work, index).await?;
                Ok(stored.with_context(|| format!("find gs://{bucket}/{object}, which exists"))?)
            }
        }
    }

    /// The result object of an item, if it exists.
    async fn stored(&self, work: &Work, index: u32) -> anyhow::Result<Option<Stored>> {
        let name = work.item_output(index);
        let described = self.reader.objects.describe(&work.identity.bucket, &name).await?;
        Ok(described.map(|object| {
            let length = u64::try_from(object.size).unwrap_or_default();
            let (generation, content_type) = (object.generation, object.content_type);
            let row_errors = row_errors(&object.metadata);
            let result = ItemResult::Object { object: name, generation, offset: 0, length, content_type };
            Stored { result, row_errors }
        }))
    }
}
