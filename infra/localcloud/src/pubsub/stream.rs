//! StreamingPull: messages one way, acknowledgements and deadlines the other, under the receiver's limits.

use std::{sync::Arc, time::Duration};

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as proto;
use proto::streaming_pull_response::SubscriptionProperties;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Pubsub, Subscription, lock, names, queue::Limits};
use crate::{
    google::{
        error::{Error, Result},
        grpc::Answers,
    },
    identity::principal::Principal,
};

/// Most messages of one answer.
const BATCH_MAX: usize = 100;
/// How often an idle stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(20);

type Sender = mpsc::Sender<std::result::Result<proto::StreamingPullResponse, Status>>;

impl Pubsub {
    /// Opens a stream: the first request says which subscription.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub(super) async fn streaming_pull(
        self: Arc<Self>,
        caller: Principal,
        mut requests: Streaming<proto::StreamingPullRequest>,
    ) -> Result<Answers<proto::StreamingPullResponse>> {
        let first = requests.message().await.map_err(|status| Error::new(status.code(), status.message()))?;
        let first = first.ok_or_else(|| Error::invalid("The stream ended before its first request."))?;
        let subscription = self.consumable(&caller, &first.subscription)?;
        if !(10..=600).contains(&first.stream_ack_deadline_seconds) {
            return Err(Error::invalid("stream_ack_deadline_seconds must be between 10 and 600."));
        }
        let id = self.last_stream.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let limits = Limits { messages: first.max_outstanding_messages, bytes: first.max_outstanding_bytes };
        {
            let mut inner = lock(&subscription.inner);
            inner.queue.open(id, limits);
            inner.streams += 1;
        }
        let open = Open { subscription, id };
        // A short channel: what is not sent yet stays ready for other receivers.
        let (sender, answers) = mpsc::channel(2);
        let service = self.clone();
        let deadline = first.stream_ack_deadline_seconds;
        open.subscription.handle(&first, service.identity.clock.now());
        self.tasks.spawn(async move {
            let subscription = open.subscription.clone();
            let listener = listen(&service, &subscription, requests);
            tokio::select! {
                () = deliver(&service, &open, deadline, sender) => {}
                () = listener => {}
                () = service.stop.cancelled() => {}
            }
        });
        Ok(Box::pin(ReceiverStream::new(answers)))
    }
}

/// An open stream; closes itself.
struct Open {
    subscription: Arc<Subscription>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut inner = lock(&self.subscription.inner);
        inner.queue.close(self.id);
        inner.streams -= 1;
        drop(inner);
        self.subscription.timers.notify_one();
    }
}

async fn deliver(service: &Pubsub, open: &Open, deadline: i32, sender: Sender) {
    let subscription = &open.subscription;
    let properties = || {
        let inner = lock(&subscription.inner);
        Some(SubscriptionProperties {
            exactly_once_delivery_enabled: inner.settings.enable_exactly_once_delivery,
            message_ordering_enabled: false,
        })
    };
    let answer = |received_messages| proto::StreamingPullResponse {
        received_messages,
        subscription_properties: properties(),
        ..proto::StreamingPullResponse::default()
    };
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        let mut notified = std::pin::pin!(subscription.wake.notified());
        notified.as_mut().enable();
        // Room in the channel first: what was taken is then surely sent.
        let permit = tokio::select! {
            permit = sender.reserve() => permit,
            () = subscription.deleted.cancelled() => break,
        };
        let Ok(permit) = permit else { return };
        let taken = subscription.take(Some(open.id), BATCH_MAX, service.identity.clock.now(), Some(deadline));
        if !taken.is_empty() {
            permit.send(Ok(answer(taken)));
            service.changed();
            continue;
        }
        tokio::select! {
            () = notified => {}
            _ = heartbeat.tick() => permit.send(Ok(answer(Vec::new()))),
            () = sender.closed() => return,
            () = subscription.deleted.cancelled() => break,
        }
    }
    let gone = Status::from(names::missing(&subscription.name));
    let _ = sender.send(Err(gone)).await;
}

/// Handles what the receiver says until it says nothing more.
async fn listen(service: &Pubsub, subscription: &Subscription, mut requests: Streaming<proto::StreamingPullRequest>) {
    while let Ok(Some(request)) = requests.message().await {
        subscription.handle(&request, service.identity.clock.now());
        service.changed();
    }
}

impl Subscription {
    fn handle(&self, request: &proto::StreamingPullRequest, now: jiff::Timestamp) {
        if !request.ack_ids.is_empty() {
            self.ack(&request.ack_ids, now);
        }
        for (ack_id, seconds) in request.modify_deadline_ack_ids.iter().zip(&request.modify_deadline_seconds) {
            if (0..=600).contains(seconds) {
                self.modify(std::slice::from_ref(ack_id), *seconds, now);
            }
        }
    }
}
