//! Exit codes of the engine and of the command line.

/// The engine finished, or found that its result already exists.
pub const DONE: u8 = 0;

/// The engine cannot ever succeed on this input; Kubernetes must not retry (`podFailurePolicy`).
pub const PERMANENT: u8 = 10;

/// The engine failed in a way that a retry may cure. Any code but [`DONE`] and [`PERMANENT`] means this.
pub const TRANSIENT: u8 = 1;

/// A verb of the command line failed.
pub const FAILED: u8 = 1;

/// `plan` found changes to make.
pub const CHANGES_PENDING: u8 = 2;

/// The command line was used wrongly (`EX_USAGE` of sysexits).
pub const USAGE: u8 = 64;
