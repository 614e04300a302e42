//! Waits until every Job of a submission has an outcome.

use std::{collections::BTreeMap, time::Duration};

use cloud::{outcomes, storage::Store};
use contract::{Outcome, config::Business, object};
use tokio_util::sync::CancellationToken;

/// Time between two reads at first, and after a read that found an outcome.
const SHORTEST: Duration = Duration::from_millis(100);
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
    /// Outcomes, in the order of the Jobs' names.
    pub outcomes: Vec<Outcome>,
    /// Jobs without one.
    pub missing: Vec<String>,
}

/// Waits until every expected Job (its id and the generation of its input) has an outcome, or for `limit`, or until
/// `stop` is cancelled. Calls `progress` with each outcome as it is found.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn wait(
    store: &Store,
    business: &Business,
    session: &str,
    expected: Vec<(String, i64)>,
    limit: Option<Duration>,
    stop: &CancellationToken,
    mut progress: impl FnMut(&Outcome),
) -> anyhow::Result<Waited> {
    let mut found = Found { missing: expected.into_iter().collect(), outcomes: BTreeMap::new() };
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

/// The outcomes found, and the Jobs without one.
struct Found {
    missing: BTreeMap<String, i64>,
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
        let prefix = object::outcome_prefix(&business.name, Some(session));
        let mut pause = SHORTEST;
        while !self.missing.is_empty() {
            let names = store.list(&business.bucket, &prefix).await?;
            let new = settled(&business.name, names.iter().map(|object| object.name.as_str()), &self.missing);
            pause = if new.is_empty() { LONGEST.min(pause * 3 / 2) } else { SHORTEST };
            let outcomes = outcomes::read_all(store, &business.bucket, new.values().cloned(), READS).await?;
            for (job, outcome) in new.into_keys().zip(outcomes) {
                let Some(outcome) = outcome else { continue };
                self.missing.remove(&job);
                progress(&outcome);
                self.outcomes.insert(job, outcome);
            }
            if !self.missing.is_empty() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }
}

/// The outcome object of each missing Job that has one: the latest attempt's.
pub(super) fn settled<'a>(
    business: &str,
    names: impl IntoIterator<Item = &'a str>,
    missing: &BTreeMap<String, i64>,
) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, (u32, String)> = BTreeMap::new();
    for name in names {
        let Some((_, job, generation, attempt)) = object::parse_outcome(business, name) else { continue };
        if missing.get(&job) != Some(&generation) {
            continue;
        }
        if found.get(&job).is_none_or(|(latest, _)| *latest < attempt) {
            found.insert(job, (attempt, name.to_owned()));
        }
    }
    found.into_iter().map(|(job, (_, name))| (job, name)).collect()
}
