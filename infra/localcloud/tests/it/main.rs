//! The laptop cloud's Kubernetes, as real clients see it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "the whole of it is a test")]

mod access;
mod apply;
mod jobs;
mod kubectl;
mod life;
mod objects;
mod support;
mod watch;
mod workloads;
