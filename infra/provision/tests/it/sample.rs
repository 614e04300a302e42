//! Which cases of an exhaustive suite run: a fixed sample, or all of them when `DESKGRID_TEST_LONG` is set.

use std::collections::BTreeSet;

use localcloud::faults::Fault;

use crate::interruptions::Point;

/// Whether every case runs, which is what `cargo xtask test --long` asks for.
pub(crate) fn is_long() -> bool {
    contract::config::variables().get("DESKGRID_TEST_LONG").is_some_and(|value| !value.is_empty())
}

/// The first of every kind, every `step`-th of the others, and the last.
pub(crate) fn sample<T>(cases: impl IntoIterator<Item = T>, step: usize, kind: impl Fn(&T) -> String) -> Vec<T> {
    let mut cases: Vec<T> = cases.into_iter().collect();
    if is_long() {
        return cases;
    }
    let last = cases.pop();
    let mut seen = BTreeSet::new();
    let mut others = 0;
    cases.retain(|case| {
        seen.insert(kind(case)) || {
            others += 1;
            others % step == 0
        }
    });
    cases.extend(last);
    cases
}

/// The points at which a verb is stopped, each before and after its request is carried out; in a sample, the one or the
/// other in turn.
pub(crate) fn stops<'a>(
    points: impl IntoIterator<Item = &'a Point>,
    step: usize,
    kind: impl Fn(&Point) -> String,
) -> Vec<(&'a Point, Fault)> {
    const FAULTS: [Fault; 2] = [Fault::SilentAfter, Fault::SilentBefore];
    let points = sample(points, step, |point| kind(point));
    let stops = points.into_iter().enumerate().flat_map(|(index, point)| {
        let faults = if is_long() { &FAULTS[..] } else { &FAULTS[index % 2..=index % 2] };
        faults.iter().map(move |fault| (point, *fault))
    });
    stops.collect()
}

#[test]
fn a_sample_has_every_kind_and_the_last_case() {
    let cases = ["a1", "a2", "b1", "a3", "a4", "b2", "a5"];
    let some = sample(cases, 2, |case| case[..1].to_owned());
    let expected: &[&str] = if is_long() { &cases } else { &["a1", "b1", "a3", "b2", "a5"] };
    assert_eq!(some, expected);
}
