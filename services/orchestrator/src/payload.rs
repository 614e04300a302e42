//! What messages brought, for as long as it is needed, and how much of it is in hand.
//!
//! A message has up to 10 MB, and many wait in hand: in a batch, or through failures. So what it brought is let go as
//! soon as it lies in the bucket, and while too much is in hand no further message is taken.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

/// Bytes in hand from which no further message is taken; the one that crosses it may have 10 MB.
const IN_HAND_MAX: usize = 16 * 1024 * 1024;

/// How many bytes messages in hand have, over all streams. Clones are the same count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payloads(Arc<AtomicUsize>);

impl Payloads {
    /// Counts what a message brought until it is let go.
    pub(crate) fn hold(&self, data: Bytes, attributes: BTreeMap<String, String>) -> Payload {
        let bytes = data.len();
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Payload { data, attributes, _held: Some(Held { payloads: self.clone(), bytes }) }
    }

    /// Whether no further message may be taken.
    pub(crate) fn are_too_large(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= IN_HAND_MAX
    }
}

/// What a message brought; nothing once it was let go.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) data: Bytes,
    pub(crate) attributes: BTreeMap<String, String>,
    _held: Option<Held>,
}

impl Payload {
    /// It is not needed any more.
    pub(crate) fn let_go(&mut self) {
        *self = Self::default();
    }
}

#[derive(Debug)]
struct Held {
    payloads: Payloads,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.payloads.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_hand_counts_until_it_is_let_go() {
        let payloads = Payloads::default();
        let hold = |megabytes: usize| payloads.hold(Bytes::from(vec![0; megabytes << 20]), BTreeMap::new());
        let mut first = hold(9);
        assert!(!payloads.are_too_large());
        let second = hold(9);
        assert!(payloads.are_too_large());
        first.let_go();
        assert!(first.data.is_empty() && !payloads.are_too_large());
        drop(first);
        let _third = hold(9);
        assert!(payloads.are_too_large());
        drop(second);
        assert!(!payloads.are_too_large());
    }
}
