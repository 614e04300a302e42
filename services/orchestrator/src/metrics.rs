//! The orchestrator's metrics. Labels have few values, never the names of objects.

use contract::outcome::State;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// One label, `reason`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    reason: &'static str,
}

/// One label, `state`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct StateLabel {
    state: &'static str,
}

/// Why a message is retried, as values of the label `reason`.
pub(crate) mod retry {
    /// A quota of the namespace is full, or changed at the same moment.
    pub(crate) const QUOTA: &str = "quota";
    /// The API server limits the rate of requests.
    pub(crate) const THROTTLED: &str = "throttled";
    /// The API server fails, or cannot be reached in time.
    pub(crate) const UNAVAILABLE: &str = "unavailable";
    /// Cloud Storage fails, or cannot be reached in time.
    pub(crate) const STORAGE: &str = "storage";
    /// A Job of the same identity is being deleted; its outcome must be written first.
    pub(crate) const DELETING: &str = "deleting";
    /// Access, template or namespace is wrong.
    pub(crate) const OUR_FAULT: &str = "our-fault";
    pub(super) const ALL: [&str; 6] = [QUOTA, THROTTLED, UNAVAILABLE, STORAGE, DELETING, OUR_FAULT];
}

/// The orchestrator's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) received: Counter,
    pub(crate) created: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) swept: Counter,
    pub(crate) parked: Counter,
    pub(crate) settle_failures: Counter,
    pub(crate) events_lost: Counter,
    pub(crate) active: Gauge,
    pub(crate) suspended: Gauge,
    pub(crate) unsettled: Gauge,
    pub(crate) pool_engines: Gauge,
    pub(crate) pool_waiting: Gauge,
    pub(crate) pool_assigned: Gauge,
    pub(crate) publish_to_created: Histogram,
    pub(crate) finished_to_settled: Histogram,
    refused: Family<ReasonLabel, Counter>,
    retries: Family<ReasonLabel, Counter>,
    settled: Family<StateLabel, Counter>,
}

impl Metrics {
    /// Registers everything, at zero.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let buckets = || [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0];
        let metrics = Self {
            received: Counter::default(),
            created: Counter::default(),
            duplicates: Counter::default(),
            swept: Counter::default(),
            parked: Counter::default(),
            settle_failures: Counter::default(),
            events_lost: Counter::default(),
            active: Gauge::default(),
            suspended: Gauge::default(),
            unsettled: Gauge::default(),
            pool_engines: Gauge::default(),
            pool_waiting: Gauge::default(),
            pool_assigned: Gauge::default(),
            publish_to_created: Histogram::new(buckets()),
            finished_to_settled: Histogram::new(buckets()),
            refused: Family::default(),
            retries: Family::default(),
            settled: Family::default(),
        };
        for reason in retry::ALL {
            let _ = metrics.retries.get_or_create(&ReasonLabel { reason });
        }
        for state in [State::Succeeded, State::Failed, State::Cancelled] {
            let _ = metrics.settled.get_or_create(&StateLabel { state: state.as_str() });
        }
        let _ = metrics.refused.get_or_create(&ReasonLabel { reason: "malformed-message" });
        let registry = registry.sub_registry_with_prefix("orchestrator");
        registry.register("messages_received", "Messages received", metrics.received.clone());
        registry.register("messages_refused", "Messages that cannot become a Job", metrics.refused.clone());
        registry.register(
            "messages_duplicate",
            "Messages whose work had a Job or an outcome",
            metrics.duplicates.clone(),
        );
        registry.register("message_retries", "Retries of messages", metrics.retries.clone());
        registry.register("jobs_created", "Kubernetes Jobs created", metrics.created.clone());
        registry.register("jobs_settled", "Outcomes written", metrics.settled.clone());
        registry.register("settle_failures", "Times settling a Job failed", metrics.settle_failures.clone());
        registry.register("inputs_swept", "Inputs requeued", metrics.swept.clone());
        registry.register("messages_parked", "Messages parked while a session was paused", metrics.parked.clone());
        registry.register("events_lost", "Events that could not be published", metrics.events_lost.clone());
        registry.register("jobs_active", "Jobs that have not ended", metrics.active.clone());
        registry.register(
            "jobs_suspended",
            "Jobs that wait until their queue admits them; they are active too",
            metrics.suspended.clone(),
        );
        registry.register("jobs_unsettled", "Jobs that wait for their outcome", metrics.unsettled.clone());
        registry.register("pool_engines", "Engines of the pool with a stream", metrics.pool_engines.clone());
        registry.register("pool_items_waiting", "Items that wait for an engine", metrics.pool_waiting.clone());
        registry.register("pool_items_assigned", "Items that are with engines", metrics.pool_assigned.clone());
        registry.register_with_unit(
            "publish_to_created",
            "From the message's publication to the API server having its Job",
            Unit::Seconds,
            metrics.publish_to_created.clone(),
        );
        registry.register_with_unit(
            "finished_to_settled",
            "From the end of a Job to its outcome being written",
            Unit::Seconds,
            metrics.finished_to_settled.clone(),
        );
        metrics
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn retried(&self, reason: &'static str) {
        self.retries.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn settled(&self, state: State) {
        self.settled.get_or_create(&StateLabel { state: state.as_str() }).inc();
    }
}
