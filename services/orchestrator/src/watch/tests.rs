//! The watch against an API server that forbids or shows nothing.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;

use super::*;

/// What a second is in production.
const UNIT: Duration = Duration::from_millis(10);

/// A minimal API server: its number of Jobs, and whether it forbids watching. A watch shows nothing.
#[derive(Debug, Default)]
struct Server {
    jobs: AtomicUsize,
    forbids_watching: AtomicBool,
}

impl Server {
    fn answer(&self, target: &str) -> Response<Body> {
        let (code, answer) = if !target.contains("watch=true") {
            let jobs = 0..self.jobs.load(Ordering::SeqCst);
            let items: Vec<_> = jobs.map(|job| json!({"metadata": {"name": format!("job-{job}")}})).collect();
            let metadata = json!({"resourceVersion": "7"});
            (200, json!({"kind": "JobList", "apiVersion": "batch/v1", "metadata": metadata, "items": items}))
        } else if self.forbids_watching.load(Ordering::SeqCst) {
            let (kind, status, message) = ("Status", "Failure", "cannot watch");
            (403, json!({"kind": kind, "apiVersion": "v1", "status": status, "code": 403, "message": message}))
        } else {
            return Response::new(Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>()));
        };
        Response::builder().status(code).body(Body::from(answer.to_string())).unwrap()
    }
}

/// An action, and the condition that must follow.
type Step = (fn(&Server, &Jobs), fn(&View, &str) -> bool);

/// Follows a server, and waits in turn for each of `steps`.
async fn check(steps: &[Step]) {
    let server = Arc::new(Server::default());
    let (jobs, health) = (Jobs::new(), Health::new(Duration::from_secs(60)));
    let service = tower::service_fn({
        let server = server.clone();
        move |request: Request<kube::client::Body>| {
            let answer = server.answer(&request.uri().to_string());
            async move { Ok::<_, Infallible>(answer) }
        }
    });
    let api = Api::namespaced(kube::Client::new(service, "bu1"), "bu1");
    let wait = async {
        for (number, (first, condition)) in steps.iter().enumerate() {
            first(&server, &jobs);
            let holds = async {
                while !condition(&jobs.view(), &health.reasons()) {
                    tokio::time::sleep(UNIT).await;
                }
            };
            let came = tokio::time::timeout(Duration::from_secs(60), holds).await;
            assert!(came.is_ok(), "step {number} never came: {:?}; {}", jobs.view(), health.reasons());
        }
    };
    tokio::select! {
        ended = follow(api, "bu1", &jobs, &health, UNIT) => panic!("the watch ended: {ended:?}"),
        () = wait => {}
    }
}

#[tokio::test]
async fn intake_stops_while_watching_is_forbidden_and_listings_go_on() {
    check(&[
        (|server, _| server.forbids_watching.store(true, Ordering::SeqCst), |view, _| view.room(5) == 5),
        (|_, _| {}, |view, reasons| view.room(5) == 0 && reasons.contains("cannot watch")),
        (|server, _| server.jobs.store(2, Ordering::SeqCst), |view, _| view.active() == 2),
        (|_, _| {}, |view, reasons| view.room(5) == 0 && reasons.contains("cannot watch")),
        (
            |server, _| server.forbids_watching.store(false, Ordering::SeqCst),
            |view, reasons| view.room(5) == 3 && reasons.is_empty(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_listing_of_the_created_jobs_follows_a_silent_watch() {
    check(&[
        (|_, _| {}, |view, _| view.room(5) == 5),
        (
            |server, jobs| {
                // One exists and the watch does not show it, the other one is deleted.
                server.jobs.store(1, Ordering::SeqCst);
                for name in ["job-0", "gone"] {
                    let mut slot = jobs.reserve(|_| true).unwrap();
                    slot.created(name);
                }
            },
            |view, _| view.room(5) == 3 && view.awaited_since().is_some(),
        ),
        (|_, _| {}, |view, reasons| view.room(5) == 4 && view.awaited_since().is_none() && reasons.is_empty()),
    ])
    .await;
}
