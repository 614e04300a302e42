//! Layouts of packs, which alone define their ranges.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use cloud::storage::{Properties, Written};
use contract::{
    Identity, labels,
    message::{Refusal, Work},
    object,
    pack::{Format, Layout, Pack, Starts, files},
};

use crate::{admit::error::AdmitError, base::Base};

/// Layouts that are kept in memory, and all the starts of their ranges. With more, all are read once more.
const LAYOUTS_MAX: usize = 1000;
const STARTS_MAX: usize = 1_000_000;
/// Size in bytes from which on a range reads its part of the input only: engines of a pool keep smaller ones.
const PARTS_FROM: i64 = 32 * 1024 * 1024;

/// The layouts in the bucket; those that were read last are kept.
pub(crate) struct Layouts {
    base: Arc<Base>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    /// By the name of the object, and its generation.
    layouts: HashMap<(String, i64), Arc<Layout>>,
    starts: usize,
}

impl Cache {
    fn keep(&mut self, key: (String, i64), layout: Arc<Layout>) {
        self.starts += layout.starts.len();
        if self.layouts.len() >= LAYOUTS_MAX || self.starts > STARTS_MAX {
            *self = Self { starts: layout.starts.len(), ..Self::default() };
        }
        self.layouts.insert(key, layout);
    }
}

impl Layouts {
    pub(crate) fn new(base: &Arc<Base>) -> Self {
        Self { base: base.clone(), cache: Mutex::default() }
    }

    /// The layout of a pack; `None` when it has none yet.
    pub(crate) async fn read(&self, work: &Work) -> anyhow::Result<Option<Arc<Layout>>> {
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (work.identity.object.clone(), work.identity.generation);
        if let Some(layout) = cache().layouts.get(&key) {
            return Ok(Some(layout.clone()));
        }
        let name = object::layout(&work.business, &work.session, &work.job, work.identity.generation);
        let Some((_, body)) = self.base.store.read(&work.identity.bucket, &name, None).await? else { return Ok(None) };
        let layout: Layout = serde_json::from_slice(&body).with_context(|| format!("parse the layout {name}"))?;
        layout.pack.check().map_err(anyhow::Error::msg).with_context(|| format!("use the layout {name}"))?;
        let layout = Arc::new(layout);
        cache().keep(key, layout.clone());
        Ok(Some(layout))
    }

    /// The layout of a pack whose object has so many bytes. Lines of a large one are read once, so that each range reads
    /// its part and not the whole; an archive is read whatever its size, so that a damaged one is refused.
    ///
    /// # Errors
    /// When the object cannot be read; a refusal of an archive that cannot be a pack.
    pub(super) async fn compute(&self, work: &Work, pack: Pack, size: i64) -> Result<Layout, AdmitError> {
        let Identity { bucket, object, generation, .. } = &work.identity;
        let mut layout = Layout { pack, starts: Vec::new() };
        let has_parts = layout.pack.ranges().len() > 1 && size >= PARTS_FROM;
        let is_archive = layout.pack.format == Format::Files;
        if (is_archive || (layout.pack.format == Format::Lines && has_parts))
            && let Some(mut contents) = self.base.store.open_generation(bucket, object, Some(*generation)).await?
        {
            if is_archive {
                let pack = layout.pack.clone();
                let read = move || contents.read_blocking(|archive| files::starts(&pack, archive));
                let read = tokio::task::spawn_blocking(read).await.context("read an archive")?;
                let starts = read?.map_err(|why| {
                    let (message, work) = (format!("the archive {why}"), Some(Box::new(work.clone())));
                    AdmitError::Refused(Refusal { code: "malformed-archive", message, work })
                })?;
                layout.starts = if has_parts { starts } else { Vec::new() };
                return Ok(layout);
            }
            let mut starts = Starts::new(&layout.pack);
            while let Some(bytes) = contents.next().await.transpose()? {
                starts.push(&bytes);
            }
            layout.starts = starts.finish();
        }
        Ok(layout)
    }

    /// Writes the layout of a pack unless it has one; returns the one it has.
    pub(crate) async fn write(&self, work: &Work, layout: Layout) -> anyhow::Result<Arc<Layout>> {
        let pack = &layout.pack;
        let name = object::layout(&work.business, &work.session, &work.job, work.identity.generation);
        let text = serde_json::to_vec(&layout).context("encode the layout")?;
        let numbers =
            [(labels::ATTRIBUTE_ITEMS, pack.items), (labels::ATTRIBUTE_ITEMS_PER_RANGE, pack.items_per_range)];
        let metadata = numbers.map(|(key, number)| (format!("{}{key}", labels::METADATA_PREFIX), number.to_string()));
        let properties = Properties { metadata: metadata.into(), ..Properties::json() };
        match self.base.store.write_once(&work.identity.bucket, &name, text, properties).await? {
            Written::New(_) => Ok(Arc::new(layout)),
            Written::Exists => {
                self.read(work).await?.with_context(|| format!("read {name}, which existed a moment ago"))
            }
        }
    }
}
