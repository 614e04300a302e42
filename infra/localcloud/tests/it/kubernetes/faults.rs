//! What goes wrong on request, as a client meets it.

use std::time::Duration;

use kube::api::{DeleteParams, PostParams};
use localcloud::faults::{Fault, Faults, When};
use serde_json::json;
use tokio::time::Instant;

use crate::kubernetes::support::{Lab, job};

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_meets_the_request_that_it_names_and_no_other() {
    let faults = Faults::default();
    let lab = Lab::with(|options| options.faults = faults.clone()).await;
    let jobs = lab.jobs();
    let create = async |name: &str| jobs.create(&PostParams::default(), &job(name, "true", json!({}))).await;
    let exists = async |name: &str| jobs.get_opt(name).await.unwrap().is_some();

    let busy = faults.add("POST", "/jobs", When::Between(2, 2), Fault::Answer(429));
    create("first").await.unwrap();
    let refused = create("second").await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 429 && status.reason == "TooManyRequests"));
    assert!(!exists("second").await, "it was not carried out");
    create("second").await.unwrap();
    assert_eq!(faults.met(busy), 1);
    faults.clear();

    // An answer that never comes leaves open whether it was carried out.
    faults.add("POST", "/jobs", When::Between(1, 1), Fault::DropBefore);
    faults.add("POST", "/jobs", When::Between(2, 2), Fault::DropAfter);
    let broken = create("before").await.unwrap_err();
    assert!(!matches!(broken, kube::Error::Api(_)), "{broken}");
    assert!(!exists("before").await);
    let broken = create("after").await.unwrap_err();
    assert!(!matches!(broken, kube::Error::Api(_)), "{broken}");
    assert!(exists("after").await);
    faults.clear();

    // What was just made is not there yet for a reader.
    faults.add("GET", "/jobs/after", When::Between(1, 2), Fault::Answer(404));
    let seen = [exists("after").await, exists("after").await, exists("after").await];
    assert_eq!(seen, [false, false, true]);
    faults.clear();

    let slow = Duration::from_millis(150);
    faults.add("", "/jobs/first", When::Always, Fault::Delay(slow));
    let asked = Instant::now();
    assert!(exists("first").await && asked.elapsed() >= slow);
    faults.clear();

    // The second of two deletes finds nothing.
    faults.add("DELETE", "/jobs/before", When::Always, Fault::Twice);
    create("before").await.unwrap();
    let missing = jobs.delete("before", &DeleteParams::background()).await.unwrap_err();
    assert!(matches!(missing, kube::Error::Api(status) if status.code == 404));
    lab.kubernetes.stop().await;
}
