//! What is known of Jobs, for people: from the bucket and the cluster, in few words.
//!
//! The command line and the monitor both ask here, so that they tell the same. It reads, and changes nothing.

pub mod cluster;
mod detail;
pub mod explain;
pub mod text;
pub mod timeline;

pub use detail::{Detail, Sources, Stored, gather};
