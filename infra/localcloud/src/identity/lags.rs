//! What is eventually consistent in the real thing, late here too when asked: new accounts that nobody knows yet,
//! grants that do not count yet, services that are enabled and still refused, keys that nobody has heard of.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::policy::{Kept, Policy};
use crate::google::error::{Error, Result};

/// How late each is, by the clock; by default nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lags {
    /// A new account is unknown to reads and to policies.
    pub accounts: Duration,
    /// A policy has the effect that it had before.
    pub grants: Duration,
    /// Calls of a service that was just enabled are refused.
    pub services: Duration,
    /// A new key of an account is unknown to reads, and to whom it is shown as a proof.
    pub keys: Duration,
}

/// What is young.
#[derive(Debug, Default)]
pub(super) struct Young {
    lags: Lags,
    accounts: Mutex<BTreeMap<String, Timestamp>>,
    services: Mutex<BTreeMap<String, Timestamp>>,
    keys: Mutex<BTreeMap<String, Timestamp>>,
    policies: Mutex<BTreeMap<String, (Timestamp, Kept)>>,
}

impl Young {
    pub(super) fn new(lags: Lags) -> Self {
        Self { lags, ..Self::default() }
    }

    /// An account was made.
    pub(super) fn account(&self, email: &str, now: Timestamp) {
        if !self.lags.accounts.is_zero() {
            lock(&self.accounts).insert(email.to_owned(), now);
        }
    }

    /// A service was enabled that was not.
    pub(super) fn service(&self, name: &str, now: Timestamp) {
        if !self.lags.services.is_zero() {
            lock(&self.services).insert(name.to_owned(), now);
        }
    }

    /// A key was made.
    pub(super) fn key(&self, id: &str, now: Timestamp) {
        if !self.lags.keys.is_zero() {
            lock(&self.keys).insert(id.to_owned(), now);
        }
    }

    /// Whether a key is not known everywhere yet.
    pub(super) fn hides_key(&self, id: &str, now: Timestamp) -> bool {
        lock(&self.keys).get(id).is_some_and(|made| is_young(*made, now, self.lags.keys))
    }

    /// A policy was replaced; `before` is what it was.
    pub(super) fn policy(&self, resource: &str, before: &Kept, now: Timestamp) {
        if !self.lags.grants.is_zero() {
            lock(&self.policies).insert(resource.to_owned(), (now, before.clone()));
        }
    }

    /// Whether an account is not known everywhere yet.
    pub(super) fn hides(&self, email: &str, now: Timestamp) -> bool {
        lock(&self.accounts).get(email).is_some_and(|made| is_young(*made, now, self.lags.accounts))
    }

    /// Refuses a policy that names an account that is not known everywhere yet.
    ///
    /// # Errors
    /// 400, as for an account that does not exist.
    pub(super) fn knows_members(&self, policy: &Policy, now: Timestamp) -> Result<()> {
        let mut members = policy.bindings.iter().flat_map(|binding| &binding.members);
        let hidden =
            members.find_map(|member| member.strip_prefix("serviceAccount:").filter(|email| self.hides(email, now)));
        match hidden {
            Some(email) => Err(Error::invalid(format!("Service account {email} does not exist."))),
            None => Ok(()),
        }
    }

    /// Whether a service is enabled and refused all the same.
    pub(super) fn refuses(&self, service: &str, now: Timestamp) -> bool {
        lock(&self.services).get(service).is_some_and(|made| is_young(*made, now, self.lags.services))
    }

    /// The policy that still counts for a resource, if it is not the present one.
    pub(super) fn counting(&self, resource: &str, now: Timestamp) -> Option<Kept> {
        let policies = lock(&self.policies);
        let (replaced, before) = policies.get(resource)?;
        is_young(*replaced, now, self.lags.grants).then(|| before.clone())
    }
}

fn is_young(since: Timestamp, now: Timestamp, lag: Duration) -> bool {
    now.duration_since(since) < SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
