//! The state of one session, read from the bucket: its Jobs, and the results so far.
//!
//! A client may list names and read outcomes and results. It does not know Kubernetes, so a Job without an outcome is
//! pending, whether it waits or runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cloud::storage::{Object, Store};
use contract::{config::Business, labels, object};
use futures::StreamExt as _;
use jiff::Timestamp;
use sessions::{
    Counts, Items, Progress, Rate,
    jobs::{self, Job, State},
    results,
};
use tokio::time::Instant;

use crate::watch::{Refresh, Seen};

/// Shortest time between two reads while something is pending.
const EVERY: Duration = Duration::from_secs(1);
/// Shortest time between two reads when nothing is pending.
const AT_REST: Duration = Duration::from_secs(3);
/// Longest time between two reads.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);
/// Outcomes that are read at the same time.
const READS: usize = 32;
/// Time between two views while outcomes are read.
const PUBLISH_EVERY: Duration = Duration::from_millis(400);
/// Bytes of the largest result that is read for the table; of a larger one only the size is shown.
const MAX_RESULT: usize = 4 * 1024 * 1024;
/// Rows of results that are kept for the pages; a download has all.
const MAX_ROWS: usize = 50_000;
/// Characters that are kept of the log of a Job that did not succeed.
const MAX_TAIL: usize = 2000;

/// A session, as it was last read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Session {
    /// Its Jobs, each once, in order of name.
    pub(crate) jobs: Vec<Entry>,
    /// Jobs by state.
    pub(crate) counts: Counts,
    /// Jobs that end per second, and estimated seconds left.
    pub(crate) progress: Option<Progress>,
    /// Results that were read so far, in order of the Jobs' names.
    pub(crate) results: Results,
    /// Names of the data that all its Jobs read.
    pub(crate) shared: Vec<String>,
    /// An operator paused or cancelled it at some time.
    pub(crate) is_controlled: bool,
    /// Outcomes that are not read yet.
    pub(crate) unread: usize,
    /// Why it could not be read; the view may be old then.
    pub(crate) error: Option<String>,
}

/// Results that were read, and how many rows of them are not kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    /// By Job.
    pub(crate) settled: Vec<Arc<Settled>>,
    /// Rows that are left out.
    pub(crate) left_out: usize,
}

impl PartialEq for Results {
    fn eq(&self, other: &Self) -> bool {
        // An outcome that was read never changes.
        self.left_out == other.left_out
            && self.settled.len() == other.settled.len()
            && self.settled.iter().zip(&other.settled).all(|(one, another)| Arc::ptr_eq(one, another))
    }
}

/// One Job of a session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Job id.
    pub(crate) job: String,
    /// Its state; `Waiting` stands for every Job without an outcome.
    pub(crate) state: State,
    /// Attempt.
    pub(crate) attempt: u32,
    /// Who submitted it, while its input exists; empty when that is not known.
    pub(crate) client: Option<String>,
    /// When it last changed.
    pub(crate) changed: Option<Timestamp>,
    /// Its items by state, of a pack.
    pub(crate) items: Option<Items>,
    /// Reason code, when it has an outcome.
    pub(crate) code: String,
    /// Its outcome, once that is read.
    pub(crate) settled: Option<Arc<Settled>>,
}

/// The parts of an outcome that pages show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settled {
    /// The outcome's object.
    pub(crate) outcome: String,
    /// Message of its reason.
    pub(crate) message: String,
    /// Seconds from published to its start.
    pub(crate) waited: Option<f64>,
    /// Seconds that it was computed.
    pub(crate) ran: Option<f64>,
    /// End of the log, when it did not succeed.
    pub(crate) tail: String,
    /// Its results.
    pub(crate) rows: Vec<results::Row>,
    /// It has a result object, for a download as it is.
    pub(crate) has_output: bool,
    /// Rows that were read and are not kept.
    pub(crate) left_out: usize,
}

/// The client of a Job, as the metadata of its input says.
pub(crate) fn client_of(input: &Object) -> Option<&str> {
    let key = format!("{}{}", labels::METADATA_PREFIX, labels::ATTRIBUTE_CLIENT);
    input.metadata.get(&key).map(String::as_str)
}

/// Whether a person may cancel Jobs in this state.
pub(crate) fn is_pending(state: State) -> bool {
    matches!(state, State::Waiting | State::Running)
}

/// What was read.
#[derive(Debug, Default)]
struct Read {
    /// By the name of the outcome.
    outcomes: BTreeMap<String, Arc<Settled>>,
    /// Who submitted each Job whose input exists.
    clients: BTreeMap<String, String>,
    /// Of each pack, the ranges as one.
    packs: BTreeMap<String, Merged>,
}

/// The names of outcomes, whether they are all there will be, and their contents as one.
type Merged = (Vec<String>, bool, Arc<Settled>);

/// Reads one session.
#[derive(Debug)]
pub(crate) struct Refresher {
    seen: Arc<Seen<Session>>,
    store: Store,
    business: Business,
    session: String,
    read: Read,
    rows: usize,
    rate: Rate,
}

impl Refresher {
    /// For a session of a business.
    pub(crate) fn new(seen: Arc<Seen<Session>>, store: Store, business: Business, session: String) -> Self {
        Self { seen, store, business, session, read: Read::default(), rows: 0, rate: Rate::default() }
    }

    async fn try_refresh(&mut self) -> anyhow::Result<Duration> {
        let since = Instant::now();
        let (bucket, name) = (&self.business.bucket, &self.business.name);
        let (control, shared) = (object::control(name, &self.session), object::common_prefix(name, &self.session));
        let (objects, control, shared) = tokio::try_join!(
            jobs::list(&self.store, &self.business, Some(&self.session)),
            self.store.listed(bucket, &control),
            self.store.list(bucket, &shared)
        )?;
        let elapsed = since.elapsed();
        let mut jobs = sessions::latest(jobs::merge(name, Some(&self.session), &objects, &[]));
        jobs.sort_by(|one, another| one.job.cmp(&another.job));
        let shared: Vec<String> = shared.into_iter().filter_map(|object| name_of(&object.name)).collect();
        let named: BTreeSet<String> = jobs.iter().flat_map(|job| job.outcomes.iter().cloned()).collect();
        self.read.packs.retain(|name, _| jobs.iter().any(|job| job.job == *name));
        self.read.outcomes.retain(|outcome, _| named.contains(outcome));
        self.rows = self.read.outcomes.values().map(|settled| settled.rows.len()).sum();
        let client = |input: &Object| {
            let job = object::parse_input(name, &input.name).ok()?.1;
            Some((job, client_of(input).unwrap_or_default().to_owned()))
        };
        self.read.clients = objects.inputs.iter().filter_map(client).collect();
        let counts = Counts::of(&jobs);
        let progress = self.rate.add(std::time::Instant::now(), counts, false);
        let mut view = Session {
            counts,
            progress: (counts.pending() > 0).then_some(progress),
            shared,
            is_controlled: control.is_some(),
            ..Session::default()
        };
        let unread: Vec<String> =
            named.into_iter().filter(|outcome| !self.read.outcomes.contains_key(outcome)).collect();
        self.read_all(unread, &jobs, &mut view).await?;
        let least = if counts.pending() > 0 { EVERY } else { AT_REST };
        Ok((elapsed * 4).clamp(least, AT_LEAST_EVERY))
    }

    /// Reads new outcomes, and publishes a view from time to time.
    async fn read_all(&mut self, unread: Vec<String>, jobs: &[Job], view: &mut Session) -> anyhow::Result<()> {
        view.unread = unread.len();
        self.publish(jobs, view);
        let (store, business) = (self.store.clone(), self.business.clone());
        let mut reads = futures::stream::iter(unread)
            .map(|outcome| {
                let (store, business) = (store.clone(), business.clone());
                async move { read(&store, &business, outcome).await }
            })
            .buffered(READS);
        let mut published = Instant::now();
        while let Some(settled) = reads.next().await {
            view.unread -= 1;
            // One whose retention ended meanwhile has no view.
            let Some(mut settled) = settled? else { continue };
            if self.rows + settled.rows.len() > MAX_ROWS {
                settled.left_out = settled.rows.len();
                settled.rows = Vec::new();
            }
            self.rows += settled.rows.len();
            self.read.outcomes.insert(settled.outcome.clone(), Arc::new(settled));
            if published.elapsed() >= PUBLISH_EVERY || view.unread == 0 {
                self.publish(jobs, view);
                published = Instant::now();
            }
        }
        Ok(())
    }

    fn publish(&mut self, jobs: &[Job], view: &mut Session) {
        view.jobs = jobs.iter().map(|job| self.entry(job)).collect();
        let settled: Vec<Arc<Settled>> = view.jobs.iter().filter_map(|entry| entry.settled.clone()).collect();
        view.results = Results { left_out: settled.iter().map(|settled| settled.left_out).sum(), settled };
        self.seen.set(view.clone());
    }

    fn entry(&mut self, job: &Job) -> Entry {
        Entry {
            job: job.job.clone(),
            state: job.state.unwrap_or(State::Failed),
            attempt: job.attempt,
            client: self.read.clients.get(&job.job).cloned(),
            changed: job.changed,
            items: job.items,
            code: job.reason.as_ref().map(|reason| reason.code.clone()).unwrap_or_default(),
            settled: self.read.settled(job),
        }
    }
}

impl Read {
    /// What was read of a Job. It stays the same object until more is read.
    fn settled(&mut self, job: &Job) -> Option<Arc<Settled>> {
        if job.items.is_none() {
            return job.outcome.as_ref().and_then(|outcome| self.outcomes.get(outcome)).cloned();
        }
        let ended = job.outcome.is_some();
        let ranges = || job.outcomes.iter().filter_map(|name| self.outcomes.get_key_value(name));
        let before = self.packs.get(&job.job);
        if let Some((names, was_ended, settled)) = before
            && *was_ended == ended
            && names.iter().eq(ranges().map(|(name, _)| name))
        {
            return Some(settled.clone());
        }
        let names: Vec<String> = ranges().map(|(name, _)| name.clone()).collect();
        let telling = job.outcome.as_ref().and_then(|outcome| self.outcomes.get(outcome));
        let mut rows = results::join(ranges().map(|(_, range)| range.rows.clone()).collect());
        // A sum of some of the items only says nothing.
        rows.retain(|row| ended || row.row != results::PORTFOLIO);
        let settled = Arc::new(Settled {
            outcome: job.outcome.clone().unwrap_or_default(),
            message: telling.map(|telling| telling.message.clone()).unwrap_or_default(),
            waited: None,
            ran: None,
            tail: telling.map(|telling| telling.tail.clone()).unwrap_or_default(),
            rows,
            has_output: false,
            left_out: ranges().map(|(_, range)| range.left_out).sum(),
        });
        self.packs.insert(job.job.clone(), (names, ended, settled.clone()));
        Some(settled)
    }
}

impl Refresh for Refresher {
    async fn refresh(&mut self) -> Duration {
        match self.try_refresh().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(
                    business = self.business.name,
                    session = self.session,
                    "failed to read the session: {error:#}"
                );
                let shown = Some("Cloud Storage does not answer; the page may show old values".to_owned());
                self.seen.set(Session { error: shown, ..(*self.seen.peek()).clone() });
                AT_REST
            }
        }
    }
}

fn name_of(object: &str) -> Option<String> {
    object.splitn(4, '/').nth(3).map(str::to_owned)
}

/// Seconds between two times that are known.
fn between(begin: Option<Timestamp>, end: Option<Timestamp>) -> Option<f64> {
    Some(end?.duration_since(begin?).as_secs_f64().max(0.0))
}

/// Reads an outcome and its results; `None` when it was deleted.
async fn read(store: &Store, business: &Business, name: String) -> anyhow::Result<Option<Settled>> {
    // An object that is not an outcome is shown as a failure, and the others are still shown.
    let Some(outcome) = cloud::outcomes::read_or_replace(store, &business.bucket, &name).await? else {
        return Ok(None);
    };
    let times = &outcome.timestamps;
    let succeeded = outcome.state == contract::outcome::State::Succeeded;
    let of_items = outcome.items.iter().find_map(|item| item.log_tail.as_deref());
    let tail = of_items.or(outcome.log_tail.as_deref()).filter(|_| !succeeded).unwrap_or_default();
    let skip = tail.chars().count().saturating_sub(MAX_TAIL);
    Ok(Some(Settled {
        message: outcome.reason.message.clone(),
        waited: between(times.published, times.started.or(times.settled)),
        ran: between(times.started, times.finished),
        tail: tail.chars().skip(skip).collect(),
        rows: results::of(store, business, &outcome, &name, MAX_RESULT).await?,
        has_output: succeeded && outcome.work.as_ref().is_some_and(|work| work.pack.is_none()),
        left_out: 0,
        outcome: name,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, pairs: &[(&str, &str)]) -> Object {
        Object {
            name: name.to_owned(),
            generation: 5,
            size: 1,
            created: None,
            content_type: String::new(),
            metadata: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    /// A pack of four items in two ranges, of which so many have ended.
    fn pack(ended: usize) -> Job {
        let mut outcomes = vec![object("bu1/outcome/s/p/5-layout.json", &[("deskgrid-items", "4")])];
        let ranges = [
            ("0", "succeeded=2,failed=0,cancelled=0", "succeeded"),
            ("2", "succeeded=1,failed=1,cancelled=0", "failed"),
        ];
        outcomes.extend(ranges.iter().take(ended).map(|(first, items, state)| {
            let pairs = [("deskgrid-state", *state), ("deskgrid-items-ended", *items)];
            object(&format!("bu1/outcome/s/p/5-{first}-0.json"), &pairs)
        }));
        let objects = jobs::Objects { outcomes, ..jobs::Objects::default() };
        jobs::merge("bu1", None, &objects, &[]).remove(0)
    }

    fn sum(value: f64) -> results::Row {
        results::Row {
            session: "s".into(),
            job: "p".into(),
            row: results::PORTFOLIO.into(),
            measure: "value".into(),
            value: Some(json!(value)),
            standard_error: None,
            error: None,
        }
    }

    #[test]
    fn the_ranges_of_a_pack_are_shown_as_one_job() {
        let mut read = Read::default();
        for (first, value, message) in [("0", 1.0, ""), ("2", 2.0, "1 of 2 items failed")] {
            let outcome = format!("bu1/outcome/s/p/5-{first}-0.json");
            let settled = Settled {
                outcome: outcome.clone(),
                message: message.into(),
                rows: vec![sum(value)],
                ..Settled::default()
            };
            read.outcomes.insert(outcome, Arc::new(settled));
        }
        assert!(read.settled(&pack(1)).unwrap().rows.is_empty(), "the sum of a part is none");
        let settled = read.settled(&pack(2)).unwrap();
        assert_eq!((settled.message.as_str(), settled.has_output), ("1 of 2 items failed", false));
        assert_eq!(settled.rows.iter().map(|row| row.value.clone().unwrap()).collect::<Vec<_>>(), [json!(3.0)]);
        assert!(Arc::ptr_eq(&settled, &read.settled(&pack(2)).unwrap()), "nothing new is no change");
    }
}
