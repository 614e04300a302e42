//! What the engine recorded of the items of a range, and the outcome that follows from it.

use contract::{
    Outcome,
    message::Work,
    outcome::State,
    pack::{self, Item, Part, recorded},
};

use crate::{base::Base, settle::ended::previous};

/// Reads the parts of a range: from 0 until one is missing. One that cannot be read counts as empty.
pub(crate) async fn read_parts(base: &Base, work: &Work) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for number in 0.. {
        let name = work.part(number);
        let Some((_, body)) = base.store.read(&work.identity.bucket, &name, None).await? else { break };
        match serde_json::from_slice::<Part>(&body) {
            Ok(part) if part.schema <= pack::SCHEMA => parts.push(part),
            Ok(part) => tracing::error!(object = name, schema = part.schema, "a part has an unknown schema version"),
            Err(error) => tracing::error!(object = name, "failed to read a part of a range: {error}"),
        }
    }
    Ok(parts)
}

/// Whether the parts record every item that the Job had to compute.
pub(crate) fn is_complete(work: &Work, parts: &[Part]) -> bool {
    let recorded = recorded(parts);
    work.items().iter().all(|item| recorded.contains_key(item))
}

/// The results that an earlier attempt at a range computed, and that this one does not compute again.
pub(crate) async fn earlier_items(base: &Base, work: &Work) -> anyhow::Result<Vec<Item>> {
    let before = if work.only.is_some() { previous(base, work).await? } else { None };
    let items = before.into_iter().flat_map(|outcome| outcome.items);
    Ok(items.filter(|item| item.state == State::Succeeded).collect())
}

/// Gives the outcome of a range its items: those that the engine recorded, and those that an earlier attempt computed.
pub(crate) async fn set_items(base: &Base, work: &Work, parts: &[Part], outcome: &mut Outcome) -> anyhow::Result<()> {
    let Some(range) = work.range() else { return Ok(()) };
    let mut items: Vec<Item> = recorded(parts).into_values().cloned().collect();
    items.extend(earlier_items(base, work).await?);
    outcome.set_items(&range, items);
    Ok(())
}
