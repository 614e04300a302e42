//! Which of their rights service accounts have made use of, so that a right which nobody uses can be found.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use super::policy::Condition;

/// Refusals that are kept, of all accounts together.
const REFUSED: usize = 1000;

/// A grant that let an account do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Resource that has the policy.
    pub on: String,
    /// Role.
    pub role: String,
    /// Expression of its condition, "" for none.
    pub condition: String,
}

/// The grants that were used, by account. Most requests use one that is known already, which costs no memory.
#[derive(Debug, Default)]
pub(super) struct Used {
    hasher: RandomState,
    grants: Mutex<HashMap<u64, (String, Grant)>>,
    refused: Mutex<Vec<[String; 3]>>,
}

impl Used {
    pub(super) fn note(&self, account: &str, on: &str, role: &str, condition: Option<&Condition>) {
        let condition = condition.map(|condition| condition.expression.as_str()).unwrap_or_default();
        let key = self.hasher.hash_one((account, on, role, condition));
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.entry(key).or_insert_with(|| {
            let grant = Grant { on: on.to_owned(), role: role.to_owned(), condition: condition.to_owned() };
            (account.to_owned(), grant)
        });
    }

    pub(super) fn note_refused(&self, account: &str, permission: &str, on: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED {
            refused.push([account, permission, on].map(str::to_owned));
        }
    }

    pub(super) fn refused(&self, account: &str) -> Vec<(String, String)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_account = refused.iter().filter(|[of, ..]| of == account);
        of_account.map(|[_, permission, on]| (permission.clone(), on.clone())).collect()
    }

    pub(super) fn of(&self, account: &str) -> Vec<Grant> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.values().filter(|(of, _)| of == account).map(|(_, grant)| grant.clone()).collect()
    }
}
