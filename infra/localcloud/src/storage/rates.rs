//! How often a bucket and an object name may be written, where that is limited on request.
//!
//! A new bucket takes about 1,000 writes a second, deletes and changes of metadata included
//! (<https://cloud.google.com/storage/docs/request-rate>), and each name takes one
//! (<https://cloud.google.com/storage/quotas>). The error of a name is that of <https://cloud.google.com/storage/docs/gcs429>;
//! a bucket answers 429 or 503, here 503.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use tonic::Code;

use crate::google::error::{Error, Result};

/// Time between two writes of one name, and how much a bucket takes at once.
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// Names whose last write is kept, before those of more than a second ago are dropped.
const NAMES: usize = 10_000;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteRates {
    /// Writes a second that a bucket takes; each name takes one.
    pub per_bucket: u32,
}

/// Writes that were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedWrites {
    /// Because of the bucket.
    pub of_buckets: usize,
    /// Because of the name.
    pub of_names: usize,
}

/// The writes of the last second.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the writes that a bucket took are over, at its rate.
    buckets: HashMap<String, Timestamp>,
    names: HashMap<(String, String), Timestamp>,
    refused: RefusedWrites,
}

impl Recent {
    /// Counts a write, or refuses it.
    pub(super) fn write(&self, rates: Option<WriteRates>, bucket: &str, name: &str, now: Timestamp) -> Result<()> {
        let Some(rates) = rates else { return Ok(()) };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |last: &Timestamp| now.duration_since(*last) < SECOND;
        let key = (bucket.to_owned(), name.to_owned());
        if state.names.get(&key).is_some_and(is_recent) {
            state.refused.of_names += 1;
            return Err(Error::new(
                Code::ResourceExhausted,
                format!(
                    "The object {bucket}/{name} exceeded the rate limit for object mutation operations (create, update, \
                     and delete). Please reduce your request rate. See https://cloud.google.com/storage/docs/gcs429."
                ),
            ));
        }
        let over = state.buckets.get(bucket).copied().unwrap_or(now).max(now);
        let over =
            over.checked_add(SECOND / i32::try_from(rates.per_bucket.max(1)).unwrap_or(i32::MAX)).unwrap_or(over);
        if over.duration_since(now) > SECOND {
            state.refused.of_buckets += 1;
            return Err(Error::new(Code::Unavailable, "We encountered an internal error. Please try again."));
        }
        state.buckets.insert(bucket.to_owned(), over);
        if state.names.len() >= NAMES {
            state.names.retain(|_, last| is_recent(last));
        }
        state.names.insert(key, now);
        Ok(())
    }

    pub(super) fn refused(&self) -> RefusedWrites {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused
    }
}
