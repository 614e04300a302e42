//! What a message may cost, and what it may need: large payloads, rights that are missing, inputs that are gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contract::outcome::State as Ended;
use orchestrator::{Hooks, Step};

use crate::fixture::{Fixture, Process, Setting};

const MEGABYTE: usize = 1 << 20;

#[test]
fn large_messages_are_refused_a_few_at_a_time_and_all_have_their_outcome() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the message"]);
    let malformed = vec![b'x'; 2 * MEGABYTE];
    let ids: Vec<String> = (0..12).map(|_| fixture.publish(&malformed, &[("deskgrid", "1")])).collect();
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
    let process = Process::start(&fixture, Setting { hooks, ..Setting::default() });
    fixture.wait_until_done();
    let most = counts.1.load(Ordering::SeqCst);
    assert!(most <= 2, "{most} at once");
    let outcomes = fixture.outcomes();
    for id in ids {
        let outcome = &outcomes[&format!("bu1/outcome/refused/{id}.json")];
        assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Refused, "malformed-message"));
        let data = outcome.message_data.as_ref().expect("its bytes");
        assert_eq!(data.len(), (2 * MEGABYTE).div_ceil(3) * 4);
    }
    process.terminate().unwrap();
}

#[test]
fn a_limited_number_of_messages_waits_for_a_slot_and_none_is_nacked() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 300, 1);
    let process = Process::start(&fixture, Setting { max_active_jobs: 2, ..Setting::default() });
    fixture.wait("every slot is taken", |state| state.jobs.len() == 2 && state.acked == 2);
    fixture.wait("as many messages as allowed", |state| state.messages_held() == 256);
    assert_eq!(fixture.state().messages_left(), 298);
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    let state = fixture.state();
    assert_eq!((state.max_active, state.nacked), (2, 0));
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn messages_that_wait_when_a_process_stops_come_back_at_once() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 10, 1);
    let setting = || Setting { max_active_jobs: 2, ..Setting::default() };
    let process = Process::start(&fixture, setting());
    fixture.wait("every slot is taken, and the others wait", |state| state.acked == 2 && state.messages_held() == 8);
    process.terminate().unwrap();
    fixture.wait("they are released", |state| state.messages_left() == 8 && state.messages_held() == 0);
    let process = Process::start(&fixture, setting());
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    assert_eq!(fixture.state().max_active, 2);
    process.terminate().unwrap();
}

#[test]
fn intake_stays_stopped_while_access_is_denied() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["intake stops", "intake stays stopped", "not ready", "record the sweep"]);
    let process = Process::start(&fixture, Setting::default());
    process.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
    fixture.change(|state| state.denies_writes = true);
    fixture.publish(b"payload", &[]);
    fixture.wait("it is retried", |state| state.denied_writes >= 6);
    assert!(process.get("/readyz").contains("may not write"), "{}", process.get("/readyz"));
    let nacked = fixture.state().nacked;
    assert!(nacked <= 2, "the message was nacked {nacked} times");
    fixture.change(|state| state.denies_writes = false);
    fixture.wait_until_done();
    assert!(fixture.outcomes().values().all(|outcome| outcome.state == Ended::Succeeded));
    assert_eq!(fixture.outcomes().len(), 1);
    process.terminate().unwrap();
}

#[test]
fn an_old_message_without_input_creates_no_job() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["cannot become a Job"]);
    fixture.change(|state| state.engines_wait = true);
    let gone = fixture.submit("gone", "good", None, 1);
    let there = fixture.submit("there", "good", None, 1);
    fixture.change(|state| state.objects.remove(&gone.identity.object));
    let process = Process::start(&fixture, Setting { ahead: Duration::from_secs(4000), ..Setting::default() });
    fixture.wait("its outcome", |state| state.objects.contains_key(&gone.outcome()));
    fixture.wait("the other one's Job", |state| state.jobs.contains_key(&there.identity.job_name()));
    let outcome = &fixture.outcomes()[&gone.outcome()];
    assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Failed, "input-missing"));
    assert!(!fixture.state().creations.contains_key(&gone.identity.job_name()));
    process.kill();
}
