//! Counters of requests.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Requests by the first digit of their status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    status: &'static str,
}

/// Counts requests.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter<u64, AtomicU64>>,
    seconds: Histogram,
    /// Live streams that are open.
    pub(crate) streams: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0]),
            streams: Gauge::default(),
        };
        for status in ["2xx", "3xx", "4xx", "5xx"] {
            let _ = metrics.requests.get_or_create(&Labels { status });
        }
        registry.register("web_requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit("web_answer", "Time to an answer", Unit::Seconds, metrics.seconds.clone());
        registry.register("web_live_streams", "Live pages that are open", metrics.streams.clone());
        metrics
    }

    pub(crate) fn answered(&self, status: u16, elapsed: Duration) {
        let status = match status / 100 {
            2 => "2xx",
            3 => "3xx",
            5 => "5xx",
            _ => "4xx",
        };
        self.requests.get_or_create(&Labels { status }).inc();
        self.seconds.observe(elapsed.as_secs_f64());
    }
}
