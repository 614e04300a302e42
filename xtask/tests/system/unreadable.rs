//! What lies among the outcomes and is none is counted and named by every verb, and keeps none from the others.

use cloud::storage::Properties;
use serde_json::Value;

use crate::desk::{Desk, text};

const CODE: &str = "unreadable-outcome";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_outcome_is_counted_and_named() {
    let desk = Desk::start().await;
    for name in ["broken.json", "foreign.json", "good.json", "huge.json"] {
        desk.input(name, "{}");
    }
    let inputs = desk.inputs();
    desk.run(&["submit", "--session", "s1", text(&inputs)], 0).await;
    desk.settle().await;
    let outcomes = desk.list("outcome/s1/").await;
    let of = |job: &str| outcomes.iter().find(|object| object.name.contains(job)).unwrap().name.clone();
    let (bucket, store) = (&desk.business.bucket, &desk.store);
    let (_, good) = store.read(bucket, &of("good"), None).await.unwrap().unwrap();
    for (job, contents) in [
        ("broken", good[..good.len() / 2].to_vec()),
        ("foreign", good.to_vec()),
        ("huge", vec![b' '; contract::outcome::stored::BYTES_MAX + 1]),
    ] {
        store.write(bucket, &of(job), contents, Properties::default()).await.unwrap();
    }

    let (stdout, _) = desk.run(&["results", "--session", "s1", "--format", "json"], 0).await;
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let of_job = |job: &str| rows.iter().filter(|row| row["job"] == job).collect::<Vec<_>>();
    for (job, why) in [("broken.json", "EOF"), ("foreign.json", "it is the outcome of"), ("huge.json", "bytes")] {
        let rows = of_job(job);
        assert_eq!(rows.len(), 1, "{job}: {stdout}");
        let error = rows[0]["error"].as_str().unwrap();
        assert!([CODE, why, &of(job)].iter().all(|part| error.contains(part)), "{job}: {error}");
    }
    assert!(of_job("good.json").iter().all(|row| row["error"].is_null()), "{stdout}");

    let (stdout, _) = desk.run(&["jobs", "--json"], 0).await;
    let jobs: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let failed: Vec<_> = jobs.iter().filter(|job| job["state"] == "failed" && job["reason"]["code"] == CODE).collect();
    assert_eq!((jobs.len(), failed.len()), (4, 3), "{stdout}");
    let (stdout, _) = desk.run(&["job", "huge.json"], 0).await;
    assert!(stdout.contains("It is not known how it ended") && stdout.contains(&of("huge")), "{stdout}");

    let (stdout, _) = desk.run(&["session", "failures", "s1", "--json"], 0).await;
    let failures: Value = serde_json::from_str(&stdout).unwrap();
    let causes = failures["causes"].as_array().unwrap();
    let count: u64 =
        causes.iter().filter(|cause| cause["code"] == CODE).map(|cause| cause["count"].as_u64().unwrap()).sum();
    assert_eq!(count, 3, "{stdout}");
    for job in ["broken.json", "foreign.json", "huge.json"] {
        assert!(causes.iter().any(|cause| cause["examples"].as_array().unwrap().contains(&job.into())), "{stdout}");
    }
}
