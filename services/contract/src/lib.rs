//! The contract between all parts of Deskgrid: names, labels, messages, objects, outcomes and the generated
//! configuration.
//!
//! Pure: nothing here does I/O or knows Kubernetes types.

pub mod config;
pub mod control;
pub mod exit;
pub mod expansion;
pub mod identity;
pub mod labels;
pub mod message;
pub mod names;
pub mod object;
pub mod outcome;
pub mod pack;
pub mod pool_report;
pub mod quantity;
pub mod state;
pub mod testing;

#[cfg(test)]
mod properties;

pub use identity::Identity;
pub use outcome::Outcome;
