//! Packs in progress: their layouts, which alone define their ranges, which ranges have ended, and the deletion of the
//! input after the last success.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use cloud::storage::{Object, Properties, Written};
use contract::{
    Identity, Outcome, labels,
    message::Work,
    object::{self, OutcomeName},
    outcome::State,
    pack::{Format, Layout, Pack, Starts},
};
use futures::TryStreamExt as _;
use tokio::time::Instant;

use crate::{base::Base, hooks::Step};

/// Layouts that are kept in memory, and all the starts of their ranges.
const LAYOUTS_MAX: usize = 1000;
const STARTS_MAX: usize = 1_000_000;
/// Size in bytes from which on a range reads its part of the input only: engines of a pool keep smaller ones.
const PARTS_FROM: i64 = 32 * 1024 * 1024;
/// Least time between two listings of the outcomes of a pack of which some are missing, and more for each of those.
const LIST_INTERVAL: Duration = Duration::from_secs(5);
const LIST_INTERVAL_PER_RANGE: Duration = Duration::from_millis(10);

/// A pack: the name of its object, and its generation.
type Key = (String, i64);

/// The layouts that were read last, and the packs in progress.
#[derive(Debug, Default)]
pub(crate) struct Packs {
    layouts: Mutex<Layouts>,
    progress: Mutex<HashMap<Key, Progress>>,
}

#[derive(Debug, Default)]
struct Layouts {
    packs: HashMap<Key, Arc<Layout>>,
    oldest_first: VecDeque<Key>,
    starts: usize,
}

impl Layouts {
    fn keep(&mut self, key: Key, layout: Arc<Layout>) {
        self.starts += layout.starts.len();
        match self.packs.insert(key.clone(), layout) {
            Some(before) => self.starts -= before.starts.len(),
            None => self.oldest_first.push_back(key),
        }
        while self.oldest_first.len() > LAYOUTS_MAX || (self.starts > STARTS_MAX && self.oldest_first.len() > 1) {
            let Some(oldest) = self.oldest_first.pop_front().and_then(|oldest| self.packs.remove(&oldest)) else {
                return;
            };
            self.starts -= oldest.starts.len();
        }
    }
}

/// A pack of which this process settled or published ranges.
#[derive(Clone, Debug)]
struct Progress {
    /// The whole pack.
    work: Work,
    /// Ranges that have no outcome, as far as this process knows; other processes settle ranges too.
    missing: usize,
    /// From when the outcomes may be listed before none is missing.
    next_list: Instant,
    /// Ranges that this process settled, and how many of them when the last listing began.
    settled: u64,
    listed: u64,
}

impl Progress {
    fn new(work: &Work, missing: usize, now: Instant) -> Self {
        let work = Work { identity: Identity { first: None, ..work.identity.clone() }, ..work.clone() };
        let mut progress = Self { work, missing, next_list: now, settled: 0, listed: 0 };
        progress.set_missing(missing, now);
        progress
    }

    /// Sets how many ranges have no outcome. The more they are, the more a listing costs.
    fn set_missing(&mut self, missing: usize, now: Instant) {
        let more = LIST_INTERVAL_PER_RANGE.saturating_mul(u32::try_from(missing).unwrap_or(u32::MAX));
        (self.missing, self.next_list) = (missing, now + LIST_INTERVAL + more);
    }

    /// Records that a range has its outcome; whether it is time to see if the whole pack has.
    fn record_settled(&mut self, now: Instant) -> bool {
        self.missing = self.missing.saturating_sub(1);
        self.settled += 1;
        self.missing == 0 || now >= self.next_list
    }
}

impl Packs {
    fn progress(&self) -> MutexGuard<'_, HashMap<Key, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that this many ranges of a pack are about to run.
    pub(crate) fn record_split(&self, work: &Work, ranges: usize) {
        let now = Instant::now();
        let new = || Progress::new(work, ranges, now);
        self.progress().entry(key(&work.identity)).or_insert_with(new).set_missing(ranges, now);
    }

    /// Packs of which ranges were settled, and that may be complete by what other processes did. Each is returned again
    /// after a while, until its outcomes were listed.
    pub(crate) fn due(&self, now: Instant) -> Vec<Work> {
        let mut progress = self.progress();
        let due = progress.values_mut().filter(|pack| pack.settled != pack.listed && now >= pack.next_list);
        let works = due.map(|pack| {
            pack.next_list = now + LIST_INTERVAL;
            pack.work.clone()
        });
        works.collect()
    }

    /// The layout of a pack; `None` when it has none yet.
    pub(crate) async fn layout(&self, base: &Base, work: &Work) -> anyhow::Result<Option<Arc<Layout>>> {
        let layouts = || self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&work.identity);
        if let Some(layout) = layouts().packs.get(&key) {
            return Ok(Some(layout.clone()));
        }
        let name = object::layout(&work.business, &work.session, &work.job, work.identity.generation);
        let Some((_, body)) = base.store.read(&work.identity.bucket, &name, None).await? else { return Ok(None) };
        let layout: Layout = serde_json::from_slice(&body).with_context(|| format!("parse the layout {name}"))?;
        layout.pack.check().map_err(anyhow::Error::msg).with_context(|| format!("use the layout {name}"))?;
        let layout = Arc::new(layout);
        layouts().keep(key, layout.clone());
        Ok(Some(layout))
    }

    /// Writes the layout of a pack unless it has one; returns the one it has.
    pub(crate) async fn write_layout(&self, base: &Base, work: &Work, layout: Layout) -> anyhow::Result<Arc<Layout>> {
        let pack = &layout.pack;
        let name = object::layout(&work.business, &work.session, &work.job, work.identity.generation);
        let text = serde_json::to_vec(&layout).context("encode the layout")?;
        let numbers =
            [(labels::ATTRIBUTE_ITEMS, pack.items), (labels::ATTRIBUTE_ITEMS_PER_RANGE, pack.items_per_range)];
        let metadata = numbers.map(|(key, number)| (format!("{}{key}", labels::METADATA_PREFIX), number.to_string()));
        let properties = Properties { metadata: metadata.into(), ..Properties::json() };
        match base.store.write_once(&work.identity.bucket, &name, text, properties).await? {
            Written::New(_) => Ok(Arc::new(layout)),
            Written::Exists => {
                self.layout(base, work).await?.with_context(|| format!("read {name}, which existed a moment ago"))
            }
        }
    }

    /// Deletes the input of a pack when this range was its last one without a success.
    pub(crate) async fn settle_range(&self, base: &Base, work: &Work) -> anyhow::Result<()> {
        let is_due = match self.progress().get_mut(&key(&work.identity)) {
            Some(progress) => progress.record_settled(Instant::now()),
            // Another process published the range.
            None => true,
        };
        if is_due { self.finish(base, work).await } else { Ok(()) }
    }

    /// The ranges of a pack that this process settled.
    fn settled(&self, work: &Work) -> u64 {
        self.progress().get(&key(&work.identity)).map_or(0, |progress| progress.settled)
    }

    /// Records what a listing found that began when this process had settled so many ranges. It may have missed those
    /// that were settled since.
    fn record_listed(&self, work: &Work, missing: usize, settled: u64, now: Instant) {
        let mut progress = self.progress();
        let pack = progress.entry(key(&work.identity)).or_insert_with(|| Progress::new(work, missing, now));
        pack.set_missing(missing, now);
        pack.listed = settled;
    }

    /// Lists the outcomes of a pack, and deletes its input when every range has succeeded.
    pub(crate) async fn finish(&self, base: &Base, work: &Work) -> anyhow::Result<()> {
        let Some(layout) = self.layout(base, work).await? else { return Ok(()) };
        let pack = &layout.pack;
        let settled = self.settled(work);
        let ended = Ended::list(base, work).await?;
        let missing = pack.ranges().filter(|first| !ended.ranges.contains_key(first)).count();
        if missing > 0 {
            self.record_listed(work, missing, settled, Instant::now());
            return Ok(());
        }
        self.progress().remove(&key(&work.identity));
        if ended.has_succeeded(pack) {
            delete_input(base, work).await?;
        }
        Ok(())
    }
}

/// The layout of a pack whose object has so many bytes. Lines of a large one are read once, so that each range reads
/// its part and not the whole.
///
/// # Errors
/// When the object cannot be read.
pub(crate) async fn new_layout(base: &Base, work: &Work, pack: Pack, size: i64) -> anyhow::Result<Layout> {
    let Identity { bucket, object, generation, .. } = &work.identity;
    let mut starts = Starts::new(&pack);
    if pack.format == Format::Lines
        && pack.ranges().len() > 1
        && size >= PARTS_FROM
        && let Some(mut contents) = base.store.open_generation(bucket, object, Some(*generation)).await?
    {
        while let Some(bytes) = contents.next().await.transpose()? {
            starts.push(&bytes);
        }
        let starts = starts.finish();
        return Ok(Layout { starts, pack });
    }
    Ok(Layout { pack, starts: Vec::new() })
}

/// Deletes the input of a pack whose ranges have all succeeded.
pub(crate) async fn delete_input(base: &Base, work: &Work) -> anyhow::Result<()> {
    let Identity { bucket, object, generation, .. } = &work.identity;
    base.store.delete(bucket, object, *generation).await?;
    base.hooks.reached(Step::InputDeleted, None, Some(&work.identity)).await;
    Ok(())
}

fn key(identity: &Identity) -> Key {
    (identity.object.clone(), identity.generation)
}

/// An outcome of a whole input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) attempt: u32,
    pub(crate) generation: i64,
    pub(crate) succeeded: bool,
}

/// The outcomes of one generation of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The latest outcome of the whole input.
    pub(crate) whole: Option<Whole>,
    /// The latest attempt of each range, by its first item, and whether all its items succeeded.
    pub(crate) ranges: BTreeMap<u32, (u32, bool)>,
}

impl Ended {
    /// Lists them. A message's own payload has one input: of such, the outcomes of every generation, since a replica
    /// that writes it once more may die before it sees the outcome.
    pub(crate) async fn list(base: &Base, work: &Work) -> anyhow::Result<Self> {
        let prefix = match work.session == object::INLINE_SESSION {
            true => format!("{}{}/", object::outcome_prefix(&work.business, Some(&work.session)), work.job),
            false => object::outcome_prefix_of(&work.business, &work.session, &work.job, work.identity.generation),
        };
        let mut ended = Self::default();
        let mut listed = base.store.list_stream(&work.identity.bucket, &prefix);
        while let Some(found) = listed.try_next().await? {
            ended.add(work, &found);
        }
        Ok(ended)
    }

    fn add(&mut self, work: &Work, found: &Object) {
        let succeeded = found.metadata.get(labels::METADATA_STATE).is_some_and(|s| s == State::Succeeded.as_str());
        let Some(name) = object::parse_outcome(&work.business, &found.name).filter(|name| name.job == work.job) else {
            return;
        };
        let OutcomeName { generation, first, attempt, .. } = name;
        match first {
            None if self.whole.is_none_or(|latest| latest.attempt <= attempt) => {
                self.whole = Some(Whole { attempt, generation, succeeded });
            }
            None => {}
            Some(first) => {
                let latest = self.ranges.entry(first).or_insert((attempt, succeeded));
                if latest.0 <= attempt {
                    *latest = (attempt, succeeded);
                }
            }
        }
    }

    /// Whether every range succeeded.
    pub(crate) fn has_succeeded(&self, pack: &Pack) -> bool {
        pack.ranges().all(|first| self.ranges.get(&first).is_some_and(|(_, succeeded)| *succeeded))
    }

    /// The ranges that have work left when this attempt at the pack is requested: first item and attempt. A range
    /// without an outcome may be in progress, so its first attempt counts.
    pub(crate) fn remaining(&self, pack: &Pack, attempt: u32) -> Vec<(u32, u32)> {
        let next = |first: u32| match self.ranges.get(&first) {
            None => Some((first, 0)),
            Some((_, true)) => None,
            Some((latest, false)) => (*latest < attempt).then_some((first, attempt)),
        };
        pack.ranges().filter_map(next).collect()
    }
}

/// The outcome of the latest attempt before this one that has a readable one.
pub(crate) async fn previous(base: &Base, work: &Work) -> anyhow::Result<Option<Outcome>> {
    let mut identity = work.identity.clone();
    while identity.attempt > 0 {
        identity.attempt -= 1;
        let name = object::outcome(&work.business, &work.session, &work.job, &identity);
        if let Some(Ok(outcome)) = cloud::outcomes::read(&base.store, &identity.bucket, &name).await? {
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: Pack = Pack { format: Format::Lines, items: 25, items_per_range: 10, rows_per_item: 1 };

    fn ended(names: &[(&str, &str)]) -> Ended {
        let mut ended = Ended::default();
        for (run, state) in names {
            let metadata = BTreeMap::from([(labels::METADATA_STATE.to_owned(), (*state).to_owned())]);
            let name = format!("bu1/outcome/s/j/7-{run}.json");
            let (generation, size, content_type) = (1, 1, String::new());
            ended.add(
                &contract::testing::work("bu1", "s", "j"),
                &Object { name, generation, size, created: None, content_type, metadata },
            );
        }
        ended
    }

    #[test]
    fn a_split_names_the_ranges_that_have_work_left() {
        let check = |names: &[(&str, &str)], attempt, expected: &[(u32, u32)]| {
            assert_eq!(ended(names).remaining(&PACK, attempt), expected, "{names:?}");
        };
        let all = [(0, 0), (10, 0), (20, 0)];
        check(&[], 0, &all);
        check(&[("layout", ""), ("10-0", "succeeded")], 0, &[(0, 0), (20, 0)]);
        let two = [("0-0", "failed"), ("10-0", "succeeded"), ("20-0", "cancelled")];
        check(&two, 0, &[]);
        check(&two, 1, &[(0, 1), (20, 1)]);
        check(&[("0-0", "failed"), ("0-1", "succeeded"), ("10-0", "succeeded")], 2, &[(20, 0)]);
        // The order of a listing is that of names, not of numbers.
        let tens: Vec<String> = (0..11).map(|attempt| format!("0-{attempt}")).collect();
        let mut tens: Vec<(&str, &str)> = tens.iter().map(|run| (run.as_str(), "failed")).collect();
        tens.sort_unstable();
        check(&tens, 10, &[(10, 0), (20, 0)]);
        check(&tens, 11, &[(0, 11), (10, 0), (20, 0)]);
    }

    #[test]
    fn a_pack_has_succeeded_when_the_latest_attempt_of_every_range_has() {
        let mut names = vec![("0-0", "failed"), ("0-1", "succeeded"), ("10-0", "succeeded")];
        assert!(!ended(&names).has_succeeded(&PACK));
        names.push(("20-0", "succeeded"));
        assert!(ended(&names).has_succeeded(&PACK));
        names.push(("20-1", "failed"));
        assert!(!ended(&names).has_succeeded(&PACK));
        let whole = ended(&[("0", "refused"), ("2", "cancelled"), ("layout", "")]);
        assert_eq!(whole.whole, Some(Whole { attempt: 2, generation: 7, succeeded: false }));
    }

    #[test]
    fn outcomes_are_listed_once_at_the_end_and_else_rarely() {
        let start = Instant::now();
        let range = Work { pack: Some(PACK), ..contract::testing::work("bu1", "s", "j") }.of_range(10);
        let mut progress = Progress::new(&range, 3, start);
        assert_eq!(progress.work.identity.first, None);
        assert_eq!([(); 3].map(|()| progress.record_settled(start)), [false, false, true]);
        // Other processes settle some of them.
        let packs = Packs::default();
        packs.record_split(&range, 3);
        let later = Instant::now() + 2 * LIST_INTERVAL;
        assert!(packs.due(later).is_empty(), "nothing has changed");
        let is_due = packs.progress().get_mut(&key(&range.identity)).unwrap().record_settled(start);
        assert!(!is_due && packs.due(later) == [progress.work] && packs.due(later).is_empty(), "it is being listed");
        assert_eq!(packs.due(later + LIST_INTERVAL).len(), 1, "the listing failed");
        // The last range is settled while a listing runs, which no longer sees it.
        let settled = packs.settled(&range);
        packs.progress().get_mut(&key(&range.identity)).unwrap().record_settled(start);
        packs.record_listed(&range, 1, settled, start);
        assert_eq!(packs.due(later).len(), 1, "the listing missed a range");
        packs.record_listed(&range, 1, packs.settled(&range), start);
        assert!(packs.due(later).is_empty(), "nothing has changed");
    }
}
