use std::collections::BTreeMap;

use bytes::Bytes;
use cloud::storage::{Fingerprint, crc32c_of_file};
use contract::{
    message::{Received, Request, decode},
    names,
    pack::{Format, Pack},
    testing::business,
};

use super::*;

fn input(job: &str) -> Input {
    Input { job: job.into(), source: Source::Bytes(Bytes::new()), content_type: content_type(job).into() }
}

#[test]
fn session_names_are_readable_valid_and_differ() {
    let now: jiff::Timestamp = "2026-11-22T14:33:55.5Z".parse().unwrap();
    let name = session_name(now, "1");
    assert!(name.starts_with("20261122-143355-") && name.len() == 20, "{name}");
    names::check_session(&name).unwrap();
    assert_eq!(name, session_name(now, "1"));
    assert_ne!(name, session_name(now, "2"));
}

#[test]
fn inputs_with_one_name_collide_once() {
    let inputs = ["a", "b", "a", "a", "b", "c"].map(input);
    let found: Vec<_> = collisions(&inputs).into_iter().map(|c| (c.job, c.positions)).collect();
    assert_eq!(found, [("a".to_owned(), (0, 2)), ("b".to_owned(), (1, 4))]);
    assert_eq!(collisions(&["a", "A", "x/a"].map(input)), []);
}

#[test]
fn content_types_follow_the_extension() {
    for (name, wanted) in [
        ("a.json", "application/json"),
        ("x/a.CSV", "text/csv; charset=utf-8"),
        ("x.json/a", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
    ] {
        assert_eq!(content_type(name), wanted, "{name}");
    }
}

#[test]
fn metadata_of_an_input_says_what_its_message_says() {
    let business = business("bu1");
    let options = Options {
        session: "s".into(),
        client: Some("alice".into()),
        pack: Some(Pack { format: Format::Whole, items: 4, items_per_range: 1, rows_per_item: 1 }),
        priority: true,
        common: vec!["market.json".into()],
    };
    let mut work = options.work(&business, "dir/a.json");
    work.identity.generation = 7;
    // A storage notification of the object leads to the very same work.
    let attributes: BTreeMap<String, String> = [
        ("eventType", "OBJECT_FINALIZE"),
        ("bucketId", &work.identity.bucket),
        ("objectId", &work.identity.object),
        ("objectGeneration", "7"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let data = serde_json::json!({ "metadata": work.metadata() }).to_string();
    let received = Received { message_id: "m", data: data.as_bytes(), attributes: &attributes };
    assert_eq!(decode(received, &business), Ok(Request::Run(work)));
}

#[test]
fn what_a_session_holds_decides_what_is_sent() {
    let existing = Existing::new(
        "bu1",
        ["bu1/input/s/there", "bu1/input/s/failed"],
        ["bu1/outcome/s/failed/5-0.json", "bu1/outcome/s/done/6-0.json", "bu1/outcome/s/done/8-1.json"],
    );
    assert_eq!(existing.step("new"), Step::Upload);
    assert_eq!(existing.step("there"), Step::Compare);
    assert_eq!(existing.step("failed"), Step::Compare);
    assert!(existing.is_settled("failed", 5) && !existing.is_settled("failed", 6));
    assert_eq!(existing.step("done"), Step::Settled { generation: 8 });
}

#[test]
fn same_bytes_are_told_by_size_and_checksum() {
    let folder = std::env::temp_dir().join(format!("deskgrid-submit-{}", std::process::id()));
    std::fs::write(&folder, b"123456789").unwrap();
    let ours = crc32c_of_file(&folder).unwrap();
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(ours, (9, 0xe306_9283));
    let there = |size, crc32c| Fingerprint { generation: 1, size, crc32c, compressed: false };
    assert!(compare::is_same(&there(9, Some(0xe306_9283)), ours));
    assert!(!compare::is_same(&there(9, Some(1)), ours));
    assert!(!compare::is_same(&there(8, None), ours));
}

#[test]
fn waiting_takes_the_latest_attempt_of_the_right_generation() {
    let missing = BTreeMap::from([("a".to_owned(), (5, 0)), ("b".to_owned(), (6, 0))]);
    let names = [
        "bu1/outcome/s/a/4-0.json",
        "bu1/outcome/s/a/5-1.json",
        "bu1/outcome/s/a/5-0.json",
        "bu1/outcome/s/c/6-0.json",
    ];
    let objects = names.map(|name| (name, BTreeMap::new()));
    let found = wait::settled("bu1", objects.iter().map(|(name, metadata)| (*name, metadata)), &missing);
    let expected = wait::Settled { outcomes: vec!["bu1/outcome/s/a/5-1.json".to_owned()], is_complete: true };
    assert_eq!(found, BTreeMap::from([("a".to_owned(), expected)]));
}

#[test]
fn waiting_for_a_pack_takes_the_latest_attempt_of_every_range() {
    let metadata = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let ended = |text: &str| metadata("deskgrid-items-ended", text);
    let mut objects = vec![
        ("bu1/outcome/s/p/5-layout.json", metadata("deskgrid-items", "5")),
        ("bu1/outcome/s/p/5-0-0.json", ended("succeeded=1,failed=1,cancelled=0")),
        ("bu1/outcome/s/p/5-0-1.json", ended("succeeded=2,failed=0,cancelled=0")),
        ("bu1/outcome/s/p/5-2-0.json", ended("succeeded=2,failed=0,cancelled=0")),
    ];
    let missing = BTreeMap::from([("p".to_owned(), (5, 0))]);
    let settled = |objects: &[(&str, BTreeMap<String, String>)]| {
        let found = wait::settled("bu1", objects.iter().map(|(name, metadata)| (*name, metadata)), &missing);
        found["p"].clone()
    };
    let found = settled(&objects);
    assert_eq!(found.outcomes, ["bu1/outcome/s/p/5-0-1.json", "bu1/outcome/s/p/5-2-0.json"]);
    assert!(!found.is_complete, "one item is missing");
    objects.push(("bu1/outcome/s/p/5-4-0.json", ended("succeeded=0,failed=1,cancelled=0")));
    assert!(settled(&objects).is_complete);
    assert!(settled(&[("bu1/outcome/s/p/5-0.json", BTreeMap::new())]).is_complete, "it could not be split");
}

#[test]
fn waiting_after_a_retry_leaves_out_what_it_repeats() {
    let ended = |state: &str, text: &str| {
        let pairs = [("deskgrid-state", state), ("deskgrid-items-ended", text)];
        BTreeMap::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
    };
    let layout = [("deskgrid-items", "4"), ("deskgrid-items-per-range", "2")];
    let layout = BTreeMap::from(layout.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut objects = vec![
        ("bu1/outcome/s/p/5-layout.json", layout),
        ("bu1/outcome/s/p/5-0-0.json", ended("succeeded", "succeeded=2,failed=0,cancelled=0")),
        ("bu1/outcome/s/p/5-2-0.json", ended("failed", "succeeded=1,failed=1,cancelled=0")),
        ("bu1/outcome/s/q/6-0.json", ended("failed", "")),
    ];
    let missing = BTreeMap::from([("p".to_owned(), (5, 1)), ("q".to_owned(), (6, 1))]);
    let settled = |objects: &[(&str, BTreeMap<String, String>)]| {
        wait::settled("bu1", objects.iter().map(|(name, metadata)| (*name, metadata)), &missing)
    };
    let found = settled(&objects);
    let expected = wait::Settled { outcomes: vec!["bu1/outcome/s/p/5-0-0.json".to_owned()], is_complete: false };
    assert_eq!(found, BTreeMap::from([("p".to_owned(), expected)]));
    objects.push(("bu1/outcome/s/p/5-2-1.json", ended("failed", "succeeded=1,failed=1,cancelled=0")));
    objects.push(("bu1/outcome/s/q/6-1.json", ended("failed", "")));
    let found = settled(&objects);
    assert_eq!(found["p"].outcomes, ["bu1/outcome/s/p/5-0-0.json", "bu1/outcome/s/p/5-2-1.json"]);
    assert_eq!(found["q"].outcomes, ["bu1/outcome/s/q/6-1.json"]);
    assert!(found.values().all(|job| job.is_complete));
}
