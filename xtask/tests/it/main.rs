//! End-to-end tests: the only place where every part of Deskgrid meets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crashes;
mod daily;
mod demo;
mod desk;
mod duplicates;
mod kills;
mod tidy;
mod usage;
mod world;
mod wrapped;
