//! The orchestrator of one business: it creates a Kubernetes Job for each message, and records an outcome for each Job.
//!
//! It keeps no state: Pub/Sub has the waiting messages, Kubernetes the running Jobs, and the bucket the data and the
//! outcomes. Every step may be repeated, by this process, by the next one, or by another replica at the same time.

mod accept;
mod admit;
mod admit_error;
mod admit_pack;
mod answers;
mod base;
mod breaker;
pub mod clock;
mod cluster;
mod conclude;
mod config;
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
mod metrics;
mod outcome;
mod outcome_lookup;
mod packs;
mod pods;
mod pool;
mod priority;
mod ranges;
mod received;
mod record;
mod run;
mod settle;
mod settled_cache;
mod sweep;
mod version_1;
mod view;
mod watched;

pub use clock::Clock;
pub use config::{Config, PoolConfig, Timing};
pub use hooks::{Hooks, Reached, Step};
pub use run::{Clients, listen, run};
