//! The protocol between the warm engines of a pool and the orchestrators of their business.
//!
//! Both sides decide in pure code, [`Dispatcher`] for the orchestrator and [`Worker`] for the engine: values in, frames
//! and actions out, no clock and no network. So one seeded simulation runs the transitions that the services run.
//!
//! The promise does not rest on this protocol: the first outcome of a range counts, whatever engines compute twice. The
//! protocol keeps them from doing so, and keeps them busy.

pub mod dispatcher;
pub mod worker;

#[cfg(test)]
mod simulation;

pub use dispatcher::Dispatcher;
pub use worker::Worker;

/// The frames of the stream, generated from `proto/pool.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
pub mod proto {
    tonic::include_proto!("deskgrid.pool.v1");
}

/// Name of a range: the hash of its identity, which also names its Kubernetes Job.
pub type RangeName = std::sync::Arc<str>;
