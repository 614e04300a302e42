//! Decisions among others that cannot be carried out or take long, and events whose writer died.

use std::{sync::Arc, time::Duration};

use contract::outcome::State as Ended;
use orchestrator::{Hooks, Step};
use serde_json::json;

use crate::{
    kubernetes,
    world::{Process, Setting, State, World, hold_at},
};

fn parked(state: &State) -> usize {
    state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count()
}

#[test]
fn a_job_that_nobody_understands_holds_up_no_other_decision() {
    let world = World::new();
    world.decide("c", Some(json!({"paused": true})));
    world.change(|state| state.engines_wait = true);
    let works = ["b", "c"].map(|session| world.submit_to(session, "j", "good", 1, |_| {}));
    let [cancelled, released] = &works;
    let process = Process::start(&world, Setting::default());
    let ready = || process.get("/readyz");
    world.wait("one runs, one is put aside", |state| state.jobs.len() == 1 && parked(state) == 1);
    // A Job that is called as a batch's and does not say of which one, in the session that comes first.
    let strange = format!("batch-{}", "0".repeat(32));
    world.change(|state| {
        let metadata = json!({"name": strange, "uid": "u", "labels": {"session": "a"}});
        state.show(&strange, json!({"metadata": metadata}), "ADDED");
    });
    world.cancel("a");
    world.cancel("b");
    world.decide("c", None);
    world.wait("the other is cancelled", |state| state.objects.contains_key(&cancelled.outcome()));
    world.wait("the third goes on", |state| state.jobs.contains_key(&released.identity.job_name()));
    while !ready().contains(&strange) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(ready().starts_with("HTTP/1.1 503"), "a person has to see it: {}", ready());
    world.change(|state| state.remove(&strange));
    while !ready().starts_with("HTTP/1.1 200") {
        std::thread::sleep(Duration::from_millis(5));
    }
    world.change(|state| state.engines_wait = false);
    world.wait_until_done();
    world.check(&[(cancelled, Ended::Cancelled, "cancelled"), (released, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_does_not_wait_until_all_that_was_put_aside_is_published() {
    let world = World::new();
    world.decide("s1", Some(json!({"paused": true})));
    world.change(|state| state.engines_wait = true);
    let running = world.submit_to("s2", "running", "good", 1, |_| {});
    let works: Vec<_> = (0..400).map(|index| world.submit(&format!("j{index:03}"), "good", None, 1)).collect();
    // So many may be let go of.
    let allowed = Arc::new(tokio::sync::Semaphore::new(0));
    let hooks = {
        let allowed = allowed.clone();
        Hooks::new(move |at| {
            let (allowed, released) = (allowed.clone(), at.step == Step::Released);
            Box::pin(async move {
                if released {
                    allowed.acquire().await.unwrap().forget();
                }
            })
        })
    };
    let process = Process::start(&world, Setting { hooks, ..Setting::default() });
    world.wait("one runs, the others are put aside", |state| state.jobs.len() == 1 && parked(state) == works.len());
    world.decide("s1", None);
    world.wait("the first is published", |state| state.creations.len() > 1);
    world.cancel("s2");
    allowed.add_permits(300);
    world.wait("the cancel", |state| state.objects.contains_key(&running.outcome()));
    assert!(parked(&world.look()) >= works.len() - 300, "not all are let go of");
    allowed.add_permits(10_000);
    world.change(|state| state.engines_wait = false);
    world.wait("nothing is put aside any more", |state| parked(state) == 0);
    world.wait_until_done();
    world.check_succeeded(&works);
    world.check(&[(&running, Ended::Cancelled, "cancelled")]);
    process.terminate().unwrap();
}

#[test]
fn the_event_of_what_never_became_a_job_is_published_by_whoever_comes_next() {
    let gone = |world: &World| {
        world.publish(br#"{"bucket":"p-bucket","object":"bu1/input/s1/j"}"#, &[("deskgrid", "1")]);
    };
    let invalid = |world: &World| {
        world.change(|state| state.create_fails_once = vec![kubernetes::failure(422, "Invalid", "too long")]);
        world.submit("j", "good", None, 1);
    };
    for code in ["input-missing", "invalid-job"] {
        let world = World::new();
        match code {
            "invalid-job" => invalid(&world),
            _ => gone(&world),
        }
        let (hooks, held) = hold_at(Step::RefusedWritten);
        let process = Process::start(&world, Setting { hooks, ..Setting::default() });
        held.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{code} is not written"));
        let clients = world.clients();
        process.kill();
        world.bury(clients);
        assert_eq!(world.look().events.len(), 0, "{code}");
        let process = Process::start(&world, Setting::default());
        world.wait_until_done();
        let codes: Vec<String> = world.outcomes().into_values().map(|outcome| outcome.reason.code).collect();
        assert_eq!(codes, [code]);
        let events = world.look().events.clone();
        assert!(events.iter().any(|event| event.get("job").is_some_and(|job| job == "j")), "{code}: {events:?}");
        process.terminate().unwrap();
    }
}
