//! Execution of admitted work: as a Kubernetes Job, or in the pool of engines that stay.

use std::sync::Arc;

use contract::{Identity, message::Work};

use self::{create::Creator, pool::Pool};
use crate::base::Base;

pub(crate) mod create;
pub(crate) mod job;
pub(crate) mod pool;

/// Executes work.
pub(crate) struct Executor {
    pub(crate) base: Arc<Base>,
    pub(crate) creator: Creator,
    /// The pool, of a business that has one.
    pub(crate) pool: Option<Arc<Pool>>,
}

impl Executor {
    /// The pool, if it computes this work: an attempt with resources of its own needs a Job of its own.
    pub(crate) fn pool_of(&self, work: &Work) -> Option<&Pool> {
        self.pool.as_deref().filter(|_| work.resources.is_default())
    }

    /// Whether this work has a Job, or is computed in the pool.
    pub(crate) fn is_in_progress(&self, identity: &Identity) -> bool {
        self.base.jobs.view().contains(&identity.job_name())
            || self.pool.as_ref().is_some_and(|pool| pool.contains(identity))
    }
}
