//! What `provision` sends for each environment of the golden copies, against `requests.txt` beside it, which
//! `UPDATE_GOLDEN=1` refreshes. The manifests of the same environments are compared by `manifests::tests`.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use provision::{
    Environment,
    environment::{Overrides, parse},
    plan,
};
use serde_json::Value;

use crate::{
    fixture::{self, client, cloud, silent},
    landing_zone,
};

fn read(name: &str, change: impl FnOnce(&str) -> String) -> Environment {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(folder.join("environment.toml")).unwrap();
    parse(name, "environment.toml", &change(&text), &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Provisions an environment, and compares its writes with the golden copy. Before, in the same project, `before` is
/// provisioned.
async fn check(name: &str, before: Option<Environment>) {
    let google = fixture::google(|options| {
        if name == "shared-vpc" {
            options.no_default_network = true;
            options.neighbour = Some(landing_zone::host(&landing_zone::GRANTED));
        }
    })
    .await;
    if let Some(before) = before {
        provision::run(&before, &cloud(client(&google)), plan::Options::default(), &silent()).await.unwrap();
    }
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = lines.clone();
    let client = client(&google).observed(Arc::new(move |call| {
        if call.request.is_write() && call.code == 200 {
            let mut body = call.request.body.clone().unwrap_or(Value::Null);
            without_etags(&mut body);
            seen.lock().unwrap().push(format!("{} {body}\n", call.request));
        }
    }));
    let environment = read(name, str::to_owned);
    provision::run(&environment, &cloud(client.clone()), plan::Options::default(), &silent()).await.unwrap();
    let mut found = lines.lock().unwrap().clone();
    // Many are sent at once.
    found.sort_unstable();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).join("requests.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found.concat()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, expected) in found.iter().zip(golden.split_inclusive('\n')) {
        assert_eq!(line, expected, "{name}: a request differs from its golden copy; UPDATE_GOLDEN=1 refreshes it");
    }
    assert_eq!(found.concat(), golden, "{name}: other requests; UPDATE_GOLDEN=1 refreshes the golden copy");
    let plan = provision::make_plan(&environment, &cloud(client), plan::Options::default(), &silent()).await.unwrap();
    assert!(plan.is_empty(), "{name}: {}", provision::show::render(&plan));
    google.stop().await;
}

fn without_etags(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("etag");
            fields.values_mut().for_each(without_etags);
        }
        Value::Array(items) => items.iter_mut().for_each(without_etags),
        _ => {}
    }
}

#[tokio::test]
async fn each_environment_is_provisioned_with_these_requests() {
    for name in ["standard", "autopilot", "autopilot-spot", "shared-vpc", "kms"] {
        check(name, None).await;
    }
}

#[tokio::test]
async fn two_environments_share_a_project() {
    check("second", Some(read("standard", str::to_owned))).await;
}

#[tokio::test]
async fn where_somebody_else_makes_everything_nothing_is_sent() {
    check("verify", Some(read("verify", |text| text.replace("\"verify\"", "\"create\"")))).await;
}
