//! The orchestrator of one business: a message becomes a Kubernetes Job, and a Job that ended becomes an outcome.
//!
//! It keeps no state of its own: Pub/Sub holds what waits, Kubernetes what runs, the bucket the data and the outcomes.
//! Every step may be repeated, by this process, by the next, or by another replica at the same time.

mod accept;
mod answers;
mod batch_job;
mod batch_outcome;
mod batcher;
mod breaker;
pub mod clock;
mod cluster;
pub mod conclude;
mod config;
mod context;
mod controls;
mod create;
mod events;
mod flow;
mod follow;
mod gate;
pub mod hooks;
mod intake;
mod job;
mod jobs;
mod locate;
mod looks;
mod metrics;
mod outcome;
mod payload;
mod priority;
mod run;
mod settle;
mod settle_batch;
mod sweep;
mod view;
mod watched;

pub use clock::Clock;
pub use config::{Config, Timing};
pub use hooks::{At, Hooks, Step};
pub use run::{Clients, listen, run};
