//! Redeliveries after the Jobs are settled and deleted, mixed with new messages: settled work never runs twice,
//! whichever process settled it, though many messages share an outcome lookup.

use std::sync::Arc;

use contract::{message::Work, outcome::State as Ended};

use crate::fixture::{Fixture, Process, Setting};

const MANY: usize = 120;

/// Runs `MANY` Jobs, one of three of which fails, to their outcomes, and takes the Jobs away as their time to live
/// does.
fn settled(fixture: &Arc<Fixture>, process: &Process) -> Vec<Work> {
    let contents = |index| if index % 3 == 0 { "bad" } else { "good" };
    let works = (0..MANY).map(|index| fixture.submit(&format!("old{index:03}"), contents(index), None, 1)).collect();
    fixture.wait_until_done();
    fixture.change(|state| {
        for name in state.jobs.keys().cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
    });
    assert!(process.get("/healthz").starts_with("HTTP/1.1 200"));
    works
}

/// Publishes the messages of settled work twice, with new work in between; returns the new work.
fn publish_twice(fixture: &Arc<Fixture>, old: &[Work]) -> Vec<Work> {
    let each = old.iter().enumerate().map(|(index, work)| {
        fixture.publish_work(work);
        fixture.submit(&format!("old{index:03}-new"), "good", None, 1)
    });
    let new = each.collect();
    // A second time at the end.
    old.iter().for_each(|work| drop(fixture.publish_work(work)));
    new
}

fn check(fixture: &Arc<Fixture>, old: &[Work], new: &[Work]) {
    fixture.wait_until_done();
    let state = fixture.state();
    let twice: Vec<_> = state.creations.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?} ran twice");
    assert_eq!(state.creations.len(), old.len() + new.len());
    drop(state);
    let old = old.iter().enumerate().map(|(index, work)| match index % 3 {
        0 => (work, Ended::Failed, "malformed-input"),
        _ => (work, Ended::Succeeded, "completed"),
    });
    let expected: Vec<_> = old.chain(new.iter().map(|work| (work, Ended::Succeeded, "completed"))).collect();
    fixture.check(&expected);
    assert_eq!(fixture.outcomes().len(), expected.len());
}

#[test]
fn work_that_this_replica_settled_does_not_run_twice() {
    let fixture = Fixture::new();
    let process = Process::start(&fixture, Setting::default());
    let old = settled(&fixture, &process);
    let new = publish_twice(&fixture, &old);
    check(&fixture, &old, &new);
    process.terminate().unwrap();
}

#[test]
fn work_that_another_replica_settled_does_not_run_twice() {
    let fixture = Fixture::new();
    let first = Process::start(&fixture, Setting::default());
    let old = settled(&fixture, &first);
    first.kill();
    fixture.expire_leases(fixture.clients());
    let (second, third) = (Process::start(&fixture, Setting::default()), Process::start(&fixture, Setting::default()));
    let new = publish_twice(&fixture, &old);
    check(&fixture, &old, &new);
    second.terminate().unwrap();
    third.terminate().unwrap();
}

/// Two at once: one settles while the other takes messages of the same.
#[test]
fn work_that_is_settled_meanwhile_has_one_outcome() {
    let fixture = Fixture::new();
    let works: Vec<_> = (0..MANY).map(|index| fixture.submit(&format!("j{index:03}"), "good", None, 3)).collect();
    let processes = [(); 2].map(|()| Process::start(&fixture, Setting::default()));
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    assert_eq!(fixture.outcomes().len(), MANY);
    for process in processes {
        process.terminate().unwrap();
    }
}

#[test]
fn a_backlog_has_few_outcome_lookups() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works: Vec<_> = (0..500).map(|index| fixture.submit(&format!("j{index:03}"), "good", None, 1)).collect();
    let process = Process::start(&fixture, Setting { max_active_jobs: 1000, ..Setting::default() });
    fixture.wait("all Jobs", |state| state.creations.len() == works.len() && state.messages_left() == 0);
    let lookups = fixture.state().lookups;
    assert!(lookups < works.len() / 2, "{lookups} lookups for {} messages", works.len());
    process.kill();
}
