//! The monitor shows the state of the queue, live, to people and programs.
//!
//! It follows each business ([`follow`]), computes a board ([`board`]), and serves it as pages and as JSON. It stores
//! nothing: after a restart it reads the same state again. Its actions use the code of the command line, and the audit
//! log names the visitor.

mod actions;
mod api;
mod audit;
mod board;
mod charts;
mod download;
mod follow;
mod logs;
mod nodes;
mod openapi;
mod operations;
mod page;
mod page_request;
mod pages;
mod raw;
mod routes;
mod run;
mod state;

pub use api::document;
pub use run::{Clients, run};
