//! Properties of input from outside: messages, object names and outcomes are parsed or refused, whatever they contain.

use std::collections::BTreeMap;

use proptest::{collection::btree_map, option, prelude::*};

use crate::{
    Identity, Outcome, labels,
    message::{Received, Request, Resources, Work, decode, stored},
    names, object,
    outcome::{State, stored::UNREADABLE},
    pack::{Format, Pack},
};

fn business() -> crate::config::Business {
    crate::testing::business("bu1")
}

/// Hostile or broken text: paths with `..`, control characters, other scripts, great length.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        "[a-z0-9./_-]{0,40}",
        "(bu1|bu2|\\.\\.|\\.|input|output|outcome|control|s|%2e|\n|\0|/){0,8}",
        Just("bu1/input/s/j".to_owned()),
        Just("bu1/input/../outcome/s/j".to_owned()),
        (600usize..1100).prop_map(|length| format!("bu1/input/s/{}", "x".repeat(length))),
    ]
}

/// Known attributes with valid and invalid values.
fn attributes() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop::sample::select(vec![
        labels::ATTRIBUTE_DESKGRID,
        labels::ATTRIBUTE_SESSION,
        labels::ATTRIBUTE_JOB,
        labels::ATTRIBUTE_CLIENT,
        labels::ATTRIBUTE_TASKS,
        labels::ATTRIBUTE_PACK,
        labels::ATTRIBUTE_ITEMS,
        labels::ATTRIBUTE_FIRST,
        labels::ATTRIBUTE_ATTEMPT,
        labels::ATTRIBUTE_PRIORITY,
        labels::ATTRIBUTE_COMMON,
        "eventType",
        "bucketId",
        "objectId",
        "objectGeneration",
        "other",
    ]);
    let value = prop_oneof![
        text(),
        Just("1".to_owned()),
        Just("lines".to_owned()),
        Just("OBJECT_FINALIZE".to_owned()),
        Just(business().bucket),
        "-?[0-9]{1,20}",
    ];
    btree_map(name.prop_map(str::to_owned), value, 0..8)
}

/// Data of a message: any bytes, or a pointer with valid and invalid parts.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let generation = prop_oneof![
        any::<i64>().prop_map(|number| serde_json::json!(number)),
        text().prop_map(|text| serde_json::json!(text)),
        Just(serde_json::Value::Null),
        Just(serde_json::json!(1.5)),
    ];
    let bucket = prop_oneof![Just(business().bucket), text()];
    let pointer = (bucket, text(), option::of(generation)).prop_map(|(bucket, object, generation)| {
        let mut pointer = serde_json::json!({"bucket": bucket, "object": object});
        if let Some(generation) = generation {
            pointer["generation"] = generation;
        }
        pointer.to_string().into_bytes()
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), pointer]
}

/// A job id that may be submitted.
fn job() -> impl Strategy<Value = String> {
    "[^/\\x00-\\x1f\\x7f]{1,20}(/[a-zé日 ._-]{1,10}){0,3}"
        .prop_filter("it may be a job id", |id| names::check_job(id).is_ok())
}

fn work() -> impl Strategy<Value = Work> {
    let session = "[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?"
        .prop_filter("it may be a session", |name| names::check_session(name).is_ok());
    let pack = (
        prop::sample::select(Format::ALL.to_vec()),
        1u32..=100_000,
        1u32..=1000,
        1u32..=1000,
        option::of(any::<u32>()),
    );
    let pack = option::of(pack.prop_map(|(format, items, items_per_range, rows_per_item, first)| {
        let first = first.map(|first| first % items / items_per_range * items_per_range);
        let rows_per_item = if format == Format::Files { 1 } else { rows_per_item };
        (Pack { format, items, items_per_range, rows_per_item }, first)
    }));
    let common = prop::collection::vec("[a-z]{1,8}(/[a-z.]{1,5}[a-z])?", 0..3);
    // Engines of the business have 512Mi and an hour, an attempt at most 8 times that.
    let resources = (option::of(1u32..=4096), option::of(1u32..=28_800)).prop_map(|(memory, timeout_secs)| Resources {
        memory: memory.map(|mebibytes| format!("{mebibytes}Mi")),
        timeout_secs,
    });
    let client = option::of("\\PC{1,20}");
    (session, job(), 1i64.., any::<u32>(), pack, any::<bool>(), common, client, resources).prop_map(
        |(session, job, generation, attempt, pack, priority, common, client, resources)| Work {
            identity: Identity {
                bucket: business().bucket,
                object: object::input("bu1", &session, &job),
                generation,
                first: pack.as_ref().and_then(|(_, first)| *first),
                attempt,
            },
            business: "bu1".to_owned(),
            session,
            job,
            client,
            pack: pack.map(|(pack, _)| pack),
            only: None,
            span: None,
            priority,
            common,
            resources,
        },
    )
}

/// Checks that all objects of some work belong to the business.
fn stays_inside(work: &Work) -> Result<(), TestCaseError> {
    let mut names = vec![work.output(), work.part(0), work.part_data(7)];
    names.push(object::layout(&work.business, &work.session, &work.job, work.identity.generation));
    let parked = object::parked(&work.business, &work.session, &work.job, &work.identity);
    names.extend([work.identity.object.clone(), work.outcome(), parked]);
    names.extend(work.common.iter().map(|name| object::common(&work.business, &work.session, name)));
    for name in names {
        prop_assert!(name.starts_with("bu1/"), "{name:?} leaves the prefix");
        prop_assert!(!name.split('/').any(|segment| matches!(segment, "" | "." | "..")), "{name:?} climbs");
        prop_assert!(!name.chars().any(char::is_control) && name.len() <= names::OBJECT_MAX, "{name:?}");
    }
    prop_assert_eq!(&work.identity.bucket, &business().bucket);
    Ok(())
}

proptest! {
    #[test]
    fn a_message_is_parsed_or_refused(id in text(), data in data(), attributes in attributes()) {
        let message = Received { message_id: &id, data: &data, attributes: &attributes };
        match decode(message, &business()) {
            Ok(Request::Run(work)) => {
                prop_assert!(work.identity.generation > 0);
                stays_inside(&work)?;
            }
            Ok(Request::RunLive(work) | Request::Inline(work)) => stays_inside(&work)?,
            Ok(Request::FolderMarker) => prop_assert!(attributes["objectId"].ends_with('/')),
            Err(refusal) => prop_assert!(!refusal.code.is_empty() && !refusal.message.is_empty()),
        }
    }

    #[test]
    fn a_sent_message_is_received_unchanged(work in work()) {
        let (data, attributes) = work.encode();
        match decode(Received { message_id: "1", data: &data, attributes: &attributes }, &business()) {
            Ok(Request::Run(received)) => prop_assert_eq!(received, work),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn an_upload_with_its_metadata_is_the_same_as_its_message(work in work()) {
        let mut first = work;
        (first.identity.attempt, first.identity.first) = (0, None);
        let found = stored(&first.identity.object, first.identity.generation, &first.metadata(), &business());
        prop_assert_eq!(found.map_err(|refusal| refusal.message), Ok(first));
    }

    #[test]
    fn names_of_inputs_are_parsed_or_refused(name in text()) {
        if let Ok((session, job)) = object::parse_input("bu1", &name) {
            let whole = object::input("bu1", &session, &job);
            let short = format!("bu1/input/{job}");
            prop_assert!(name == whole || (session == object::UPLOADS_SESSION && name == short), "{name:?}");
        }
        let _ = (object::parse_outcome("bu1", &name), object::parse_refused("bu1", &name));
    }

    #[test]
    fn names_of_outcomes_round_trip(work in work()) {
        let identity = &work.identity;
        let expected = object::OutcomeName {
            session: work.session.clone(),
            job: work.job.clone(),
            generation: identity.generation,
            first: identity.first,
            attempt: identity.attempt,
        };
        let name = work.outcome();
        prop_assert_eq!(object::parse_outcome("bu1", &name), Some(expected));
        prop_assert_eq!(object::parse_layout("bu1", &name), None);
        prop_assert_eq!(object::parse_refused("bu1", &name), None);
    }

    #[test]
    fn every_job_id_has_a_label_and_different_ones_differ(one in job(), other in job()) {
        let (label, another) = (names::label_value(&one), names::label_value(&other));
        prop_assert!(names::is_label_value(&label), "{one:?} gives {label:?}");
        prop_assert_eq!(one == other, label == another);
    }

    #[test]
    fn an_outcome_is_read_as_it_was_written(work in work(), message in "\\PC{0,80}", log in option::of("\\PC{0,80}")) {
        let mut outcome = Outcome::new("bu1", State::Failed, "exit-code", message);
        outcome.work = Some(work);
        outcome.log_tail = log;
        let bytes = serde_json::to_vec(&outcome).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Outcome>(&bytes).unwrap(), outcome);
    }

    #[test]
    fn a_damaged_outcome_is_read_or_named(
        at in 0usize..2000,
        byte in any::<u8>(),
        cut in 0usize..2000,
        work in work(),
        other in work(),
    ) {
        let mut outcome = Outcome::new("bu1", State::Succeeded, "done", "");
        outcome.work = Some(work.clone());
        let mut bytes = serde_json::to_vec(&outcome).unwrap();
        prop_assert_eq!(Outcome::parse(&work.outcome(), &bytes).unwrap(), outcome);
        if other.outcome() != work.outcome() {
            prop_assert!(Outcome::parse(&other.outcome(), &bytes).is_err(), "it is another Job's");
        }
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(cut.max(1));
        counted(&work.outcome(), &bytes)?;
    }

    #[test]
    fn every_object_among_the_outcomes_is_counted(
        name in text(),
        work in option::of(work()),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        json in "[\\[\\]{},:\"a-z0-9.]{0,80}",
    ) {
        let name = work.map_or(name, |work| work.outcome());
        counted(&name, &bytes)?;
        counted(&name, json.as_bytes())?;
    }
}

/// Checks that an object is the outcome of its name, or counts as a failure that names the object.
fn counted(object: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    match Outcome::parse(object, bytes) {
        Ok(outcome) => match &outcome.work {
            Some(work) => prop_assert_eq!(work.outcome(), object),
            None => prop_assert!(object::parse_refused(&outcome.business, object).is_some()),
        },
        Err(unreadable) => {
            let outcome = unreadable.outcome("b");
            prop_assert_eq!(outcome.state, State::Failed);
            prop_assert_eq!(&outcome.reason.code, UNREADABLE);
            prop_assert!(outcome.reason.message.contains(object));
            if let Some(work) = &outcome.work {
                prop_assert_eq!(work.outcome(), object);
            }
        }
    }
    Ok(())
}
