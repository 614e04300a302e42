//! The orchestrator of one business: it creates a Kubernetes Job for each message, and records an outcome for each Job.
//!
//! It keeps no state: Pub/Sub has the waiting messages, Kubernetes the running Jobs, and the bucket the data and the
//! outcomes. Every step may be repeated, by this process, by the next one, or by another replica at the same time.
//!
//! A message takes one path: [`intake`] receives it, [`admit`] decides whether its work may start, [`execute`] creates
//! its Job or sends it to the pool, and [`settle`] records the outcome. Beside that path, [`sessions`] applies what
//! people decide about sessions, and [`sweep`] finds the inputs whose message was lost. [`watch`] shows all of them the
//! Jobs in the cluster.

mod admit;
mod base;
pub mod clock;
mod cluster;
mod config;
mod execute;
pub mod hooks;
mod intake;
mod metrics;
mod run;
mod sessions;
mod settle;
mod sweep;
mod watch;

pub use clock::Clock;
pub use config::{Config, PoolConfig, Timing};
pub use hooks::{Hooks, Reached, Step};
pub use run::{Clients, listen, run};
