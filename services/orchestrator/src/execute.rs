//! Execution of admitted work: as a Kubernetes Job, or in the pool of engines that stay.

pub(crate) mod create;
pub(crate) mod job;
pub(crate) mod pool;
