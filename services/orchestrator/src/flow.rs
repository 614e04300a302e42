//! How many messages a stream may hand us, so that none lies in our hands without a slot. Pure.
//!
//! Pub/Sub sends at most `limit` messages that are not acknowledged yet, so it may have sent `acked + limit` in all.
//! A message it sent that has no slot would have to be given back, and a message given back is not delivered again
//! for the retry policy's 10 seconds or more. So an acknowledgement waits when it would let Pub/Sub send more than there
//! are slots. The stream is then closed once all it may send has arrived, or nothing has for a moment, which releases
//! what waits; and it is opened again for the slots that are left. A message on its way while a stream is closed would
//! not be lost, but delivered again only after its lease.

/// Most messages that one stream may hand us before they are acknowledged. Acknowledgements are sent every 100 ms, so
/// this allows for some 2,500 messages a second; each costs memory while it is in hand.
const OUTSTANDING_MAX: usize = 256;
/// Up to this much room a stream asks for all of it, above for half, so that acknowledgements flow.
const SMALL: usize = 8;

/// What one stream may send and has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    limit: usize,
    taken: usize,
    acked: usize,
}

impl Flow {
    /// For a stream opened when there is this much room; there must be some.
    pub(crate) fn new(room: usize) -> Self {
        Self { limit: limit(room), taken: 0, acked: 0 }
    }

    /// For a stream whose messages are acknowledged many at once: it may send as many as there is room for.
    pub(crate) fn together(room: usize) -> Self {
        Self { limit: room.max(1), taken: 0, acked: 0 }
    }

    /// The stream's limit of messages not acknowledged yet.
    pub(crate) fn limit(self) -> usize {
        self.limit
    }

    /// A message was taken.
    pub(crate) fn took(&mut self) {
        self.taken += 1;
    }

    /// Whether one more acknowledgement leaves a slot for everything Pub/Sub may send after it; counts it if so.
    pub(crate) fn ack(&mut self, room: usize) -> bool {
        let allowed = self.acked + 1 + self.limit <= self.taken + room;
        if allowed {
            self.acked += 1;
        }
        allowed
    }

    /// Whether everything that Pub/Sub may send has arrived, so that closing loses nothing on the way.
    pub(crate) fn is_exhausted(self) -> bool {
        self.taken >= self.acked + self.limit
    }

    /// Whether a stream opened now would be much wider than this one.
    pub(crate) fn is_narrow(self, room: usize) -> bool {
        limit(room) >= 4 * self.limit
    }
}

fn limit(room: usize) -> usize {
    (room / 2).max(room.min(SMALL)).clamp(1, OUTSTANDING_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worst case: Pub/Sub sends all it may at once, always.
    #[test]
    fn never_more_is_sent_than_there_are_slots() {
        for max in [1, 2, 7, 8, 9, 100, 5000] {
            let mut used = 0;
            let mut streams = 0;
            while used < max {
                streams += 1;
                let mut flow = Flow::new(max - used);
                let mut sent = flow.limit();
                loop {
                    let before = sent;
                    while flow.taken < sent {
                        flow.took();
                        used += 1;
                        assert!(used <= max, "a message without a slot");
                    }
                    while flow.acked < flow.taken && flow.ack(max - used) {}
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
            flow.took();
            assert!(flow.ack(100 - used), "{used}");
        }
        assert!(Flow::new(1).is_narrow(8) && !Flow::new(8).is_narrow(8));
    }
}
