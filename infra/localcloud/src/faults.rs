//! What goes wrong on request, in front of every API: a fault point is named by a request's method and path and by
//! which of those requests it meets, so that a test meets the same fault at every run, whatever runs beside it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    google::{error::respond, grpc::is_grpc},
    kubernetes::failure::Failure,
};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered only after this long.
    Delay(Duration),
    /// It is not carried out, and answered with this HTTP status (or the gRPC status that goes with it).
    Answer(u16),
    /// It is not carried out, and answered with this HTTP status and this JSON.
    Say(u16, &'static str),
    /// The connection breaks before anything is carried out.
    DropBefore,
    /// It is carried out, and the connection breaks instead of an answer.
    DropAfter,
    /// It is not carried out and never answered.
    SilentBefore,
    /// It is carried out and never answered.
    SilentAfter,
    /// It is carried out twice; the second answer is given. Not for streams.
    Twice,
}

/// Which of the requests that a point names meet its fault; they are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every one.
    Always,
    /// From the one to the other, both included.
    Between(usize, usize),
    /// One in so many, the first of them after as many.
    Every(usize),
}

impl When {
    fn meets(self, count: usize) -> bool {
        match self {
            Self::Always => true,
            Self::Between(first, last) => (first..=last).contains(&count),
            Self::Every(step) => count.is_multiple_of(step.max(1)),
        }
    }
}

#[derive(Clone, Debug)]
struct Point {
    id: u64,
    method: String,
    path: String,
    when: When,
    fault: Fault,
    /// Requests it named so far.
    named: usize,
    /// Requests that met the fault.
    met: usize,
    /// Notified when a request met the fault.
    meeting: Arc<Notify>,
}

impl Point {
    fn names(&self, path: &str) -> bool {
        match self.path.strip_suffix('$') {
            Some(exact) => path == exact,
            None => path.contains(&self.path),
        }
    }
}

/// Method and path of requests, in the order in which they came.
pub type Record = Vec<(String, String)>;

/// The fault points of a laptop cloud. Clones are the same points.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    points: Arc<Mutex<(u64, Vec<Point>)>>,
    /// Method and path of every request, once somebody wants them.
    record: Arc<Mutex<Option<Record>>>,
}

/// A fault point that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointId(u64);

impl Faults {
    /// Adds a point: requests of `method` (any, when empty) whose path contains `path`, or is all of it
    /// when `path` ends with `$`. Of several points that a
    /// request meets, the one that was added first counts.
    pub fn add(&self, method: &str, path: &str, when: When, fault: Fault) -> PointId {
        let mut points = self.points();
        points.0 += 1;
        let id = points.0;
        let (method, path, meeting) = (method.to_owned(), path.to_owned(), Arc::default());
        let point = Point { id, method, path, when, fault, named: 0, met: 0, meeting };
        points.1.push(point);
        PointId(id)
    }

    /// How many requests met a point's fault.
    pub fn met(&self, id: PointId) -> usize {
        self.points().1.iter().find(|point| point.id == id.0).map_or(0, |point| point.met)
    }

    /// Waits until a request has met a point's fault: it was kept from the API, or carried out, as the fault says.
    pub async fn meets(&self, id: PointId) {
        let meeting = self.points().1.iter().find(|point| point.id == id.0).map(|point| Arc::clone(&point.meeting));
        match meeting {
            Some(meeting) => meeting.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Writes down every request from now on.
    pub fn record(&self) {
        *self.recorded() = Some(Vec::new());
    }

    /// Method and path of the requests since [`Faults::record`], in the order in which they came; ends that.
    pub fn take_record(&self) -> Record {
        self.recorded().take().unwrap_or_default()
    }

    fn recorded(&self) -> MutexGuard<'_, Option<Record>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes every point.
    pub fn clear(&self) {
        self.points().1.clear();
    }

    fn points(&self) -> MutexGuard<'_, (u64, Vec<Point>)> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that this request meets. Every point that names the request counts it.
    fn meet(&self, method: &str, path: &str) -> Option<(Fault, Arc<Notify>)> {
        let mut fault = None;
        for point in &mut self.points().1 {
            if (point.method.is_empty() || point.method == method) && point.names(path) {
                point.named += 1;
                if fault.is_none() && point.when.meets(point.named) {
                    point.met += 1;
                    fault = Some((point.fault, Arc::clone(&point.meeting)));
                }
            }
        }
        fault
    }

    /// Puts the points in front of a server.
    pub(crate) fn before(&self, router: Router) -> Router {
        let faults = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let faults = faults.clone();
            async move { faults.serve(request, next).await }
        }))
    }

    async fn serve(&self, request: Request, next: Next) -> Response {
        if let Some(record) = self.recorded().as_mut() {
            record.push((request.method().to_string(), request.uri().path().to_owned()));
        }
        let Some((fault, meeting)) = self.meet(request.method().as_str(), request.uri().path()) else {
            return next.run(request).await;
        };
        match fault {
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                next.run(request).await
            }
            Fault::Answer(code) => refusal(&request, code),
            Fault::Say(code, json) => {
                let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                respond(status, &serde_json::from_str(json).unwrap_or_default())
            }
            Fault::DropBefore => broken(),
            Fault::DropAfter => {
                let _ = next.run(request).await;
                broken()
            }
            Fault::SilentBefore => {
                meeting.notify_one();
                std::future::pending().await
            }
            Fault::SilentAfter => {
                let _ = next.run(request).await;
                meeting.notify_one();
                std::future::pending().await
            }
            Fault::Twice => twice(request, next).await,
        }
    }
}

async fn twice(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else { return broken() };
    let again = Request::from_parts(parts.clone(), Body::from(body.clone()));
    let _ = next.clone().run(again).await;
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// An answer whose body breaks off, which closes an HTTP/1 connection and resets an HTTP/2 stream.
fn broken() -> Response {
    let body = futures::stream::once(async {
        Err::<Bytes, _>(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the connection was dropped"))
    });
    let mut response = Response::new(Body::from_stream(body));
    // As long as nothing, so that no client takes what came for the whole.
    response.headers_mut().insert(http::header::CONTENT_LENGTH, http::HeaderValue::from_static("1000000"));
    response
}

/// An answer with this status in the words of the API that was asked.
fn refusal(request: &Request, code: u16) -> Response {
    let message = "a fault that was asked for";
    let path = request.uri().path();
    if is_grpc(request) {
        return tonic::Status::new(grpc_code(code), message).into_http::<Body>();
    }
    if path.starts_with("/api/") || path.starts_with("/apis/") {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        return Failure::new(code, reason, message).into_response();
    }
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = match code {
        404 => "notFound",
        409 => "conflict",
        412 => "conditionNotMet",
        429 => "rateLimitExceeded",
        403 => "forbidden",
        _ => "backendError",
    };
    let name = format!("{:?}", grpc_code(code));
    let body = json!({"error": {
        "code": status.as_u16(), "message": message, "status": screaming(&name),
        "errors": [{"message": message, "domain": "global", "reason": reason}],
    }});
    respond(status, &body)
}

/// The gRPC code that Google's front end turns into this HTTP status.
fn grpc_code(code: u16) -> tonic::Code {
    match code {
        400 => tonic::Code::InvalidArgument,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::NotFound,
        409 => tonic::Code::Aborted,
        412 => tonic::Code::FailedPrecondition,
        429 => tonic::Code::ResourceExhausted,
        501 => tonic::Code::Unimplemented,
        503 => tonic::Code::Unavailable,
        504 => tonic::Code::DeadlineExceeded,
        _ => tonic::Code::Internal,
    }
}

/// `NotFound` as `NOT_FOUND`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_counts_what_it_names_and_meets_what_it_says() {
        let faults = Faults::default();
        let second = faults.add("POST", "/jobs", When::Between(2, 3), Fault::Answer(429));
        let third = faults.add("", "/jobs", When::Every(3), Fault::DropAfter);
        let met = |method, path| faults.meet(method, path).map(|(fault, _)| fault);
        let path = "/apis/batch/v1/namespaces/bu1/jobs";
        assert_eq!(met("GET", path), None);
        assert_eq!(met("POST", path), None);
        assert_eq!(met("POST", path), Some(Fault::Answer(429)));
        assert_eq!(met("POST", "/api/v1/namespaces"), None);
        assert_eq!(met("POST", path), Some(Fault::Answer(429)));
        assert_eq!(met("POST", path), None);
        assert_eq!(met("POST", path), Some(Fault::DropAfter));
        assert_eq!((faults.met(second), faults.met(third)), (2, 1));
        faults.clear();
        assert_eq!(met("POST", path), None);
    }

    #[test]
    fn codes_are_named_as_google_names_them() {
        assert_eq!(screaming("FailedPrecondition"), "FAILED_PRECONDITION");
    }
}
