//! Exit codes of the engine and of the command line. The table of codes explains them (`explain`, docs/codes.md).

/// A verb succeeded; the engine wrote its result, or the result existed already.
pub const DONE: u8 = 0;

/// The engine can never compute this input, so Kubernetes must not retry (`podFailurePolicy`).
pub const PERMANENT: u8 = 10;

/// The engine failed, and a retry may succeed. Every code but [`DONE`] and [`PERMANENT`] means this.
pub const TRANSIENT: u8 = 1;

/// A verb of the command line failed.
pub const FAILED: u8 = 1;

/// `plan` found changes to make.
pub const CHANGES_PENDING: u8 = 2;

/// A signal ended a verb: this and the number of the signal, as a shell has it.
pub const SIGNAL: u8 = 128;

/// The command line has an error (`EX_USAGE` of sysexits).
pub const USAGE: u8 = 64;
