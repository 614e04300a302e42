//! The clients, settings and shared view that every task needs. The state of a task stands with its own code.

use anyhow::Context as _;
use cloud::{
    probes::Health,
    storage::{Object, Store},
};
use contract::{config::Business, labels, message::Work};
use google_cloud_pubsub::{client::Publisher, model::Message};
use jiff::Timestamp;

use crate::{clock::Clock, cluster::Cluster, config::Timing, hooks::Hooks, metrics::Metrics, watch::jobs::Jobs};

/// The clients, settings and shared view that every task needs.
pub(crate) struct Base {
    pub(crate) business: Business,
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    /// Publishes to the business's own topic.
    pub(crate) publisher: Publisher,
    pub(crate) jobs: Jobs,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) hooks: Hooks,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
}

impl Base {
    /// The input of this work; `None` when it does not exist.
    pub(crate) async fn input(&self, work: &Work) -> anyhow::Result<Option<Object>> {
        let identity = &work.identity;
        self.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await
    }

    /// Publishes the message of this work, which was requested at this time, as far as it is known.
    pub(crate) async fn requeue(&self, work: &Work, requested: Option<Timestamp>) -> anyhow::Result<()> {
        let (data, mut attributes) = work.encode();
        if let Some(requested) = requested {
            attributes.insert(labels::ATTRIBUTE_REQUESTED.to_owned(), requested.to_string());
        }
        let message = Message::new().set_data(data).set_attributes(attributes);
        let published = self.publisher.publish(message).await;
        published.map(drop).with_context(|| format!("requeue {}", work.identity.object))
    }
}
