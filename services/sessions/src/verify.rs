//! Verifies the results of a session: what its outcomes name against the objects in the bucket.

use std::collections::{BTreeMap, BTreeSet};

use cloud::{
    outcomes,
    storage::{Fingerprint, Store},
};
use contract::{
    Outcome,
    config::Business,
    object,
    outcome::{State, stored::UNREADABLE},
    pack::ItemResult,
};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

pub use recompute::{Recomputed, recompute};

mod recompute;

/// Objects read at a time.
const READS: usize = 16;

/// What the verification of a session found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Outcomes that were read, those of earlier attempts among them.
    pub outcomes: usize,
    /// Results that they name.
    pub results: usize,
    /// Objects with results that were read.
    pub objects: usize,
    /// The bytes of these objects.
    pub bytes: u64,
    /// Results that are not as their outcome says.
    pub problems: Vec<Problem>,
    /// Objects among the results of ended work that no outcome names. Nothing reads them: a pod that ended between a
    /// result and its record leaves such an object.
    pub unnamed: Vec<String>,
    /// Objects among the results of work that has not ended.
    pub pending: usize,
}

/// A result that is not as its outcome says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub problem: Kind,
    /// Job id.
    pub job: String,
    /// The item, or the first one, of a pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The object that has the result, or the outcome.
    pub object: String,
    /// One sentence for a person.
    pub message: String,
}

/// What is wrong with a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The object with the result does not exist.
    Missing,
    /// The result has another size or another hash.
    Differs,
    /// An item succeeded without a result, or the outcome of its range does not have it.
    NoResult,
    /// The outcome cannot be read.
    Unreadable,
    /// The computation of the input gives another result.
    Recomputed,
}

impl Kind {
    /// The word for people and for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::NoResult => "no-result",
            Self::Unreadable => "unreadable",
            Self::Recomputed => "recomputed",
        }
    }
}

/// Results that outcomes name, by their object and its generation; without a generation, the live one.
type Named = BTreeMap<(String, Option<i64>), Result>;

/// The results in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Result {
    job: String,
    /// The first of these items, of a pack.
    item: Option<u32>,
    /// Where the last of these results ends, in bytes.
    end: u64,
}

/// Verifies the results that the outcomes of a session name.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn verify(store: &Store, business: &Business, session: &str) -> anyhow::Result<Verified> {
    let (bucket, business) = (&business.bucket, &business.name);
    // In this order: what settles meanwhile is not taken for an object without an outcome.
    let outcomes = store.list(bucket, &object::outcome_prefix(business, Some(session))).await?;
    let objects = store.fingerprints(bucket, &object::output_prefix(business, session)).await?;
    let inputs = store.list(bucket, &object::input(business, session, "")).await?;

    let (mut verified, mut named) = (Verified::default(), Named::new());
    let names = outcomes.into_iter().map(|outcome| outcome.name);
    let names: BTreeSet<_> = names.filter(|name| object::parse_outcome(business, name).is_some()).collect();
    let reads: Vec<_> = names.iter().map(|name| outcomes::read_or_replace(store, bucket, name)).collect();
    let mut reads = futures::stream::iter(reads).buffered(READS);
    for name in &names {
        if let Some(outcome) = reads.try_next().await?.flatten() {
            verified.add(&outcome, name, &mut named);
        }
    }
    drop(reads);

    let named_objects: BTreeSet<&String> = named.keys().map(|(object, _)| object).collect();
    let suspects = objects.keys().filter(|object| !named_objects.contains(object));
    let suspects: Vec<_> = suspects.map(|object| (object, outcome_of(business, session, object))).collect();
    let awaited: BTreeSet<_> = suspects.iter().filter_map(|(_, outcome)| outcome.clone()).collect();
    let awaited: BTreeSet<_> = awaited.difference(&names).cloned().collect();
    let settled = store.present(bucket, awaited.clone()).await?;
    let inputs: BTreeSet<_> = inputs.iter().map(|input| (input.name.as_str(), input.generation)).collect();
    let has_input = |outcome: &str| {
        let parsed = object::parse_outcome(business, outcome);
        let input = parsed.map(|name| (object::input(business, session, &name.job), name.generation));
        input.is_some_and(|(input, generation)| inputs.contains(&(input.as_str(), generation)))
    };
    for (object, outcome) in suspects {
        match outcome {
            // The engine's records of a range.
            Some(outcome) if names.contains(&outcome) && object.ends_with(".json") => {}
            Some(outcome) if awaited.contains(&outcome) && (settled.contains(&outcome) || has_input(&outcome)) => {
                verified.pending += 1;
            }
            _ => verified.unnamed.push(object.clone()),
        }
    }

    let reads = named.iter().map(|((name, generation), result)| {
        let listed = objects.get(name);
        async move {
            let generation = generation.or(listed.map(|listed| listed.generation));
            let read = match (listed, generation) {
                (Some(listed), Some(generation)) if listed.generation == generation => {
                    store.stored_crc32c(bucket, name, generation).await?
                }
                _ => None,
            };
            anyhow::Ok((name, result, compare(result, generation, listed, read), read))
        }
    });
    let mut reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(READS);
    while let Some((name, result, found, read)) = reads.try_next().await? {
        verified.objects += usize::from(read.is_some());
        verified.bytes += read.and_then(|(size, _)| u64::try_from(size).ok()).unwrap_or_default();
        verified.problems.extend(found.map(|(problem, message)| Problem {
            problem,
            job: result.job.clone(),
            item: result.item,
            object: name.clone(),
            message,
        }));
    }
    Ok(verified)
}

impl Verified {
    /// Adds what an outcome says.
    fn add(&mut self, outcome: &Outcome, name: &str, named: &mut Named) {
        self.outcomes += 1;
        let Some(work) = &outcome.work else { return };
        let mut problem = |problem, item, message: &str| {
            let (job, object, message) = (work.job.clone(), name.to_owned(), message.to_owned());
            self.problems.push(Problem { problem, job, item, object, message });
        };
        if outcome.reason.code == UNREADABLE {
            problem(Kind::Unreadable, None, &outcome.reason.message);
        }
        if outcome.items.is_empty() && outcome.state == State::Succeeded {
            match &outcome.result {
                Some(result) => {
                    self.results += 1;
                    if result.bytes().is_none() {
                        problem(Kind::Differs, None, "the result in the outcome is damaged: it is not base64");
                    }
                }
                None => {
                    let objects = work.outputs();
                    self.results += objects.len();
                    let result = || Result { job: work.job.clone(), ..Result::default() };
                    named.extend(objects.into_iter().map(|object| ((object, None), result())));
                }
            }
        }
        let items: BTreeSet<u32> = outcome.items.iter().map(|item| item.index).collect();
        let range = work.range().filter(|_| !outcome.items.is_empty()).unwrap_or_default();
        for index in range.filter(|index| !items.contains(index)) {
            problem(Kind::NoResult, Some(index), "the outcome of its range has no record of the item");
        }
        for item in &outcome.items {
            self.results += usize::from(item.result.is_some());
            match &item.result {
                None if item.state == State::Succeeded => {
                    problem(Kind::NoResult, Some(item.index), "the item succeeded without a result");
                }
                None => {}
                Some(ItemResult::Object { object, generation, offset, length, .. }) => {
                    let new = || Result { job: work.job.clone(), item: Some(item.index), end: 0 };
                    let result = named.entry((object.clone(), Some(*generation))).or_insert_with(new);
                    result.end = result.end.max(offset.saturating_add(*length));
                }
                Some(inline) if inline.bytes().is_none() => {
                    problem(Kind::Differs, Some(item.index), "the result in the outcome is damaged: it is not base64");
                }
                Some(_) => {}
            }
        }
    }
}

/// What is wrong with an object that outcomes name: as it was listed, and the size and hash of what was read.
fn compare(
    result: &Result,
    generation: Option<i64>,
    listed: Option<&Fingerprint>,
    read: Option<(i64, u32)>,
) -> Option<(Kind, String)> {
    let Some(listed) = listed else {
        return Some((Kind::Missing, "the object does not exist; results are kept for a limited time".to_owned()));
    };
    if generation.is_some_and(|generation| generation != listed.generation) {
        let named = generation.unwrap_or_default();
        let message = format!("the outcome names generation {named}, and there is generation {}", listed.generation);
        return Some((Kind::Missing, message));
    }
    let Some((size, crc32c)) = read else {
        return Some((Kind::Missing, "the object was deleted during the verification".to_owned()));
    };
    if u64::try_from(listed.size).is_ok_and(|size| size < result.end) {
        let message = format!("the object has {} bytes, and the outcome names {} of it", listed.size, result.end);
        return Some((Kind::Differs, message));
    }
    if size != listed.size || listed.crc32c.is_some_and(|listed| listed != crc32c) {
        let message = format!(
            "the object has {size} bytes with the CRC32C {crc32c:08x}, and its description says {} bytes with {}",
            listed.size,
            listed.crc32c.map_or("none".to_owned(), |crc32c| format!("{crc32c:08x}"))
        );
        return Some((Kind::Differs, message));
    }
    None
}

/// The outcome that would name an object among the results: the last part of its name is the run, or the part before it.
fn outcome_of(business: &str, session: &str, name: &str) -> Option<String> {
    let run = name.strip_prefix(&object::output_prefix(business, session))?;
    let runs = [Some(run), run.rsplit_once('/').map(|(run, _)| run)];
    let outcome = |run: &str| format!("{}{run}.json", object::outcome_prefix(business, Some(session)));
    runs.into_iter().flatten().map(outcome).find(|outcome| object::parse_outcome(business, outcome).is_some())
}

#[cfg(test)]
mod tests;
