//! Tests of clusters and their operations, with a clock that is moved by hand.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;

use super::*;
use crate::{clock::Clock, identity::Settings};

const PARENT: &str = "/v1/projects/p/locations/europe-west1";
const TAKES: Duration = Duration::from_secs(600);

struct Fixture {
    container: Arc<Container>,
    clock: Clock,
}

impl Fixture {
    fn new() -> Self {
        let clock = Clock::default();
        let identity = Identity::new(Settings {
            clock: clock.clone(),
            project: "p".to_owned(),
            number: 7,
            operator: "o@example.com".to_owned(),
            allow_anonymous: true,
            strict_token_expiry: false,
            lags: Default::default(),
            unbilled: false,
            quotas: [("IN_USE_ADDRESSES".to_owned(), 64), ("SSD_TOTAL_GB".to_owned(), 4000)].into(),
            no_default_network: false,
            neighbour: None,
            constraints: Default::default(),
        });
        let container = Arc::new(Container::new(Arc::new(identity), false, TAKES));
        container.attach(Access { endpoint: "127.0.0.1:6443".to_owned(), ca_pem: "PEM".to_owned() });
        Self { container, clock }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(format!("{PARENT}{path}"));
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = rest::router(self.container.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, json!({})).await
    }

    async fn made(&self) {
        let desired = json!({ "cluster": { "name": "c", "initialNodeCount": 3, "resourceLabels": { "a": "b" } } });
        self.ok("POST", "/clusters", desired).await;
        self.clock.advance(TAKES);
    }
}

#[tokio::test]
async fn a_creation_shows_how_far_it_is_and_then_the_address() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/clusters").await, json!({}));
    let desired = json!({ "cluster": { "name": "c", "initialNodeCount": 3 } });
    let operation = fixture.ok("POST", "/clusters", desired.clone()).await;
    assert_eq!((&operation["operationType"], &operation["status"]), (&json!("CREATE_CLUSTER"), &json!("PENDING")));
    let path = format!("/operations/{}", operation["name"].as_str().unwrap());
    assert_eq!(fixture.call("POST", "/clusters", desired).await.0, 409);

    fixture.clock.advance(TAKES / 2);
    let half = fixture.get(&path).await;
    assert_eq!((&half["status"], &half["progress"]["metrics"][0]["intValue"]), (&json!("RUNNING"), &json!("8")));
    assert_eq!(half["progress"]["metrics"][4]["intValue"], "0");
    let cluster = fixture.get("/clusters/c").await;
    assert_eq!((&cluster["status"], cluster.get("endpoint")), (&json!("PROVISIONING"), None));

    fixture.clock.advance(TAKES);
    let whole = fixture.get(&path).await;
    assert_eq!((&whole["status"], whole["endTime"].is_string()), (&json!("DONE"), true));
    let cluster = fixture.get("/clusters/c").await;
    assert_eq!((&cluster["status"], &cluster["endpoint"]), (&json!("RUNNING"), &json!("127.0.0.1:6443")));
    assert_eq!(cluster["masterAuth"]["clusterCaCertificate"], "UEVN");
    let name = cluster["controlPlaneEndpointsConfig"]["dnsEndpointConfig"]["endpoint"].as_str().unwrap();
    assert!(name.starts_with("gke-") && name.ends_with(".gke.goog"), "{name}");
    assert_eq!((&cluster["currentNodeCount"], &cluster["nodePools"][0]["name"]), (&json!(3), &json!("default-pool")));
}

#[tokio::test]
async fn while_an_operation_runs_another_is_refused_and_told_which() {
    let fixture = Fixture::new();
    let desired = json!({ "cluster": { "name": "c", "initialNodeCount": 1 } });
    let operation = fixture.ok("POST", "/clusters", desired).await;
    let (status, refused) = fixture.call("DELETE", "/clusters/c", json!({})).await;
    let message = refused["error"]["message"].as_str().unwrap();
    assert_eq!((status, &refused["error"]["status"]), (400, &json!("FAILED_PRECONDITION")));
    assert!(message.contains(operation["name"].as_str().unwrap()) && message.contains("is currently creating"));

    fixture.clock.advance(TAKES);
    fixture.ok("DELETE", "/clusters/c", json!({})).await;
    assert_eq!(fixture.get("/clusters/c").await["status"], "STOPPING");
    assert_eq!(fixture.get("/clusters/c/nodePools").await["nodePools"][0]["name"], "default-pool");
    fixture.clock.advance(TAKES);
    assert_eq!(fixture.call("GET", "/clusters/c", json!({})).await.0, 404);
    assert_eq!(fixture.get("/operations").await["operations"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn labels_change_by_fingerprint_and_settings_by_update() {
    let fixture = Fixture::new();
    fixture.made().await;
    let before = fixture.get("/clusters/c").await;
    let labels = |fingerprint: &Value| json!({ "resourceLabels": { "x": "y" }, "labelFingerprint": fingerprint });
    assert_eq!(fixture.call("POST", "/clusters/c:setResourceLabels", labels(&json!("old"))).await.0, 400);
    fixture.ok("POST", "/clusters/c:setResourceLabels", labels(&before["labelFingerprint"])).await;
    assert_eq!(fixture.get("/clusters/c").await["status"], "RECONCILING");
    fixture.clock.advance(TAKES);
    let after = fixture.get("/clusters/c").await;
    assert_eq!(after["resourceLabels"], json!({ "x": "y" }));
    assert!(after["labelFingerprint"] != before["labelFingerprint"] && after["etag"] != before["etag"]);

    let external = json!({ "dnsEndpointConfig": { "allowExternalTraffic": true } });
    fixture.ok("PUT", "/clusters/c", json!({ "update": { "desiredControlPlaneEndpointsConfig": external } })).await;
    fixture.clock.advance(TAKES);
    let updated = fixture.get("/clusters/c").await;
    assert_eq!(updated["controlPlaneEndpointsConfig"]["dnsEndpointConfig"]["allowExternalTraffic"], true);
}

#[tokio::test]
async fn node_pools_come_and_go() {
    let fixture = Fixture::new();
    fixture.made().await;
    let pool = json!({ "nodePool": { "name": "engines", "initialNodeCount": 2, "config": { "spot": true } } });
    fixture.ok("POST", "/clusters/c/nodePools", pool).await;
    fixture.clock.advance(TAKES);
    let made = fixture.get("/clusters/c/nodePools/engines").await;
    assert_eq!((&made["config"]["spot"], &made["config"]["machineType"]), (&json!(true), &json!("e2-medium")));
    fixture.ok("DELETE", "/clusters/c/nodePools/default-pool", json!({})).await;
    assert_eq!(fixture.get("/clusters/c/nodePools/default-pool").await["status"], "STOPPING");
    assert_eq!(fixture.get("/clusters/c/nodePools/engines").await["status"], "RUNNING");
    fixture.clock.advance(TAKES);
    assert_eq!(fixture.get("/clusters/c/nodePools").await["nodePools"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.call("DELETE", "/clusters/c/nodePools/none", json!({})).await.0, 404);
}

#[tokio::test]
async fn a_request_changes_one_thing_and_a_pool_takes_its_nodes_fields_flat() {
    let fixture = Fixture::new();
    fixture.made().await;
    let two = json!({ "update": { "desiredReleaseChannel": { "channel": "RAPID" }, "desiredDefaultEnablePrivateNodes": true } });
    assert_eq!(fixture.call("PUT", "/clusters/c", two).await.0, 400);
    let private = json!({ "update": { "desiredDefaultEnablePrivateNodes": true } });
    fixture.ok("PUT", "/clusters/c", private).await;
    fixture.clock.advance(TAKES);
    let flat = json!({ "machineType": "e2-small", "resourceLabels": { "labels": { "a": "b" } } });
    fixture.ok("PUT", "/clusters/c/nodePools/default-pool", flat).await;
    fixture.clock.advance(TAKES);
    let limits = json!({ "autoscaling": { "enabled": true, "totalMaxNodeCount": 3 } });
    fixture.ok("POST", "/clusters/c/nodePools/default-pool:setAutoscaling", limits.clone()).await;
    fixture.clock.advance(TAKES);
    let cluster = fixture.get("/clusters/c").await;
    assert_eq!(cluster["networkConfig"]["defaultEnablePrivateNodes"], true);
    let pool = &cluster["nodePools"][0];
    assert_eq!(
        (&pool["config"]["machineType"], &pool["config"]["resourceLabels"], &pool["autoscaling"]),
        (&json!("e2-small"), &json!({ "a": "b" }), &limits["autoscaling"])
    );
}

#[tokio::test]
async fn a_network_is_shown_by_its_last_part_and_by_its_full_name() {
    let fixture = Fixture::new();
    let desired = json!({ "name": "c", "initialNodeCount": 1, "network": "projects/p/global/networks/n" });
    fixture.ok("POST", "/clusters", json!({ "cluster": desired })).await;
    fixture.clock.advance(TAKES);
    let cluster = fixture.get("/clusters/c").await;
    assert_eq!((&cluster["network"], &cluster["subnetwork"]), (&json!("n"), &json!("default")));
    assert_eq!(cluster["networkConfig"]["network"], "projects/p/global/networks/n");
    assert_eq!(cluster["networkConfig"]["subnetwork"], "projects/p/regions/europe-west1/subnetworks/default");
}

#[tokio::test]
async fn what_cannot_be_a_cluster_is_refused() {
    let fixture = Fixture::new();
    for cluster in [
        json!({ "name": "Upper", "initialNodeCount": 1 }),
        json!({ "name": "c" }),
        json!({ "name": "c", "initialNodeCount": 1, "nodePools": [{ "name": "a", "initialNodeCount": 1 }] }),
    ] {
        assert_eq!(fixture.call("POST", "/clusters", json!({ "cluster": cluster })).await.0, 400);
    }
}

#[tokio::test]
async fn who_was_granted_nothing_sees_no_cluster_and_makes_none() {
    let fixture = Fixture::new();
    fixture.made().await;
    let stranger = Principal::User { email: "stranger@example.com".to_owned() };
    let token = fixture.container.identity.token(&stranger, 3600).unwrap();
    for (method, path) in [
        ("GET", "/clusters"),
        ("GET", "/clusters/c"),
        ("GET", "/clusters/none"),
        ("DELETE", "/clusters/c"),
        ("POST", "/clusters"),
        ("GET", "/operations"),
    ] {
        let request = Request::builder().method(method).uri(format!("{PARENT}{path}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(Body::from("{}")).unwrap();
        let response = rest::router(fixture.container.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), 403, "{method} {path}");
    }
}
