//! What items read: the inputs of ranges, each read and cut once, and objects that many ranges read.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    path::Path,
    rc::Rc,
    sync::Arc,
};

use anyhow::Context as _;
use contract::{
    message::Work,
    pack::{Format, Pack},
};
use futures::future::try_join_all;
use pool::{RangeName, worker::Held};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    compute,
    config::{PoolSettings, check_work},
    failure::Failure,
    input,
    range::{common_folder, items::Items},
    store::{self, Contents, Objects},
};

/// A smaller input is cut into items without a thread of its own.
const SMALL_BYTES: usize = 256 * 1024;
/// Limit of the number of folders of common data that no range needs.
const FOLDERS_MAX: usize = 8;

/// A range, or a single input as a range of one item.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) name: RangeName,
    /// The work, or why it cannot be computed.
    pub(super) work: Result<Work, Failure>,
    /// Number of its items.
    pub(super) len: usize,
    inline: Option<Contents>,
    loaded: OnceCell<Loaded>,
    /// Its share of the bytes that were read ahead, until an item begins.
    ahead: RefCell<Option<Ahead>>,
    has_begun: Cell<bool>,
}

impl Range {
    /// A range as an orchestrator sent it.
    pub(super) fn new(settings: &PoolSettings, name: RangeName, held: &Held) -> Self {
        let work = serde_json::from_slice::<Work>(&held.work).context("parse the work").and_then(|work| {
            check_work(&settings.config, &work)?;
            Ok(work)
        });
        let work = work.map_err(|error| Failure::permanent("configuration", format!("failed to {error:#}")));
        let len = work.as_ref().ok().and_then(Work::range).map_or(1, |range| range.len());
        let contents = |bytes| Contents { bytes, content_type: held.content_type.clone() };
        let inline = held.input.clone().map(contents);
        Self {
            name,
            work,
            len,
            inline,
            loaded: OnceCell::new(),
            ahead: RefCell::default(),
            has_begun: Cell::new(false),
        }
    }

    /// Whether its input is still to be read.
    pub(super) fn is_unread(&self) -> bool {
        self.work.is_ok() && self.inline.is_none() && !self.loaded.initialized()
    }

    /// Reads the input before an item needs it. A failure is found again by the item.
    pub(super) async fn read_ahead(&self, reader: &Reader<'_, impl Objects>) {
        // What ranges share is bounded where it is kept.
        if let Ok(Loaded { items, .. }) = self.load(reader).await
            && self.work.as_ref().is_ok_and(|work| work.pack.is_none() || work.span.is_some())
            && !self.has_begun.get()
        {
            self.ahead.replace(Some(Ahead::new(&reader.ahead_bytes, items.size())));
        }
    }

    /// An item begins: the input is not ahead any more.
    pub(super) fn begin(&self) {
        self.has_begun.set(true);
        self.ahead.take();
    }

    /// The name of an item's file, in a pack of files that was read.
    pub(super) fn file(&self, index: u32) -> Option<&str> {
        self.loaded.get()?.items.position(index).name
    }

    /// The items, read and cut once.
    ///
    /// # Errors
    /// When the input or the common data cannot be read. The next caller tries again.
    pub(super) async fn load(&self, reader: &Reader<'_, impl Objects>) -> Result<&Loaded, Failure> {
        let work = self.work.as_ref().map_err(Clone::clone)?;
        self.loaded.get_or_try_init(|| reader.read(work, self.inline.as_ref())).await
    }
}

/// What was read for a range.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) items: Arc<Items>,
    /// Folder of the common data, for a program.
    pub(super) folder: Option<Rc<TempDir>>,
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
    /// Limit of the bytes of objects that are kept, and of those of packs.
    kept_max: usize,
    /// Objects by name, and generation unless it is the live one.
    kept: Kept<(String, Option<i64>), Contents>,
    /// Packs by name, generation and common data.
    packs: Kept<(String, i64, Vec<String>), Arc<Items>>,
    /// Where to put common data for a program.
    work_dir: Option<&'r Path>,
    /// Folders of common data, by session and names.
    folders: Kept<(String, Vec<String>), Rc<TempDir>>,
    /// Bytes of inputs that were read ahead and not begun.
    pub(super) ahead_bytes: Rc<Cell<usize>>,
}

impl<'r, O: Objects> Reader<'r, O> {
    /// Reads from a bucket, and keeps at most so many bytes. With a work folder, items are for a program.
    pub(super) fn new(objects: &'r O, kept_max: usize, work_dir: Option<&'r Path>) -> Self {
        let (kept, packs, folders) = (Kept::default(), Kept::default(), Kept::default());
        Self { objects, kept_max, kept, packs, work_dir, folders, ahead_bytes: Rc::default() }
    }

    async fn read(&self, work: &Work, inline: Option<&Contents>) -> Result<Loaded, Failure> {
        let items = async {
            match &work.pack {
                // A table is cut into the items of one range at a time, because its rows are read.
                Some(pack) if pack.format != Format::Table && inline.is_none() && work.span.is_none() => {
                    let contract::Identity { object, generation, .. } = &work.identity;
                    let cell = self.packs.cell((object.clone(), *generation, work.common.clone()));
                    let items = cell.get_or_try_init(|| self.cut(work, None, pack.clone(), 0..pack.items)).await?;
                    self.packs.shrink(self.kept_max, |items| items.size());
                    Ok(items.clone())
                }
                Some(pack) => self.cut(work, inline, pack.clone(), work.range().unwrap_or_default()).await,
                None => {
                    let pack = Pack { format: Format::Whole, items: 1, items_per_range: 1, rows_per_item: 1 };
                    self.cut(work, inline, pack, 0..1).await
                }
            }
        };
        let (items, folder) = tokio::try_join!(items, self.folder(work))?;
        Ok(Loaded { items, folder })
    }

    async fn cut(
        &self,
        work: &Work,
        inline: Option<&Contents>,
        pack: Pack,
        range: std::ops::Range<u32>,
    ) -> Result<Arc<Items>, Failure> {
        let (input, market) = tokio::try_join!(self.input(work, inline), self.market(work))?;
        let (name, is_program) = (work.identity.object.clone(), self.work_dir.is_some());
        let is_small = input.bytes.len() <= SMALL_BYTES;
        let is_part = work.span.is_some();
        let cut = move || Arc::new(Items::cut(pack, range, &input, is_part, name, market, is_program));
        if is_small {
            return Ok(cut());
        }
        Ok(tokio::task::spawn_blocking(cut).await.context("cut the input into items")?)
    }

    async fn input(&self, work: &Work, inline: Option<&Contents>) -> Result<Contents, Failure> {
        if let Some(contents) = inline {
            return Ok(contents.clone());
        }
        let contract::Identity { object, generation, .. } = &work.identity;
        let read = async || {
            let read = store::read_input(self.objects, work).await?;
            read.ok_or_else(|| input::missing(&work.identity))
        };
        if work.pack.as_ref().is_some_and(|pack| pack.format == Format::Table) {
            return self.object((object.clone(), Some(*generation)), read).await;
        }
        read().await
    }

    /// The market data that the built-in kernel needs.
    async fn market(&self, work: &Work) -> Result<Option<bytes::Bytes>, Failure> {
        let None = self.work_dir else { return Ok(None) };
        let Some(name) = compute::market(work.common.iter().map(String::as_str))? else { return Ok(None) };
        let object = contract::object::common(&work.business, &work.session, name);
        let contents = self.object((object, None), || input::read_common(work, self.objects, name)).await?;
        Ok(Some(contents.bytes))
    }

    /// An object that is kept; those who need it at the same time share one read.
    async fn object<F>(&self, key: (String, Option<i64>), read: impl FnOnce() -> F) -> Result<Contents, Failure>
    where
        F: Future<Output = Result<Contents, Failure>>,
    {
        let contents = self.kept.cell(key).get_or_try_init(read).await?.clone();
        self.kept.shrink(self.kept_max, |contents| contents.bytes.len());
        Ok(contents)
    }

    /// The folder with the common data of work, when a program computes it; it is written once for all ranges of a
    /// session that need the same.
    async fn folder(&self, work: &Work) -> Result<Option<Rc<TempDir>>, Failure> {
        let Some(work_dir) = self.work_dir else { return Ok(None) };
        let session = if work.common.is_empty() { "" } else { &work.session };
        let cell = self.folders.cell((session.to_owned(), work.common.clone()));
        let make = async || {
            let read = work.common.iter().map(async |name| {
                Ok::<_, Failure>((name.clone(), input::read_common(work, self.objects, name).await?.bytes))
            });
            Ok::<_, Failure>(Rc::new(common_folder(work_dir, &try_join_all(read).await?)?))
        };
        let folder = cell.get_or_try_init(make).await?.clone();
        self.folders.shrink(FOLDERS_MAX, |_| 1);
        Ok(Some(folder))
    }
}

/// Values that are made once and kept, those that were used last at the end.
#[derive(Debug)]
struct Kept<K, V>(RefCell<VecDeque<(K, Rc<OnceCell<V>>)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: PartialEq, V> Kept<K, V> {
    fn cell(&self, key: K) -> Rc<OnceCell<V>> {
        let mut kept = self.0.borrow_mut();
        let found = kept.iter().position(|(other, _)| *other == key).and_then(|position| kept.remove(position));
        let entry = found.unwrap_or_else(|| (key, Rc::default()));
        let cell = entry.1.clone();
        kept.push_back(entry);
        cell
    }

    /// Drops the values that were used longest ago, but the last, and those that could not be made.
    fn shrink(&self, max: usize, size: impl Fn(&V) -> usize) {
        let mut kept = self.0.borrow_mut();
        kept.retain(|(_, cell)| cell.initialized() || Rc::strong_count(cell) > 1);
        let size = |cell: &OnceCell<V>| cell.get().map_or(0, &size);
        let mut all: usize = kept.iter().map(|(_, cell)| size(cell)).sum();
        while all > max
            && kept.len() > 1
            && let Some((_, cell)) = kept.pop_front()
        {
            all -= size(&cell);
        }
    }
}
