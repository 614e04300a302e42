//! What the engine recorded of the items of a range, and the outcome that follows from it.

use anyhow::Context as _;
use contract::{
    Identity, Outcome,
    message::Work,
    outcome::State,
    pack::{self, Format, Item, Part, files, recorded},
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
    set_names(base, work, outcome).await
}

/// Gives the items of a pack of files the names that no engine recorded: an item that was cancelled, or with which pods
/// ended, needs its name most. Without the input there are none.
pub(crate) async fn set_names(base: &Base, work: &Work, outcome: &mut Outcome) -> anyhow::Result<()> {
    let is_of_files = work.pack.as_ref().is_some_and(|pack| pack.format == Format::Files);
    let Some(range) = work.range().filter(|_| is_of_files && outcome.items.iter().any(|item| item.name.is_none()))
    else {
        return Ok(());
    };
    let Identity { bucket, object, generation, .. } = &work.identity;
    let opened = match work.span {
        Some(span) => base.store.open_part(bucket, object, *generation, span.offset, span.length).await?,
        None => base.store.open_generation(bucket, object, Some(*generation)).await?,
    };
    let Some(mut contents) = opened else { return Ok(()) };
    let (is_part, before) = (work.span.is_some(), if work.span.is_some() { 0 } else { range.start });
    let wanted = before as usize..before as usize + range.len();
    let read = move || {
        let (mut number, mut names) = (0, Vec::new());
        let found = |file: files::File| {
            names.extend(wanted.contains(&number).then_some(file.name));
            number += 1;
        };
        // The names before an error are right.
        contents.read_blocking(|archive| files::read(archive, is_part, found).is_ok()).map(|_| names)
    };
    let names = tokio::task::spawn_blocking(read).await.context("read an archive")??;
    let mut items = std::mem::take(&mut outcome.items);
    items.iter_mut().zip(names).for_each(|(item, name)| item.name = Some(name));
    outcome.set_items(&range, items);
    Ok(())
}
