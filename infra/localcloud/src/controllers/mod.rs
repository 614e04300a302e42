//! Controllers: they follow the store and carry out what the specs of objects say.

mod account;
mod deployment;
mod garbage;
pub mod job;
mod namespace;
mod quota;
mod replica_set;
mod timers;
mod ttl;

use std::sync::Arc;

use crate::kubernetes::{
    cluster::Cluster,
    kinds::{self, Kind},
};

/// Starts every controller; they end when the cluster stops.
pub fn start(cluster: &Arc<Cluster>, ca_pem: &str) {
    let changes = |kinds: &[&'static Kind]| cluster.store.subscribe(kinds);
    let tasks = &cluster.tasks;
    tasks.spawn(job::run(cluster.clone(), changes(&[&kinds::JOB, &kinds::POD])));
    tasks.spawn(deployment::run(cluster.clone(), changes(&[&kinds::DEPLOYMENT, &kinds::REPLICA_SET])));
    tasks.spawn(replica_set::run(cluster.clone(), changes(&[&kinds::REPLICA_SET, &kinds::POD])));
    tasks.spawn(garbage::run(cluster.clone(), changes(&kinds::KINDS)));
    tasks.spawn(namespace::run(cluster.clone(), changes(&kinds::KINDS)));
    tasks.spawn(ttl::run(cluster.clone(), changes(&[&kinds::JOB])));
    tasks.spawn(account::run(
        cluster.clone(),
        ca_pem.to_owned(),
        changes(&[&kinds::NAMESPACE, &kinds::SERVICE_ACCOUNT]),
    ));
    tasks.spawn(quota::run(cluster.clone(), changes(&kinds::KINDS)));
}
