//! The table of calls, compared with the requests that the verbs send and with the permissions that the laptop cloud
//! checks for them: each way, row by row.

use std::collections::{BTreeMap, BTreeSet};

use provision::{
    Environment, build, calls,
    google::{Api, Client, Method, Request},
    resource::Kind,
};
use serde_json::{Value, json};

use crate::{
    desk::{self, Desk},
    discovery::Discovery,
    fixture::{self, ONE, PROJECT, TWO},
    shapes::{Record, environment},
};

/// Calls over gRPC, by the method of the JSON API with the same meaning.
const GRPC: [(&str, &str); 2] = [
    ("/google.storage.v2.Storage/DeleteObject", "storage.objects.delete"),
    ("/google.storage.v2.Storage/ListObjects", "storage.objects.list"),
];

/// Builds, and reads as somebody else.
pub(crate) async fn a_build(client: &Client) {
    let environment = environment(ONE);
    let images = [build::Image { name: "engine", tag: "src-1" }];
    let place = format!("europe-west1-docker.pkg.dev/{PROJECT}/{PROJECT}-images");
    let order =
        build::Order { environment: &environment, object: "source", generation: 1, place: &place, images: &images };
    let (begun, _) = build::begin(client, &order, false).await.unwrap().unwrap();
    for request in [
        build::get(&environment, &begun.id),
        build::list(&environment, &images[0]),
        build::images(&environment),
        build::cancel(&environment, &begun.id),
    ] {
        // It may have ended.
        let _ = client.send(&request).await;
    }
    let as_builder = provision::google::impersonated(client, &environment.accounts.builder).unwrap();
    let _ = client.clone().acting_as(as_builder).send(&build::get(&environment, &begun.id)).await;
}

/// Runs the verbs that reach the cluster too, with keys.
pub(crate) async fn in_the_cluster(record: &Record) {
    let desk = Desk::start_on(None, |options| options.asked = record.asked.clone()).await;
    let cloud = provision::Cloud { google: record.of(fixture::client(&desk.google)), ..desk.cloud().await };
    desk::provision(&cloud).await;
    for verb in desk::Verb::ALL {
        verb.run(&desk, &cloud).await.unwrap();
    }
    desk.stop().await;
}

/// Fails for a method without a row, a row without a call, and a permission that only one of row and cloud knows.
pub(crate) fn assert_whole(record: &Record) {
    let called = record.methods(&Discovery::read());
    let without_row: BTreeSet<&str> =
        called.values().map(String::as_str).filter(|method| calls::all().all(|(row, _)| row != *method)).collect();
    assert!(without_row.is_empty(), "calls without a row in infra/provision/calls.toml: {without_row:#?}");
    let is_grpc = |row: &str| GRPC.iter().any(|(_, method)| *method == row);
    let without_call: Vec<&str> = calls::all()
        .map(|(row, _)| row)
        .filter(|row| !is_grpc(row) && !called.values().any(|method| method == row))
        .collect();
    assert!(without_call.is_empty(), "rows of infra/provision/calls.toml without a call: {without_call:#?}");

    let mut asked: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for question in record.asked.take() {
        let method = called.get(&question.request).map(String::as_str).or_else(|| {
            let path = question.request.split(' ').next_back()?;
            GRPC.iter().find(|(grpc, _)| *grpc == path).map(|(_, method)| *method)
        });
        let is_every = calls::every().permissions.contains(&question.permission);
        // Service agents and builders have rights of their own.
        if let Some(method) = method.filter(|_| !is_every && question.principal == OPERATOR) {
            asked.entry(method).or_default().insert(question.permission);
        }
    }
    let differences = calls::all().filter_map(|(method, call)| {
        let said: BTreeSet<String> =
            call.permissions.iter().chain(call.elsewhere.values().flatten()).cloned().collect();
        let checked = asked.get(method).cloned().unwrap_or_default();
        // It lives in no folder and no organisation.
        let is_served = !call.elsewhere.contains_key("ancestor");
        (said != checked && is_served)
            .then(|| format!("{method}: the table says {said:?}, the cloud checks {checked:?}"))
    });
    let differences: Vec<String> = differences.collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Who calls without credentials.
const OPERATOR: &str = "operator@example.com";

/// A project in a folder of an organisation, as `getAncestry` says it.
pub(crate) const ANCESTRY: &str = r#"{"ancestor": [
    {"resourceId": {"type": "project", "id": "desk-one"}}, {"resourceId": {"type": "folder", "id": "1"}},
    {"resourceId": {"type": "organization", "id": "2"}}]}"#;

/// Deletes what an environment has of a kind on its own, so that the next plan creates it again.
pub(crate) async fn delete(client: &Client, environment: &Environment, kind: Kind) {
    for resource in provision::desired::desired(environment).iter().filter(|resource| resource.id.kind == kind) {
        for request in resource.id.deletes(&Value::Null) {
            client.send(&request).await.unwrap();
        }
    }
}

/// Publishes a message whose input is in the bucket.
pub(crate) async fn publish(client: &Client) {
    let topic = &environment(TWO).businesses[0].topic;
    let body = json!({"messages": [{"attributes": {"deskgrid": "1"}}]});
    let path = format!("v1/projects/{PROJECT}/topics/{topic}:publish");
    client.send(&Request::new(Api::Pubsub, Method::Post, path).body(body)).await.unwrap();
}

/// Enables the services that only checks call, and those that a plan reads.
pub(crate) async fn enable(client: &Client) {
    let names = ["cloudbilling", "cloudkms", "cloudresourcemanager", "compute", "iam", "orgpolicy"];
    let names = names.map(|name| format!("{name}.googleapis.com"));
    let path = format!("v1/projects/{PROJECT}/services:batchEnable");
    let request = Request::new(Api::ServiceUsage, Method::Post, path).body(json!({"serviceIds": names}));
    client.send(&request).await.unwrap();
}
