//! What each Job costs the API server: requests that grow with the namespace are made once, at the start.

use contract::outcome::State as Ended;

use crate::fixture::{Fixture, Process, Setting};

const MANY: usize = 60;

#[test]
fn settling_a_success_lists_nothing() {
    let fixture = Fixture::new();
    let process = Process::start(&fixture, Setting::default());
    process.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
    let first = fixture.submit("first", "good", None, 1);
    fixture.wait_until_done();
    let before = fixture.state().lists;
    let works = fixture.submit_many("j", MANY, 1);
    fixture.wait("all outcomes", |state| works.iter().all(|work| state.objects.contains_key(&work.outcome())));
    fixture.wait_until_done();
    assert_eq!(fixture.state().lists - before, 0, "for {MANY} successes");
    assert_eq!(fixture.state().pod_reads, 0);
    fixture.check_succeeded(works.iter().chain([&first]));
    for outcome in fixture.outcomes().values() {
        assert_eq!((outcome.node.as_deref(), outcome.image.as_deref()), (Some("node-1"), Some("i")));
        assert_eq!((outcome.exit_code, outcome.cpu_seconds, outcome.pods), (Some(0), Some(0.5), 1));
    }
    process.terminate().unwrap();
}

#[test]
fn a_success_whose_pod_is_deleted_has_its_outcome() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let work = fixture.submit("j", "good", None, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("its Job", |state| state.jobs.len() == 1 && state.messages_left() == 0);
    process.terminate().unwrap();
    fixture.finish();
    fixture.change(|state| (state.pods.clear(), state.pod_history.clear()));
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check_succeeded([&work]);
    assert_eq!(fixture.outcomes()[&work.outcome()].node, None);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_lists_nothing_and_reaches_every_job() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", MANY, 1);
    let other = fixture.submit_to("s2", "other", "good", 1, |_| {});
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("all Jobs", |state| state.jobs.len() == MANY + 1 && state.messages_left() == 0);
    let one = &works[0];
    let lists = || {
        let state = fixture.state();
        state.lists - state.pod_reads
    };
    let before = lists();
    let now = jiff::Timestamp::now().to_string();
    fixture.decide("s1", Some(serde_json::json!({"cancelled_jobs": {&one.job: now}})));
    fixture.wait("one is cancelled", |state| state.objects.contains_key(&one.outcome()));
    assert_eq!(fixture.outcomes().len(), 1);
    fixture.cancel("s1");
    fixture.wait("the outcomes", |state| works.iter().all(|work| state.objects.contains_key(&work.outcome())));
    let later = fixture.submit("later", "good", None, 1);
    fixture.wait("later work runs", |state| state.jobs.contains_key(&later.identity.job_name()));
    process.terminate().unwrap();
    assert_eq!(lists() - before, 0, "for {MANY} cancelled Jobs");

    // After a start, decisions of the past cost nothing, however often they are read.
    let process = Process::start(&fixture, Setting::default());
    process.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
    let reads = fixture.state().control_lists;
    fixture.wait("passes", |state| state.control_lists > reads + 5);
    let started = lists() - before;
    assert!(started <= 2, "{started} listings after a start");
    assert!(fixture.state().jobs.contains_key(&later.identity.job_name()), "later work still runs");
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check_succeeded([&other, &later]);
    fixture.check(&works.iter().map(|work| (work, Ended::Cancelled, "cancelled")).collect::<Vec<_>>());
    process.terminate().unwrap();
}

#[test]
fn finished_jobs_above_the_limit_stay_for_a_moment_only() {
    let fixture = Fixture::new();
    let business: fn(&mut contract::config::Business) = |business| business.max_finished_jobs = 20;
    let process = Process::start(&fixture, Setting { business, ..Setting::default() });
    let works: Vec<_> = (0..40)
        .map(|index| {
            let work = fixture.submit(&format!("j{index:02}"), "good", None, 1);
            fixture.wait_until_done();
            work
        })
        .collect();
    fixture.check_succeeded(&works);
    let state = fixture.state();
    let short: Vec<bool> = works
        .iter()
        .map(|work| state.jobs[&work.identity.job_name()]["spec"]["ttlSecondsAfterFinished"] == 60)
        .collect();
    assert_eq!(short, (0..40).map(|index| index >= 20).collect::<Vec<_>>());
    drop(state);
    process.terminate().unwrap();
}
