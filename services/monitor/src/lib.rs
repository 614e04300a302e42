//! The monitor: what the queue does and why, live, for people and programs.
//!
//! It follows each business it serves ([`follow`]), makes a board of what it knows ([`board`]), and shows it as pages
//! and as JSON. It keeps nothing: after a restart it knows the same. What it changes, it changes as the command line
//! does, and says who asked.

mod actions;
mod api;
mod board;
mod charts;
mod download;
mod follow;
mod logs;
mod nodes;
mod openapi;
mod pages;
mod raw;
mod run;
mod state;

pub use api::document;
pub use run::{Clients, run};
