//! The real binary, as a person runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod usage;
