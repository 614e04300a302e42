//! Flow control: how many messages a stream may send, so that each has a slot. Pure.
//!
//! Pub/Sub sends at most `limit` messages that are not acknowledged yet, so it may have sent `acked + limit` in all.
//! A message without a slot would have to be nacked, and Pub/Sub redelivers a nacked message only after the retry
//! policy's backoff, 1 to 60 seconds. So an acknowledgement waits when it would allow Pub/Sub to send more messages
//! than slots are free. The stream is then closed when all it may send has arrived, or nothing has for a moment;
//! closing sends the waiting acknowledgements, and the next stream is opened for the free slots. A message in transit
//! while a stream closes is not lost, but redelivered only after its lease.

/// Limit of the messages of one stream that are not acknowledged. Acknowledgements are sent every 100 ms, so this
/// allows for some 2,500 messages a second; each costs memory until it is acknowledged.
const OUTSTANDING_MAX: usize = 256;
/// A stream uses all of the room up to this much, and half of it above, so that acknowledgements flow.
const SMALL_ROOM: usize = 8;

/// The flow of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    limit: usize,
    received: usize,
    acked: usize,
}

impl Flow {
    /// For a stream opened when there is this much room; there must be some.
    pub(crate) fn new(room: usize) -> Self {
        Self { limit: limit(room), received: 0, acked: 0 }
    }

    /// The stream's limit of messages not acknowledged yet.
    pub(crate) fn limit(self) -> usize {
        self.limit
    }

    /// Records that a message was received.
    pub(crate) fn record_receipt(&mut self) {
        self.received += 1;
    }

    /// Whether one more acknowledgement leaves a slot for everything Pub/Sub may send after it; counts it if so.
    pub(crate) fn try_ack(&mut self, room: usize) -> bool {
        let allowed = self.acked + 1 + self.limit <= self.received + room;
        if allowed {
            self.acked += 1;
        }
        allowed
    }

    /// Whether everything that Pub/Sub may send has arrived, so that nothing is in transit when the stream closes.
    pub(crate) fn is_exhausted(self) -> bool {
        self.received >= self.acked + self.limit
    }

    /// Whether a stream opened now would be much wider than this one.
    pub(crate) fn is_narrow(self, room: usize) -> bool {
        limit(room) >= 4 * self.limit
    }
}

fn limit(room: usize) -> usize {
    (room / 2).max(room.min(SMALL_ROOM)).clamp(1, OUTSTANDING_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worst case: Pub/Sub sends all it may at once, always.
    #[test]
    fn never_more_messages_are_sent_than_slots_are_free() {
        for max in [1, 2, 7, 8, 9, 100, 5000] {
            let mut used = 0;
            let mut streams = 0;
            while used < max {
                streams += 1;
                let mut flow = Flow::new(max - used);
                let mut sent = flow.limit();
                loop {
                    let before = sent;
                    while flow.received < sent {
                        flow.record_receipt();
                        used += 1;
                        assert!(used <= max, "a message without a slot");
                    }
                    while flow.acked < flow.received && flow.try_ack(max - used) {}
                    sent = flow.acked + flow.limit();
                    if sent == before {
                        break;
                    }
                }
            }
            assert!(streams <= 24, "{streams} streams to fill {max} slots");
        }
    }

    #[test]
    fn acknowledgements_flow_while_there_is_room() {
        let mut flow = Flow::new(100);
        for used in 1..=50 {
            flow.record_receipt();
            assert!(flow.try_ack(100 - used), "{used}");
        }
        assert!(Flow::new(1).is_narrow(8) && !Flow::new(8).is_narrow(8));
    }
}
