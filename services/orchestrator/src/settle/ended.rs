//! The outcomes of an input: of the whole, and of the ranges of a pack.

use std::collections::BTreeMap;

use cloud::storage::Object;
use contract::{
    Outcome, labels,
    message::Work,
    object::{self, OutcomeName},
    outcome::State,
    pack::Pack,
};
use futures::TryStreamExt as _;

use crate::base::Base;

/// An outcome of a whole input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) attempt: u32,
    pub(crate) generation: i64,
    pub(crate) succeeded: bool,
}

/// The outcomes of one generation of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The latest outcome of the whole input.
    pub(crate) whole: Option<Whole>,
    /// The latest attempt of each range, by its first item, and whether all its items succeeded.
    pub(crate) ranges: BTreeMap<u32, (u32, bool)>,
}

impl Ended {
    /// Lists them. A message's own payload has one input: of such, the outcomes of every generation, since a replica
    /// that writes it once more may die before it sees the outcome.
    pub(crate) async fn list(base: &Base, work: &Work) -> anyhow::Result<Self> {
        let prefix = match work.session == object::INLINE_SESSION {
            true => format!("{}{}/", object::outcome_prefix(&work.business, Some(&work.session)), work.job),
            false => object::outcome_prefix_of(&work.business, &work.session, &work.job, work.identity.generation),
        };
        let mut ended = Self::default();
        let mut listed = base.store.list_stream(&work.identity.bucket, &prefix);
        while let Some(found) = listed.try_next().await? {
            ended.add(work, &found);
        }
        Ok(ended)
    }

    fn add(&mut self, work: &Work, found: &Object) {
        let succeeded = found.metadata.get(labels::METADATA_STATE).is_some_and(|s| s == State::Succeeded.as_str());
        let Some(name) = object::parse_outcome(&work.business, &found.name).filter(|name| name.job == work.job) else {
            return;
        };
        let OutcomeName { generation, first, attempt, .. } = name;
        match first {
            None if self.whole.is_none_or(|latest| latest.attempt <= attempt) => {
                self.whole = Some(Whole { attempt, generation, succeeded });
            }
            None => {}
            Some(first) => {
                let latest = self.ranges.entry(first).or_insert((attempt, succeeded));
                if latest.0 <= attempt {
                    *latest = (attempt, succeeded);
                }
            }
        }
    }

    /// Whether every range succeeded.
    pub(crate) fn has_succeeded(&self, pack: &Pack) -> bool {
        pack.ranges().all(|first| self.ranges.get(&first).is_some_and(|(_, succeeded)| *succeeded))
    }

    /// The ranges that have work left when this attempt at the pack is requested: first item and attempt. A range
    /// without an outcome may be in progress, so its first attempt counts.
    pub(crate) fn remaining(&self, pack: &Pack, attempt: u32) -> Vec<(u32, u32)> {
        let next = |first: u32| match self.ranges.get(&first) {
            None => Some((first, 0)),
            Some((_, true)) => None,
            Some((latest, false)) => (*latest < attempt).then_some((first, attempt)),
        };
        pack.ranges().filter_map(next).collect()
    }
}

/// The outcome of the latest attempt before this one that has a readable one.
pub(crate) async fn previous(base: &Base, work: &Work) -> anyhow::Result<Option<Outcome>> {
    let mut identity = work.identity.clone();
    while identity.attempt > 0 {
        identity.attempt -= 1;
        let name = object::outcome(&work.business, &work.session, &work.job, &identity);
        if let Some(Ok(outcome)) = cloud::outcomes::read(&base.store, &identity.bucket, &name).await? {
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use contract::pack::Format;

    use super::*;

    const PACK: Pack = Pack { format: Format::Lines, items: 25, items_per_range: 10, rows_per_item: 1 };

    fn ended(names: &[(&str, &str)]) -> Ended {
        let mut ended = Ended::default();
        for (run, state) in names {
            let metadata = BTreeMap::from([(labels::METADATA_STATE.to_owned(), (*state).to_owned())]);
            let name = format!("bu1/outcome/s/j/7-{run}.json");
            let (generation, size, content_type) = (1, 1, String::new());
            ended.add(
                &contract::testing::work("bu1", "s", "j"),
                &Object { name, generation, size, created: None, content_type, metadata },
            );
        }
        ended
    }

    #[test]
    fn a_split_names_the_ranges_that_have_work_left() {
        let check = |names: &[(&str, &str)], attempt, expected: &[(u32, u32)]| {
            assert_eq!(ended(names).remaining(&PACK, attempt), expected, "{names:?}");
        };
        let all = [(0, 0), (10, 0), (20, 0)];
        check(&[], 0, &all);
        check(&[("layout", ""), ("10-0", "succeeded")], 0, &[(0, 0), (20, 0)]);
        let two = [("0-0", "failed"), ("10-0", "succeeded"), ("20-0", "cancelled")];
        check(&two, 0, &[]);
        check(&two, 1, &[(0, 1), (20, 1)]);
        check(&[("0-0", "failed"), ("0-1", "succeeded"), ("10-0", "succeeded")], 2, &[(20, 0)]);
        // The order of a listing is that of names, not of numbers.
        let tens: Vec<String> = (0..11).map(|attempt| format!("0-{attempt}")).collect();
        let mut tens: Vec<(&str, &str)> = tens.iter().map(|run| (run.as_str(), "failed")).collect();
        tens.sort_unstable();
        check(&tens, 10, &[(10, 0), (20, 0)]);
        check(&tens, 11, &[(0, 11), (10, 0), (20, 0)]);
    }

    #[test]
    fn a_pack_has_succeeded_when_the_latest_attempt_of_every_range_has() {
        let mut names = vec![("0-0", "failed"), ("0-1", "succeeded"), ("10-0", "succeeded")];
        assert!(!ended(&names).has_succeeded(&PACK));
        names.push(("20-0", "succeeded"));
        assert!(ended(&names).has_succeeded(&PACK));
        names.push(("20-1", "failed"));
        assert!(!ended(&names).has_succeeded(&PACK));
        let whole = ended(&[("0", "refused"), ("2", "cancelled"), ("layout", "")]);
        assert_eq!(whole.whole, Some(Whole { attempt: 2, generation: 7, succeeded: false }));
    }
}
