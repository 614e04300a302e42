//! What a signal does to a build.

use google_cloud_auth::credentials::anonymous;
use localcloud::google::{Google, Options};
use provision::{
    environment::{Overrides, parse},
    google::{Api, Client, Method, Request},
};
use serde_json::json;

use super::*;

/// A cloud in which no build ends by itself, and the account that builds.
async fn cloud(environment: &Environment) -> (Google, Cloud) {
    let _ = cloud::clients::install_tls_provider();
    let options = Options {
        allow_anonymous: true,
        enforce_apis: false,
        operations_take: Duration::from_secs(3600),
        ..Options::new(&environment.project)
    };
    let google = Google::start(options).await.unwrap();
    let endpoints = serde_json::from_value(serde_json::to_value(google.endpoints()).unwrap()).unwrap();
    let client = Client::new(endpoints, anonymous::Builder::new().build()).unwrap();
    let (builder, _) = environment.accounts.builder.split_once('@').unwrap();
    let accounts = format!("v1/projects/{}/serviceAccounts", environment.project);
    client.send(&Request::new(Api::Iam, Method::Post, accounts).body(json!({"accountId": builder}))).await.unwrap();
    let member = format!("serviceAccount:{}", environment.accounts.builder);
    let policy = json!({"policy": {"bindings": [
        {"role": "roles/owner", "members": ["user:operator@example.com"]},
        {"role": "roles/storage.legacyBucketReader", "members": [member]},
    ]}});
    let path = format!("v1/projects/{}:setIamPolicy", environment.project);
    client.send(&Request::new(Api::CloudResourceManager, Method::Post, path).body(policy)).await.unwrap();
    let endpoints = contract::config::Endpoints {
        pubsub: Some(client.endpoints().pubsub.clone()),
        storage: Some(client.endpoints().storage.clone()),
    };
    (google, Cloud { google: client, kubernetes: Err("there is no cluster".to_owned()), server: None, endpoints })
}

#[tokio::test]
async fn a_signal_cancels_the_build_that_this_run_began_and_no_other() {
    let text = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n";
    let environment = parse("e", "e.toml", text, &Overrides::new()).unwrap();
    let (google, cloud) = cloud(&environment).await;
    let store = Store::connect_for(&cloud.connection(), STORE_PATIENCE).await.unwrap();
    let object = "deskgrid/build/source/src.tar.gz";
    let images = [build::Image { name: "engine", tag: "src-1" }];
    let place = place(&environment);
    let order = Order { environment: &environment, object, generation: 7, place: &place, images: &images };
    let stop = CancellationToken::new();
    stop.cancel();
    for (is_ours, said, status) in [(false, "it continues", "QUEUED"), (true, "was cancelled", "CANCELLED")] {
        let (begun, found) = build::begin(&cloud.google, &order, false).await.unwrap().unwrap();
        assert_eq!(found, is_ours, "what was not cancelled is found again");
        let id = begun.id.clone();
        let output = Output::default().errors_only();
        let ended = follow(&environment, &cloud, &store, begun, is_ours, &stop, &output).await.unwrap_err();
        assert!(ended.to_string().contains(said), "{ended:#}");
        let build = cloud.google.send(&build::get(&environment, &id)).await.unwrap();
        assert_eq!(build["status"], status, "{build}");
    }
    google.stop().await;
}

#[test]
fn a_signal_while_a_build_ends_well_is_not_lost() {
    let build = |state| Build { id: "b-1".to_owned(), state, detail: None, page: None, tags: Vec::new() };
    let stop = CancellationToken::new();
    assert!(unless_stopped(&build(State::Success), &stop).is_ok());
    stop.cancel();
    let said = unless_stopped(&build(State::Success), &stop).unwrap_err().to_string();
    assert!(said.contains("interrupted") && said.contains("b-1"), "{said}");
    // What failed says why it failed, which is more.
    assert!(unless_stopped(&build(State::Failure), &stop).is_ok());
}
