//! Which outcomes a table of results shows: the latest of each Job, and of each range of a pack.

use std::collections::BTreeMap;

use contract::object::{self, OutcomeName};

/// The outcomes to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// Outcome objects of each Job, in order of session and job; those of a pack in order of its ranges.
    pub jobs: Vec<Vec<String>>,
    /// Number of outcomes of earlier attempts or earlier inputs, which are left out.
    pub superseded: usize,
}

/// Picks the outcomes of the latest attempts at the latest input of each Job.
pub fn latest<'a>(business: &str, names: impl IntoIterator<Item = &'a str>) -> Latest {
    let mut found: BTreeMap<(String, String), Vec<(OutcomeName, &str)>> = BTreeMap::new();
    let mut refused = Vec::new();
    for name in names {
        match object::parse_outcome(business, name) {
            Some(parsed) => {
                found.entry((parsed.session.clone(), parsed.job.clone())).or_default().push((parsed, name));
            }
            None => refused.extend(object::parse_refused(business, name).map(|_| vec![name.to_owned()])),
        }
    }
    let mut superseded = 0;
    let mut jobs = Vec::new();
    for outcomes in found.into_values() {
        let count = outcomes.len();
        let generation = outcomes.iter().map(|(name, _)| name.generation).max();
        let mut latest: BTreeMap<Option<u32>, (u32, &str)> = BTreeMap::new();
        for (parsed, name) in outcomes.into_iter().filter(|(parsed, _)| Some(parsed.generation) == generation) {
            let entry = latest.entry(parsed.first).or_insert((parsed.attempt, name));
            if entry.0 <= parsed.attempt {
                *entry = (parsed.attempt, name);
            }
        }
        if latest.keys().any(Option::is_some) {
            // The pack was split after all.
            latest.remove(&None);
        }
        superseded += count - latest.len();
        jobs.push(latest.into_values().map(|(_, name)| name.to_owned()).collect());
    }
    jobs.extend(refused);
    Latest { jobs, superseded }
}
