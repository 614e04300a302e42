//! The laptop cloud's Kubernetes, as real clients see it.

mod access;
mod apply;
mod faults;
mod jobs;
mod kubectl;
mod life;
mod names;
mod objects;
mod sidecars;
mod support;
mod tokens;
mod watch;
mod workloads;
