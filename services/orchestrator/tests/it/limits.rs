//! What a message may cost, and what it may need: large payloads, rights that are missing, inputs that are gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contract::{config::Dispatch, outcome::State as Ended};
use orchestrator::{Hooks, Step};

use crate::world::{Process, Setting, World};

const MEGABYTE: usize = 1 << 20;

#[test]
fn what_a_message_brought_is_let_go_while_it_waits_in_a_batch() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    world.submit("first", "good", None, 1);
    let setting = Setting { max_active_jobs: 1, dispatch: Dispatch::Batch, ..Setting::default() };
    let process = Process::start(&world, setting);
    world.wait("the only slot is taken", |state| state.jobs.len() == 1 && state.messages_left() == 0);
    // More than may be in hand at once.
    for _ in 0..40 {
        world.publish(&vec![b'x'; MEGABYTE - 1], &[]);
    }
    world.wait("all are inputs", |state| {
        state.objects.keys().filter(|name| name.starts_with("bu1/input/inline/")).count() == 40
    });
    let bytes = world.look().stream_bytes;
    assert!(bytes <= 16 * (1 << 20), "a stream may hand over {bytes} bytes");
    process.kill();
}

#[test]
fn large_messages_are_refused_a_few_at_a_time_and_all_have_their_outcome() {
    let world = World::new();
    let malformed = vec![b'x'; 2 * MEGABYTE];
    let ids: Vec<String> = (0..12).map(|_| world.publish(&malformed, &[("deskgrid", "1")])).collect();
    // How many are on their way at once, and were at most. Each takes a while.
    let counts: Arc<(AtomicUsize, AtomicUsize)> = Arc::default();
    let shared = counts.clone();
    let hooks = Hooks::new(move |at| {
        let (counts, is_refused) = (shared.clone(), at.step == Step::RefusedWritten);
        Box::pin(async move {
            if is_refused {
                counts.1.fetch_max(counts.0.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                counts.0.fetch_sub(1, Ordering::SeqCst);
            }
        })
    });
    let process = Process::start(&world, Setting { hooks, ..Setting::default() });
    world.wait_until_done();
    let most = counts.1.load(Ordering::SeqCst);
    assert!(most <= 2, "{most} at once");
    let outcomes = world.outcomes();
    for id in ids {
        let outcome = &outcomes[&format!("bu1/outcome/refused/{id}.json")];
        assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Refused, "malformed-message"));
        let data = outcome.message_data.as_ref().expect("its bytes");
        assert_eq!(data.len(), (2 * MEGABYTE).div_ceil(3) * 4);
    }
    process.terminate().unwrap();
}

#[test]
fn intake_stays_stopped_while_what_was_denied_is_denied() {
    let world = World::new();
    let process = Process::start(&world, Setting::default());
    while !process.get("/readyz").starts_with("HTTP/1.1 200") {
        std::thread::sleep(Duration::from_millis(5));
    }
    world.change(|state| state.denies_writes = true);
    world.publish(b"payload", &[]);
    world.wait("it is tried again and again", |state| state.denied_writes >= 6);
    assert!(process.get("/readyz").contains("may not write"), "{}", process.get("/readyz"));
    let nacked = world.look().nacked;
    assert!(nacked <= 2, "the message came {nacked} times and was given back");
    world.change(|state| state.denies_writes = false);
    world.wait_until_done();
    assert!(world.outcomes().values().all(|outcome| outcome.state == Ended::Succeeded));
    assert_eq!(world.outcomes().len(), 1);
    process.terminate().unwrap();
}

#[test]
fn an_old_message_whose_input_is_gone_makes_no_job() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let gone = world.submit("gone", "good", None, 1);
    let there = world.submit("there", "good", None, 1);
    world.change(|state| state.objects.remove(&gone.identity.object));
    let process = Process::start(&world, Setting { ahead: Duration::from_secs(4000), ..Setting::default() });
    world.wait("its outcome", |state| state.objects.contains_key(&gone.outcome()));
    world.wait("the other one's Job", |state| state.jobs.contains_key(&there.identity.job_name()));
    let outcome = &world.outcomes()[&gone.outcome()];
    assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Failed, "input-missing"));
    assert!(!world.look().creations.contains_key(&gone.identity.job_name()));
    process.kill();
}
