use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;

use super::*;
use crate::{
    clock::Clock,
    identity::{Settings, rest::Server},
    pubsub::Pubsub,
};

fn service() -> Arc<CloudBuild> {
    let identity = Arc::new(Identity::new(Settings {
        clock: Clock::default(),
        project: "p".to_owned(),
        number: 1,
        operator: "o@example.com".to_owned(),
        allow_anonymous: true,
        strict_token_expiry: false,
        lags: Default::default(),
        unbilled: false,
        quotas: Default::default(),
        no_default_network: false,
        neighbour: None,
        constraints: Default::default(),
    }));
    let pubsub = Pubsub::new(identity.clone(), false);
    let storage = Storage::new(identity.clone(), pubsub, "europe-west1", false, None);
    let registry = Arc::new(Registry::new(identity.clone(), false));
    CloudBuild::new(identity, storage, registry, false, Duration::from_millis(200))
}

async fn ask(builds: &Arc<CloudBuild>, method: &str, path: &str, body: Value) -> std::result::Result<Value, u16> {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    let answer = rest::answer(builds, request).await.map_err(|error| error.http().as_u16())?;
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    Ok(serde_json::from_slice(&bytes).unwrap())
}

async fn with_account(builds: &Arc<CloudBuild>) {
    let shared = Arc::new(OnceLock::new());
    let identity = builds.identity.clone();
    let _ = shared.set(Server { identity, base: String::new(), enforce_apis: false });
    let member = "serviceAccount:builder@p.iam.gserviceaccount.com";
    let policy = json!({"policy": {"bindings": [
        {"role": "roles/owner", "members": ["user:o@example.com"]},
        {"role": "roles/storage.legacyBucketReader", "members": [member]},
    ]}});
    for (path, body) in
        [("/v1/projects/p/serviceAccounts", json!({"accountId": "builder"})), ("/v1/projects/p:setIamPolicy", policy)]
    {
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let router = crate::identity::rest::router(shared.clone());
        let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
        assert!(answer.status().is_success());
    }
}

const BUILDS: &str = "/v1/projects/p/locations/europe-west1/builds";

#[tokio::test]
async fn an_order_has_steps_a_source_an_account_and_a_place_for_its_log() {
    let builds = service();
    with_account(&builds).await;
    assert_eq!(ask(&builds, "GET", BUILDS, Value::Null).await.unwrap(), json!({}));
    assert_eq!(ask(&builds, "GET", &format!("{BUILDS}/x"), Value::Null).await.unwrap_err(), 404);
    assert_eq!(ask(&builds, "GET", "/v1/projects/other/builds", Value::Null).await.unwrap_err(), 403);
    let whole = json!({
        "source": {"storageSource": {"bucket": "b", "object": "o"}},
        "steps": [{"name": "docker"}],
        "serviceAccount": "projects/p/serviceAccounts/builder@p.iam.gserviceaccount.com",
        "logsBucket": "gs://b/log",
    });
    for (without, code) in [("steps", 400), ("source", 400), ("logsBucket", 400), ("serviceAccount", 404)] {
        let mut order = whole.clone();
        order.as_object_mut().unwrap().remove(without);
        assert_eq!(ask(&builds, "POST", BUILDS, order).await.unwrap_err(), code, "{without}");
    }
    let operation = ask(&builds, "POST", BUILDS, whole).await.unwrap();
    assert_eq!(operation["metadata"]["build"]["status"], "QUEUED");
}

#[tokio::test]
async fn a_build_waits_works_and_tells_why_it_failed() {
    let builds = service();
    with_account(&builds).await;
    let order = json!({
        "source": {"storageSource": {"bucket": "b", "object": "o"}},
        "steps": [{"name": "docker"}],
        "serviceAccount": "projects/p/serviceAccounts/builder@p.iam.gserviceaccount.com",
        "logsBucket": "gs://b/log",
        "tags": ["one"],
    });
    let operation = ask(&builds, "POST", BUILDS, order).await.unwrap();
    let id = operation["metadata"]["build"]["id"].as_str().unwrap();
    let path = format!("{BUILDS}/{id}");
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let build = ask(&builds, "GET", &path, Value::Null).await.unwrap();
        let status = build["status"].as_str().unwrap().to_owned();
        if seen.last() != Some(&status) {
            seen.push(status);
        }
        if has_ended(&build) {
            assert!(build["failureInfo"]["type"].is_string(), "{build}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seen.first().map(String::as_str), Some("QUEUED"));
    assert_eq!(seen.last().map(String::as_str), Some("FAILURE"));
    assert_eq!(ask(&builds, "POST", &format!("{path}:cancel"), json!({})).await.unwrap_err(), 400);
}

#[tokio::test]
async fn a_cancelled_build_stays_cancelled_and_is_found_by_its_tag() {
    let builds = service();
    with_account(&builds).await;
    let order = json!({
        "source": {"storageSource": {"bucket": "b", "object": "o"}},
        "steps": [{"name": "docker"}],
        "serviceAccount": "projects/p/serviceAccounts/builder@p.iam.gserviceaccount.com",
        "logsBucket": "gs://b/log",
        "tags": ["one", "two"],
    });
    let operation = ask(&builds, "POST", BUILDS, order).await.unwrap();
    let id = operation["metadata"]["build"]["id"].as_str().unwrap();
    let filter = |text: &str| {
        format!("{BUILDS}?filter={}", percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC))
    };
    let running = filter("tags=\"one\" AND tags=\"two\" AND (status=\"QUEUED\" OR status=\"WORKING\")");
    assert_eq!(ask(&builds, "GET", &running, Value::Null).await.unwrap()["builds"][0]["id"], id);
    assert_eq!(ask(&builds, "GET", &filter("tags=\"three\""), Value::Null).await.unwrap(), json!({}));
    let cancelled = ask(&builds, "POST", &format!("{BUILDS}/{id}:cancel"), json!({})).await.unwrap();
    assert_eq!(cancelled["status"], "CANCELLED");
    // The worker of it ends.
    Arc::clone(&builds).work(id.to_owned()).await;
    assert_eq!(builds.get(id).unwrap()["status"], "CANCELLED");
    assert_eq!(ask(&builds, "GET", &running, Value::Null).await.unwrap(), json!({}));
}
