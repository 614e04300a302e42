//! The orchestrator's metrics. Labels have few values, never the names of objects.

use contract::{Outcome, outcome::State};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

/// One label, `reason`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    reason: String,
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
        let registry = registry.sub_registry_with_prefix("orchestrator");
        fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
            let metric = M::default();
            registry.register(name, help, metric.clone());
            metric
        }
        let mut seconds = |name, help| {
            let buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0];
            let histogram = Histogram::new(buckets);
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let publish_to_created =
            seconds("publish_to_created", "From the message's publication to the API server having its Job");
        let finished_to_settled = seconds("finished_to_settled", "From the end of a Job to its outcome being written");
        let suspended = "Jobs that wait until their queue admits them; they are active too";
        let metrics = Self {
            received: add(registry, "messages_received", "Messages received"),
            refused: add(registry, "messages_refused", "Messages that cannot become a Job"),
            duplicates: add(registry, "messages_duplicate", "Messages whose work had a Job or an outcome"),
            retries: add(registry, "message_retries", "Retries of messages"),
            created: add(registry, "jobs_created", "Kubernetes Jobs created"),
            settled: add(registry, "jobs_settled", "Outcomes written"),
            settle_failures: add(registry, "settle_failures", "Times settling a Job failed"),
            swept: add(registry, "inputs_swept", "Inputs requeued"),
            parked: add(registry, "messages_parked", "Messages parked while a session was paused"),
            events_lost: add(registry, "events_lost", "Events that could not be published"),
            active: add(registry, "jobs_active", "Jobs that have not ended"),
            suspended: add(registry, "jobs_suspended", suspended),
            unsettled: add(registry, "jobs_unsettled", "Jobs that wait for their outcome"),
            pool_engines: add(registry, "pool_engines", "Engines of the pool with a stream"),
            pool_waiting: add(registry, "pool_items_waiting", "Items that wait for an engine"),
            pool_assigned: add(registry, "pool_items_assigned", "Items that are with engines"),
            publish_to_created,
            finished_to_settled,
        };
        for reason in retry::ALL {
            let _ = metrics.retries.get_or_create(&ReasonLabel { reason: reason.to_owned() });
        }
        for state in [State::Succeeded, State::Failed, State::Cancelled] {
            let _ = metrics.settled.get_or_create(&StateLabel { state: state.as_str() });
        }
        let _ = metrics.refused.get_or_create(&ReasonLabel { reason: "malformed-message".to_owned() });
        metrics
    }

    pub(crate) fn retried(&self, reason: &'static str) {
        self.retries.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    /// Counts an outcome that was written.
    pub(crate) fn settled(&self, outcome: &Outcome) {
        match outcome.state {
            State::Refused => self.refused.get_or_create(&ReasonLabel { reason: outcome.reason.code.clone() }).inc(),
            state => self.settled.get_or_create(&StateLabel { state: state.as_str() }).inc(),
        };
    }
}
