//! The range of a pack: many items in one pod.
//!
//! Items are computed several at a time, and a failure of one does not stop the others. What is known of them is
//! recorded in parts while the others are computed, so the pod can be killed at any point: the next one goes on where
//! the parts end, and searches for the item that killed it, if one did (see [`plan`]).

pub mod items;
pub mod plan;
pub mod record;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use contract::{
    outcome::{Reason, State},
    pack::{ITEM_LOG_MAX, Item, inline_max},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    compute::{self, Output},
    config::{Settings, Step},
    failure::{Failure, STOPPED},
    input::{self, Done},
    item::{compute_with_kernel, record_of, retry_pause},
    log::LogTail,
    process,
    program::{Program, STOP_GRACE},
    resident::{Folders, Residents, run_apart},
    store::{self, Objects},
};
use items::Items;
use plan::Plan;
use record::{BUFFER_MAX, Ended, Note, Recorder};

/// Computes every item of the range that is not recorded, until `stop` is ready.
///
/// # Errors
/// When items are left: the failure says whether the next pod may compute them.
pub async fn run(
    settings: &Settings,
    program: Option<&Program>,
    objects: &impl Objects,
    stop: impl Future<Output = ()>,
) -> Result<Done, Failure> {
    let mut stop = pin!(stop);
    let work = &settings.work;
    let (Some(range), Some(pack)) = (work.range(), &work.pack) else {
        return Err(Failure::transient("configuration", format!("{} has no range of a pack", work.job)));
    };
    let engine = &settings.config.business(&work.business)?.engine;
    let wanted = work.items();
    let loaded = tokio::select! {
        loaded = load(settings, program, objects, &wanted) => loaded?,
        () = &mut stop => return Err(Failure::stopped()),
    };
    let Some(Loaded { parts, input, common }) = loaded else { return Ok(Done::AlreadyDone) };
    tracing::info!(session = %work.session, job = %work.job, bytes = input.bytes.len(), "read the input");
    process::kill_if_requested(settings.stop.as_ref(), Step::Read);

    let recorded = RefCell::new(contract::pack::recorded(&parts).into_keys().collect::<BTreeSet<u32>>());
    let plan = plan::plan(&parts, &wanted, &settings.pod);
    let left = plan.killed.len() + plan.groups.iter().map(Vec::len).sum::<usize>();
    tracing::info!(items = left, of = range.len(), parts = parts.len(), careful = plan.careful, "computing a range");
    let (pack, name) = (pack.clone(), work.identity.object.clone());
    let (market, folder) = match program {
        None => (common.into_iter().next().map(|(_, bytes)| bytes), None),
        Some(_) => (None, Some(common_folder(&settings.work_dir, &common)?)),
    };
    let (is_program, is_part, cut_range) = (program.is_some(), work.span.is_some(), range.clone());
    let cut = move || Items::cut(pack, cut_range, &input, is_part, name, market, is_program);
    let items = tokio::task::spawn_blocking(cut);
    let items = Arc::new(items.await.context("cut the input into items")?);

    let (notes, received) = mpsc::unbounded_channel();
    let timeout = Duration::from_secs(work.resources.timeout_secs.unwrap_or(engine.timeout_secs).into());
    let program = program.map(|program| program.with_limits(&engine.program, timeout));
    let computation = Computation {
        settings,
        program: program.as_ref(),
        residents: Residents::default(),
        items,
        folder: folder.as_ref().map(tempfile::TempDir::path),
        timeout,
        retries: engine.retries,
        log_max: inline_max(ITEM_LOG_MAX, range.len()),
        announce: plan.careful || range.len() > 1 || !parts.is_empty(),
        recorded: &recorded,
        stopping: Cell::new(false),
        notes,
        budget: Arc::new(Semaphore::new(BUFFER_MAX)),
    };
    let recorder = Recorder {
        objects,
        settings,
        len: range.len(),
        next: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        recorded: &recorded,
    };
    // The recorder ends when the computation, which has the sender, is dropped.
    let computing = async move {
        let is_stopped = computation.until_stopped(plan, stop).await;
        Ok(is_stopped && computation.send_stopped())
    };
    let (is_stopped, ()) = tokio::try_join!(computing, recorder.run(received))?;
    let left = wanted.iter().filter(|item| !recorded.borrow().contains(item)).count();
    match (left, is_stopped) {
        (0, _) => Ok(Done::Recorded),
        (_, true) => Err(Failure::stopped()),
        (_, false) => Err(Failure::transient("engine-error", format!("{left} items were not recorded"))),
    }
}

/// What the bucket has for a range.
struct Loaded {
    parts: Vec<contract::pack::Part>,
    input: crate::store::Contents,
    /// Names and bytes of the common data that are needed.
    common: Vec<(String, bytes::Bytes)>,
}

/// Reads what the bucket has for a range; `None` when every wanted item is recorded.
async fn load(
    settings: &Settings,
    program: Option<&Program>,
    objects: &impl Objects,
    wanted: &[u32],
) -> Result<Option<Loaded>, Failure> {
    let work = &settings.work;
    let identity = &work.identity;
    let names = match program {
        Some(_) => Ok(work.common.clone()),
        None => compute::market(work.common.iter().map(String::as_str))
            .map(|market| market.map(str::to_owned).into_iter().collect()),
    };
    let common = async {
        let read = names?.into_iter().map(async |name| {
            let contents = input::read_common(work, objects, &name).await?;
            Ok::<_, Failure>((name, contents.bytes))
        });
        futures::future::try_join_all(read).await
    };
    let (parts, input, common) =
        tokio::join!(record::read_parts(objects, work, 0), store::read_input(objects, work), common,);
    let mut parts = parts?;
    let is_done = |parts: &[contract::pack::Part]| {
        let recorded = contract::pack::recorded(parts);
        wanted.iter().all(|item| recorded.contains_key(item))
    };
    if is_done(&parts) {
        return Ok(None);
    }
    let Some(input) = input? else {
        // Another pod may have recorded the rest, and the orchestrator deleted the input, since the parts were read.
        let next = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        parts.extend(record::read_parts(objects, work, next).await?);
        return if is_done(&parts) { Ok(None) } else { Err(input::missing(identity)) };
    };
    Ok(Some(Loaded { parts, input, common: common? }))
}

/// A folder with the common data, for all items.
pub(crate) fn common_folder(parent: &Path, common: &[(String, bytes::Bytes)]) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("common-")
        .tempdir_in(parent)
        .with_context(|| format!("create a folder in {}", parent.display()))?;
    common.iter().try_for_each(|(name, bytes)| input::write_common(folder.path(), name, bytes))?;
    Ok(folder)
}

/// Computes the items of a range.
struct Computation<'c> {
    settings: &'c Settings,
    program: Option<&'c Program>,
    /// The processes of a program that stays.
    residents: Residents,
    items: Arc<Items>,
    /// The common data of programs.
    folder: Option<&'c Path>,
    /// How long an item may be computed.
    timeout: Duration,
    /// How often an item is tried again.
    retries: u32,
    /// Limit of the log of an item, in bytes.
    log_max: usize,
    /// Whether the first part says which items were begun. Nothing is learnt from that of a single item.
    announce: bool,
    recorded: &'c RefCell<BTreeSet<u32>>,
    /// No other item is begun.
    stopping: Cell<bool>,
    notes: mpsc::UnboundedSender<Note>,
    /// Bytes that the recorder may still be given.
    budget: Arc<Semaphore>,
}

impl Computation<'_> {
    /// Computes the items of the plan, and returns whether it was stopped. Programs in progress may still finish:
    /// `program::run` forwards the signal to them, and those that stay have as much time. Computations of the kernel
    /// are left behind.
    async fn until_stopped(&self, plan: Plan, stop: impl Future<Output = ()>) -> bool {
        let mut all = pin!(self.compute_all(plan));
        tokio::select! {
            () = &mut all => {
                self.residents.close().await;
                return false;
            }
            () = stop => self.stopping.set(true),
        }
        if self.program.is_some_and(|program| program.resident) {
            let _ = tokio::time::timeout(STOP_GRACE, all).await;
        } else if self.program.is_some() {
            all.await;
        }
        true
    }

    /// Requests the part that says that no item ended this pod.
    fn send_stopped(&self) -> bool {
        self.notes.send(Note::Stopped).is_ok()
    }

    async fn compute_all(&self, plan: Plan) {
        let Plan { killed, mut groups, careful } = plan;
        for index in killed {
            let message =
                "the pod ended twice while it computed only this item; did it run out of memory or disk?".to_owned();
            let item = Item::without_result(index, State::Failed, Reason { code: "pod-killed".to_owned(), message });
            self.record(Ended { item, output: None }).await;
        }
        for attempt in 0..=self.retries {
            let mut failed = Vec::new();
            for group in groups {
                self.begin(&group, careful, attempt).await;
                failed.extend(self.compute_group(&group, attempt).await);
            }
            if failed.is_empty() || self.stopping.get() {
                return;
            }
            tracing::info!(items = failed.len(), attempt, "trying items again that failed");
            tokio::time::sleep(retry_pause(attempt)).await;
            groups = if careful { plan::split(&failed) } else { vec![failed] };
        }
    }

    /// Announces that these items are begun: before that, if there may be one that ends this pod.
    async fn begin(&self, group: &[u32], careful: bool, attempt: u32) {
        if self.stopping.get() {
            return;
        }
        let (sender, written) = oneshot::channel();
        if careful {
            // The recorder ends early only when it fails, and then this is dropped.
            let _ = self.notes.send(Note::Begin(group.to_vec(), Some(sender)));
            let _ = written.await;
        } else if attempt == 0 && self.announce {
            let _ = self.notes.send(Note::Begin(group.to_vec(), None));
        }
    }

    /// Computes some items, and returns those to try again.
    async fn compute_group(&self, group: &[u32], attempt: u32) -> Vec<u32> {
        let threads = self.settings.threads;
        let threads_each = (threads / group.len().clamp(1, threads)).max(1);
        let mut failed = Vec::new();
        let mut waiting = group.iter();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < threads
                && let Some(index) = waiting.next()
            {
                running.push(self.compute_and_record(*index, threads_each, attempt));
            }
            match running.next().await {
                Some(retried) => failed.extend(retried),
                None => return failed,
            }
        }
    }

    /// Computes an item and records how it ended; returns it when it is to be tried again.
    async fn compute_and_record(&self, index: u32, threads: usize, attempt: u32) -> Option<u32> {
        if self.stopping.get() || self.recorded.borrow().contains(&index) {
            return None;
        }
        let work = &self.settings.work;
        let log = LogTail::new(self.log_max, &work.session, &work.job, index);
        let began = Instant::now();
        let computed = match self.program {
            None => compute_with_kernel(self.items.clone(), index, threads, self.timeout, ()).await,
            Some(program) => self.run_program(program, index, &log).await,
        };
        let seconds = began.elapsed().as_secs_f64();
        process::kill_if_requested(self.settings.stop.as_ref(), Step::Computed);
        let (output, ended) = match computed {
            Ok(output) => (Some(output), Ok(())),
            Err(failure) if failure.code == STOPPED => return None,
            Err(failure) => (None, Err(failure)),
        };
        let Some(mut item) = record_of(index, attempt, self.retries, ended, seconds, &log) else {
            return Some(index);
        };
        item.row_errors = output.as_ref().map_or(0, Output::row_errors);
        self.record(Ended { item, output }).await;
        None
    }

    /// Gives the recorder how an item ended, when it has room for it.
    async fn record(&self, mut ended: Ended) {
        ended.item.name = self.items.position(ended.item.index).name.map(str::to_owned);
        let bytes = u32::try_from(ended.size().min(BUFFER_MAX)).unwrap_or(u32::MAX);
        if let Ok(permit) = self.budget.clone().acquire_many_owned(bytes).await {
            // The recorder ends early only when it fails, and then this is dropped.
            let _ = self.notes.send(Note::Ended(Box::new(ended), permit));
        }
    }

    async fn run_program(&self, program: &Program, index: u32, log: &LogTail) -> Result<Output, Failure> {
        let (input, position) = (self.items.input(index)?, self.items.position(index));
        let folders = Folders { work: &self.settings.work_dir, common: self.folder.context("find the common data")? };
        let ended = run_apart(program, &self.residents, folders, &input, position, log).await;
        ended.map_err(|failure| self.items.located(index, failure))
    }
}

#[cfg(test)]
mod tests;
