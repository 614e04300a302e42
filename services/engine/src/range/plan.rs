//! In which order, and how carefully, a pod computes the items of a range.
//!
//! A pod that ends without notice leaves items that it had begun and not recorded: one of them may have ended it, for
//! example because it needs too much memory. The next pod computes such items in groups, one after another, and says
//! which group it begins, so that the item is in a smaller group each time, and alone at last.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use contract::pack::{Part, recorded};

/// Groups that items are divided into when one of them may end the pod.
const GROUPS: usize = 32;
/// An item that ended so many pods that computed nothing else is not computed again.
const DEATHS_MAX: usize = 2;
/// From so many stopped pods on, what they had begun comes last: the kubelet also stops a pod that it evicts because an
/// item filled the disk. No item fails for that, since nobody knows.
const STOPS_MAX: usize = 3;

/// What a pod does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Items that failed, because they ended pods.
    pub killed: Vec<u32>,
    /// Items to compute, one group after another.
    pub groups: Vec<Vec<u32>>,
    /// Each group must be announced before it is computed.
    pub careful: bool,
}

/// Plans what `pod` does with the items that no part records.
pub fn plan(parts: &[Part], items: &[u32], pod: &str) -> Plan {
    let recorded = recorded(parts);
    let left: Vec<u32> = items.iter().copied().filter(|item| !recorded.contains_key(item)).collect();
    let begun = begun_by_ended_pods(parts, pod);
    let deaths_alone = |item: u32| begun.iter().filter(|(begun, stopped)| !stopped && **begun == [item]).count();
    let (killed, left): (Vec<u32>, Vec<u32>) = left.into_iter().partition(|item| deaths_alone(*item) >= DEATHS_MAX);
    let is_left: BTreeSet<u32> = left.iter().copied().collect();
    let stops = begun.iter().filter(|(_, stopped)| *stopped).count();
    let suspects: Vec<BTreeSet<u32>> = begun
        .into_iter()
        .filter(|(_, stopped)| !stopped || stops >= STOPS_MAX)
        .map(|(begun, _)| begun.iter().copied().filter(|item| is_left.contains(item)).collect())
        .filter(|suspects: &BTreeSet<u32>| !suspects.is_empty())
        .collect();
    if suspects.is_empty() {
        let groups = if left.is_empty() { vec![] } else { vec![left] };
        return Plan { killed, groups, careful: false };
    }
    // Each item belongs to the smallest set that it is suspected with. Large sets come first, because most of their
    // items are innocent.
    let mut sets: BTreeMap<(Reverse<usize>, usize), Vec<u32>> = BTreeMap::new();
    for item in left {
        let sizes = suspects.iter().enumerate().filter(|(_, set)| set.contains(&item));
        let smallest = sizes.map(|(number, set)| (set.len(), number)).min().unwrap_or((usize::MAX, 0));
        sets.entry((Reverse(smallest.0), smallest.1)).or_default().push(item);
    }
    Plan { killed, groups: sets.values().flat_map(|set| split(set)).collect(), careful: true }
}

/// Divides items into groups of one size.
pub fn split(items: &[u32]) -> Vec<Vec<u32>> {
    items.chunks(items.len().div_ceil(GROUPS).max(1)).map(<[u32]>::to_vec).collect()
}

/// What each pod but this one began last, and whether it was stopped; otherwise it ended without notice.
fn begun_by_ended_pods<'p>(parts: &'p [Part], pod: &str) -> Vec<(&'p Vec<u32>, bool)> {
    let mut pods: Vec<(&str, Option<&Vec<u32>>, bool)> = Vec::new();
    for part in parts.iter().filter(|part| part.pod != pod) {
        let number = pods.iter().position(|(name, ..)| *name == part.pod).unwrap_or_else(|| {
            pods.push((&part.pod, None, false));
            pods.len() - 1
        });
        if part.stopped {
            pods[number].2 = true;
        } else if !part.begun.is_empty() {
            pods[number].1 = Some(&part.begun);
        }
    }
    pods.into_iter().filter_map(|(_, begun, stopped)| Some((begun?, stopped))).collect()
}

#[cfg(test)]
mod tests;
