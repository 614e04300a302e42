//! A cache of the identities that this process settled last, so that a message whose outcome was checked just before
//! its Job was settled does not run again.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use contract::Identity;

/// Identities of a generation; the last two generations are kept.
const CAPACITY: usize = 5_000;

/// The identities that this process settled last.
#[derive(Debug, Default)]
pub(crate) struct SettledCache(Mutex<[HashSet<u128>; 2]>);

impl SettledCache {
    pub(crate) fn insert(&self, identity: &Identity) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys[0].len() >= CAPACITY {
            keys[1] = std::mem::take(&mut keys[0]);
        }
        keys[0].insert(key(&identity.job_name()));
    }

    /// Whether it has the identity of the Job with this name.
    pub(crate) fn contains(&self, job: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|keys| keys.contains(&key(job)))
    }
}

/// The hash in a Job's name, as a number.
fn key(job: &str) -> u128 {
    let digits = job.rsplit_once('-').map_or("", |(_, digits)| digits);
    u128::from_str_radix(digits, 16).unwrap_or_default()
}
