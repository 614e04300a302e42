//! The details of Jobs for people, from the bucket and the cluster, and the way to the cluster. Reads only.
//!
//! The command line and the monitor both use this crate, so they show the same.

pub mod cluster;
pub mod connect;
mod detail;
pub mod explain;
mod gather;
pub mod kubeconfig;
pub mod text;
pub mod timeline;

pub use detail::{Detail, Stored};
pub use gather::{Sources, gather};
