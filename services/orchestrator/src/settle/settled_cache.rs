//! A cache of the identities that this process settled last, so that a message whose outcome was checked just before
//! its Job was settled does not run again.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use contract::Identity;

const CAPACITY: usize = 10_000;

/// The identities that this process settled last.
#[derive(Debug, Default)]
pub(crate) struct SettledCache(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    all: HashSet<u128>,
    oldest_first: VecDeque<u128>,
}

impl SettledCache {
    pub(crate) fn insert(&self, identity: &Identity) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&identity.job_name());
        if keys.all.insert(key) {
            keys.oldest_first.push_back(key);
        }
        if keys.oldest_first.len() > CAPACITY
            && let Some(oldest) = keys.oldest_first.pop_front()
        {
            keys.all.remove(&oldest);
        }
    }

    /// Whether it has the identity of the Job with this name.
    pub(crate) fn contains(&self, job: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.contains(&key(job))
    }
}

/// The hash in a Job's name, as a number.
fn key(job: &str) -> u128 {
    let digits = job.rsplit_once('-').map_or("", |(_, digits)| digits);
    u128::from_str_radix(digits, 16).unwrap_or_default()
}
