//! What every task of the orchestrator shares.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cloud::{probes::Health, storage::Store};
use contract::{
    Identity,
    config::{Business, Dispatch},
};
use google_cloud_pubsub::client::Publisher;
use tokio::sync::Semaphore;

use crate::{
    batcher::{self, Batcher},
    breaker::Breaker,
    clock::Clock,
    cluster::Cluster,
    config::Timing,
    controls::Controls,
    events::Events,
    gate::Gate,
    hooks::Hooks,
    job::Template,
    jobs::Jobs,
    looks::Looks,
    metrics::Metrics,
    payload::Payloads,
    priority::{Priority, Rank},
    settle_batch::Progress,
};

/// Most creates that are under way at once. Each has a connection of its own, with its buffers and its handshake, and
/// more of them do not make an API server quicker.
pub(crate) const CREATES_MAX: usize = 32;
/// Settled identities that are remembered.
const RECENT_MAX: usize = 10_000;

/// What every task of the orchestrator shares.
pub(crate) struct Context {
    pub(crate) business: Business,
    pub(crate) template: Template,
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    pub(crate) events: Events,
    pub(crate) jobs: Jobs,
    pub(crate) batcher: Batcher,
    pub(crate) gate: Gate,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) hooks: Hooks,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    pub(crate) breaker: Mutex<Breaker>,
    pub(crate) creates: Semaphore,
    pub(crate) payloads: Payloads,
    pub(crate) large_refusals: Semaphore,
    pub(crate) looks: Looks,
    pub(crate) recent: Recent,
    /// Publishes to the business's own topic, for work that must come again.
    pub(crate) again: Publisher,
    pub(crate) progress: Progress,
    pub(crate) controls: Controls,
    pub(crate) priority: Priority,
}

impl Context {
    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages a stream of this rank may take.
    pub(crate) fn room_for(&self, rank: Rank) -> usize {
        let most = match self.business.dispatch {
            Dispatch::Job => self.slots(),
            Dispatch::Batch => batcher::WAITING_MAX,
        };
        self.priority.share(rank, self.room(), most, tokio::time::Instant::now())
    }

    /// How many messages may be taken.
    pub(crate) fn room(&self) -> usize {
        if self.payloads.are_too_large() {
            return 0;
        }
        match self.business.dispatch {
            Dispatch::Job => self.jobs.look().room(self.slots()),
            Dispatch::Batch => self.jobs.look().waiting_room(batcher::WAITING_MAX),
        }
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        usize::try_from(self.business.max_active_jobs).unwrap_or(usize::MAX)
    }
}

/// The identities that this process settled last, so that a message which was looked at just before is not run again
/// just after.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<RecentNames>);

#[derive(Debug, Default)]
struct RecentNames {
    known: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Recent {
    pub(crate) fn add(&self, identity: &Identity) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&identity.job_name());
        if recent.known.insert(key) {
            recent.order.push_back(key);
        }
        if recent.order.len() > RECENT_MAX
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.known.remove(&oldest);
        }
    }

    /// Whether one was that of the Job of this name.
    pub(crate) fn has(&self, job: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&key(job))
    }
}

/// The hash in a Job's name, as a number.
fn key(job: &str) -> u128 {
    let digits = job.rsplit_once('-').map_or("", |(_, digits)| digits);
    u128::from_str_radix(digits, 16).unwrap_or_default()
}
