use super::*;
use crate::config::tests::business;

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
            attempt: 0,
        },
        business: "bu1".into(),
        session: "s".into(),
        job: "j.json".into(),
        client: Some("alice".into()),
        tasks: Some(3),
        rows_per_task: None,
        priority: true,
        common: vec!["market.json".into()],
    }
}

#[test]
fn our_own_messages_round_trip() {
    for attempt in [0, 4] {
        let mut work = work();
        work.identity.attempt = attempt;
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
    assert!(matches!(request, Ok(Request::Run(work)) if work.identity.generation == 9 && work.tasks == Some(4)));
}

#[test]
fn anything_else_is_the_payload() {
    let request = check("engine payload 1", &[("colour", "red")]);
    assert!(matches!(request, Ok(Request::Inline(work)) if work.identity.object == "bu1/input/inline/m1"));
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
