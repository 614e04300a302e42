//! The engine: reads one input, or the range of a pack, computes with a built-in kernel or a desk's own program, and
//! writes the results.
//!
//! `run` and `exec` read and write Cloud Storage and take their settings from environment variables only; `serve` does so
//! for one item after another, which orchestrators send. `try` reads standard input and writes standard output, without
//! a cloud.

pub mod arguments;
pub mod compute;
pub mod config;
pub mod failure;
pub mod host;
pub mod input;
pub mod install;
mod item;
pub mod local;
pub mod log;
pub mod process;
pub mod program;
pub mod range;
pub mod resident;
pub mod run;
pub mod serve;
mod socket;
pub mod store;

/// Version of the engine, as written with each result.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
