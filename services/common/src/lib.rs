//! What every part of Deskgrid agrees on: names, messages, objects, outcomes and the generated configuration.
//!
//! Nothing here knows Kubernetes types, so the engine stays free of them.

pub mod batch;
pub mod clients;
pub mod config;
pub mod control;
pub mod credentials;
pub mod dead_letters;
pub mod exit;
pub mod identity;
pub mod jobs;
pub mod labels;
pub mod message;
pub mod names;
pub mod object;
pub mod outcome;
pub mod probes;
pub mod quantity;
pub mod results;
pub mod sessions;
pub mod shutdown;
pub mod storage;
pub mod submit;
pub mod table;
pub mod telemetry;

#[cfg(test)]
mod properties;

pub use identity::Identity;
pub use outcome::Outcome;
