//! What time does to a subscription: leases and back-offs end, old messages go, an idle subscription expires.

use std::sync::{Arc, Weak};

use jiff::Timestamp;

use super::{Pubsub, Subscription, lock};
use crate::clock::Clock;

/// Runs until the subscription is deleted or the service stops.
pub(super) async fn keep(service: Weak<Pubsub>, subscription: Arc<Subscription>, clock: Clock) {
    let Some(stop) = service.upgrade().map(|service| service.stop.clone()) else { return };
    loop {
        let now = clock.now();
        let next = match subscription.tick(now) {
            Tick::Expired => {
                tracing::info!(subscription = subscription.name, "idle subscription expired");
                if let Some(service) = service.upgrade() {
                    service.drop_subscription(&subscription.name);
                }
                return;
            }
            Tick::Next(next) => next,
        };
        tokio::select! {
            () = clock.sleep_until(next.unwrap_or(Timestamp::MAX)) => {}
            () = subscription.timers.notified() => {}
            () = subscription.deleted.cancelled() => return,
            () = stop.cancelled() => return,
        }
    }
}

enum Tick {
    Expired,
    Next(Option<Timestamp>),
}

impl Subscription {
    fn tick(&self, now: Timestamp) -> Tick {
        let mut inner = lock(&self.inner);
        let (backoff, retention) = (inner.settings.backoff(), inner.settings.retention());
        let got_ready = inner.queue.tick(now, backoff, retention);
        if inner.streams > 0 {
            inner.active = now;
        }
        let expiry = inner.settings.expiry().and_then(|ttl| inner.active.checked_add(ttl).ok());
        if expiry.is_some_and(|expiry| expiry <= now) {
            return Tick::Expired;
        }
        let next = [inner.queue.next_event(retention), expiry].into_iter().flatten().min();
        drop(inner);
        if got_ready {
            self.wake.notify_waiters();
        }
        Tick::Next(next)
    }
}
