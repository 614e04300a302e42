use cloud::storage::Object;
use contract::{labels, testing::business};

use sessions::jobs::Active;

use super::*;
use crate::raw::Held;

fn object(name: &str, second: i64, state: &str) -> Object {
    let metadata = match state {
        "" => BTreeMap::new(),
        state => BTreeMap::from([(labels::METADATA_STATE.to_owned(), state.to_owned())]),
    };
    let created = Timestamp::from_second(second).ok();
    Object { name: name.into(), generation: 1, size: 1, created, content_type: String::new(), metadata }
}

fn held(job: &str, first: Option<u32>, items: u32, is_held: bool) -> Held {
    let active = Active {
        session: "s".into(),
        job: job.into(),
        generation: 1,
        first,
        items,
        attempt: 0,
        reason: Default::default(),
        timestamps: Default::default(),
        kubernetes_job: String::new(),
    };
    Held { active: Some(active), is_held }
}

#[test]
fn the_ranges_of_a_pack_are_jobs_of_the_cluster_and_its_items_are_counted() {
    let mut raw = Raw { listed: Some(Instant::now()), ..Raw::default() };
    let mut input = object("bu1/input/s/p", 600, "");
    input.metadata.insert("deskgrid-items".into(), "25".into());
    raw.objects.inputs = vec![input];
    raw.shown("bu1", "b", "job-0", held("p", Some(0), 10, true));
    raw.shown("bu1", "b", "job-10", held("p", Some(10), 10, true));
    let now = Timestamp::from_second(1200).unwrap();
    let first = view(&business("bu1"), &raw, None, now, Instant::now());
    assert_eq!((first.running, first.counts.running, first.counts.waiting), (2, 20, 5));
    // Its outcome is looked up by the name of the range, and its input stays.
    raw.shown("bu1", "b", "job-10", held("p", Some(10), 10, false));
    raw.shown("bu1", "b", "job-x", held("x", None, 1, true));
    raw.gone("bu1", "b", "job-x");
    let range = ("bu1/outcome/s/p/1-10-0.json".to_owned(), None);
    let single = ("bu1/outcome/s/x/1-0.json".to_owned(), Some("bu1/input/s/x".to_owned()));
    assert_eq!(raw.settled, [range, single]);
    assert_eq!(raw.running(), 1);
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
    let control = contract::control::Control { paused: true, ..contract::control::Control::new("s", now) };
    let controls = BTreeMap::from([("s".to_owned(), control)]);
    let before = std::mem::replace(&mut raw.controls, controls);
    let paused = view(&business("bu1"), &raw, None, now, Instant::now());
    assert_eq!((paused.paused_jobs, paused.oldest_waiting), (1, None), "what is paused does not wait");
    raw.controls = before;
    assert_eq!((first.counts.waiting, first.counts.failed, first.counts.refused, first.per_minute), (1, 1, 1, 2));
    assert_eq!(first.oldest_waiting, Timestamp::from_second(600).ok());
    assert_eq!(first.letters.len(), 2);
    assert_eq!((first.minutes[MINUTES - 2].failed, first.minutes[MINUTES - 5].succeeded), (2, 1));
    // The cluster tells that the last one is done before the next listing does.
    raw.add_outcome(object("bu1/outcome/s/waits/1-0.json", 1201, "succeeded"), Some("bu1/input/s/waits"));
    let next = view(&business("bu1"), &raw, Some(&first), now, Instant::now());
    assert_eq!((next.counts.waiting, next.counts.succeeded, next.oldest_waiting), (0, 2, None));
    assert_eq!(next.history.len(), MINUTES + 1, "the hour before, and a sample every few seconds");
}

#[test]
fn the_hour_before_a_start_is_known_from_the_objects() {
    let now = Timestamp::from_second(100_000).unwrap();
    let written = |second: i64, object: Object| Object { generation: second * 1_000_000, ..object };
    let outcome = |name: &str, begin: i64, end| {
        object(&format!("bu1/outcome/s/{name}/{}-0.json", begin * 1_000_000), end, "succeeded")
    };
    let mut raw = Raw { listed: Some(Instant::now()), ..Raw::default() };
    raw.objects.inputs = vec![written(99_300, object("bu1/input/s/waits", 99_300, ""))];
    raw.objects.outcomes =
        vec![outcome("early", 96_000, 97_000), outcome("long", 90_000, 99_500), outcome("quick", 98_001, 98_002)];
    let first = view(&business("bu1"), &raw, None, now, Instant::now());
    let at = |second: i64| first.history.iter().find(|sample| sample.time.as_second() == second).unwrap().pending;
    assert_eq!([96_400, 97_000, 98_020, 99_280, 99_340, 99_520].map(at), [2, 1, 1, 1, 2, 1]);
    let next = view(&business("bu1"), &raw, Some(&first), now + jiff::SignedDuration::from_secs(60), Instant::now());
    assert_eq!((next.history.len(), next.history.back().unwrap().pending), (MINUTES + 1, 1), "an hour is kept");
}
