//! Leases, back-off, limits and retention of one queue.

use super::*;

fn message(id: u64, published: i64) -> Arc<Message> {
    let published = Timestamp::from_second(published).unwrap();
    Arc::new(Message { id, content: PubsubMessage::default(), size_bytes: 10, published })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const DAY: SignedDuration = SignedDuration::from_hours(24);
const BACKOFF: Backoff = Backoff { minimum: SignedDuration::from_secs(10), maximum: SignedDuration::from_secs(60) };

fn acks(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect()
}

#[test]
fn a_lease_that_ends_makes_the_message_ready_again() {
    let mut queue = Queue::default();
    queue.push(message(1, 0));
    let first = queue.take(None, 10, at(10));
    assert_eq!((first.len(), first[0].attempt), (1, 1));
    assert!(queue.take(None, 10, at(10)).is_empty());
    assert!(!queue.tick(at(9), None, DAY));
    assert!(queue.tick(at(10), None, DAY));
    let second = queue.take(None, 10, at(20));
    assert_eq!(second[0].attempt, 2);
    assert_ne!(first[0].ack_id, second[0].ack_id);
    // An id of the first delivery no longer moves the deadline, yet it still acknowledges.
    queue.modify(&acks(&first), at(600), at(11), None);
    assert_eq!(queue.next_event(DAY), Some(at(20)));
    assert_eq!(queue.ack(&acks(&first), true), acks(&first));
    assert_eq!(queue.len(), 1, "with exactly-once delivery it does not");
    assert!(queue.ack(&acks(&first), false).is_empty());
    assert!(queue.is_empty());
    assert_eq!(queue.next_event(DAY), None);
}

#[test]
fn deadlines_are_extended_and_messages_given_back() {
    let mut queue = Queue::default();
    queue.push(message(1, 0));
    let taken = acks(&queue.take(None, 1, at(10)));
    queue.modify(&taken, at(60), at(5), None);
    assert!(!queue.tick(at(59), None, DAY));
    queue.modify(&taken, at(59), at(59), None);
    assert_eq!(queue.take(None, 1, at(70)).len(), 1);
}

#[test]
fn failures_are_backed_off_exponentially() {
    let mut queue = Queue::default();
    queue.push(message(1, 0));
    let mut now = 0;
    for wait in [10, 20, 40, 60, 60] {
        let taken = acks(&queue.take(None, 1, at(now + 10)));
        assert_eq!(taken.len(), 1, "ready at {now}");
        queue.modify(&taken, at(now), at(now), Some(BACKOFF));
        assert!(!queue.tick(at(now + wait - 1), Some(BACKOFF), DAY));
        now += wait;
        assert!(queue.tick(at(now), Some(BACKOFF), DAY));
    }
}

#[test]
fn a_receiver_gets_no_more_than_it_may_hold() {
    let mut queue = Queue::default();
    (1..=10).for_each(|id| queue.push(message(id, 0)));
    queue.open(1, Limits { messages: 3, bytes: 0 });
    queue.open(2, Limits { messages: 0, bytes: 25 });
    let first = queue.take(Some(1), 100, at(10));
    assert_eq!(first.len(), 3);
    assert!(queue.take(Some(1), 100, at(10)).is_empty());
    // Bytes may be exceeded by the last message only.
    assert_eq!(queue.take(Some(2), 100, at(10)).len(), 3);
    queue.ack(&acks(&first)[..2], false);
    assert_eq!(queue.take(Some(1), 100, at(10)).len(), 2);
    // What a receiver held when it left stays leased.
    queue.close(1);
    assert!(queue.take(Some(1), 100, at(10)).is_empty());
    assert_eq!(queue.take(None, 100, at(10)).len(), 2);
    assert_eq!(queue.leased(), 8);
}

#[test]
fn old_messages_go() {
    let mut queue = Queue::default();
    (1..=4).for_each(|id| queue.push(message(id, i64::try_from(id).unwrap())));
    assert_eq!(queue.next_event(DAY), Some(at(1 + 86_400)));
    queue.tick(at(1 + 86_400), None, DAY);
    assert_eq!(queue.len(), 3);
}

#[test]
fn nonsense_ids_change_nothing() {
    let mut queue = Queue::default();
    queue.push(message(1, 0));
    let bad = ["", ":", "x:1", "1:x", "9:1"].map(str::to_owned);
    assert_eq!(queue.ack(&bad, true).len(), 5);
    assert_eq!(queue.modify(&bad, at(1), at(0), None).len(), 5);
    assert_eq!(queue.len(), 1);
}
