//! Taking a deploy back whose rollout failed: what was changed is applied again as it was, what was new is deleted.

use std::collections::BTreeSet;

use anyhow::Context as _;
use kube::{
    Client,
    api::{DeleteParams, Preconditions},
};
use serde_json::Value;

use super::{
    Change, applyset, owned,
    preview::{Planned, Preview},
    reach,
};

/// What to do to take one change back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Apply the object as it was.
    Restore(Value),
    /// Delete what was new.
    Delete(Value),
    /// It stays as it is, for this reason.
    Keep(String),
}

/// What to do to take a deploy back, in the order in which to do it: what others rely on is restored first. Namespaces
/// stay, and so does everything where there was nothing before: what was never there cannot be gone back to.
pub(super) fn steps(preview: &Preview) -> Vec<Step> {
    let mut steps = Vec::new();
    for group in &preview.groups {
        let is_first =
            group.objects.iter().all(|planned| planned.live.is_none() || planned.object["kind"] == "Namespace");
        if is_first {
            continue;
        }
        steps.extend(group.objects.iter().filter_map(step));
    }
    steps.sort_by_key(|step| matches!(step, Step::Delete(_)));
    steps
}

fn step(planned: &Planned) -> Option<Step> {
    if planned.object["kind"] == "Namespace" {
        return None;
    }
    match (planned.change, &planned.live) {
        (Change::Changed, Some(live)) => Some(match owned::applied(live) {
            Some(before) => Step::Restore(before),
            None => Step::Keep(format!("{} was not made by a deploy", planned.title())),
        }),
        (Change::Created, _) => Some(Step::Delete(planned.object.clone())),
        _ => None,
    }
}

/// Deployments that were there before, as `namespace/name`: only those can run as before.
pub(super) fn had_before(preview: &Preview) -> BTreeSet<String> {
    let before = preview.objects().filter(|planned| planned.object["kind"] == "Deployment" && planned.live.is_some());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    before
        .map(|planned| &planned.object["metadata"])
        .map(|metadata| format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"])))
        .collect()
}

/// Takes a deploy back.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn roll_back(client: &Client, preview: &Preview) -> anyhow::Result<Vec<String>> {
    let mut notes = Vec::new();
    for step in steps(preview) {
        match step {
            Step::Restore(object) => {
                super::write::put(client, &object, true).await?;
                notes.push(format!("{} is as it was", reach::title(&object)));
            }
            Step::Delete(object) => {
                let title = reach::title(&object);
                if delete(client, &object).await.with_context(|| format!("delete the {title}"))? {
                    notes.push(format!("{title} is gone again"));
                }
            }
            Step::Keep(why) => notes.push(why),
        }
    }
    Ok(notes)
}

/// Deletes an object that is of our set, and no other of its name; `false` when there is none.
async fn delete(client: &Client, object: &Value) -> anyhow::Result<bool> {
    let Some(live) = reach::read(client, object).await? else { return Ok(false) };
    if live["metadata"]["labels"][applyset::PART_OF] != object["metadata"]["labels"][applyset::PART_OF] {
        return Ok(false);
    }
    let uid = live["metadata"]["uid"].as_str().map(str::to_owned);
    let only_this = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::background()
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let api = reach::api(client, object)?;
    match reach::write(|| api.delete(name, &only_this)).await {
        Err(error) if reach::refusal(&error).is_some_and(|status| status.code == 404 || status.code == 409) => {
            Ok(false)
        }
        deleted => deleted.map(|_| true),
    }
}
