//! The sets of businesses that left the environment file: what deployed them goes, once nobody needs it any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, bail};
use contract::labels;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{ID, PARENT, Set, Surplus, TOOLING, delete, id, noted, parent, surplus};
use crate::deploy::{Applied, Change, ENVIRONMENT, live::ORCHESTRATOR, reach};

/// Longest that an orchestrator takes to end; its grace period is 30 seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
const POLL_EVERY: Duration = Duration::from_millis(200);

/// The set of a business that is no longer in the environment file.
#[derive(Debug)]
pub(in crate::deploy) struct Departed {
    namespace: String,
    business: String,
    parents: Api<ConfigMap>,
    /// Everything of it.
    pub(in crate::deploy) surplus: Vec<Surplus>,
}

impl Departed {
    /// What happens to its parent.
    pub(in crate::deploy) fn parent_change(&self) -> Applied {
        parent(&self.namespace, Change::Pruned)
    }
}

/// The sets of this environment whose namespaces are not among those `present`.
///
/// # Errors
/// When such a business still has Jobs whose outcome is not written, since nobody would be left to write it.
pub(in crate::deploy) async fn departed(
    client: &Client,
    environment: &str,
    present: &BTreeSet<String>,
) -> anyhow::Result<Vec<Departed>> {
    let departed = sets(client, environment, |namespace| !present.contains(namespace)).await?;
    for Departed { namespace, business, .. } in &departed {
        if let Some(held) = unsettled(client, namespace, business).await? {
            bail!("{held}; put it back and run `cargo xtask remove-business {business}`, which waits for them");
        }
    }
    Ok(departed)
}

/// Everything that goes when these namespaces are deleted: the members of their sets, and the namespaces themselves.
///
/// # Errors
/// When the API server refuses.
pub(in crate::deploy) async fn going(
    client: &Client,
    environment: &str,
    namespaces: &[String],
) -> anyhow::Result<Vec<Applied>> {
    let sets = sets(client, environment, |namespace| namespaces.iter().any(|going| going == namespace)).await?;
    let members =
        sets.iter().flat_map(|set| set.surplus.iter().map(|one| one.gone.clone()).chain([set.parent_change()]));
    let mut going: Vec<Applied> = members.collect();
    for name in namespaces {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        if reach::read(client, &namespace).await?.is_some() {
            let (kind, name) = ("Namespace".to_owned(), name.clone());
            going.push(Applied { kind, namespace: None, name, change: Change::Pruned });
        }
    }
    Ok(going)
}

/// The sets of this environment in the namespaces that are meant.
async fn sets(client: &Client, environment: &str, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Departed>> {
    let parents: Api<ConfigMap> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{ID},{ENVIRONMENT}={environment}"));
    let parents =
        reach::with_timeout(parents.list(&ours)).await.context("list businesses that left the environment")?;
    let mut departed = Vec::new();
    for parent in parents {
        let metadata = parent.metadata;
        let namespace = metadata.namespace.unwrap_or_default();
        let labelled = metadata.labels.unwrap_or_default();
        let annotations = metadata.annotations.unwrap_or_default();
        let ours = annotations.get(TOOLING).is_some_and(|tooling| tooling.starts_with("deskgrid/"));
        if !is_meant(&namespace) || !ours || labelled.get(ID) != Some(&id(&namespace, PARENT)) {
            continue;
        }
        let business = labelled.get(labels::BUSINESS).cloned().unwrap_or_default();
        let kinds = noted(&annotations);
        let set = Set {
            id: id(&namespace, PARENT),
            namespace: namespace.clone(),
            business: business.clone(),
            kinds: BTreeMap::new(),
            members: BTreeSet::new(),
        };
        let reads = kinds.iter().map(|(kind, version)| surplus(client, &set, kind, version));
        let surplus = try_join_all(reads).await?.into_iter().flatten().collect();
        departed.push(Departed { parents: Api::namespaced(client.clone(), &namespace), namespace, business, surplus });
    }
    Ok(departed)
}

/// Deletes the sets of businesses that left: what deployed them, not their namespaces.
///
/// # Errors
/// When an orchestrator created Jobs since the preview, or does not end, or the API server refuses; what was not
/// deleted is found again the next time.
pub(in crate::deploy) async fn remove_departed(client: &Client, departed: &[Departed]) -> anyhow::Result<Vec<Applied>> {
    let mut pruned = Vec::new();
    for Departed { namespace, business, parents, surplus } in departed {
        let (first, rest): (Vec<Surplus>, Vec<Surplus>) =
            surplus.iter().cloned().partition(|one| one.gone.kind == "Deployment" && one.gone.name == ORCHESTRATOR);
        let mut gone = delete(&first).await?;
        pruned.extend(gone.iter().cloned());
        if gone.len() < first.len() {
            // Somebody has one there again.
            continue;
        }
        wait_for_end(client, namespace).await?;
        // It worked until now.
        if let Some(held) = unsettled(client, namespace, business).await? {
            bail!(
                "{held}; its orchestrator was stopped and the rest of it left as it is: put it back, and run `cargo xtask deploy` and `cargo xtask remove-business {business}`, which waits for them"
            );
        }
        let others = delete(&rest).await?;
        pruned.extend(others.iter().cloned());
        gone.extend(others);
        if gone.len() < surplus.len() {
            continue;
        }
        // The parent goes last: as long as it is there, the rest is found again.
        let plainly = DeleteParams::default();
        match reach::write(|| parents.delete(PARENT, &plainly)).await {
            Err(error) if !reach::is_missing(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(pruned)
}

/// Waits until no pod of the orchestrator in this namespace is left.
async fn wait_for_end(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of = ListParams::default().labels(&format!("{}={ORCHESTRATOR}", labels::APP));
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        let left =
            reach::with_timeout(pods.list(&of)).await.with_context(|| format!("list the pods in {namespace}"))?;
        if left.items.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let seconds = ENDS_WITHIN.as_secs();
            bail!("the orchestrator in the namespace {namespace} still ends after {seconds} s; deploy again");
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// What to say of a business that left and has Jobs whose outcome nobody else would write; nothing when it has none.
async fn unsettled(client: &Client, namespace: &str, business: &str) -> anyhow::Result<Option<String>> {
    match crate::unsettled::unsettled(client, namespace).await?.total() {
        0 => Ok(None),
        unsettled => Ok(Some(format!(
            "{business} is no longer in the environment file, but {unsettled} of its Jobs in the namespace {namespace} have no outcome yet, and only its orchestrator writes them"
        ))),
    }
}
