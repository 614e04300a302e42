//! The laptop cloud's Google half, judged by Google's own clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod identity;
mod pubsub;
mod storage;
mod support;
mod tools;
