use cloud::storage::Object;
use contract::{labels, testing::business};

use super::*;

fn object(name: &str, second: i64, state: &str) -> Object {
    let metadata = match state {
        "" => BTreeMap::new(),
        state => BTreeMap::from([(labels::METADATA_STATE.to_owned(), state.to_owned())]),
    };
    let created = Timestamp::from_second(second).ok();
    Object { name: name.into(), generation: 1, size: 1, created, content_type: String::new(), metadata }
}

#[test]
fn a_view_counts_and_dates_what_ended() {
    let mut raw = Raw { listed: Some(Instant::now()), ..Raw::default() };
    raw.objects.inputs = vec![object("bu1/input/s/waits", 600, ""), object("bu1/input/s/failed", 100, "")];
    raw.objects.outcomes = vec![
        object("bu1/outcome/s/failed/1-0.json", 1190, "failed"),
        object("bu1/outcome/s/done/1-0.json", 1000, "succeeded"),
        object("bu1/outcome/refused/7.json", 1199, "refused"),
    ];
    let now = Timestamp::from_second(1200).unwrap();
    let first = view(&business("bu1"), &raw, None, now, Instant::now());
    assert_eq!((first.counts.waiting, first.counts.failed, first.counts.refused, first.per_minute), (1, 1, 1, 2));
    assert_eq!(first.oldest_waiting, Timestamp::from_second(600).ok());
    assert_eq!(first.letters.len(), 2);
    assert_eq!((first.minutes[MINUTES - 2].failed, first.minutes[MINUTES - 5].succeeded), (2, 1));
    // The cluster tells that the last one is done before the next listing does.
    raw.add_outcome(object("bu1/outcome/s/waits/1-0.json", 1201, "succeeded"), Some("bu1/input/s/waits"));
    let next = view(&business("bu1"), &raw, Some(&first), now, Instant::now());
    assert_eq!((next.counts.waiting, next.counts.succeeded, next.oldest_waiting), (0, 2, None));
    assert_eq!(next.history.len(), 1, "a sample every few seconds");
}
