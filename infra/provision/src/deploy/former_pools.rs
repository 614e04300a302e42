//! What is left of the pool of a business whose `dispatch` is no longer "pool": its engines, and its certificate.
//!
//! The orchestrator that knew them is gone, so the deploy deletes them once the new one runs: the engines first, then
//! the Secret, by which a deploy that was stopped finds them again. Their work is not lost: its messages were not
//! acknowledged. The Service is a member of the business's set and is pruned as such.

use anyhow::Context as _;
use contract::labels;
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};

use super::{
    Applied, Change, ChangeView,
    event::{Event, Progress},
    options::Options,
    reach,
};
use crate::environment::Environment;

/// The name under which all engines of a pool are shown.
const ENGINES: &str = "pool-*";

/// Namespaces with a former pool. Writes nothing.
///
/// # Errors
/// When the cluster refuses.
pub(super) async fn plan(environment: &Environment, client: &Client, options: &Options) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let without = environment.businesses.iter().filter(|one| one.pool.is_none() && options.includes(&one.name));
    for namespace in without.map(|business| &business.namespace) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let live = reach::with_timeout(secrets.get_opt(labels::POOL_TLS_SECRET)).await;
        if live.with_context(|| format!("read the Secret {namespace}/{}", labels::POOL_TLS_SECRET))?.is_some() {
            found.push(namespace.clone());
        }
    }
    Ok(found)
}

/// What is deleted in a namespace.
pub(super) fn changes(namespace: &str) -> [ChangeView; 2] {
    [
        gone(namespace, "Job", ENGINES).into(),
        ChangeView::secret(namespace, labels::POOL_TLS_SECRET, Change::Pruned, "-the certificate".to_owned()),
    ]
}

/// Deletes it.
///
/// # Errors
/// When the cluster refuses.
pub(super) async fn remove(
    client: &Client,
    namespaces: &[String],
    progress: &Progress,
) -> anyhow::Result<Vec<Applied>> {
    let (mut removed, background) = (Vec::new(), DeleteParams::background());
    for namespace in namespaces {
        let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
        let engines = ListParams::default().labels(labels::POOL);
        reach::write(|| jobs.delete_collection(&background, &engines))
            .await
            .with_context(|| format!("delete the engines of the pool in {namespace}"))?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        match reach::write(|| secrets.delete(labels::POOL_TLS_SECRET, &background)).await {
            Err(error) if reach::is_missing(&error) => {}
            deleted => drop(deleted.with_context(|| format!("delete the certificate of the pool in {namespace}"))?),
        }
        removed.extend([gone(namespace, "Job", ENGINES), gone(namespace, "Secret", labels::POOL_TLS_SECRET)]);
    }
    for gone in &removed {
        progress(Event::Applied(gone.clone()));
    }
    Ok(removed)
}

fn gone(namespace: &str, kind: &str, name: &str) -> Applied {
    let (kind, namespace, name) = (kind.to_owned(), Some(namespace.to_owned()), name.to_owned());
    Applied { kind, namespace, name, change: Change::Pruned }
}
