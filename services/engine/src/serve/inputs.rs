//! What items read: the inputs of ranges, each read and cut once, and objects that many ranges read.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
};

use anyhow::Context as _;
use contract::{
    message::Work,
    pack::{Format, Pack},
};
use pool::worker::Held;
use tokio::sync::OnceCell;

use crate::{
    compute,
    config::{PoolSettings, check_work},
    failure::Failure,
    input,
    range::items::Items,
    store::{Contents, Objects},
};

/// A smaller input is cut into items without a thread of its own.
const SMALL_BYTES: usize = 256 * 1024;

/// A range, or a single input as a range of one item.
#[derive(Debug)]
pub(super) struct Range {
    /// The work, or why it cannot be computed.
    pub(super) work: Result<Work, Failure>,
    /// Number of its items.
    pub(super) len: usize,
    inline: Option<Contents>,
    items: OnceCell<Arc<Items>>,
    /// Its share of the bytes that were read ahead, until an item begins.
    ahead: RefCell<Option<Ahead>>,
    has_begun: Cell<bool>,
}

impl Range {
    /// A range as an orchestrator sent it.
    pub(super) fn new(settings: &PoolSettings, held: &Held) -> Self {
        let work = serde_json::from_slice::<Work>(&held.work).context("parse the work").and_then(|work| {
            check_work(&settings.config, &work)?;
            Ok(work)
        });
        let work = work.map_err(|error| Failure::permanent("configuration", format!("failed to {error:#}")));
        let len = work.as_ref().ok().and_then(Work::range).map_or(1, |range| range.len());
        let contents = |bytes| Contents { bytes, content_type: held.content_type.clone() };
        let inline = held.input.clone().map(contents);
        Self { work, len, inline, items: OnceCell::new(), ahead: RefCell::default(), has_begun: Cell::new(false) }
    }

    /// Whether its input is still to be read.
    pub(super) fn is_unread(&self) -> bool {
        self.work.is_ok() && self.inline.is_none() && !self.items.initialized()
    }

    /// Reads the input before an item needs it. A failure is found again by the item.
    pub(super) async fn read_ahead(&self, reader: &Reader<'_, impl Objects>) {
        // The cache bounds the objects that ranges share.
        if let Ok(items) = self.items(reader).await
            && self.work.as_ref().is_ok_and(|work| work.pack.is_none())
            && !self.has_begun.get()
        {
            let bytes = items.input(0).map_or(0, |input| input.len());
            self.ahead.replace(Some(Ahead::new(&reader.ahead_bytes, bytes)));
        }
    }

    /// An item begins: the input is not ahead any more.
    pub(super) fn begin(&self) {
        self.has_begun.set(true);
        self.ahead.take();
    }

    /// The items; they are read and cut once.
    ///
    /// # Errors
    /// When the input or the common data cannot be read. The next caller tries again.
    pub(super) async fn items(&self, reader: &Reader<'_, impl Objects>) -> Result<&Arc<Items>, Failure> {
        let work = self.work.as_ref().map_err(Clone::clone)?;
        self.items.get_or_try_init(|| reader.read(work, self.inline.as_ref())).await
    }
}

/// Bytes that were read and that no item uses yet.
#[derive(Debug)]
struct Ahead {
    total: Rc<Cell<usize>>,
    bytes: usize,
}

impl Ahead {
    fn new(total: &Rc<Cell<usize>>, bytes: usize) -> Self {
        total.set(total.get() + bytes);
        Self { total: total.clone(), bytes }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes);
    }
}

/// Reads inputs, and keeps those that more than one range reads.
#[derive(Debug)]
pub(super) struct Reader<'r, O> {
    pub(super) objects: &'r O,
    cache: Cache,
    /// Bytes of inputs that were read ahead and not begun.
    pub(super) ahead_bytes: Rc<Cell<usize>>,
}

impl<'r, O: Objects> Reader<'r, O> {
    /// Reads from a bucket, and keeps at most so many bytes.
    pub(super) fn new(objects: &'r O, kept_max: usize) -> Self {
        let cache = Cache { kept_max, kept: RefCell::default() };
        Self { objects, cache, ahead_bytes: Rc::default() }
    }

    async fn read(&self, work: &Work, inline: Option<&Contents>) -> Result<Arc<Items>, Failure> {
        let (input, market) = tokio::try_join!(self.input(work, inline), self.market(work))?;
        let single = Pack { format: Format::Whole, items: 1, items_per_range: 1, rows_per_item: 1 };
        let (pack, range) = (work.pack.clone().unwrap_or(single), work.range().unwrap_or(0..1));
        let name = work.identity.object.clone();
        let is_small = input.bytes.len() <= SMALL_BYTES;
        let cut = move || Arc::new(Items::cut(pack, range, &input, name, market, false));
        if is_small {
            return Ok(cut());
        }
        Ok(tokio::task::spawn_blocking(cut).await.context("cut the input into items")?)
    }

    async fn input(&self, work: &Work, inline: Option<&Contents>) -> Result<Contents, Failure> {
        if let Some(contents) = inline {
            return Ok(contents.clone());
        }
        let contract::Identity { bucket, object, generation, .. } = &work.identity;
        let read = async || {
            let read = self.objects.read(bucket, object, Some(*generation)).await?;
            read.ok_or_else(|| input::missing(&work.identity))
        };
        if work.pack.is_none() {
            return read().await;
        }
        self.cache.get((object.clone(), Some(*generation)), read).await
    }

    /// The market data that the built-in kernel needs.
    async fn market(&self, work: &Work) -> Result<Option<bytes::Bytes>, Failure> {
        match compute::market(work.common.iter().map(String::as_str))? {
            Some(name) => Ok(Some(self.common(work, name).await?.bytes)),
            None => Ok(None),
        }
    }

    async fn common(&self, work: &Work, name: &str) -> Result<Contents, Failure> {
        let object = contract::object::common(&work.business, &work.session, name);
        self.cache.get((object, None), || input::read_common(work, self.objects, name)).await
    }
}

/// Name of an object, and its generation unless it is the live one.
type Key = (String, Option<i64>);

/// Objects that were read, those that were used last at the end.
#[derive(Debug)]
struct Cache {
    kept_max: usize,
    kept: RefCell<VecDeque<(Key, Rc<OnceCell<Contents>>)>>,
}

impl Cache {
    /// An object; those who need it at the same time share one read.
    async fn get<F>(&self, key: Key, read: impl FnOnce() -> F) -> Result<Contents, Failure>
    where
        F: Future<Output = Result<Contents, Failure>>,
    {
        let cell = self.cell(key);
        let contents = cell.get_or_try_init(read).await?.clone();
        self.evict();
        Ok(contents)
    }

    fn cell(&self, key: Key) -> Rc<OnceCell<Contents>> {
        let mut kept = self.kept.borrow_mut();
        let found = kept.iter().position(|(other, _)| *other == key).and_then(|position| kept.remove(position));
        let entry = found.unwrap_or_else(|| (key, Rc::default()));
        let cell = entry.1.clone();
        kept.push_back(entry);
        cell
    }

    /// Drops the objects that were used longest ago, and those whose read failed.
    fn evict(&self) {
        let mut kept = self.kept.borrow_mut();
        let size = |cell: &OnceCell<Contents>| cell.get().map_or(0, |contents| contents.bytes.len());
        kept.retain(|(_, cell)| cell.initialized() || Rc::strong_count(cell) > 1);
        let mut bytes: usize = kept.iter().map(|(_, cell)| size(cell)).sum();
        while bytes > self.kept_max
            && let Some((_, cell)) = kept.pop_front()
        {
            bytes -= size(&cell);
        }
    }
}
