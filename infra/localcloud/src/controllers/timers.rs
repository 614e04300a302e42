//! Keys that are due now or later, on the cluster's clock.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::kubernetes::{
    cluster::Cluster,
    store::{Change, Key},
};

/// Keys with the time at which each is due; one time for each key.
#[derive(Default)]
pub(super) struct Timers {
    order: BTreeSet<(Timestamp, Key)>,
    times: HashMap<Key, Timestamp>,
}

impl Timers {
    /// Sets the time of a key, in place of the one it had.
    pub(super) fn set(&mut self, key: &Key, at: Timestamp) {
        self.clear(key);
        self.times.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
    }

    /// Forgets a key.
    pub(super) fn clear(&mut self, key: &Key) {
        if let Some(at) = self.times.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// The keys whose time has come.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Key> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.order.first() {
            if *at > now {
                break;
            }
            if let Some((_, key)) = self.order.pop_first() {
                self.times.remove(&key);
                due.push(key);
            }
        }
        due
    }

    /// Waits for the first time.
    pub(super) async fn wait(&self, cluster: &Cluster) {
        match self.order.first() {
            Some((at, _)) => cluster.clock.sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }
}

/// The next changes, all that are there; empty when a time has come instead. None at the end.
pub(super) async fn next(
    cluster: &Cluster,
    changes: &mut mpsc::UnboundedReceiver<Change>,
    timers: &Timers,
) -> Option<Vec<Change>> {
    let mut batch = Vec::new();
    tokio::select! {
        count = changes.recv_many(&mut batch, 1_024) => if count == 0 { return None },
        () = timers.wait(cluster) => {}
        () = cluster.stop.cancelled() => return None,
    }
    Some(batch)
}
