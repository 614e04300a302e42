//! Records how the items of a range end: in parts, each written once, numbered without a gap.
//!
//! Two pods may record the same range at once. A part that exists already is read, and what it says counts.

use std::{cell::RefCell, collections::BTreeSet};

use anyhow::Context as _;
use bytes::Bytes;
use cloud::storage::{Properties, Written};
use contract::{
    message::Work,
    pack::{Item, ItemResult, Part, SCHEMA, inline_result_max},
};
use futures::future::try_join_all;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Duration, Instant, timeout_at},
};

use crate::{
    compute::Output,
    config::{Settings, Step},
    process,
    store::Objects,
};

/// Time between two parts that nothing hurries.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that wait to be written, at most.
pub const BUFFER_MAX: usize = 8 * 1024 * 1024;
/// Bytes that are written at once, whatever the time.
const BUFFER_FULL: usize = BUFFER_MAX / 2;
/// Bytes of a record beside result and log, about.
const RECORD_BYTES: usize = 256;
/// Parts that are read at the same time.
const READS_MAX: u32 = 32;

/// How an item ended.
#[derive(Debug)]
pub struct Ended {
    /// Its record, without a result.
    pub item: Item,
    /// Its result.
    pub output: Option<Output>,
}

impl Ended {
    /// Its size in memory, about.
    pub fn size(&self) -> usize {
        let output = self.output.as_ref().map_or(0, |output| output.bytes.len());
        let texts = [&self.item.name, &self.item.log_tail].into_iter().flatten();
        RECORD_BYTES + output + texts.map(String::len).sum::<usize>()
    }
}

/// What the recorder is notified of.
#[derive(Debug)]
pub enum Note {
    /// An item ended.
    Ended(Box<Ended>, OwnedSemaphorePermit),
    /// These items are begun. The sender is used when that is written.
    Begin(Vec<u32>, Option<oneshot::Sender<()>>),
    /// The pod stops, because it was asked to.
    Stopped,
}

/// Writes parts.
#[derive(Debug)]
pub struct Recorder<'r, O> {
    /// The bucket.
    pub objects: &'r O,
    /// Names of the objects, and the name of this pod.
    pub settings: &'r Settings,
    /// Number of items of the range.
    pub len: usize,
    /// Number of the next part.
    pub next: u32,
    /// Items that are recorded.
    pub recorded: &'r RefCell<BTreeSet<u32>>,
}

impl<O: Objects> Recorder<'_, O> {
    /// Writes parts until there are no more notes.
    ///
    /// # Errors
    /// When a part cannot be written.
    pub async fn run(mut self, mut notes: mpsc::UnboundedReceiver<Note>) -> anyhow::Result<()> {
        let (mut buffer, mut permits, mut bytes, mut due) = (Vec::new(), Vec::new(), 0, Instant::now());
        loop {
            if buffer.is_empty() {
                due = Instant::now() + INTERVAL;
            }
            let (mut begun, mut written, mut stopped) = (Vec::new(), None, false);
            let note = match buffer.is_empty() {
                true => Ok(notes.recv().await),
                false => timeout_at(due, notes.recv()).await,
            };
            match note {
                Ok(Some(Note::Ended(ended, permit))) => {
                    bytes += ended.size();
                    buffer.push(*ended);
                    permits.push(permit);
                    if bytes < BUFFER_FULL {
                        continue;
                    }
                }
                Ok(Some(Note::Begin(items, sender))) => (begun, written) = (items, sender),
                Ok(Some(Note::Stopped)) => stopped = true,
                Ok(None) => return self.write(buffer, &[], false).await,
                Err(_) => {}
            }
            self.write(std::mem::take(&mut buffer), &begun, stopped).await?;
            permits.clear();
            bytes = 0;
            if let Some(written) = written {
                // Nobody waits when the pod stops.
                let _ = written.send(());
            }
        }
    }

    /// Writes as many parts as it takes: one, unless another pod writes too.
    async fn write(&mut self, mut ended: Vec<Ended>, mut begun: &[u32], mut stopped: bool) -> anyhow::Result<()> {
        let Settings { work, pod, stop, .. } = self.settings;
        loop {
            ended.retain(|one| !self.recorded.borrow().contains(&one.item.index));
            if ended.is_empty() && begun.is_empty() && !stopped {
                return Ok(());
            }
            let number = self.next;
            let data = self.write_data(number, &ended).await?;
            let items = ended.iter().filter_map(|one| self.item(one, data.as_ref())).collect();
            let cpu_seconds = process::cpu_seconds();
            let part = Part { schema: SCHEMA, pod: pod.clone(), cpu_seconds, items, begun: begun.to_vec(), stopped };
            let (name, bytes) = (work.part(number), serde_json::to_vec(&part).context("encode a part")?);
            let bucket = &work.identity.bucket;
            let theirs = match self.objects.write_once(bucket, &name, bytes.into(), Properties::json()).await? {
                Written::New(_) => None,
                Written::Exists => {
                    Some(read_part(self.objects, work, number).await?.with_context(|| format!("read {name}"))?)
                }
            };
            let written = theirs.as_ref().unwrap_or(&part);
            // Cloud Storage also says that a part exists when an answer to an earlier request was lost.
            if written.pod == *pod {
                (begun, stopped) = (&[], false);
            }
            self.recorded.borrow_mut().extend(written.items.iter().map(|item| item.index));
            self.next += 1;
            if !written.items.is_empty() {
                process::kill_if_requested(stop.as_ref(), Step::Written);
                process::kill_if_requested(stop.as_ref(), Step::Part);
            }
        }
    }

    fn is_large(&self, item: &Item, output: &Output) -> bool {
        output.bytes.len() > inline_result_max(self.len, item.name.as_deref())
    }

    /// Writes the large results into one object, if there are any. `None` also when a pod wrote such an object and
    /// ended before its part: then they are recorded with the next part.
    async fn write_data(&self, number: u32, ended: &[Ended]) -> anyhow::Result<Option<Data>> {
        let outputs = ended.iter().filter_map(|one| Some((&one.item, one.output.as_ref()?)));
        let (mut bytes, mut offsets) = (Vec::new(), std::collections::BTreeMap::new());
        for (item, output) in outputs.filter(|(item, output)| self.is_large(item, output)) {
            offsets.insert(item.index, bytes.len() as u64);
            bytes.extend_from_slice(&output.bytes);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let work = &self.settings.work;
        let object = work.part_data(number);
        let properties = Properties { content_type: "application/octet-stream".to_owned(), ..Properties::default() };
        let written = self.objects.write_once(&work.identity.bucket, &object, Bytes::from(bytes), properties).await?;
        Ok(match written {
            Written::New(generation) => {
                process::kill_if_requested(self.settings.stop.as_ref(), Step::Written);
                Some(Data { object, generation, offsets })
            }
            Written::Exists => None,
        })
    }

    /// The record of an item, unless its result is large and was not written.
    fn item(&self, ended: &Ended, data: Option<&Data>) -> Option<Item> {
        let Some(output) = &ended.output else { return Some(ended.item.clone()) };
        let content_type = output.content_type.clone();
        let result = if self.is_large(&ended.item, output) {
            let Data { object, generation, offsets } = data?;
            let (offset, length) = (*offsets.get(&ended.item.index)?, output.bytes.len() as u64);
            ItemResult::Object { object: object.clone(), generation: *generation, offset, length, content_type }
        } else {
            ItemResult::inline(&output.bytes, &content_type)
        };
        Some(Item { result: Some(result), ..ended.item.clone() })
    }
}

/// Large results that were written.
struct Data {
    object: String,
    generation: i64,
    /// Where they begin, by the index of the item.
    offsets: std::collections::BTreeMap<u32, u64>,
}

/// Reads the parts of a range from this number on, until one is missing. One that is none counts as empty.
///
/// # Errors
/// When one cannot be read.
pub async fn read_parts(objects: &impl Objects, work: &Work, from: u32) -> anyhow::Result<Vec<Part>> {
    let (mut parts, mut next, mut reads) = (Vec::new(), from, 1);
    loop {
        for part in try_join_all((next..next + reads).map(|number| read_part(objects, work, number))).await? {
            let Some(part) = part else { return Ok(parts) };
            parts.push(part);
        }
        next += reads;
        reads = (reads * 2).min(READS_MAX);
    }
}

async fn read_part(objects: &impl Objects, work: &Work, number: u32) -> anyhow::Result<Option<Part>> {
    let (bucket, name) = (&work.identity.bucket, work.part(number));
    let Some(contents) = objects.read(bucket, &name, None).await? else { return Ok(None) };
    match serde_json::from_slice::<Part>(&contents.bytes) {
        Ok(part) if part.schema <= SCHEMA => return Ok(Some(part)),
        Ok(part) => tracing::error!(object = name, schema = part.schema, "a part has an unknown schema version"),
        Err(error) => tracing::error!(object = name, "failed to read a part: {error}"),
    }
    // The orchestrator ignores it too.
    let (pod, items, begun) = (String::new(), Vec::new(), Vec::new());
    Ok(Some(Part { schema: SCHEMA, pod, cpu_seconds: 0.0, items, begun, stopped: false }))
}
