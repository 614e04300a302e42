//! End-to-end tests: the only place where every part of Deskgrid meets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crashes;
mod demo;
mod duplicates;
mod keys;
mod kills;
mod plans;
mod setup_verbs;
mod tidy;
mod usage;
mod world;
