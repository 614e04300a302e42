use super::*;
use crate::testing::{self, business};

fn check(data: &str, attributes: &[(&str, &str)]) -> Result<Request, &'static str> {
    let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let message = Received { message_id: "m1", data: data.as_bytes(), attributes: &attributes };
    decode(message, &business("bu1")).map_err(|refusal| refusal.code)
}

fn work() -> Work {
    Work {
        identity: Identity {
            bucket: "p-bucket".into(),
            object: "bu1/input/s/j.json".into(),
            generation: 5,
            first: Some(7),
            attempt: 0,
        },
        business: "bu1".into(),
        session: "s".into(),
        job: "j.json".into(),
        client: Some("alice".into()),
        pack: Some(Pack { format: Format::Table, items: 30, items_per_range: 7, rows_per_item: 2 }),
        only: None,
        span: None,
        priority: true,
        common: vec!["market.json".into()],
        resources: Resources::default(),
    }
}

#[test]
fn our_own_messages_round_trip() {
    for attempt in [0, 4] {
        let mut work = work();
        work.identity.attempt = attempt;
        work.resources = match attempt {
            0 => Resources::default(),
            _ => Resources { memory: Some("2Gi".into()), timeout_secs: Some(7200) },
        };
        let (data, attributes) = work.encode();
        let message = Received { message_id: "m1", data: &data, attributes: &attributes };
        assert_eq!(decode(message, &business("bu1")), Ok(Request::Run(work)));
    }
}

#[test]
fn a_missing_generation_is_looked_up() {
    let request = check(r#"{"bucket":"p-bucket","object":"bu1/input/s/j"}"#, &[("deskgrid", "1")]);
    assert!(matches!(request, Ok(Request::RunLive(work)) if work.identity.generation == 0));
}

#[test]
fn a_storage_notification_is_a_submission() {
    let attributes = [
        ("eventType", "OBJECT_FINALIZE"),
        ("bucketId", "p-bucket"),
        ("objectId", "bu1/input/s/j"),
        ("objectGeneration", "9"),
    ];
    let request = check(r#"{"metadata":{"deskgrid-tasks":"4","tasksy":"x"}}"#, &attributes);
    assert!(
        matches!(request, Ok(Request::Run(work)) if work.identity.generation == 9 && work.pack.as_ref().is_some_and(|pack| pack.items == 4))
    );
}

#[test]
fn an_uploads_path_and_metadata_say_what_a_message_of_ours_would() {
    let check_upload = |object: &str, data: &str| {
        let attributes = [
            ("eventType", "OBJECT_FINALIZE"),
            ("payloadFormat", if data.is_empty() { "NONE" } else { "JSON_API_V1" }),
            ("bucketId", "p-bucket"),
            ("objectId", object),
            ("objectGeneration", "9"),
        ];
        check(data, &attributes)
    };
    let Ok(Request::Run(work)) = check_upload(
        "bu1/input/book.json",
        r#"{"metadata":{"deskgrid-client":"alice","deskgrid-priority":"true","deskgrid-common":"m.json,n.json"}}"#,
    ) else {
        panic!("refused")
    };
    assert_eq!((work.session.as_str(), work.job.as_str(), work.priority), ("uploads", "book.json", true));
    assert_eq!((work.client.as_deref(), work.common.len()), (Some("alice"), 2));
    // What another tool notes with an object is no option of ours.
    let Ok(Request::Run(work)) =
        check_upload("bu1/input/s/j", r#"{"metadata":{"priority":"high","tasks":"a","client":"rsync"}}"#)
    else {
        panic!("refused")
    };
    assert_eq!((work.priority, work.pack, work.client), (false, None, None));
    // Without metadata there are no options, which is fine.
    assert!(matches!(check_upload("bu1/input/s/j", "{}"), Ok(Request::Run(_))));
    // What the console writes for a folder.
    for folder in ["bu1/input/nov/", "bu1/input/nov/deep/", "bu1/input/"] {
        assert_eq!(check_upload(folder, r#"{"size":"0"}"#), Ok(Request::FolderMarker), "{folder}");
    }
    for (object, data, code) in [
        ("bu1/input/s/", r#"{"size":"3"}"#, "wrong-object"),
        ("bu2/input/s/", r#"{"size":"0"}"#, "wrong-object"),
        ("bu1/input/s p/j", "{}", "wrong-object"),
        ("bu1/output/s/j", "{}", "wrong-object"),
        ("bu1/input/s/j", r#"{"metadata":{"deskgrid-tasks":"many"}}"#, "malformed-option"),
        ("bu1/input/s/j", r#"{"size":"0","metadata":{"deskgrid-timeout":"x"}}"#, "malformed-option"),
        // A format of a later version: the input stays, and can be replayed when it is deployed.
        ("bu1/input/s/j", r#"{"metadata":{"deskgrid-pack":"later","deskgrid-items":"2"}}"#, "malformed-option"),
        ("bu1/input/s/j", "", "malformed-message"),
        ("bu1/input/s/j", "{", "malformed-message"),
    ] {
        assert_eq!(check_upload(object, data).err(), Some(code), "{object} {data}");
    }
}

#[test]
fn an_attempt_is_given_more_within_limits() {
    let data = r#"{"bucket":"p-bucket","object":"bu1/input/s/j"}"#;
    // The business's engines have 512Mi and an hour.
    for (attribute, value, code) in [
        ("memory", "4Gi", None),
        ("memory", "4097Mi", Some("over-limit")),
        ("memory", "lots", Some("malformed-option")),
        ("timeout", "28800", None),
        ("timeout", "28801", Some("over-limit")),
        ("timeout", "0", Some("malformed-option")),
        ("timeout", "1h", Some("malformed-option")),
    ] {
        assert_eq!(check(data, &[("deskgrid", "1"), (attribute, value)]).err(), code, "{attribute}={value}");
    }
}

#[test]
fn what_a_retry_leaves_in_the_metadata_is_read_back() {
    let mut work = work();
    (work.identity.attempt, work.identity.first) = (3, None);
    work.resources.memory = Some("2Gi".into());
    let stored = stored(&work.identity.object, 5, &work.metadata(), &business("bu1"));
    assert_eq!(stored, Ok(work));
}

#[test]
fn anything_else_is_the_payload() {
    for attributes in [
        &[("colour", "red")][..],
        // The same words as ours, of another publisher.
        &[("priority", "high"), ("tasks", "many"), ("attempt", "x"), ("memory", "lots"), ("common", "../x")],
        &[("priority", "true"), ("client", "theirs"), ("tasks", "3"), ("timeout", "5")],
    ] {
        let expected = Work {
            identity: Identity { generation: 0, ..testing::work("bu1", "inline", "m1").identity },
            ..testing::work("bu1", "inline", "m1")
        };
        assert_eq!(check("engine payload 1", attributes), Ok(Request::Inline(expected)), "{attributes:?}");
    }
}

#[test]
fn what_cannot_be_a_job_of_this_business_is_refused() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let ours: &'static [(&str, &str)] = &[("deskgrid", "1")];
    let cases: [Case; 12] = [
        ("{", ours, "malformed-message"),
        ("{}", ours, "malformed-message"),
        ("", &[], "empty-message"),
        (r#"{"bucket":"other","object":"bu1/input/s/j"}"#, ours, "wrong-bucket"),
        (r#"{"bucket":"p-bucket","object":"bu2/input/s/j"}"#, ours, "wrong-object"),
        (r#"{"bucket":"p-bucket","object":"bu1/input/s/../../bu2/x"}"#, ours, "wrong-object"),
        (r#"{"bucket":"p-bucket","object":"bu1/input/s/j","generation":"x"}"#, ours, "malformed-generation"),
        (r#"{"bucket":"p-bucket","object":"bu1/input/s/j","generation":-1}"#, ours, "malformed-generation"),
        (r#"{"bucket":"p-bucket","object":"bu1/input/s/j"}"#, &[("deskgrid", "9")], "unknown-schema"),
        (r#"{"bucket":"p-bucket","object":"bu1/input/s/j"}"#, &[("deskgrid", "1"), ("tasks", "0")], "malformed-option"),
        (
            r#"{"bucket":"p-bucket","object":"bu1/input/s/j"}"#,
            &[("deskgrid", "1"), ("session", "t")],
            "malformed-message",
        ),
        ("", &[("eventType", "OBJECT_DELETE"), ("bucketId", "p-bucket")], "wrong-event"),
    ];
    for (data, attributes, code) in cases {
        assert_eq!(check(data, attributes).err(), Some(code), "{data} {attributes:?}");
    }
}
