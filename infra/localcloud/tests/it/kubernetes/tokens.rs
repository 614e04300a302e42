//! Tokens of service accounts: what a pod and a `TokenRequest` get, and who takes them.

use std::time::Duration;

use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, PostParams},
};
use localcloud::kubernetes::{Options, value};
use serde_json::{Value, json};

use crate::kubernetes::support::{Lab, client, until};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

async fn get(client: &Client, path: &str) -> Result<Value, Error> {
    client.request(http::Request::get(path).body(Vec::new()).unwrap()).await
}

/// The claims of a token for an audience, checked with the keys that the API server publishes.
async fn claims(client: &Client, token: &str, audience: &str) -> Value {
    let keys: JwkSet = serde_json::from_value(get(client, "/openid/v1/jwks").await.unwrap()).unwrap();
    let header = decode_header(token).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[ISSUER]);
    validation.validate_nbf = true;
    decode(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

/// The code of the API server's answer to whoever shows this token.
async fn answer(lab: &Lab, token: &str) -> u16 {
    let stranger: Api<Pod> = Api::default_namespaced(client(&lab.kubernetes, token, "bu1").await);
    match stranger.list(&Default::default()).await.unwrap_err() {
        Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

async fn engine_account(lab: &Lab) -> Api<ServiceAccount> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(lab.client.clone());
    let account = serde_json::from_value(json!({"metadata": {"name": "engine"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    accounts
}

/// A pod of the account `engine` with a token for `deskgrid-pool`.
fn pod(name: &str, seconds: i64) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
        "serviceAccountName": "engine", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "engine", "image": "sh", "command": ["/bin/sh", "-c", "exec sleep 600"],
            "volumeMounts": [{"name": "pool", "mountPath": "/var/run/secrets/deskgrid-pool"}],
        }],
        "volumes": [{"name": "pool", "projected": {"sources": [{"serviceAccountToken": {
            "audience": "deskgrid-pool", "expirationSeconds": seconds, "path": "token",
        }}]}}],
    }}))
    .unwrap()
}

async fn until_running(lab: &Lab, name: &str) -> Value {
    until(name, || async {
        let pod = serde_json::to_value(lab.pods().get(name).await.unwrap()).unwrap();
        if value::has_condition(&pod, "Ready") { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projected_token_names_its_pod_and_is_renewed_before_it_expires() {
    let lab = Lab::new().await;
    let account = engine_account(&lab).await.get("engine").await.unwrap();
    let error = lab.pods().create(&PostParams::default(), &pod("short", 599)).await.unwrap_err().to_string();
    let expected = "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may \
                    not specify a duration less than 10 minutes";
    assert!(error.contains(expected), "{error}");
    lab.pods().create(&PostParams::default(), &pod("engine", 1_000)).await.unwrap();
    let pod = until_running(&lab, "engine").await;
    let uid = value::uid(&pod);
    let path = lab.kubernetes.cluster().folder.join("pods").join(uid).join("volumes/pool/token");
    let first = std::fs::read_to_string(&path).unwrap();

    let claims = claims(&lab.client, &first, "deskgrid-pool").await;
    let node = &lab.kubernetes.cluster().store.get(&localcloud::kubernetes::kinds::NODE, "", "laptop").unwrap();
    assert_eq!(
        (&claims["sub"], &claims["aud"], &claims["kubernetes.io"]),
        (
            &json!("system:serviceaccount:bu1:engine"),
            &json!(["deskgrid-pool"]),
            &json!({
                "namespace": "bu1", "pod": {"name": "engine", "uid": uid},
                "serviceaccount": {"name": "engine", "uid": account.metadata.uid.unwrap()},
                "node": {"name": "laptop", "uid": value::uid(node)},
            })
        )
    );
    assert_eq!(claims["exp"].as_i64(), claims["iat"].as_i64().map(|start| start + 1_000));
    assert_eq!(claims["nbf"], claims["iat"]);
    assert_eq!(answer(&lab, &first).await, 401, "a token for another audience");

    let clock = &lab.kubernetes.cluster().clock;
    clock.advance(Duration::from_secs(790));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
    clock.advance(Duration::from_secs(20));
    until("the renewal", || async {
        if std::fs::read_to_string(&path).unwrap() == first { Err(String::new()) } else { Ok(()) }
    })
    .await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requested_token_ends_with_what_it_is_bound_to() {
    let lab = Lab::new().await;
    let accounts = engine_account(&lab).await;
    lab.pods().create(&PostParams::default(), &pod("engine", 3_600)).await.unwrap();
    let pod = until_running(&lab, "engine").await;
    let request = async |spec: Value| {
        let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let made = accounts.create_token_request("engine", &PostParams::default(), &request).await;
        made.map(|request| request.status.unwrap().token).map_err(|error| match error {
            Error::Api(status) => (status.code, status.message.clone()),
            other => panic!("{other}"),
        })
    };
    let bound = |uid: &str| json!({"kind": "Pod", "apiVersion": "v1", "name": "engine", "uid": uid});
    let token = request(json!({"audiences": ["a", "b"], "expirationSeconds": 700, "boundObjectRef": bound("")})).await;
    let claims = claims(&lab.client, &token.unwrap(), "b").await;
    assert_eq!((&claims["aud"], &claims["kubernetes.io"]["pod"]["uid"]), (&json!(["a", "b"]), &pod["metadata"]["uid"]));
    assert_eq!(claims["exp"].as_i64(), claims["iat"].as_i64().map(|start| start + 700));
    assert_eq!(request(json!({"audiences": [], "boundObjectRef": bound("other")})).await.unwrap_err().0, 409);
    let (code, message) = request(json!({"audiences": [], "expirationSeconds": 60})).await.unwrap_err();
    assert!(code == 422 && message.contains("may not specify a duration less than 10 minutes"), "{code} {message}");

    let of_pod = request(json!({"audiences": [], "boundObjectRef": bound(value::uid(&pod))})).await.unwrap();
    let of_account = request(json!({"audiences": []})).await.unwrap();
    assert_eq!((answer(&lab, &of_pod).await, answer(&lab, &of_account).await), (403, 403));
    lab.pods().delete("engine", &DeleteParams::default().grace_period(0)).await.unwrap();
    until("the pod to go", || async {
        if lab.pods().get_opt("engine").await.unwrap().is_some() { Err(String::new()) } else { Ok(()) }
    })
    .await;
    assert_eq!((answer(&lab, &of_pod).await, answer(&lab, &of_account).await), (401, 403));
    accounts.delete("engine", &DeleteParams::default()).await.unwrap();
    assert_eq!(answer(&lab, &of_account).await, 401);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_accounts_read_the_keys_which_outlive_the_process() {
    let lab = Lab::with(|options| {
        options.google_user =
            std::sync::Arc::new(|token| (token == "person").then(|| "user:me@example.com".to_owned()));
    })
    .await;
    engine_account(&lab).await;
    let token = lab.kubernetes.service_account_token("bu1", "engine").unwrap();
    let engine = client(&lab.kubernetes, &token, "bu1").await;
    let keys = get(&engine, "/openid/v1/jwks").await.unwrap();
    let configuration = get(&engine, "/.well-known/openid-configuration").await.unwrap();
    assert_eq!(configuration["issuer"], ISSUER);
    assert_eq!(configuration["jwks_uri"], format!("{}/openid/v1/jwks", lab.kubernetes.url()));
    let person = client(&lab.kubernetes, "person", "bu1").await;
    let refused = get(&person, "/openid/v1/jwks").await.unwrap_err().to_string();
    assert!(refused.contains("User \"me@example.com\" cannot get path \"/openid/v1/jwks\""), "{refused}");
    lab.kubernetes.stop().await;

    let Lab { folder, .. } = lab;
    let lab = Lab::start(Options::new(folder.path().join("kubernetes")), folder).await;
    assert_eq!(get(&lab.client, "/openid/v1/jwks").await.unwrap(), keys);
    lab.kubernetes.stop().await;
}
