//! The engine: reads one input, computes with a built-in kernel or a desk's own program, writes one result.
//!
//! `run` and `exec` do so on Cloud Storage and are told what to do by environment variables only; `try` does the same
//! from standard input to standard output, with no cloud.

pub mod arguments;
pub mod batch;
pub mod compute;
pub mod config;
pub mod failure;
pub mod install;
pub mod local;
pub mod log;
pub mod process;
pub mod program;
pub mod run;
pub mod store;

/// Version of the engine, as results carry it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
