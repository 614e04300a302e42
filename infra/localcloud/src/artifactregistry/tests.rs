//! Tests of repositories.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{clock::Clock, identity::Settings};

const PARENT: &str = "/v1/projects/p/locations/europe-west1";

struct Fixture {
    registry: Arc<Registry>,
}

impl Fixture {
    fn new() -> Self {
        let identity = Identity::new(Settings {
            clock: Clock::default(),
            project: "p".to_owned(),
            number: 7,
            operator: "o@example.com".to_owned(),
            allow_anonymous: true,
            strict_token_expiry: false,
            lags: Default::default(),
            unbilled: false,
            quotas: Default::default(),
            no_default_network: false,
            neighbour: None,
            constraints: Default::default(),
        });
        Self { registry: Arc::new(Registry::new(Arc::new(identity), false)) }
    }

    async fn call_as(&self, token: Option<&str>, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(format!("{PARENT}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let router = rest::router(self.registry.clone(), "europe-west1");
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(None, method, path, body).await
    }
}

#[tokio::test]
async fn a_repository_is_made_changed_and_deleted() {
    let fixture = Fixture::new();
    let desired = json!({ "format": "DOCKER", "labels": { "a": "b" } });
    let (status, begun) = fixture.call("POST", "/repositories?repositoryId=images", desired.clone()).await;
    assert_eq!((status, begun.get("done")), (200, None));
    let name = begun["name"].as_str().unwrap().trim_start_matches("projects/p/locations/europe-west1");
    let (_, ended) = fixture.call("GET", name, json!({})).await;
    assert_eq!((&ended["done"], &ended["response"]["mode"]), (&json!(true), &json!("STANDARD_REPOSITORY")));
    assert_eq!(fixture.call("POST", "/repositories?repositoryId=images", desired).await.0, 409);

    let (_, made) = fixture.call("GET", "/repositories/images", json!({})).await;
    assert_eq!(made["registryUri"], "europe-west1-docker.pkg.dev/p/images");
    let patch = json!({ "description": "mine", "format": "NPM" });
    let (_, changed) = fixture.call("PATCH", "/repositories/images?updateMask=description", patch.clone()).await;
    assert_eq!((&changed["description"], &changed["format"]), (&json!("mine"), &json!("DOCKER")));
    assert_eq!(fixture.call("PATCH", "/repositories/images?updateMask=format", patch).await.0, 400);

    assert_eq!(fixture.call("DELETE", "/repositories/images", json!({})).await.0, 200);
    assert_eq!(fixture.call("GET", "/repositories/images", json!({})).await.0, 404);
    assert_eq!(fixture.call("GET", "/repositories", json!({})).await, (200, json!({})));
}

#[tokio::test]
async fn who_was_granted_nothing_sees_nothing_and_a_reader_of_one_reads_one() {
    let fixture = Fixture::new();
    for id in ["one", "two"] {
        fixture.call("POST", &format!("/repositories?repositoryId={id}"), json!({ "format": "DOCKER" })).await;
    }
    let stranger = Principal::User { email: "stranger@example.com".to_owned() };
    let token = fixture.registry.identity.token(&stranger, 3600).unwrap();
    let ask = async |path: &str| fixture.call_as(Some(&token), "GET", path, json!({})).await.0;
    assert_eq!((ask("/repositories").await, ask("/repositories/one").await), (403, 403));

    let binding = json!({ "role": "roles/artifactregistry.reader", "members": ["user:stranger@example.com"] });
    let policy = json!({ "policy": { "bindings": [binding] } });
    assert_eq!(fixture.call("POST", "/repositories/one:setIamPolicy", policy).await.0, 200);
    assert_eq!((ask("/repositories/one").await, ask("/repositories/two").await), (200, 403));
    assert_eq!(ask("/repositories/none").await, 403);
}
