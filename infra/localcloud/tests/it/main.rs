//! The laptop cloud as real clients see it: Google's own, kube-rs, and the command-line tools where they are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a skipped test says so")]

mod google;
mod kubernetes;
