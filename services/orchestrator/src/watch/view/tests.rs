//! Counting Jobs, however watch and answers race.

use super::*;

pub(crate) fn job(name: &str, condition: Option<&str>, deleting: bool, held: bool) -> Job {
    let mut job = serde_json::json!({
        "metadata": {
            "name": name,
            "annotations": {"big": "x"},
            "finalizers": if held { vec![contract::labels::FINALIZER] } else { vec![] },
        },
        "spec": {"ignored": true},
        "status": {"conditions": condition.map(|kind| vec![serde_json::json!({"type": kind, "status": "True"})])},
    });
    if deleting {
        job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    serde_json::from_value(job).unwrap()
}

pub(crate) fn synced() -> View {
    let mut view = View::default();
    view.start_listing(Instant::now());
    view.finish_listing();
    view
}

fn unsettled(view: &View) -> Vec<&str> {
    view.ended().chain(view.stopping()).collect()
}

#[test]
fn nothing_is_taken_before_the_first_listing_is_complete() {
    let mut view = View::default();
    assert_eq!(view.room(5), 0);
    view.start_listing(Instant::now());
    view.apply(&job("a", None, false, true));
    assert_eq!(view.room(5), 0);
    view.finish_listing();
    assert_eq!(view.room(5), 4);
}

#[test]
fn a_job_is_active_until_it_ends_and_unsettled_until_we_let_go() {
    let mut view = synced();
    view.apply(&job("a", None, false, true));
    view.apply(&job("a", Some("FailureTarget"), false, true));
    assert_eq!((view.active(), unsettled(&view)), (1, vec![]));
    view.apply(&job("a", Some("Failed"), false, true));
    assert_eq!((view.active(), unsettled(&view)), (0, vec!["a"]));
    view.record_settled("a");
    assert_eq!(unsettled(&view), Vec::<&str>::new());
    view.apply(&job("a", Some("Failed"), false, false));
    assert!(view.contains("a") && unsettled(&view).is_empty());
    view.remove("a");
    assert!(!view.contains("a"));
    view.apply(&job("b", None, true, true));
    assert_eq!((view.active(), unsettled(&view)), (1, vec!["b"]));
    view.apply(&job("c", Some("Complete"), false, false));
    assert_eq!(unsettled(&view), vec!["b"]);
}

#[test]
fn a_new_listing_removes_what_it_does_not_show() {
    let mut view = synced();
    for name in ["a", "b"] {
        view.apply(&job(name, None, false, true));
    }
    view.start_listing(Instant::now());
    view.apply(&job("b", None, false, true));
    assert_eq!(view.active(), 2, "still the old picture");
    view.finish_listing();
    assert_eq!(view.active(), 1);
}

#[test]
fn a_created_job_takes_exactly_one_slot() {
    let mut view = synced();
    // The answer comes first.
    view.reserve();
    assert_eq!(view.room(3), 2);
    view.record_created("a", true, Instant::now());
    assert_eq!(view.room(3), 2);
    view.apply(&job("a", None, false, true));
    assert_eq!(view.room(3), 2);
    // The watch comes first, and shows even the end.
    view.reserve();
    view.apply(&job("b", None, false, true));
    view.apply(&job("b", Some("Complete"), false, true));
    view.record_created("b", true, Instant::now());
    assert_eq!(view.room(3), 2);
}

#[test]
fn a_job_that_the_watch_does_not_show_counts_until_a_later_listing_misses_it() {
    let mut view = synced();
    let start = Instant::now();
    let minutes = |minutes: u64| start + std::time::Duration::from_secs(60 * minutes);
    for (name, created) in [("early", 1), ("late", 3)] {
        view.reserve();
        view.record_created(name, true, minutes(created));
    }
    assert_eq!((view.room(3), view.awaited_since()), (1, Some(minutes(1))));
    // It may have been begun before the Job was there.
    view.start_listing(minutes(0));
    view.finish_listing();
    assert_eq!(view.room(3), 1);
    view.start_listing(minutes(2));
    view.finish_listing();
    assert_eq!((view.room(3), view.awaited_since()), (2, Some(minutes(3))));
    assert!(!view.contains("early") && view.contains("late"));
    view.apply(&job("late", None, false, true));
    assert_eq!((view.room(3), view.awaited_since()), (2, None));
}

#[test]
fn nothing_is_taken_while_nothing_is_heard_of_the_jobs() {
    let mut view = synced();
    view.set_lost(true);
    assert_eq!(view.room(5), 0);
    view.set_lost(false);
    assert_eq!(view.room(5), 5);
}

#[test]
fn ended_jobs_that_nobody_settles_stop_intake() {
    let mut view = synced();
    for index in 0..=UNSETTLED_MAX {
        view.apply(&job(&format!("job-{index}"), Some("Complete"), false, true));
    }
    assert_eq!(view.room(4), 0);
    assert_eq!(view.room(501), 501);
}

#[test]
fn random_events_keep_the_count_right() {
    let mut view = synced();
    let mut truth: std::collections::BTreeMap<String, (bool, bool)> = std::collections::BTreeMap::new();
    let mut seed = 7_u64;
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = format!("job-{}", (seed >> 33) % 50);
        match (seed >> 45) % 4 {
            0 => {
                view.apply(&job(&name, None, false, true));
                truth.insert(name, (true, false));
            }
            1 => {
                view.apply(&job(&name, Some("Complete"), false, true));
                truth.insert(name, (false, true));
            }
            2 => {
                view.record_settled(&name);
                if let Some(state) = truth.get_mut(&name) {
                    state.1 = false;
                }
            }
            _ => {
                view.remove(&name);
                truth.remove(&name);
            }
        }
        assert_eq!(view.active(), truth.values().filter(|state| state.0).count());
        assert_eq!(view.unsettled(), truth.values().filter(|state| state.1).count());
    }
}
