//! Waits until every Job of a submission has an outcome.

use std::{collections::BTreeMap, time::Duration};

use cloud::{outcomes, storage::Store};
use contract::{Outcome, config::Business, object};
use tokio_util::sync::CancellationToken;

use crate::{jobs::add_counts, ranges::RangeOutcomes};

/// Time between two reads at first, and after a read that found an outcome.
const SHORTEST: Duration = Duration::from_millis(100);
/// The same for a pool, which answers in milliseconds.
const SHORTEST_OF_POOL: Duration = Duration::from_millis(5);
/// Time between two reads when nothing changes.
const LONGEST: Duration = Duration::from_secs(1);
/// Outcomes read at a time.
const READS: usize = 32;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every Job has an outcome.
    Settled,
    /// The time limit was reached.
    TimedOut,
    /// It was stopped.
    Stopped,
}

/// The result of a wait.
#[derive(Clone, Debug)]
pub struct Waited {
    /// Why it ended.
    pub ended: Ended,
    /// Outcomes, in the order of their objects' names; of a pack, one for each range.
    pub outcomes: Vec<Outcome>,
    /// Jobs without one.
    pub missing: Vec<String>,
}

/// Waits until every expected Job (its id, the generation of its input and its attempt) has an outcome, or for `limit`, or
/// until `stop` is cancelled. Calls `progress` with each outcome as it is found. Outcomes that the attempt repeats do not
/// count.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn wait(
    store: &Store,
    business: &Business,
    session: &str,
    expected: Vec<(String, i64, u32)>,
    limit: Option<Duration>,
    stop: &CancellationToken,
    mut progress: impl FnMut(&Outcome),
) -> anyhow::Result<Waited> {
    let missing = expected.into_iter().map(|(job, generation, attempt)| (job, (generation, attempt))).collect();
    let mut found = Found { missing, outcomes: BTreeMap::new() };
    let until = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        // Existing outcomes count even with a time limit of 0.
        biased;
        read = found.read_until_settled(store, business, session, &mut progress) => read.map(|()| Ended::Settled)?,
        () = until => Ended::TimedOut,
        () = stop.cancelled() => Ended::Stopped,
    };
    Ok(Waited { ended, outcomes: found.outcomes.into_values().collect(), missing: found.missing.into_keys().collect() })
}

/// The outcomes found, by the name of their object, and the Jobs that have not ended, with generation and attempt.
struct Found {
    missing: BTreeMap<String, (i64, u32)>,
    outcomes: BTreeMap<String, Outcome>,
}

impl Found {
    async fn read_until_settled(
        &mut self,
        store: &Store,
        business: &Business,
        session: &str,
        progress: &mut impl FnMut(&Outcome),
    ) -> anyhow::Result<()> {
        let of_session = object::outcome_prefix(&business.name, Some(session));
        // A session may have many outcomes of other Jobs.
        let prefix = match self.missing.keys().collect::<Vec<_>>()[..] {
            [job] => format!("{of_session}{job}/"),
            _ => of_session,
        };
        let shortest = if business.pool.is_some() { SHORTEST_OF_POOL } else { SHORTEST };
        let mut pause = shortest;
        while !self.missing.is_empty() {
            let mut listed = store.list(&business.bucket, &prefix).await?;
            add_counts(store, business, &mut listed).await?;
            let objects = listed.iter().map(|object| (object.name.as_str(), &object.metadata));
            let settled = settled(&business.name, objects, &self.missing);
            let names = settled.values().flat_map(|job| &job.outcomes);
            let new: Vec<String> = names.filter(|name| !self.outcomes.contains_key(*name)).cloned().collect();
            pause = if new.is_empty() { LONGEST.min(pause * 3 / 2) } else { shortest };
            let outcomes = outcomes::read_all(store, &business.bucket, new.iter().cloned(), READS).await?;
            for (name, outcome) in new.into_iter().zip(outcomes) {
                let Some(mut outcome) = outcome else { continue };
                progress(&outcome);
                // Results may be many, and are read from the bucket where they are wanted.
                outcome.items.iter_mut().for_each(|item| item.result = None);
                self.outcomes.insert(name, outcome);
            }
            let is_read = |job: &Settled| job.outcomes.iter().all(|name| self.outcomes.contains_key(name));
            for (job, _) in settled.iter().filter(|(_, job)| job.is_complete && is_read(job)) {
                self.missing.remove(job);
            }
            if !self.missing.is_empty() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }
}

/// The outcomes of a Job so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// The latest attempt's; of a pack, that of every range that has one.
    pub(super) outcomes: Vec<String>,
    /// Whether every item has ended.
    pub(super) is_complete: bool,
}

/// The outcomes of the missing Jobs that have some.
pub(super) fn settled<'a>(
    business: &str,
    objects: impl IntoIterator<Item = (&'a str, &'a BTreeMap<String, String>)>,
    missing: &BTreeMap<String, (i64, u32)>,
) -> BTreeMap<String, Settled> {
    let mut found: BTreeMap<String, RangeOutcomes> = BTreeMap::new();
    for (name, metadata) in objects {
        if let Some((_, job, generation)) = object::parse_layout(business, name)
            && missing.get(job).is_some_and(|awaited| awaited.0 == generation)
        {
            found.entry(job.to_owned()).or_default().set_layout(metadata);
        }
        if let Some(parsed) = object::parse_outcome(business, name)
            && missing.get(&parsed.job).is_some_and(|awaited| awaited.0 == parsed.generation)
        {
            found.entry(parsed.job.clone()).or_default().add(&parsed, name, metadata);
        }
    }
    let settled = found.into_iter().map(|(job, mut ended)| {
        ended.remove_repeated(missing[&job].1);
        let outcomes: Vec<String> = ended.outcomes().map(|outcome| outcome.name.clone()).collect();
        (job, Settled { outcomes, is_complete: ended.is_complete() })
    });
    settled.filter(|(_, settled)| !settled.outcomes.is_empty()).collect()
}
