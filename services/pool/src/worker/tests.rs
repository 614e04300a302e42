//! Tests of the end of an engine; the simulation tests the rest.

use super::*;

const START: Duration = Duration::ZERO;

fn one_item() -> proto::Tasks {
    proto::Tasks { range: "range".to_owned(), index: vec![0], ..proto::Tasks::default() }
}

#[test]
fn an_engine_that_is_withdrawn_too_early_ends_when_its_last_range_is_settled() {
    let mut worker = Worker::new(1, START);
    worker.connected(1);
    worker.tasks(1, one_item());
    let item = (RangeName::from("range"), 0);
    worker.ended(&item, Some(Bytes::from_static(b"record")), 0.1, 0.1);
    let early = worker.withdraw(1, true);
    assert!(!early.contains(&Action::Exit), "its result is not in an outcome yet: {early:?}");
    assert!(worker.settled("range").contains(&Action::Exit));
}

#[test]
fn an_engine_ends_when_the_only_orchestrator_that_needs_it_is_gone() {
    let mut worker = Worker::new(1, START);
    worker.connected(1);
    worker.connected(2);
    assert!(!worker.withdraw(2, true).contains(&Action::Exit));
    assert!(worker.disconnected(1, START).contains(&Action::Exit));
}

#[test]
fn an_engine_that_gets_further_items_stays() {
    let mut worker = Worker::new(1, START);
    worker.connected(1);
    worker.tasks(1, one_item());
    worker.ended(&(RangeName::from("range"), 0), Some(Bytes::from_static(b"record")), 0.1, 0.1);
    worker.withdraw(1, true);
    worker.tasks(1, proto::Tasks { range: "further".to_owned(), ..one_item() });
    assert!(!worker.settled("range").contains(&Action::Exit));
    worker.ended(&(RangeName::from("further"), 0), None, 0.1, 0.1);
    assert!(!worker.settled("further").contains(&Action::Exit), "it is needed again");
}

#[test]
fn an_item_that_was_computed_needs_no_slot_while_its_result_is_stored() {
    let mut worker = Worker::new(1, START);
    worker.connected(1);
    let item = |index| (RangeName::from("range"), index);
    let begun = worker.tasks(1, proto::Tasks { index: vec![0, 1, 2], ..one_item() });
    assert!(begun.contains(&Action::Start(item(0))) && !begun.contains(&Action::Start(item(1))), "{begun:?}");
    assert_eq!(worker.computed(&item(0)), [Action::Start(item(1))]);
    assert_eq!(worker.computed(&item(0)), [], "once for each item");
    let ended = worker.ended(&item(0), Some(Bytes::from_static(b"record")), 0.1, 0.1);
    assert!(!ended.iter().any(|action| matches!(action, Action::Start(_))), "the slot is taken: {ended:?}");
    assert_eq!(worker.computed(&item(0)), [], "it has ended");
    assert!(worker.ended(&item(1), None, 0.1, 0.1).contains(&Action::Start(item(2))));
}

#[test]
fn an_engine_that_no_orchestrator_reaches_ends() {
    let mut worker = Worker::new(1, START);
    worker.connected(1);
    worker.disconnected(1, START);
    let is_over = |worker: &mut Worker, at| worker.tick(at).contains(&Action::Exit);
    assert!(!is_over(&mut worker, LONELY_MAX - Duration::from_secs(1)));
    assert!(is_over(&mut worker, LONELY_MAX));
    worker.connected(2);
    assert!(!is_over(&mut worker, 2 * LONELY_MAX));
}

#[test]
fn an_engine_that_is_held_begins_and_accepts_nothing() {
    let mut worker = Worker::new(2, START);
    worker.connected(1);
    let item = |index| (RangeName::from("range"), index);
    worker.tasks(1, proto::Tasks { index: vec![0, 1, 2], ..one_item() });
    let returned = |index: &[u32]| Action::Send(1, Frame::Returned(items("range", index.iter().copied())));
    assert_eq!(worker.hold(true), [Action::Send(1, Frame::Window(0)), returned(&[2])]);
    assert_eq!(worker.hold(true), []);
    assert_eq!(worker.tasks(1, proto::Tasks { index: vec![3], ..one_item() }), [returned(&[3])]);
    let ended = worker.ended(&item(0), Some(Bytes::from_static(b"record")), 0.1, 0.1);
    assert!(matches!(ended[..], [Action::Send(1, Frame::Ended(_))]), "no window, no item: {ended:?}");
    assert!(matches!(worker.hold(false)[..], [Action::Send(1, Frame::Window(1..))]));
    let begun = worker.tasks(1, proto::Tasks { index: vec![3], ..one_item() });
    assert_eq!(begun, [Action::Start(item(3))]);
}
