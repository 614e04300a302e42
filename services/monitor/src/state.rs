//! The shared state of the monitor.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cloud::{clients::Connection, queue::Intake, storage::Store};
use contract::{Outcome, config::Business};
use futures::StreamExt as _;
use google_cloud_pubsub::client::{BasePublisher, SubscriptionAdmin, TopicAdmin};
use inspect::{Detail, Sources, gather};
use sessions::{jobs::Job, results::Totals};
use tokio::sync::{Notify, watch};
use web::{Problem, Query, Site, Visitor};

use crate::{
    audit::Audit,
    board::{Board, View},
    nodes::Nodes,
    operations::Operations,
    page::Rendered,
    raw::Raw,
};

/// How long the monitor counts as watched after a request.
const WATCHED_FOR: Duration = Duration::from_secs(60);
/// Outcomes that are kept in memory.
const MAX_OUTCOMES: usize = 20_000;
/// Lines of log that a Job's page shows.
pub(crate) const LOG_LINES: i64 = 500;
/// How long the details of a Job that did not change are used.
const DETAIL_FRESH: Duration = Duration::from_secs(3);
/// Jobs whose details are kept.
const MAX_DETAILS: usize = 200;

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

    /// Changes the raw state; when the change returns true, the board is computed again.
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

    /// Records that a service does not answer; logs it when that is new.
    pub(crate) fn report(&self, state: &State, service: &'static str, error: &anyhow::Error) {
        let is_new = !self.raw().errors.contains_key(service);
        if is_new {
            tracing::warn!(business = self.business.name, service, "failed to {error:#}");
        }
        self.change(state, |raw| raw.failed(service, format!("{error:#}")));
    }
}

/// The details of a Job, and when they were gathered.
struct Gathered {
    at: Instant,
    of: Job,
    detail: Arc<Detail>,
}

/// The state and the clients of the monitor.
pub(crate) struct State {
    pub(crate) site: Arc<Site>,
    pub(crate) kube: kube::Client,
    pub(crate) store: Store,
    pub(crate) publisher: BasePublisher,
    pub(crate) intake: Intake,
    pub(crate) topics: TopicAdmin,
    pub(crate) subscriptions: SubscriptionAdmin,
    pub(crate) followed: BTreeMap<String, Arc<Followed>>,
    /// The board must be computed again.
    pub(crate) dirty: Notify,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) rendered: Rendered,
    pub(crate) operations: Operations,
    pub(crate) audit: Audit,
    /// The totals of results, by the outcome.
    pub(crate) totals: Mutex<HashMap<String, Totals>>,
    nodes: RwLock<Nodes>,
    board: RwLock<Arc<Board>>,
    outcomes: Mutex<HashMap<String, Arc<Outcome>>>,
    details: Mutex<HashMap<(String, String, String, i64), Gathered>>,
    last_request: Mutex<Option<Instant>>,
}

impl State {
    /// Knows nothing yet; nothing is sent.
    ///
    /// # Errors
    /// When a client cannot be built.
    pub(crate) async fn new(
        site: Arc<Site>,
        kube: kube::Client,
        store: Store,
        connection: &Connection,
    ) -> anyhow::Result<Self> {
        let businesses = site.config.businesses.values();
        let followed = businesses.map(|business| (business.name.clone(), Arc::new(Followed::new(business.clone()))));
        Ok(Self {
            followed: followed.collect(),
            site,
            kube,
            store,
            publisher: connection.base_publisher().await?,
            intake: Intake::new(connection.clone()),
            topics: connection.topic_admin().await?,
            subscriptions: connection.subscription_admin().await?,
            dirty: Notify::new(),
            changes: watch::Sender::new(0),
            rendered: Rendered::default(),
            operations: Operations::default(),
            audit: Audit::default(),
            totals: Mutex::default(),
            nodes: RwLock::default(),
            board: RwLock::default(),
            outcomes: Mutex::default(),
            details: Mutex::default(),
            last_request: Mutex::default(),
        })
    }

    /// The nodes as they were last seen.
    pub(crate) fn nodes(&self) -> Nodes {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the nodes as they are now.
    pub(crate) fn set_nodes(&self, nodes: Nodes) {
        if self.nodes() != nodes {
            *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
            self.dirty.notify_one();
        }
    }

    /// The board as it is now.
    pub(crate) fn board(&self) -> Arc<Board> {
        self.board.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a new board.
    pub(crate) fn publish(&self, board: Board) {
        *self.board.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(board);
        self.report_change();
    }

    /// Has open pages rendered again.
    pub(crate) fn report_change(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    /// Records a request.
    pub(crate) fn touch(&self) {
        *self.last_request.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether somebody uses the monitor, or did a moment ago.
    pub(crate) fn is_watched(&self) -> bool {
        let last = *self.last_request.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < WATCHED_FOR) || self.site.open_streams() > 0
    }

    /// A business that a visitor may see; for any other the answer is that it does not exist.
    pub(crate) fn business(&self, visitor: &Visitor, name: &str) -> Result<Arc<Followed>, Problem> {
        let found = self.followed.get(name).filter(|_| visitor.may_see(name)).cloned();
        found.ok_or_else(|| Problem::not_found(format!("There is no business {name:?}")))
    }

    /// The views of the businesses that a visitor may see, or of the one named.
    pub(crate) fn views(&self, visitor: &Visitor, only: Option<&str>) -> Result<Vec<Arc<View>>, Problem> {
        if let Some(name) = only {
            self.business(visitor, name)?;
        }
        let board = self.board();
        let visible = board.iter().filter(|(name, _)| visitor.may_see(name) && only.is_none_or(|only| only == *name));
        Ok(visible.map(|(_, view)| view.clone()).collect())
    }

    /// The view of a business that a visitor may see.
    pub(crate) fn view(&self, visitor: &Visitor, name: &str) -> Result<Arc<View>, Problem> {
        self.business(visitor, name)?;
        self.board().get(name).cloned().ok_or_else(|| Problem::not_found("This business is not listed yet"))
    }

    /// The Job that a query names, with the view of its business; the latest of its name when no generation is named.
    pub(crate) fn job(&self, visitor: &Visitor, query: &Query) -> Result<(Arc<View>, Job), Problem> {
        let [business, session, id] = ["business", "session", "job"].map(|name| query.get(name).unwrap_or_default());
        let view = self.view(visitor, business)?;
        let generation: Option<i64> = query.get("generation").and_then(|value| value.parse().ok());
        let is_named = |job: &&Job| generation.is_none_or(|generation| job.generation == generation);
        let missing = || Problem::not_found(format!("There is no Job {id:?} in session {session:?}"));
        let job = view.named(session, id).into_iter().find(is_named).cloned().ok_or_else(missing)?;
        Ok((view, job))
    }

    /// Adds the contents of the outcomes to these Jobs, from memory or from the bucket.
    pub(crate) async fn fill(&self, jobs: &mut [Job]) {
        let missing: Vec<(String, String)> = {
            let cached = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            let named = jobs.iter().filter_map(|job| Some((job.business.clone(), job.outcome.clone()?)));
            named.filter(|(_, name)| !cached.contains_key(name)).collect()
        };
        let reads: Vec<_> = missing
            .into_iter()
            .map(|(business, name)| async move {
                let outcome = self.outcome(&business, &name).await?;
                Some((name, outcome))
            })
            .collect();
        let read: Vec<Option<(String, Outcome)>> = futures::stream::iter(reads).buffer_unordered(32).collect().await;
        let mut cached = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() + read.len() > MAX_OUTCOMES {
            cached.clear();
        }
        for (name, mut outcome) in read.into_iter().flatten() {
            // The pages that show its large fields read it again.
            (outcome.log_tail, outcome.message_data, outcome.items) = (None, None, Vec::new());
            cached.insert(name, Arc::new(outcome));
        }
        for job in jobs {
            if let Some(outcome) = job.outcome.as_ref().and_then(|name| cached.get(name)) {
                job.fill(outcome);
            }
        }
    }

    /// An outcome of a business; `None` when it is gone or cannot be read.
    pub(crate) async fn outcome(&self, business: &str, name: &str) -> Option<Outcome> {
        let bucket = &self.followed.get(business)?.business.bucket;
        cloud::outcomes::read_or_replace(&self.store, bucket, name).await.ok()?
    }

    /// The details of a Job. Those gathered a moment ago are used again, so that many viewers cost as much as one.
    pub(crate) async fn detail(&self, view: &View, job: &Job) -> Result<Arc<Detail>, Problem> {
        let key = (job.business.clone(), job.session.clone(), job.job.clone(), job.generation);
        {
            let details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(gathered) = details.get(&key)
                && gathered.of == *job
                && gathered.at.elapsed() < DETAIL_FRESH
            {
                return Ok(gathered.detail.clone());
            }
        }
        let sources = Sources { store: &self.store, cluster: Some(&self.kube), business: &view.business };
        let detail = gather(sources, job.clone(), view.running, LOG_LINES).await;
        let detail = Arc::new(detail.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?);
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        if details.len() >= MAX_DETAILS {
            details.retain(|_, gathered| gathered.at.elapsed() < DETAIL_FRESH);
        }
        details.insert(key, Gathered { at: Instant::now(), of: job.clone(), detail: detail.clone() });
        Ok(detail)
    }

    /// Whether the Jobs and the bucket of every business were listed once.
    pub(crate) fn is_synced(&self) -> bool {
        self.followed.values().all(|of| of.watching.load(Ordering::Relaxed) && of.raw().listed.is_some())
    }
}
