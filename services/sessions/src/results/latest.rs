//! Which outcomes a table of results shows: the latest of each Job.

use std::collections::BTreeMap;

use contract::object;

/// The outcomes to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// Outcome objects, in order of session and job.
    pub outcomes: Vec<String>,
    /// Number of outcomes of earlier attempts or earlier inputs, which are left out.
    pub superseded: usize,
}

/// Picks the outcome of the latest attempt at the latest input of each Job.
pub fn latest<'a>(business: &str, names: impl IntoIterator<Item = &'a str>) -> Latest {
    let mut found: BTreeMap<(String, String), (i64, u32, &str)> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut superseded = 0;
    for name in names {
        let Some((session, job, generation, attempt)) = object::parse_outcome(business, name) else {
            refused.extend(object::parse_refused(business, name).map(|_| name.to_owned()));
            continue;
        };
        let this = (generation, attempt, name);
        match found.entry((session, job)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(this);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                superseded += 1;
                if (entry.get().0, entry.get().1) < (generation, attempt) {
                    entry.insert(this);
                }
            }
        }
    }
    let mut outcomes: Vec<String> = found.into_values().map(|(_, _, name)| name.to_owned()).collect();
    outcomes.extend(refused);
    Latest { outcomes, superseded }
}
