//! What messages may ask for: priority, a queue, more of something, and a submission by upload.

use contract::{labels, outcome::State as Ended};

use crate::fixture::{Fixture, Process, Setting};

#[test]
fn priority_is_drained_first_when_every_slot_is_taken() {
    let fixture = Fixture::new();
    fixture.change(|state| (state.engines_wait, state.has_priority) = (true, true));
    let ordinary = fixture.submit_many("o", 6, 1);
    let business: fn(&mut contract::config::Business) = |business| {
        business.priority_subscription = Some("projects/p/subscriptions/p-bu1-priority-subscription".into());
    };
    let process = Process::start(&fixture, Setting { max_active_jobs: 2, business, ..Setting::default() });
    fixture.wait("every slot is taken", |state| state.jobs.len() == 2 && state.acked >= 2);
    let urgent: Vec<_> = (0..4)
        .map(|index| fixture.submit_to("s1", &format!("u{index}"), "good", 1, |work| work.priority = true))
        .collect();
    // Two slots at a time become free; urgent work takes them before work that is much older.
    for round in 1..=2 {
        fixture.finish();
        fixture.wait("the next two", |state| state.creations.len() == 2 + 2 * round);
        let state = fixture.state();
        let started = |work: &&contract::message::Work| state.creations.contains_key(&work.identity.job_name());
        assert_eq!(urgent.iter().filter(started).count(), 2 * round, "in round {round}");
        assert_eq!(ordinary.iter().filter(started).count(), 2, "in round {round}");
    }
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check_succeeded(ordinary.iter().chain(&urgent));
    assert_eq!(fixture.state().max_active, 2);
    assert!(fixture.state().creations.values().all(|count| *count == 1), "both subscriptions delivered each");
    process.terminate().unwrap();
}

#[test]
fn a_queue_suspends_a_job_which_then_waits_and_is_no_failure() {
    let fixture = Fixture::new();
    let works = fixture.submit_many("j", 3, 1);
    let business: fn(&mut contract::config::Business) = |business| business.queue = Some("desk-queue".into());
    let process = Process::start(&fixture, Setting { max_active_jobs: 2, business, ..Setting::default() });
    fixture.wait("two Jobs, and no more", |state| state.jobs.len() == 2 && state.acked == 2);
    {
        let state = fixture.state();
        for job in state.jobs.values() {
            assert_eq!(job["metadata"]["labels"][labels::KUEUE_QUEUE], "desk-queue");
            assert_eq!(job["spec"]["suspend"], true);
        }
    }
    process.wait_for("/metrics", |answer| answer.contains("orchestrator_jobs_suspended 2"));
    assert!(fixture.outcomes().is_empty(), "it waits");
    // Kueue marks what it does not admit with a condition of its own kind; that is no end either.
    fixture.change(|state| {
        for (name, mut job) in state.jobs.clone() {
            let condition = serde_json::json!([{"type": "Suspended", "status": "True", "reason": "JobSuspended"}]);
            job["status"]["conditions"] = condition;
            state.show(&name, job, "MODIFIED");
        }
    });
    let first = works[0].identity.job_name();
    fixture.change(|state| {
        let mut job = state.jobs[&first].clone();
        job["status"] = serde_json::json!({});
        state.show(&first, job, "MODIFIED");
        state.admit(&first);
    });
    fixture.wait("it ran", |state| state.objects.contains_key(&works[0].outcome()));
    // The slot it had is free for the next, and one that is deleted while it waits is cancelled.
    fixture.wait("the third", |state| state.jobs.contains_key(&works[2].identity.job_name()));
    fixture.change(|state| state.delete(&works[1].identity.job_name()));
    fixture.change(|state| state.admit(&works[2].identity.job_name()));
    fixture.wait("all outcomes", |state| works.iter().all(|work| state.objects.contains_key(&work.outcome())));
    fixture.wait_until_done();
    fixture.check(&[
        (&works[0], Ended::Succeeded, "completed"),
        (&works[1], Ended::Cancelled, "cancelled"),
        (&works[2], Ended::Succeeded, "completed"),
    ]);
    process.terminate().unwrap();
}

#[test]
fn an_attempt_may_have_more_within_the_limits() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the message"]);
    let mut work = fixture.submit("j", "good", None, 0);
    work.identity.attempt = 1;
    work.resources.memory = Some("2Gi".into());
    work.resources.timeout_secs = Some(7200);
    fixture.publish_work(&work);
    let mut greedy = fixture.submit("greedy", "good", None, 0);
    greedy.resources.memory = Some("1Ti".into());
    let refused = fixture.publish_work(&greedy);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Succeeded, "completed")]);
    let state = fixture.state();
    let pod = &state.jobs[&work.identity.job_name()]["spec"]["template"]["spec"];
    let resources = &pod["containers"][0]["resources"];
    assert_eq!((&resources["requests"]["memory"], &resources["limits"]["memory"]), (&"2Gi".into(), &"2Gi".into()));
    assert_eq!(pod["activeDeadlineSeconds"], 7200);
    drop(state);
    let outcomes = fixture.outcomes();
    assert_eq!(outcomes[&format!("bu1/outcome/refused/{refused}.json")].reason.code, "over-limit");
    process.terminate().unwrap();
}

#[test]
fn an_upload_is_a_submission_with_the_session_of_its_path() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the upload"]);
    let notify = |object: &str, metadata: serde_json::Value| {
        fixture.change(|state| {
            let generation = state.write_once(object, "good".into(), Default::default()).unwrap();
            let attributes = [
                ("notificationConfig", "projects/_/buckets/p-bucket/notificationConfigs/1"),
                ("eventType", "OBJECT_FINALIZE"),
                ("payloadFormat", "JSON_API_V1"),
                ("bucketId", "p-bucket"),
                ("objectId", object),
                ("objectGeneration", &generation.to_string()),
            ];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let size = if object.ends_with('/') { "0" } else { "4" };
            let data = serde_json::json!({"kind": "storage#object", "size": size, "metadata": metadata}).to_string();
            state.publish(data.as_bytes(), attributes.into());
            generation
        })
    };
    notify("bu1/input/book.json", serde_json::json!({}));
    notify("bu1/input/risk/deep/book.json", serde_json::json!({"deskgrid-tasks": "3", "colour": "red"}));
    notify("bu1/input/risk/", serde_json::json!({}));
    let wrong = notify("bu1/input/risk/wrong.json", serde_json::json!({"deskgrid-tasks": "many"}));
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    let outcomes = fixture.outcomes();
    assert_eq!(outcomes.len(), 5, "{:?}", outcomes.keys());
    let of = |prefix: &str| outcomes.iter().find(|(name, _)| name.starts_with(prefix)).unwrap().1;
    assert_eq!(of("bu1/outcome/uploads/book.json/").state, Ended::Succeeded);
    // As version 1 had it: a Job that is split into tasks.
    let split = of("bu1/outcome/risk/deep/book.json/");
    assert_eq!((split.state, split.work.as_ref().unwrap().pack.as_ref().unwrap().items), (Ended::Succeeded, 3));
    // Its input is known, so its session counts it.
    let refused = &outcomes[&format!("bu1/outcome/risk/wrong.json/{wrong}-0.json")];
    assert_eq!((refused.state, refused.reason.code.as_str()), (Ended::Refused, "malformed-option"));
    assert!(fixture.state().objects.contains_key("bu1/input/risk/wrong.json"), "the input of a refusal is kept");
    let metrics = process.get("/metrics");
    assert!(metrics.contains("orchestrator_messages_refused_total{reason=\"malformed-option\"} 1"), "{metrics}");
    assert!(fixture.state().events.iter().any(|event| event["state"] == "refused"));
    process.terminate().unwrap();
}
