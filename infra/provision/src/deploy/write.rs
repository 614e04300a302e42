//! Applies a preview, step by step. Any step may be the last one: the next deploy continues from there.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use serde_json::Value;

use super::{
    Applied, Change, applyset,
    preview::{Group, Planned, Preview},
    reach, refusal,
};

/// Namespaces worked on at a time.
const AT_ONCE: usize = 8;

/// Applies the namespaces that are new or different, which everything else needs.
///
/// # Errors
/// When the API server refuses one.
pub(super) async fn apply_namespaces(client: &Client, preview: &Preview) -> anyhow::Result<Vec<Applied>> {
    let mut applied = Vec::new();
    for planned in preview.objects().filter(|planned| is_namespace(planned)) {
        applied.push(apply_one(client, planned).await?);
    }
    Ok(applied)
}

/// Applies what else is new or different, in order; namespaces do not wait for each other. Answers every object with
/// what happened to it.
///
/// # Errors
/// When the API server refuses an object.
pub(super) async fn apply_members(client: &Client, preview: &Preview) -> anyhow::Result<Vec<Applied>> {
    let mut applied = Vec::new();
    let (outside, namespaces) = preview.groups.split_at(preview.groups.len().min(1));
    for group in outside {
        applied.extend(carry_out_group(client, &preview.environment, group).await?);
    }
    let groups = namespaces.iter().map(|group| carry_out_group(client, &preview.environment, group));
    let groups: Vec<_> = groups.collect();
    // A failure in one namespace keeps no other one half done.
    let results: Vec<anyhow::Result<Vec<Applied>>> = stream::iter(groups).buffered(AT_ONCE).collect().await;
    for result in results {
        applied.extend(result?);
    }
    Ok(applied)
}

fn is_namespace(planned: &Planned) -> bool {
    planned.object["kind"] == "Namespace"
}

async fn carry_out_group(client: &Client, environment: &str, group: &Group) -> anyhow::Result<Vec<Applied>> {
    if let Some(set) = &group.set {
        applyset::open(client, environment, set).await?;
    }
    let mut applied = Vec::new();
    for planned in group.objects.iter().filter(|planned| !is_namespace(planned)) {
        applied.push(apply_one(client, planned).await?);
    }
    Ok(applied)
}

async fn apply_one(client: &Client, planned: &Planned) -> anyhow::Result<Applied> {
    if planned.change != Change::Unchanged {
        put(client, &planned.object, planned.force).await?;
    }
    Ok(planned.applied())
}

/// Applies one object.
///
/// # Errors
/// When the API server refuses it; says what is behind that.
pub(super) async fn put(client: &Client, object: &Value, force: bool) -> anyhow::Result<Value> {
    let title = reach::title(object);
    match reach::apply(client, object, force, false).await {
        Ok(after) => Ok(after),
        Err(error) => match reach::refusal(&error) {
            Some(status) if refusal::is_conflict(status) => {
                Err(refusal::disputed(&[(title, refusal::conflicts(status))]).into())
            }
            Some(status) => Err(refusal::refused(&title, status).into()),
            None => Err(error).with_context(|| format!("apply the {title}")),
        },
    }
}

/// Deletes what was applied before and is no longer wanted.
///
/// # Errors
/// When the API server refuses; what was not deleted is found again the next time.
pub(super) async fn prune(client: &Client, preview: &Preview) -> anyhow::Result<Vec<Applied>> {
    let sets = preview.groups.iter().filter_map(|group| group.set.as_ref());
    let closes: Vec<_> = sets.map(|set| applyset::close(client, &preview.environment, set)).collect();
    let pruned: Vec<Vec<Applied>> = stream::iter(closes).buffered(AT_ONCE).try_collect().await?;
    let mut pruned: Vec<Applied> = pruned.into_iter().flatten().collect();
    pruned.extend(applyset::remove_departed(client, &preview.departed).await?);
    Ok(pruned)
}
