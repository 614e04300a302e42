//! What goes over the wire, against an API server of a few lines.

use std::sync::{Arc, Mutex};

use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;

use super::*;
use crate::{
    cluster::answers::{Answer, classify},
    watch::{self, follow, jobs::Jobs},
};

/// A request as it came: method, path with query, body.
type Seen = (String, String, Value);

/// A client whose API server answers as `answer` says, and its requests.
fn server(
    answer: impl Fn(&str, &str, &Value) -> (u16, Value) + Clone + Send + 'static,
) -> (Client, Arc<Mutex<Vec<Seen>>>) {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let record = seen.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, record) = (answer.clone(), record.clone());
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let (method, target) = (parts.method.to_string(), parts.uri.to_string());
            let (code, text) = answer(&method, &target, &body);
            record.lock().unwrap().push((method, target, body));
            let mut text = text.to_string().into_bytes();
            text.push(b'\n');
            Ok::<_, kube::Error>(
                Response::builder().status(StatusCode::from_u16(code).unwrap()).body(Body::from(text)).unwrap(),
            )
        }
    });
    (Client::new(service, "bu1"), seen)
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}))
}

fn a_job() -> Job {
    serde_json::from_value(json!({"metadata": {
        "name": "j", "uid": "u1", "resourceVersion": "41",
        "finalizers": ["foregroundDeletion", contract::labels::FINALIZER, "example.com/other"],
    }}))
    .unwrap()
}

#[tokio::test]
async fn a_create_says_what_became_of_it() {
    let (client, seen) = server(|_, target, _| match target.contains("dryRun") {
        false => (201, json!({"metadata": {"name": "j", "uid": "u1"}})),
        true => failure(422, "Invalid"),
    });
    let cluster = Cluster::new(client, "bu1");
    let job = json!({"metadata": {"name": "j"}});
    assert_eq!(cluster.create(job.to_string().into_bytes()).await.unwrap(), "u1");
    let error = cluster.dry_run(&job).await.unwrap_err();
    assert!(matches!(classify(&error), Answer::Rejected(_)));
    let path = "/apis/batch/v1/namespaces/bu1/jobs";
    let expected = [
        ("POST".to_owned(), path.to_owned(), job.clone()),
        ("POST".to_owned(), format!("{path}?dryRun=All&fieldValidation=Strict"), job),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn only_our_finalizer_goes_and_only_from_the_job_that_was_read() {
    let (client, seen) = server(|_, _, _| (200, json!({"metadata": {"name": "j"}})));
    assert!(Cluster::new(client, "bu1").remove_finalizer(&a_job(), None).await.unwrap());
    let (method, target, body) = seen.lock().unwrap()[0].clone();
    assert_eq!(
        (method.as_str(), target.trim_end_matches(['?', '&'])),
        ("PATCH", "/apis/batch/v1/namespaces/bu1/jobs/j")
    );
    let left = json!(["foregroundDeletion", "example.com/other"]);
    assert_eq!(body, json!({"metadata": {"uid": "u1", "resourceVersion": "41", "finalizers": left}}));

    for (code, reason, released) in [(404, "NotFound", Some(true)), (409, "Conflict", Some(false)), (500, "", None)] {
        let (client, _) = server(move |_, _, _| failure(code, reason));
        assert_eq!(Cluster::new(client, "bu1").remove_finalizer(&a_job(), None).await.ok(), released, "{code}");
    }
}

#[tokio::test]
async fn exactly_the_job_we_mean_is_deleted() {
    let (client, seen) = server(|_, _, _| failure(409, "Conflict"));
    Cluster::new(client, "bu1").delete("j", "u1", PropagationPolicy::Background).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].2["preconditions"]["uid"], "u1");
}

#[tokio::test]
async fn the_view_follows_a_listing_in_pages_and_then_the_watch() {
    let job = |name: &str, ended: bool| {
        let conditions = if ended { json!([{"type": "Complete", "status": "True"}]) } else { Value::Null };
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "resourceVersion": "7", "finalizers": [contract::labels::FINALIZER]},
            "spec": {"template": {"spec": {"containers": []}}},
            "status": {"conditions": conditions},
        })
    };
    let (client, seen) = server(move |_, target, _| {
        let list = |items: Value, next: &str| {
            let metadata = json!({"resourceVersion": "7", "continue": next});
            (200, json!({"apiVersion": "batch/v1", "kind": "JobList", "metadata": metadata, "items": items}))
        };
        if target.contains("watch=true") {
            (200, json!({"type": "MODIFIED", "object": job("b", true)}))
        } else if target.contains("continue=more") {
            list(json!([job("b", false)]), "")
        } else {
            list(json!([job("a", false)]), "more")
        }
    });
    let cluster = Cluster::new(client, "bu1");
    let jobs = Jobs::new();
    let mut changes = jobs.changes();
    let health = cloud::probes::Health::new(Duration::from_secs(60));
    tokio::select! {
        ended = follow(cluster.watched_jobs(), "bu1", &jobs, &health, watch::SECOND) => panic!("the watch ended: {ended:?}"),
        () = async {
            while jobs.view().unsettled() != 1 {
                changes.changed().await.unwrap();
            }
        } => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("the view never showed the ended Job"),
    }
    assert_eq!(jobs.view().active(), 1);
    assert!(jobs.view().is_unsettled("b") && health.reasons().is_empty());
    let first = seen.lock().unwrap()[0].1.clone();
    assert!(first.contains("labelSelector=business%3Dbu1%2Capp%3Dengine") && first.contains("limit=100"), "{first}");
}

#[test]
fn a_tail_is_short_and_starts_with_a_line() {
    let mut tail = Tail::new(10);
    for _ in 0..100 {
        tail.push(b"abc\n");
    }
    assert_eq!(tail.text(), "abc\nabc\n");
    let mut tail = Tail::new(10);
    tail.push(b"short");
    assert_eq!(tail.text(), "short");
    let mut tail = Tail::new(10);
    tail.push(&[0xff; 40]);
    assert!(tail.text().len() <= 10);
}
