//! Stub.
use std::sync::Arc;
use tokio::sync::mpsc;
use crate::kubernetes::{cluster::Cluster, store::Change};
pub(super) async fn run(_cluster: Arc<Cluster>, _changes: mpsc::UnboundedReceiver<Change>) {}
