//! The clients, settings and shared view that every task needs. The state of a task stands with its own code.

use anyhow::Context as _;
use cloud::{probes::Health, storage::Store};
use contract::{config::Business, labels, message::Work};
use google_cloud_pubsub::{client::Publisher, model::Message};
use jiff::Timestamp;

use crate::{
    clock::Clock,
    cluster::Cluster,
    config::Timing,
    execute::job::Template,
    hooks::Hooks,
    metrics::Metrics,
    settle::{events::Events, pods::Pods},
    watch::jobs::Jobs,
};

/// The clients, settings and shared view that every task needs.
pub(crate) struct Base {
    pub(crate) business: Business,
    pub(crate) template: Template,
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    pub(crate) events: Events,
    /// Publishes to the business's own topic.
    pub(crate) publisher: Publisher,
    pub(crate) jobs: Jobs,
    pub(crate) pods: Pods,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) hooks: Hooks,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
}

impl Base {
    /// How many slots the business has.
    pub(crate) fn slots(&self) -> usize {
        usize::try_from(self.business.max_active_jobs).unwrap_or(usize::MAX)
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
