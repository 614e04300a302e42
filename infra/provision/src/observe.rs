//! Reads what exists, all at once.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use serde_json::Value;

use crate::{
    google::{Client, Error},
    resource::{Id, Kind, Resource},
    wire::{self, Owner},
};

/// Reads in flight at once.
const AT_ONCE: usize = 32;

/// What one resource looked like.
#[derive(Clone, Debug, PartialEq)]
pub enum Live {
    /// It does not exist.
    Absent,
    /// It does, and this is it in the API's own JSON.
    Present(Value),
    /// We may not look; says why.
    Denied(String),
    /// There is no such thing here at all: an emulator has no IAM.
    Unsupported,
}

/// What exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Every resource that was asked for.
    pub live: BTreeMap<Id, Live>,
    /// Resources of this environment that were not asked for.
    pub extra: BTreeMap<Id, Value>,
}

/// Reads every resource of `desired`, and finds what else is of this environment. One wave of reads.
///
/// # Errors
/// When the cloud cannot be asked at all.
pub async fn observe(
    client: &Client,
    environment: &str,
    project: &str,
    desired: &[Resource],
) -> Result<Observation, Error> {
    let reads = stream::iter(desired.iter().map(|resource| look(client, &resource.id)));
    let lists = wire::lists(project).map(|(request, key, kind)| async move {
        match client.list(&request, key).await {
            Ok(items) => Ok((kind, items)),
            // Who may not list only misses a hint.
            Err(error) if error.is_forbidden() || error.is_not_found() => Ok((kind, vec![])),
            Err(error) => Err(error),
        }
    });
    let (reads, lists) =
        futures::join!(reads.buffer_unordered(AT_ONCE).collect::<Vec<_>>(), futures::future::join_all(lists));

    let live = reads.into_iter().collect::<Result<BTreeMap<Id, Live>, Error>>()?;
    let known: BTreeSet<&Id> = desired.iter().map(|resource| &resource.id).collect();
    let mut extra = BTreeMap::new();
    for list in lists {
        let (kind, items) = list?;
        for item in items {
            let id = Id::new(kind, item["name"].as_str().unwrap_or_default());
            if !known.contains(&id) && wire::owner(&id, &item, environment) == Owner::Ours {
                extra.insert(id, item);
            }
        }
    }
    Ok(Observation { live, extra })
}

/// Reads one resource.
async fn look(client: &Client, id: &Id) -> Result<(Id, Live), Error> {
    let live = match client.send(&wire::read(id)).await {
        Ok(value) => Live::Present(value),
        Err(error) if error.is_not_found() => Live::Absent,
        Err(error) if error.may_not_exist() && id.target().kind == Kind::ServiceAccount => Live::Absent,
        Err(error) if error.is_forbidden() => Live::Denied(error.to_string()),
        Err(error) if error.is_unimplemented() && id.is_policy() => Live::Unsupported,
        Err(error) => return Err(error),
    };
    Ok((id.clone(), live))
}
