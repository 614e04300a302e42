//! Tests of the REST layer against a small server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde_json::{Value, json};

use super::*;

/// Answers in the order in which they are given, and what was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<Vec<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A client of a server that returns these answers.
async fn start(answers: &[(u16, Value)]) -> (Client, Script) {
    let script = Script::default();
    script.answers.lock().unwrap().extend(answers.iter().rev().cloned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(script.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
    let retry = Retry { attempts: 3, first: Duration::from_millis(1), longest: Duration::from_millis(2) };
    (Client::new(Endpoints::all_at(&address), credentials).unwrap().retrying(retry), script)
}

async fn answer(State(script): State<Script>, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let length = headers.get("content-length").map(|value| value.to_str().unwrap().to_owned());
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.asked.lock().unwrap().push(format!("{uri} {} {body}", length.unwrap_or_default()));
    let (code, value) = script.answers.lock().unwrap().pop().unwrap();
    (StatusCode::from_u16(code).unwrap(), if value.is_null() { String::new() } else { value.to_string() })
}

fn topic() -> Request {
    Request::get(Api::Pubsub, "v1/projects/p/topics/t")
}

#[tokio::test]
async fn transient_errors_are_tried_again_and_every_call_is_seen() {
    let (client, _) = start(&[(503, json!(null)), (429, json!(null)), (200, json!({"name": "t"}))]).await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let client = client.observed(Arc::new(move |call: &Call<'_>| {
        seen.lock().unwrap().push(format!("{} {} {}", call.request, call.attempt, call.code));
    }));
    assert_eq!(client.send(&topic()).await.unwrap(), json!({"name": "t"}));
    let expected = ["1 503", "2 429", "3 200"].map(|end| format!("GET v1/projects/p/topics/t {end}"));
    assert_eq!(*calls.lock().unwrap(), expected);
}

#[tokio::test]
async fn retries_end_and_other_errors_are_not_tried_again() {
    let (client, script) =
        start(&[(500, json!(null)), (500, json!(null)), (500, json!(null)), (403, json!(null))]).await;
    assert_eq!(client.send(&topic()).await.unwrap_err().code, 500);
    assert!(client.send(&topic()).await.unwrap_err().is_forbidden());
    assert_eq!(script.asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_quota_for_a_minute_is_waited_for_longer() {
    // Three tries for other errors.
    let mut answers = vec![(429, json!(null)); 5];
    answers.push((200, json!({"name": "t"})));
    let (client, script) = start(&answers).await;
    assert_eq!(client.send(&topic()).await.unwrap(), json!({"name": "t"}));
    assert_eq!(script.asked.lock().unwrap().len(), 6);
    let (client, script) = start(&vec![(429, json!(null)); 7]).await;
    assert_eq!(client.send(&topic()).await.unwrap_err().code, 429);
    assert_eq!(script.asked.lock().unwrap().len(), 6);
    let (client, script) = start(&[(503, json!(null)), (200, json!(null))]).await;
    assert_eq!(client.once().send(&topic()).await.unwrap_err().code, 503);
    assert_eq!(script.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_at_the_other_end_is_an_error_that_says_so() {
    let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
    let retry = Retry { attempts: 2, first: Duration::from_millis(1), longest: Duration::from_millis(1) };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(Endpoints::all_at(&address), credentials).unwrap().retrying(retry);
    let error = client.send(&topic()).await.unwrap_err();
    assert!(error.code == 0 && error.is_transient() && error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn lists_follow_their_pages() {
    let pages = [(200, json!({"topics": [1, 2], "nextPageToken": "a/b"})), (200, json!({}))];
    let (client, script) = start(&pages).await;
    let request = Request::get(Api::Pubsub, "v1/projects/p/topics").query("pageSize", "2");
    assert_eq!(client.list(&request, "topics").await.unwrap(), [json!(1), json!(2)]);
    let asked = script.asked.lock().unwrap().join("\n");
    assert_eq!(asked, "/v1/projects/p/topics?pageSize=2  \n/v1/projects/p/topics?pageSize=2&pageToken=a%2Fb  ");
}

#[tokio::test]
async fn a_post_without_a_body_has_a_length() {
    let (client, script) = start(&[(200, json!(null))]).await;
    let request = Request::new(Api::Iam, Method::Post, "v1/projects/p/serviceAccounts/a@b:getIamPolicy");
    assert!(!request.is_write());
    assert_eq!(client.send(&request).await.unwrap(), Value::Null);
    assert_eq!(*script.asked.lock().unwrap(), ["/v1/projects/p/serviceAccounts/a@b:getIamPolicy 0 "]);
}

/// The error that an answer is read as.
fn error(code: u16, body: &Value) -> Error {
    Error::from_answer("GET x".to_owned(), code, &body.to_string(), None)
}

#[test]
fn errors_are_told_apart() {
    let storage = error(404, &json!({"error": {"code": 404, "message": "gone", "errors": [{"reason": "notFound"}]}}));
    assert!(storage.is_not_found());
    assert_eq!(storage.to_string(), "GET x: 404 notFound: gone");
    let hidden = "Permission 'iam.serviceAccounts.get' denied on resource (or it may not exist).";
    assert!(error(403, &json!({"error": {"message": hidden, "status": "PERMISSION_DENIED"}})).may_not_exist());
    let conflict = json!({"error": {"status": "ABORTED", "message": "There were concurrent policy changes."}});
    assert!(error(409, &conflict).is_policy_conflict() && !error(409, &conflict).is_already_exists());
    assert!(error(409, &json!({"error": {"status": "ALREADY_EXISTS"}})).is_already_exists());
    assert!(error(412, &json!({"error": {"errors": [{"reason": "conditionNotMet"}]}})).is_policy_conflict());
    assert!(error(400, &json!({"error": {"message": "Service account a@b does not exist."}})).is_unknown_principal());
    let rate = json!({"error": {"details": [{"@type": "ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED"}]}});
    assert!(error(403, &rate).is_transient() && !error(403, &json!({})).is_transient());
    let said = |code: u16, message: &str| error(code, &json!({"error": {"message": message}}));
    let minute =
        "Quota exceeded for quota metric 'W' and limit 'Write requests per minute' of service 'iam.googleapis.com'";
    assert!(said(403, minute).is_over_quota() && said(403, minute).is_transient());
    let at_once = json!({"error": {"details": [{"reason": "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED"}]}});
    assert!(error(403, &at_once).is_over_quota());
    let busy = json!({"error": {"errors": [{"reason": "operationInProgress"}]}});
    assert!(error(409, &busy).is_transient() && !error(409, &busy).is_already_exists());
    assert!(said(400, "Please retry this operation later.").is_transient() && !said(400, "no").is_transient());
    let number = format!("{}Failed to enable: 160009", super::OPERATION_FAILED);
    let is_switching =
        |error: &Error| crate::calls::passing(&["serviceusage.services.batchEnable"], error.answer()).is_some();
    assert!(is_switching(&said(500, &number)) && !is_switching(&said(500, "160009")));
    assert!(said(400, "You can't create a role_id (x) which has been marked for deletion.").is_role_buried());
    let page = Error::from_answer("GET x".to_owned(), 502, "<html>Bad gateway</html>", None);
    assert_eq!(page.to_string(), "GET x: 502: <html>Bad gateway</html>");
}

#[test]
fn an_endpoints_file_may_name_only_some() {
    let endpoints: Endpoints = serde_json::from_value(json!({"pubsub": "http://127.0.0.1:1/"})).unwrap();
    assert_eq!(endpoints.of(Api::Pubsub), "http://127.0.0.1:1");
    assert_eq!(endpoints.of(Api::Iam), "https://iam.googleapis.com");
    assert_eq!(escape("a b/%é@-._~"), "a%20b%2F%25%C3%A9@-._~");
}
