//! Identities: who gets a token, what it is good for, and what policies refuse.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use google_cloud_auth::credentials::{mds, service_account, user_account};
use google_cloud_gax::error::rpc::Code;
use localcloud::{clock::Clock, google::Options};
use serde_json::{Value, json};

use crate::google::support::{
    BUCKET, Clients, PROJECT, Rest, account, bucket, credentials, google, metadata_token, pod_token, start, within,
};

fn name() -> String {
    format!("projects/_/buckets/{BUCKET}")
}

fn object(storage: &str, object: &str) -> String {
    format!("{storage}/storage/v1/b/{BUCKET}/o/{}", object.replace('/', "%2F"))
}

/// A binding of one account, under a condition on a prefix.
fn on_prefix(role: &str, email: &str, prefix: &str) -> Value {
    let expression = format!("resource.name.startsWith(\"projects/_/buckets/{BUCKET}/objects/{prefix}\")");
    json!({
        "role": role,
        "members": [format!("serviceAccount:{email}")],
        "condition": { "title": format!("only {prefix}"), "expression": expression },
    })
}

#[tokio::test]
async fn operator_credentials_work_in_googles_auth_crate() {
    let google = google().await;
    bucket(&google, vec![]).await;
    let credentials = user_account::Builder::new(google.operator_credentials()).build().unwrap();
    let clients = Clients::new(&google, credentials).await;
    within(clients.control.list_objects().set_parent(name()).send()).await.unwrap();
    assert_eq!(google.user_of_token(&google.operator_token()).as_deref(), Some("user:operator@example.com"));
    assert_eq!(google.user_of_token("ya29.local.forged"), None);
    let (status, body) = Rest::with_token("ya29.local.x".to_owned())
        .try_call("GET", &object(&google.endpoints().storage, "x"), None)
        .await;
    assert_eq!((status, body["error"]["errors"][0]["reason"].as_str()), (401, Some("authError")));
    let anonymous = reqwest::get(object(&google.endpoints().storage, "x")).await.unwrap();
    assert_eq!(anonymous.status(), 401);
}

#[tokio::test]
async fn a_key_signs_in_until_it_is_deleted_or_the_account_disabled() {
    let google = google().await;
    let email = account(&google, "bu1-client").await;
    bucket(&google, vec![on_prefix("roles/storage.objectUser", &email, "bu1/")]).await;
    let rest = Rest::operator(&google);
    let url = format!("{}/v1/projects/{PROJECT}/serviceAccounts/{email}", google.endpoints().iam);
    let key = rest.post(&format!("{url}/keys"), json!({})).await;
    let file = BASE64_STANDARD.decode(key["privateKeyData"].as_str().unwrap()).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(file["token_uri"], format!("{}/token", google.endpoints().oauth2));

    // Signed by the client itself.
    let own = service_account::Builder::new(file.clone()).build().unwrap();
    let clients = Clients::new(&google, own).await;
    within(clients.storage.write_object(name(), "bu1/input/x", "data").send_buffered()).await.unwrap();
    let refused = clients.storage.write_object(name(), "bu2/input/x", "data").send_buffered().await.unwrap_err();
    assert_eq!(refused.http_status_code(), Some(403));

    // Traded at the token endpoint.
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": email, "sub": email, "aud": file["token_uri"], "iat": now, "exp": now + 3600,
        "scope": "https://www.googleapis.com/auth/cloud-platform",
    });
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = file["private_key_id"].as_str().map(str::to_owned);
    let pem = file["private_key"].as_str().unwrap();
    let signing = jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    let assertion = jsonwebtoken::encode(&header, &claims, &signing).unwrap();
    let trade = || async {
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
        let url = file["token_uri"].as_str().unwrap();
        let response = reqwest::Client::new().post(url).form(&form).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, answer) = trade().await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["access_token"].as_str().unwrap().to_owned();
    assert_eq!(google.user_of_token(&token), Some(format!("serviceAccount:{email}")));

    rest.post(&format!("{url}:disable"), json!({})).await;
    assert_eq!(google.user_of_token(&token), None);
    assert_eq!(trade().await.1["error"], "invalid_grant");
    let key_url = format!("{}/v1/{}", google.endpoints().iam, key["name"].as_str().unwrap());
    rest.call("DELETE", &key_url, None).await;
    assert_eq!(trade().await.0, 400);
    let (status, _) = rest.try_call("GET", &key_url, None).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn a_pod_gets_what_workload_identity_grants() {
    let google = google().await;
    let email = account(&google, "bu1-engine").await;
    let refused = metadata_token(&google, "bu1", "bu1-engine", Some(&email)).await.unwrap_err().to_string();
    assert!(refused.contains("403") && refused.contains("iam.serviceAccounts.getAccessToken"), "{refused}");
    let token = pod_token(&google, "bu1", &email).await.unwrap();
    assert_eq!(google.user_of_token(&token), Some(format!("serviceAccount:{email}")));
    // The binding names one Kubernetes service account in one namespace.
    assert!(metadata_token(&google, "bu2", "bu1-engine", Some(&email)).await.is_err());
    assert!(metadata_token(&google, "bu1", "other", Some(&email)).await.is_err());

    let address = google.metadata_address("bu1", "bu1-engine", Some(email.clone())).await.unwrap();
    assert_eq!(address, google.metadata_address("bu1", "bu1-engine", Some(email.clone())).await.unwrap());
    let from_pod = mds::Builder::default().with_endpoint(format!("http://{address}")).build().unwrap();
    bucket(&google, vec![on_prefix("roles/storage.objectUser", &email, "bu1/")]).await;
    let clients = Clients::new(&google, from_pod).await;
    within(clients.storage.write_object(name(), "bu1/output/x", "data").send_buffered()).await.unwrap();

    let url = format!("http://{address}/computeMetadata/v1/instance/service-accounts/?recursive=true");
    let bare = reqwest::get(&url).await.unwrap();
    assert_eq!(bare.status(), 403);
    let listed = reqwest::Client::new().get(&url).header("Metadata-Flavor", "Google").send().await.unwrap();
    assert_eq!(listed.json::<Value>().await.unwrap()["default"]["email"], email.as_str());
}

#[tokio::test]
async fn a_pod_without_annotation_is_its_own_principal() {
    let google = google().await;
    let pool = format!(
        "iam.googleapis.com/projects/{}/locations/global/workloadIdentityPools/{PROJECT}.svc.id.goog",
        google.options().project_number
    );
    let binding = |member: String| json!({ "role": "roles/storage.objectViewer", "members": [member] });
    bucket(
        &google,
        vec![
            binding(format!("principal://{pool}/subject/ns/bu1/sa/engine")),
            binding(format!("principalSet://{pool}/namespace/bu2")),
        ],
    )
    .await;
    let operator = Clients::operator(&google).await;
    within(operator.storage.write_object(name(), "x", "data").send_buffered()).await.unwrap();
    let storage = google.endpoints().storage;
    let mut answers = Vec::new();
    for (namespace, account) in [("bu1", "engine"), ("bu1", "other"), ("bu2", "any"), ("bu3", "any")] {
        let token = metadata_token(&google, namespace, account, None).await.unwrap();
        assert_eq!(
            google.user_of_token(&token),
            Some(format!("principal://{pool}/subject/ns/{namespace}/sa/{account}"))
        );
        answers.push(Rest::with_token(token).try_call("GET", &object(&storage, "x"), None).await.0);
    }
    assert_eq!(answers, [200, 403, 200, 403]);
}

#[tokio::test]
async fn an_identity_of_one_business_fails_on_everything_of_another() {
    let google = google().await;
    let email = account(&google, "bu1-engine").await;
    let lister = account(&google, "bu1-orchestrator").await;
    let list_condition = format!(
        "resource.name.startsWith(\"{0}/objects/bu1/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"bu1/\")",
        name()
    );
    bucket(
        &google,
        vec![
            on_prefix("roles/storage.objectUser", &email, "bu1/"),
            json!({
                "role": "roles/storage.objectUser",
                "members": [format!("serviceAccount:{lister}")],
                "condition": { "title": "bu1", "expression": list_condition },
            }),
        ],
    )
    .await;
    let operator = Clients::operator(&google).await;
    for object in ["bu1/input/there", "bu2/input/there"] {
        within(operator.storage.write_object(name(), object, "data").send_buffered()).await.unwrap();
    }
    let token = pod_token(&google, "bu1", &email).await.unwrap();
    let rest = Rest::with_token(token.clone());
    let storage = google.endpoints().storage;
    let media = |name: &str| format!("{}?alt=media", object(&storage, name));
    assert_eq!(rest.try_call("GET", &media("bu1/input/there"), None).await.0, 200);
    // Another business's object is refused the same way whether it is there or not.
    let there = rest.try_call("GET", &media("bu2/input/there"), None).await;
    let missing = rest.try_call("GET", &media("bu2/input/missing"), None).await;
    assert_eq!((there.0, missing.0), (403, 403));
    let message = there.1["error"]["message"].as_str().unwrap();
    assert_eq!(
        message,
        format!(
            "{email} does not have storage.objects.get access to the Google Cloud Storage object. Permission 'storage.objects.get' denied on resource (or it may not exist)."
        )
    );
    assert_eq!(there.1["error"]["errors"][0]["reason"], "forbidden");
    assert!(there.1["error"].get("status").is_none());
    // Listing is evaluated on the bucket, which the condition does not cover: so not even its own prefix, and a
    // missing object of its own is not told from a forbidden one.
    let list = format!("{storage}/storage/v1/b/{BUCKET}/o?prefix=bu1/");
    assert_eq!(rest.try_call("GET", &list, None).await.0, 403);
    assert_eq!(rest.try_call("GET", &media("bu1/input/missing"), None).await.0, 403);
    assert_eq!(rest.try_call("DELETE", &object(&storage, "bu2/input/there"), None).await.0, 403);
    assert_eq!(rest.try_call("GET", &format!("{storage}/storage/v1/b/{BUCKET}"), None).await.0, 403);
    assert_eq!(rest.try_call("GET", &format!("{storage}/storage/v1/b/{BUCKET}/iam"), None).await.0, 403);

    // The same over gRPC.
    let clients = Clients::new(&google, credentials(&token)).await;
    let refused = clients
        .control
        .delete_object()
        .set_bucket(name())
        .set_object("bu2/input/there")
        .set_generation(1)
        .send()
        .await
        .unwrap_err();
    assert_eq!(refused.status().map(|status| status.code), Some(Code::PermissionDenied));
    let refused = clients.control.list_objects().set_parent(name()).send().await.unwrap_err();
    assert_eq!(refused.status().map(|status| status.code), Some(Code::PermissionDenied));

    // Who may list a prefix sees that an object of it is missing.
    let rest = Rest::with_token(pod_token(&google, "bu1", &lister).await.unwrap());
    assert_eq!(rest.try_call("GET", &list, None).await.0, 200);
    assert_eq!(rest.try_call("GET", &media("bu1/input/missing"), None).await.0, 404);
    let others = format!("{storage}/storage/v1/b/{BUCKET}/o?prefix=bu2/");
    assert_eq!(rest.try_call("GET", &others, None).await.0, 403);
    let all = format!("{storage}/storage/v1/b/{BUCKET}/o");
    assert_eq!(rest.try_call("GET", &all, None).await.0, 403);
}

#[tokio::test]
async fn a_recreated_account_has_none_of_the_old_ones_rights() {
    let google = google().await;
    let email = account(&google, "bu1-engine").await;
    bucket(&google, vec![on_prefix("roles/storage.objectUser", &email, "")]).await;
    let rest = Rest::operator(&google);
    let iam = format!("{}/v1/projects/{PROJECT}/serviceAccounts", google.endpoints().iam);
    let uid = rest.get(&format!("{iam}/{email}")).await["uniqueId"].as_str().unwrap().to_owned();
    rest.call("DELETE", &format!("{iam}/{email}"), None).await;
    let (status, gone) = rest.try_call("GET", &format!("{iam}/{email}"), None).await;
    assert_eq!((status, gone["error"]["message"].as_str()), (404, Some("Unknown service account")));
    let policy_url =
        format!("{}/storage/v1/b/{BUCKET}/iam?optionsRequestedPolicyVersion=3", google.endpoints().storage);
    let dead = format!("deleted:serviceAccount:{email}?uid={uid}");
    assert!(rest.get(&policy_url).await.to_string().contains(&dead));

    account(&google, "bu1-engine").await;
    let token = pod_token(&google, "bu1", &email).await.unwrap();
    let storage = google.endpoints().storage;
    let upload = format!("{storage}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=x");
    assert_eq!(Rest::with_token(token.clone()).try_call("POST", &upload, Some(json!({}))).await.0, 403);

    // The live account beside the dead one is refused; with the dead one taken out it works.
    let mut policy = rest.get(&policy_url).await;
    policy["bindings"].as_array_mut().unwrap().push(on_prefix("roles/storage.objectUser", &email, "bu1/"));
    let put = format!("{storage}/storage/v1/b/{BUCKET}/iam");
    assert_eq!(rest.try_call("PUT", &put, Some(policy.clone())).await.0, 400);
    let bindings = policy["bindings"].as_array_mut().unwrap();
    bindings.retain(|binding| !binding.to_string().contains("deleted:"));
    rest.call("PUT", &put, Some(policy)).await;
    let upload = format!("{storage}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=bu1%2Fx");
    assert_eq!(Rest::with_token(token).try_call("POST", &upload, Some(json!({}))).await.0, 200);
}

#[tokio::test]
async fn policies_are_replaced_only_by_who_read_them() {
    let google = google().await;
    let email = account(&google, "bu1-client").await;
    let rest = Rest::operator(&google);
    let url = format!("{}/v1/projects/{PROJECT}", google.endpoints().cloudresourcemanager);
    let read = |version: i32| {
        let body = json!({ "options": { "requestedPolicyVersion": version } });
        let (rest, url) = (&rest, &url);
        async move { rest.post(&format!("{url}:getIamPolicy"), body).await }
    };
    let before = read(3).await;
    let write = |policy: Value| {
        let (rest, url) = (&rest, &url);
        async move { rest.try_call("POST", &format!("{url}:setIamPolicy"), Some(json!({ "policy": policy }))).await }
    };
    let with = |binding: Value, version: i32| {
        let mut policy = before.clone();
        policy["version"] = json!(version);
        policy["bindings"].as_array_mut().unwrap().push(binding);
        policy
    };
    let member = format!("serviceAccount:{email}");
    let conditional = json!({
        "role": "roles/logging.logWriter", "members": [member],
        "condition": { "title": "t", "expression": "request.time < timestamp(\"2100-01-01T00:00:00Z\")" },
    });
    assert_eq!(write(with(conditional.clone(), 1)).await.0, 400);
    let bad = |role: &str, member: &str| json!({ "role": role, "members": [member] });
    assert_eq!(write(with(bad("roles/nonsense", &member), 3)).await.0, 400);
    let stranger = format!("serviceAccount:nobody@{PROJECT}.iam.gserviceaccount.com");
    let (status, answer) = write(with(bad("roles/logging.logWriter", &stranger), 3)).await;
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("does not exist"), "{answer}");
    let mut unreadable = conditional.clone();
    unreadable["condition"]["expression"] = json!("resource.name.frobs(1)");
    assert_eq!(write(with(unreadable, 3)).await.0, 400);

    assert_eq!(write(with(conditional.clone(), 3)).await.0, 200);
    let (status, answer) = write(with(conditional, 3)).await;
    assert_eq!((status, answer["error"]["status"].as_str()), (409, Some("ABORTED")));
    let old_reader = read(1).await;
    assert_eq!(old_reader["version"], 1);
    assert!(old_reader.to_string().contains("_withcond_"));
    assert_eq!(write(old_reader).await.0, 400);

    // An account on a project's policy may do there what its role says, and nothing else.
    let token = pod_token(&google, "bu1", &email).await.unwrap();
    let asked = json!({ "permissions": ["logging.logEntries.create", "storage.buckets.create"] });
    let tested = Rest::with_token(token.clone()).post(&format!("{url}:testIamPermissions"), asked).await;
    assert_eq!(tested, json!({ "permissions": ["logging.logEntries.create"] }));
    assert_eq!(Rest::with_token(token).try_call("GET", &url, None).await.0, 403);
}

#[tokio::test]
async fn accounts_roles_and_services_follow_googles_rules() {
    let google = start(Options { enforce_apis: true, ..Options::new(PROJECT) }).await;
    let rest = Rest::operator(&google);
    let base = google.endpoints().iam;
    let accounts = format!("{base}/v1/projects/{PROJECT}/serviceAccounts");
    let (status, refused) = rest.try_call("GET", &accounts, None).await;
    assert_eq!((status, refused["error"]["details"][0]["reason"].as_str()), (403, Some("SERVICE_DISABLED")));
    let enable = format!("{base}/v1/projects/{PROJECT}/services:batchEnable");
    let begun = rest.post(&enable, json!({ "serviceIds": ["iam.googleapis.com", "pubsub.googleapis.com"] })).await;
    let listed = rest.get(&format!("{base}/v1/projects/{PROJECT}/services?filter=state:ENABLED")).await;
    assert!(listed.to_string().contains("iam.googleapis.com") && !listed.to_string().contains("DISABLED"));
    let operation = rest.get(&format!("{base}/v1/{}", begun["name"].as_str().unwrap())).await;
    assert_eq!(operation["done"], true);
    assert_eq!(operation["response"]["services"][0]["state"], "ENABLED");

    let create = |id: &str| json!({ "accountId": id, "serviceAccount": { "displayName": "d" } });
    assert_eq!(rest.try_call("POST", &accounts, Some(create("short"))).await.0, 400);
    assert_eq!(rest.try_call("POST", &accounts, Some(create("Upper-case"))).await.0, 400);
    let made = rest.post(&accounts, create("bu1-client")).await;
    assert_eq!(made["uniqueId"].as_str().unwrap().len(), 21);
    let (status, again) = rest.try_call("POST", &accounts, Some(create("bu1-client"))).await;
    assert_eq!((status, again["error"]["status"].as_str()), (409, Some("ALREADY_EXISTS")));
    let email = made["email"].as_str().unwrap();
    let patch = json!({ "serviceAccount": { "description": "new" }, "updateMask": "description" });
    let patched = rest.call("PATCH", &format!("{accounts}/{email}"), Some(patch)).await;
    assert_eq!(patched, json!({ "name": made["name"], "description": "new" }));

    let roles = format!("{base}/v1/projects/{PROJECT}/roles");
    let role = json!({ "roleId": "deskgrid_engine", "role": { "title": "t", "includedPermissions": ["storage.objects.get"] } });
    let first = rest.post(&roles, role.clone()).await;
    assert_eq!(rest.try_call("POST", &roles, Some(role.clone())).await.0, 409);
    let one = format!("{roles}/deskgrid_engine");
    let stale = json!({ "title": "u", "etag": "AAAAAAAAAAA=" });
    assert_eq!(rest.try_call("PATCH", &format!("{one}?updateMask=title"), Some(stale)).await.0, 409);
    let fresh = json!({ "title": "u", "etag": first["etag"] });
    assert_eq!(rest.call("PATCH", &format!("{one}?updateMask=title"), Some(fresh)).await["title"], "u");
    assert_eq!(rest.call("DELETE", &one, None).await["deleted"], true);
    assert_eq!(rest.get(&one).await["deleted"], true);
    let (status, marked) = rest.try_call("POST", &roles, Some(role)).await;
    assert_eq!((status, marked["error"]["status"].as_str()), (400, Some("FAILED_PRECONDITION")));
    assert!(rest.post(&format!("{one}:undelete"), json!({})).await.get("deleted").is_none());
}

#[tokio::test]
async fn impersonation_needs_the_token_creator_role() {
    let google = google().await;
    let email = account(&google, "deployer").await;
    let rest = Rest::operator(&google);
    let base = google.endpoints();
    let generate = format!("{}/v1/projects/-/serviceAccounts/{email}:generateAccessToken", base.iamcredentials);
    let body = json!({ "scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "600s" });
    assert_eq!(rest.try_call("POST", &generate, Some(body.clone())).await.0, 403);
    let policy = json!({ "policy": { "bindings": [{
        "role": "roles/iam.serviceAccountTokenCreator", "members": ["user:operator@example.com"],
    }] } });
    rest.post(&format!("{}/v1/projects/{PROJECT}/serviceAccounts/{email}:setIamPolicy", base.iam), policy).await;
    let token = rest.post(&generate, body).await["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(google.user_of_token(&token), Some(format!("serviceAccount:{email}")));
}

#[tokio::test]
async fn tokens_age_with_the_clock_when_asked_to() {
    let clock = Clock::default();
    for strict in [true, false] {
        let options = Options { clock: clock.clone(), strict_token_expiry: strict, ..Options::new(PROJECT) };
        let google = start(options).await;
        let token = google.operator_token();
        clock.advance(Duration::from_secs(3601));
        assert_eq!(google.user_of_token(&token).is_none(), strict);
    }
}

#[tokio::test]
async fn a_call_without_credentials_is_the_operators_when_allowed() {
    let google = start(Options { allow_anonymous: true, ..Options::new(PROJECT) }).await;
    bucket(&google, vec![]).await;
    let clients = Clients::new(&google, crate::google::support::nobody()).await;
    within(clients.storage.write_object(name(), "x", "data").send_buffered()).await.unwrap();
    within(clients.topics.create_topic().set_name(format!("projects/{PROJECT}/topics/work")).send()).await.unwrap();
}
