//! Publishes a small message on the events topic for every outcome, as best effort: no outcome waits for it for long.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use contract::Outcome;
use google_cloud_pubsub::{client::Publisher, model::Message};
use prometheus_client::metrics::counter::Counter;
use tokio_util::task::TaskTracker;

/// How long an outcome waits for its event while publishing works.
const WAIT: Duration = Duration::from_secs(2);

/// The events topic.
#[derive(Debug)]
pub(crate) struct Events {
    publisher: Publisher,
    lost: Counter,
    working: std::sync::Arc<AtomicBool>,
    sending: TaskTracker,
}

impl Events {
    pub(crate) fn new(publisher: Publisher, lost: Counter) -> Self {
        Self { publisher, lost, working: std::sync::Arc::new(AtomicBool::new(true)), sending: TaskTracker::new() }
    }

    /// Publishes the event of an outcome. The client retries. While publishing works this waits a moment for the
    /// answer, so an event is lost only if the process dies while Pub/Sub does not answer.
    pub(crate) async fn publish(&self, outcome: &Outcome) {
        let message = Message::new().set_attributes(outcome.event());
        let sent = self.publisher.publish(message);
        let (lost, working) = (self.lost.clone(), self.working.clone());
        let sending = self.sending.spawn(async move {
            match sent.await {
                Ok(_) => working.store(true, Ordering::Relaxed),
                Err(error) => {
                    working.store(false, Ordering::Relaxed);
                    lost.inc();
                    let error = anyhow::Error::from(error);
                    tracing::warn!("failed to publish an event: {error:#}");
                }
            }
        });
        if self.working.load(Ordering::Relaxed) && tokio::time::timeout(WAIT, sending).await.is_err() {
            self.working.store(false, Ordering::Relaxed);
        }
    }

    /// Sends the events that wait.
    pub(crate) async fn flush(&self) {
        self.publisher.flush().await;
        self.sending.close();
        self.sending.wait().await;
    }
}
