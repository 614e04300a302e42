//! Subscriptions: made, changed, pulled from, acknowledged, deleted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as proto;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Inner, PAGE_MAX, Pubsub, Subscription, lock, names,
    queue::{Delivery, Queue},
    settings,
};
use crate::{
    google::{
        error::{Error, Result},
        page::{PageRequest, page},
    },
    identity::principal::Principal,
};

/// How long a pull waits for a first message.
const PULL_WAIT: Duration = Duration::from_secs(30);
/// Most messages of one pull.
const PULL_MAX: usize = 1000;

impl Pubsub {
    pub(super) fn find_subscription(&self, name: &str) -> Result<Arc<Subscription>> {
        let subscriptions = self.subscriptions.read().unwrap_or_else(PoisonError::into_inner);
        subscriptions.get(name).cloned().ok_or_else(|| names::missing(name))
    }

    /// Makes a subscription.
    ///
    /// # Errors
    /// 400, 403, 404 for the topic, 409.
    pub fn create_subscription(
        self: &Arc<Self>,
        caller: &Principal,
        settings: settings::Subscription,
    ) -> Result<settings::Subscription> {
        let name = names::check("subscriptions", &settings.name)?;
        self.check_project(name.project)?;
        let id = name.id.to_owned();
        names::check("topics", &settings.topic)?;
        self.need(caller, "pubsub.subscriptions.create", &self.project_target())?;
        self.need(caller, "pubsub.topics.attachSubscription", &names::topic_target(&settings.topic))?;
        let settings = settings.complete();
        settings.check()?;
        let topic = self.find_topic(&settings.topic)?;
        let mut subscriptions = self.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
        if subscriptions.contains_key(&settings.name) {
            return Err(Error::exists(format!("Resource already exists in the project (resource={id}).")));
        }
        let subscription = self.start(settings.clone(), Queue::default())?;
        lock(&topic.subscriptions).insert(settings.name.clone(), subscription.clone());
        subscriptions.insert(settings.name.clone(), subscription);
        self.changed();
        Ok(settings)
    }

    /// A subscription that runs; the caller puts it where it is found.
    pub(super) fn start(self: &Arc<Self>, settings: settings::Subscription, queue: Queue) -> Result<Arc<Subscription>> {
        let subscription = Arc::new(Subscription {
            name: settings.name.clone(),
            filter: settings.parsed_filter()?,
            inner: Mutex::new(Inner { settings, queue, streams: 0, active: self.identity.clock.now() }),
            wake: Notify::new(),
            timers: Notify::new(),
            deleted: CancellationToken::new(),
        });
        self.tasks.spawn(super::keeper::keep(Arc::downgrade(self), subscription.clone(), self.identity.clock.clone()));
        Ok(subscription)
    }

    /// A subscription's settings.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn get_subscription(&self, caller: &Principal, name: &str) -> Result<settings::Subscription> {
        names::check("subscriptions", name)?;
        self.need(caller, "pubsub.subscriptions.get", &names::subscription_target(name))?;
        Ok(lock(&self.find_subscription(name)?.inner).settings.clone())
    }

    /// Changes a subscription.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn update_subscription(
        &self,
        caller: &Principal,
        from: settings::Subscription,
        mask: &[String],
    ) -> Result<settings::Subscription> {
        names::check("subscriptions", &from.name)?;
        self.need(caller, "pubsub.subscriptions.update", &names::subscription_target(&from.name))?;
        let subscription = self.find_subscription(&from.name)?;
        let mut inner = lock(&subscription.inner);
        let mut changed = inner.settings.clone();
        changed.update(from, mask)?;
        let changed = changed.complete();
        changed.check()?;
        inner.settings.clone_from(&changed);
        drop(inner);
        subscription.timers.notify_one();
        self.changed();
        Ok(changed)
    }

    /// A page of subscriptions.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn list_subscriptions(
        &self,
        caller: &Principal,
        project: &str,
        request: &PageRequest,
    ) -> Result<(Vec<settings::Subscription>, String)> {
        self.check_project(names::project(project)?)?;
        self.need(caller, "pubsub.subscriptions.list", &self.project_target())?;
        let subscriptions = self.subscriptions.read().unwrap_or_else(PoisonError::into_inner);
        page(
            subscriptions.iter().map(|(name, found)| (name.clone(), lock(&found.inner).settings.clone())),
            request,
            PAGE_MAX,
        )
    }

    /// Deletes a subscription and its messages.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn delete_subscription(&self, caller: &Principal, name: &str) -> Result<()> {
        names::check("subscriptions", name)?;
        self.need(caller, "pubsub.subscriptions.delete", &names::subscription_target(name))?;
        self.drop_subscription(name).ok_or_else(|| names::missing(name))
    }

    pub(super) fn drop_subscription(&self, name: &str) -> Option<()> {
        let subscription = {
            let mut subscriptions = self.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
            subscriptions.remove(name)?
        };
        self.detach(&subscription);
        subscription.deleted.cancel();
        self.identity.forget_policy(name);
        self.changed();
        Some(())
    }

    fn detach(&self, subscription: &Subscription) {
        let topic = lock(&subscription.inner).settings.topic.clone();
        if let Ok(topic) = self.find_topic(&topic) {
            lock(&topic.subscriptions).remove(&subscription.name);
        }
    }

    pub(super) fn consumable(&self, caller: &Principal, name: &str) -> Result<Arc<Subscription>> {
        names::check("subscriptions", name)?;
        self.need(caller, "pubsub.subscriptions.consume", &names::subscription_target(name))?;
        self.find_subscription(name)
    }

    /// Pulls messages, waiting a while for the first one unless `at_once` is set.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub async fn pull(
        &self,
        caller: &Principal,
        name: &str,
        max: i32,
        at_once: bool,
    ) -> Result<Vec<proto::ReceivedMessage>> {
        let subscription = self.consumable(caller, name)?;
        let max = usize::try_from(max).unwrap_or(0).min(PULL_MAX);
        if max == 0 {
            return Err(Error::invalid("The value for max_messages must be a positive number."));
        }
        let end = tokio::time::Instant::now() + PULL_WAIT;
        loop {
            let mut notified = std::pin::pin!(subscription.wake.notified());
            notified.as_mut().enable();
            let taken = subscription.take(None, max, self.identity.clock.now(), None);
            if !taken.is_empty() {
                self.changed();
                return Ok(taken);
            }
            if at_once {
                return Ok(taken);
            }
            tokio::select! {
                () = notified => {}
                () = subscription.deleted.cancelled() => return Err(names::missing(name)),
                () = tokio::time::sleep_until(end) => return Ok(Vec::new()),
                () = self.stop.cancelled() => return Ok(Vec::new()),
            }
        }
    }

    /// Acknowledges messages.
    ///
    /// # Errors
    /// 400, 403, 404; 400 FAILED_PRECONDITION for stale ids of an exactly-once subscription.
    pub fn acknowledge(&self, caller: &Principal, name: &str, ack_ids: &[String]) -> Result<()> {
        let subscription = self.consumable(caller, name)?;
        if ack_ids.is_empty() {
            return Err(Error::invalid("No ack ids specified."));
        }
        let stale = subscription.ack(ack_ids, self.identity.clock.now());
        self.changed();
        refuse_stale(stale)
    }

    /// Moves ack deadlines; 0 seconds gives the messages back.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn modify_ack_deadline(&self, caller: &Principal, name: &str, ack_ids: &[String], seconds: i32) -> Result<()> {
        let subscription = self.consumable(caller, name)?;
        if !(0..=600).contains(&seconds) {
            return Err(Error::invalid("Invalid ack deadline given: it must be between 0 and 600 seconds."));
        }
        refuse_stale(subscription.modify(ack_ids, seconds, self.identity.clock.now()))
    }
}

impl Subscription {
    /// Leases messages for a receiver; `deadline` is the stream's own, in seconds.
    pub(super) fn take(
        &self,
        holder: Option<u64>,
        max: usize,
        now: Timestamp,
        deadline: Option<i32>,
    ) -> Vec<proto::ReceivedMessage> {
        let mut inner = lock(&self.inner);
        inner.active = now;
        let lease = SignedDuration::from_secs(i64::from(deadline.unwrap_or(inner.settings.ack_deadline_seconds)));
        let before = inner.queue.next_event(inner.settings.retention());
        let taken = inner.queue.take(holder, max, now.checked_add(lease).unwrap_or(Timestamp::MAX));
        let after = inner.queue.next_event(inner.settings.retention());
        drop(inner);
        if before != after {
            self.timers.notify_one();
        }
        taken.into_iter().map(received).collect()
    }

    /// Acknowledges; answers the ids that an exactly-once subscription refuses.
    pub(super) fn ack(&self, ack_ids: &[String], now: Timestamp) -> Vec<String> {
        let mut inner = lock(&self.inner);
        inner.active = now;
        let strict = inner.settings.enable_exactly_once_delivery;
        let stale = inner.queue.ack(ack_ids, strict);
        drop(inner);
        self.wake.notify_waiters();
        stale
    }

    /// Moves deadlines; answers as [`Self::ack`].
    pub(super) fn modify(&self, ack_ids: &[String], seconds: i32, now: Timestamp) -> Vec<String> {
        let until = now.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX);
        let mut inner = lock(&self.inner);
        let backoff = inner.settings.backoff();
        let stale = inner.queue.modify(ack_ids, until, now, backoff);
        let strict = inner.settings.enable_exactly_once_delivery;
        drop(inner);
        if seconds == 0 {
            self.wake.notify_waiters();
        }
        self.timers.notify_one();
        if strict { stale } else { Vec::new() }
    }
}

fn received(delivery: Delivery) -> proto::ReceivedMessage {
    proto::ReceivedMessage {
        ack_id: delivery.ack_id,
        message: Some(delivery.message.content.clone()),
        // Only a dead-letter policy counts attempts.
        delivery_attempt: 0,
    }
}

fn refuse_stale(stale: Vec<String>) -> Result<()> {
    if stale.is_empty() {
        return Ok(());
    }
    let metadata = stale.into_iter().map(|id| (id, "PERMANENT_FAILURE_INVALID_ACK_ID".to_owned())).collect();
    Err(Error::failed_precondition("Some acknowledgement ids are not of the present delivery.").with_info(
        "EXACTLY_ONCE_ACKID_FAILURE",
        "pubsub.googleapis.com",
        metadata,
    ))
}
