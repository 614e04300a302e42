//! Searches for items that end their pods.

use contract::{
    outcome::{Reason, State},
    pack::{Item, SCHEMA},
};

use super::*;

fn part(pod: &str, items: &[u32], begun: &[u32], stopped: bool) -> Part {
    let item = |index: &u32| Item::without_result(*index, State::Failed, Reason::default());
    let items = items.iter().map(item).collect();
    Part { schema: SCHEMA, pod: pod.into(), cpu_seconds: 0.0, items, begun: begun.to_vec(), stopped }
}

/// Starts pods until every item is recorded, and returns their number and the items that were given up. `shows` says
/// how many items of a group are recorded before a killer ends the pod: none, or those before it.
fn simulate(items: &[u32], killers: &[u32], shows: bool) -> (usize, Vec<u32>) {
    let mut parts: Vec<Part> = Vec::new();
    let mut failed = Vec::new();
    for number in 1..100 {
        let pod = format!("pod-{number}");
        let Plan { killed, groups, careful } = plan(&parts, items, &pod);
        assert!(groups.is_empty() || careful == (number > 1));
        failed.extend(killed.clone());
        parts.push(part(&pod, &killed, &[], false));
        let is_dead = groups.iter().any(|group| {
            parts.push(part(&pod, &[], group, false));
            let killer = group.iter().position(|item| killers.contains(item));
            let done = killer.map_or(group.len(), |killer| if shows { killer } else { 0 });
            parts.push(part(&pod, &group[..done], &[], false));
            killer.is_some()
        });
        if !is_dead {
            let recorded: Vec<u32> = recorded(&parts).into_keys().collect();
            assert_eq!(recorded, items, "every item is recorded");
            failed.sort_unstable();
            return (number, failed);
        }
    }
    panic!("{killers:?} are not found");
}

#[test]
fn killers_are_found_in_a_few_pods_and_all_others_are_computed() {
    let thousand: Vec<u32> = (4000..5000).collect();
    let mut random = 7_u32;
    let mut next = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % below
    };
    for count in [0, 1, 1, 2, 2, 3, 3, 3] {
        for shows in [false, true] {
            for size in [2, 33, 64, 999, 1000] {
                let items = &thousand[..size];
                let mut killers: Vec<u32> = (0..count).map(|_| items[next(size)]).collect();
                killers.sort_unstable();
                killers.dedup();
                let (pods, failed) = simulate(items, &killers, shows);
                assert_eq!(failed, killers, "of {size}");
                assert!(pods <= 2 + 3 * killers.len() && pods <= 12, "{pods} pods for {killers:?} of {size}");
            }
        }
    }
    for killers in [vec![4000], vec![4999], vec![4000, 4001], vec![4000, 4999], vec![4030, 4031, 4032]] {
        for shows in [false, true] {
            let (pods, failed) = simulate(&thousand, &killers, shows);
            assert!(failed == killers && pods <= 2 + 3 * killers.len(), "{pods} pods for {killers:?}");
        }
    }
}

#[test]
fn a_pod_that_was_stopped_accuses_nobody() {
    let plan_of = |parts: &[Part]| plan(parts, &[1, 2, 3], "pod-c");
    let all = Plan { killed: vec![], groups: vec![vec![1, 2, 3]], careful: false };
    assert_eq!(plan_of(&[]), all);
    assert_eq!(plan_of(&[part("pod-a", &[], &[1, 2, 3], false), part("pod-a", &[], &[], true)]), all);
    // Also not one that recorded all that it began, and not this pod.
    let rest = Plan { groups: vec![vec![2, 3]], ..all.clone() };
    assert_eq!(plan_of(&[part("pod-a", &[], &[1], false), part("pod-a", &[1], &[], false)]), rest);
    assert_eq!(plan_of(&[part("pod-c", &[], &[1, 2], false)]), all);
    // The second stop does not hide that the first pod ended without notice.
    let parts = [
        part("pod-a", &[], &[1, 2, 3], false),
        part("pod-b", &[], &[1], false),
        part("pod-b", &[1], &[2], false),
        part("pod-b", &[], &[], true),
    ];
    assert_eq!(plan_of(&parts), Plan { groups: vec![vec![2], vec![3]], careful: true, ..all.clone() });
    assert_eq!(plan(&[part("pod-a", &[1, 2, 3], &[], false)], &[1, 2, 3], "pod-c").groups, Vec::<Vec<u32>>::new());
}

#[test]
fn an_item_that_was_alone_in_two_dead_pods_is_not_computed_again() {
    let first = [part("pod-a", &[], &[1, 2, 3], false), part("pod-b", &[], &[2], false)];
    // Those that are suspected with fewer others come last.
    assert_eq!(
        plan(&first, &[1, 2, 3], "pod-c"),
        Plan { killed: vec![], groups: vec![vec![1], vec![3], vec![2]], careful: true }
    );
    let second = [&first[..], &[part("pod-c", &[], &[2], false)]].concat();
    let expected = Plan { killed: vec![2], groups: vec![vec![1], vec![3]], careful: true };
    assert_eq!(plan(&second, &[1, 2, 3], "pod-d"), expected);
}

#[test]
fn what_stopped_pods_had_begun_comes_last_and_does_not_fail() {
    let items: Vec<u32> = (0..100).collect();
    let (mut parts, mut computed) = (Vec::new(), BTreeSet::<u32>::new());
    // One item fills the disk, so the kubelet stops every pod that begins it.
    for number in 0..9 {
        let pod = format!("pod-{number}");
        let Plan { killed, groups, careful } = plan(&parts, &items, &pod);
        assert_eq!((killed.len(), careful), (0, number >= 3));
        for group in &groups {
            parts.push(part(&pod, &[], group, false));
            let done: &[u32] = if group.contains(&42) { &[] } else { group };
            computed.extend(done);
            parts.push(part(&pod, done, &[], done.is_empty()));
            if done.is_empty() {
                break;
            }
        }
    }
    assert_eq!(computed.len(), 99, "only the one is left");
}
