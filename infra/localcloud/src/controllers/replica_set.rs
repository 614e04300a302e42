//! Stub.
use crate::kubernetes::{cluster::Cluster, store::Change};
use std::sync::Arc;
use tokio::sync::mpsc;
pub(super) async fn run(_cluster: Arc<Cluster>, _changes: mpsc::UnboundedReceiver<Change>) {}
