//! What the monitor knows, shared by everything that shows it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Outcome, config::Business, jobs::Job, storage::Store};
use futures::StreamExt as _;
use google_cloud_pubsub::client::{BasePublisher, SubscriptionAdmin, TopicAdmin};
use inspect::{Detail, Sources, gather};
use tokio::sync::{Notify, watch};
use web::{Problem, Site, Visitor};

use crate::{
    board::{Board, View},
    nodes::Nodes,
    raw::Raw,
};

/// How long somebody counts as looking after a request.
const LOOKING: Duration = Duration::from_secs(60);
/// Outcomes that are kept in memory.
const OUTCOMES: usize = 20_000;
/// Lines of log that a Job's page shows.
const LOG_LINES: i64 = 500;
/// How long what was gathered of a Job that did not change is good.
const DETAIL: Duration = Duration::from_secs(3);
/// Jobs of which what was gathered is kept.
const DETAILS: usize = 200;

/// One business that is followed.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) business: Business,
    raw: Mutex<Raw>,
    /// List the bucket at once.
    pub(crate) list_now: Notify,
    /// Outcomes were written.
    pub(crate) settled: Notify,
    /// The watch of its Jobs has shown all there are.
    pub(crate) watching: AtomicBool,
}

impl Followed {
    pub(crate) fn new(business: Business) -> Self {
        Self {
            business,
            raw: Mutex::default(),
            list_now: Notify::new(),
            settled: Notify::new(),
            watching: AtomicBool::new(false),
        }
    }

    pub(crate) fn raw(&self) -> MutexGuard<'_, Raw> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known; when the change says that it matters, everything that shows it is made anew.
    pub(crate) fn change(&self, state: &State, change: impl FnOnce(&mut Raw) -> bool) {
        let (is_news, has_settled) = {
            let mut raw = self.raw();
            (change(&mut raw), !raw.settled.is_empty())
        };
        if has_settled {
            self.settled.notify_one();
        }
        if is_news {
            state.dirty.notify_one();
        }
    }

    /// Notes that something does not answer. It is logged when it is news, and shown.
    pub(crate) fn trouble(&self, state: &State, part: &'static str, error: &anyhow::Error) {
        let is_new = !self.raw().troubles.contains_key(part);
        if is_new {
            tracing::warn!(business = self.business.name, part, "failed to {error:#}");
        }
        self.change(state, |raw| raw.trouble(part, format!("{error:#}")));
    }
}

/// What a Job's page was made of.
struct Gathered {
    at: Instant,
    of: Job,
    detail: Arc<Detail>,
}

/// Everything the monitor knows and works with.
pub(crate) struct State {
    pub(crate) site: Arc<Site>,
    pub(crate) kube: kube::Client,
    pub(crate) store: Store,
    pub(crate) publisher: BasePublisher,
    pub(crate) topics: TopicAdmin,
    pub(crate) subscriptions: SubscriptionAdmin,
    pub(crate) followed: BTreeMap<String, Arc<Followed>>,
    /// The board must be made anew.
    pub(crate) dirty: Notify,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) nodes: RwLock<Nodes>,
    board: RwLock<Arc<Board>>,
    outcomes: Mutex<HashMap<String, Arc<Outcome>>>,
    details: Mutex<HashMap<(String, String, String, i64), Gathered>>,
    said: Mutex<HashMap<String, String>>,
    looked: Mutex<Option<Instant>>,
}

/// The clients that the monitor works with.
pub(crate) struct Clients {
    pub(crate) kube: kube::Client,
    pub(crate) store: Store,
    pub(crate) publisher: BasePublisher,
    pub(crate) topics: TopicAdmin,
    pub(crate) subscriptions: SubscriptionAdmin,
}

impl State {
    pub(crate) fn new(site: Arc<Site>, clients: Clients) -> Self {
        let Clients { kube, store, publisher, topics, subscriptions } = clients;
        let businesses = site.config.businesses.values();
        let followed = businesses.map(|business| (business.name.clone(), Arc::new(Followed::new(business.clone()))));
        Self {
            followed: followed.collect(),
            site,
            kube,
            store,
            publisher,
            topics,
            subscriptions,
            dirty: Notify::new(),
            changes: watch::Sender::new(0),
            nodes: RwLock::default(),
            board: RwLock::default(),
            outcomes: Mutex::default(),
            details: Mutex::default(),
            said: Mutex::default(),
            looked: Mutex::default(),
        }
    }

    /// What is known now.
    pub(crate) fn board(&self) -> Arc<Board> {
        self.board.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows a new board to everybody.
    pub(crate) fn show(&self, board: Board) {
        *self.board.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(board);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Somebody asked for something.
    pub(crate) fn touch(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether somebody looks, or did a moment ago.
    pub(crate) fn is_watched(&self) -> bool {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_some_and(|looked| looked.elapsed() < LOOKING) || self.site.open_streams() > 0
    }

    /// A business that a visitor may see; one that they may not is as if it were not there.
    pub(crate) fn business(&self, visitor: &Visitor, name: &str) -> Result<Arc<Followed>, Problem> {
        let found = self.followed.get(name).filter(|_| visitor.may(name)).cloned();
        found.ok_or_else(|| Problem::not_found(format!("There is no business {name:?}")))
    }

    /// The views of the businesses that a visitor may see, or of the one named.
    pub(crate) fn views(&self, visitor: &Visitor, only: Option<&str>) -> Result<Vec<Arc<View>>, Problem> {
        if let Some(name) = only {
            self.business(visitor, name)?;
        }
        let board = self.board();
        let wanted = board.views.iter().filter(|(name, _)| visitor.may(name) && only.is_none_or(|only| only == *name));
        Ok(wanted.map(|(_, view)| view.clone()).collect())
    }

    /// Takes over what the outcomes of these Jobs say, from memory or from the bucket.
    pub(crate) async fn fill(&self, jobs: &mut [Job]) {
        let missing: Vec<(String, String)> = {
            let known = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = jobs.iter().filter_map(|job| Some((job.business.clone(), job.outcome.clone()?)));
            wanted.filter(|(_, name)| !known.contains_key(name)).collect()
        };
        let reads: Vec<_> = missing.into_iter().map(|(business, name)| self.outcome(business, name)).collect();
        let read: Vec<Option<(String, Outcome)>> = futures::stream::iter(reads).buffer_unordered(32).collect().await;
        let mut known = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + read.len() > OUTCOMES {
            known.clear();
        }
        for (name, mut outcome) in read.into_iter().flatten() {
            // What is large in it is read again by who shows it.
            (outcome.log_tail, outcome.message_data) = (None, None);
            known.insert(name, Arc::new(outcome));
        }
        for job in jobs {
            if let Some(outcome) = job.outcome.as_ref().and_then(|name| known.get(name)) {
                job.fill(outcome);
            }
        }
    }

    async fn outcome(&self, business: String, name: String) -> Option<(String, Outcome)> {
        let bucket = &self.followed.get(&business)?.business.bucket;
        let outcome = common::outcome::shown(&self.store, bucket, &name).await.ok()??;
        Some((name, outcome))
    }

    /// Everything known of a Job. What was gathered a moment ago is used again, so that many pages cost as much as one.
    pub(crate) async fn detail(&self, view: &View, job: &Job) -> Result<Arc<Detail>, Problem> {
        let key = (job.business.clone(), job.session.clone(), job.job.clone(), job.generation);
        {
            let details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = details.get(&key)
                && known.of == *job
                && known.at.elapsed() < DETAIL
            {
                return Ok(known.detail.clone());
            }
        }
        let sources = Sources { store: &self.store, cluster: Some(&self.kube), business: &view.business };
        let detail = gather(sources, job.clone(), view.counts.running, LOG_LINES).await;
        let detail = Arc::new(detail.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?);
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        if details.len() >= DETAILS {
            details.retain(|_, known| known.at.elapsed() < DETAIL);
        }
        details.insert(key, Gathered { at: Instant::now(), of: job.clone(), detail: detail.clone() });
        Ok(detail)
    }

    /// Says something on the visitor's next page.
    pub(crate) fn say(&self, visitor: &Visitor, text: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() > 1000 {
            said.clear();
        }
        said.insert(visitor.csrf.clone(), text);
    }

    /// What was to be said, once.
    pub(crate) fn said(&self, visitor: &Visitor) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(&visitor.csrf)
    }

    /// Whether every business's Jobs were shown once.
    pub(crate) fn is_synced(&self) -> bool {
        self.followed.values().all(|of| of.watching.load(Ordering::Relaxed) && of.raw().listed.is_some())
    }
}
