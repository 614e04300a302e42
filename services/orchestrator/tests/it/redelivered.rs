//! Messages that come again when their Jobs are settled and gone, among others that are new: what is settled is never
//! run again, whoever settled it, though many are looked up at once.

use std::sync::Arc;

use contract::{message::Work, outcome::State as Ended};

use crate::world::{Process, Setting, World};

const MANY: usize = 120;

/// Runs `MANY` Jobs, one of three of which fails, to their outcomes, and takes the Jobs away as their time to live does.
fn settled(world: &Arc<World>, process: &Process) -> Vec<Work> {
    let contents = |index| if index % 3 == 0 { "bad" } else { "good" };
    let works = (0..MANY).map(|index| world.submit(&format!("old{index:03}"), contents(index), None, 1)).collect();
    world.wait_until_done();
    world.change(|state| {
        for name in state.jobs.keys().cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
    });
    assert!(process.get("/healthz").starts_with("HTTP/1.1 200"));
    works
}

/// Publishes again what is settled, with new work in between; returns the new.
fn again(world: &Arc<World>, old: &[Work]) -> Vec<Work> {
    let each = old.iter().enumerate().map(|(index, work)| {
        world.publish_work(work);
        world.submit(&format!("old{index:03}-new"), "good", None, 1)
    });
    let new = each.collect();
    // And once more, at the end.
    old.iter().for_each(|work| drop(world.publish_work(work)));
    new
}

fn check(world: &Arc<World>, old: &[Work], new: &[Work]) {
    world.wait_until_done();
    let state = world.look();
    let twice: Vec<_> = state.creations.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?} ran again");
    assert_eq!(state.creations.len(), old.len() + new.len());
    drop(state);
    let old = old.iter().enumerate().map(|(index, work)| match index % 3 {
        0 => (work, Ended::Failed, "malformed-input"),
        _ => (work, Ended::Succeeded, "completed"),
    });
    let wanted: Vec<_> = old.chain(new.iter().map(|work| (work, Ended::Succeeded, "completed"))).collect();
    world.check(&wanted);
    assert_eq!(world.outcomes().len(), wanted.len());
}

#[test]
fn what_this_replica_settled_is_not_run_again() {
    let world = World::new();
    let process = Process::start(&world, Setting::default());
    let old = settled(&world, &process);
    let new = again(&world, &old);
    check(&world, &old, &new);
    process.terminate().unwrap();
}

#[test]
fn what_another_replica_settled_is_not_run_again() {
    let world = World::new();
    let first = Process::start(&world, Setting::default());
    let old = settled(&world, &first);
    first.kill();
    world.bury(world.clients());
    let (second, third) = (Process::start(&world, Setting::default()), Process::start(&world, Setting::default()));
    let new = again(&world, &old);
    check(&world, &old, &new);
    second.terminate().unwrap();
    third.terminate().unwrap();
}

/// Two at once: one settles while the other takes messages of the same.
#[test]
fn what_is_settled_meanwhile_has_one_outcome() {
    let world = World::new();
    let works: Vec<_> = (0..MANY).map(|index| world.submit(&format!("j{index:03}"), "good", None, 3)).collect();
    let processes = [(); 2].map(|()| Process::start(&world, Setting::default()));
    world.wait_until_done();
    world.check_succeeded(&works);
    assert_eq!(world.outcomes().len(), MANY);
    for process in processes {
        process.terminate().unwrap();
    }
}

#[test]
fn a_backlog_is_looked_up_many_at_once() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works: Vec<_> = (0..500).map(|index| world.submit(&format!("j{index:03}"), "good", None, 1)).collect();
    let process = Process::start(&world, Setting { max_active_jobs: 1000, ..Setting::default() });
    world.wait("all Jobs", |state| state.creations.len() == works.len() && state.messages_left() == 0);
    let looks = world.look().looks;
    assert!(looks < works.len() / 2, "{looks} looks for {} messages", works.len());
    process.kill();
}
