//! Whether services may use the keys of the environment, before something is created with them.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::{Value, json};

use super::{Class, ENCRYPTER, commands, id, used};
use crate::{
    desired::agent,
    environment::{Environment, Managed},
    finding::Finding,
    google::{Api, Client, Method, Request},
    grants,
    kinds::project,
    resource::Grant,
};

/// Permissions with which a plan grants what is missing.
const GRANT: [&str; 2] = ["cloudkms.cryptoKeys.getIamPolicy", "cloudkms.cryptoKeys.setIamPolicy"];

/// Checks each key once.
pub(super) async fn check(environment: &Environment, client: &Client) -> Vec<Finding> {
    let mut keys: BTreeMap<&str, Vec<&Class>> = BTreeMap::new();
    for (class, key) in used(environment) {
        keys.entry(key).or_default().push(class);
    }
    if keys.is_empty() {
        return Vec::new();
    }
    let number = match project::number(client, &environment.project).await {
        Ok(Some(number)) => number,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Finding::unchecked("keys", error)],
    };
    join_all(keys.iter().map(|(key, classes)| one(environment, client, key, classes, &number))).await
}

async fn one(environment: &Environment, client: &Client, key: &str, classes: &[&Class], number: &str) -> Finding {
    let id = id(key);
    let what = id.to_string();
    if let Some(unusable) = unusable(client, &what, key).await {
        return unusable;
    }
    let grant =
        |class: &&Class| Grant { role: ENCRYPTER.to_owned(), member: agent(class.agent, number), condition: None };
    let needed: Vec<Grant> = classes.iter().map(grant).collect();
    let ring = key.split("/cryptoKeys/").next().unwrap_or_default();
    let project = key.split('/').nth(1).unwrap_or_default();
    let reads = vec![id.policy().read(&Value::Null), Request::get(Api::CloudKms, format!("v1/{ring}:getIamPolicy"))];
    let (lacking, unseen) = grants::missing(client, reads, project, &needed).await;
    if !lacking.is_empty() && environment.manage.iam == Managed::Create && may_grant(client, key).await {
        return Finding::good(&what, "the plan grants what services need on it");
    }
    let lacks = |class: &&&Class| lacking.iter().any(|grant| grant.member == agent(class.agent, number));
    let commands = classes.iter().filter(lacks).flat_map(|class| commands(environment, class, key, number));
    let commands = commands.collect::<Vec<_>>().join("\n  ");
    grants::finding("key-denied", &what, &what, &lacking, unseen.as_deref(), &commands)
}

/// A key with which nothing can be encrypted. Nothing is known of one that may not be read.
async fn unusable(client: &Client, what: &str, key: &str) -> Option<Finding> {
    const ANOTHER: &str = "name another one under [security.kms_keys] in the environment file";
    match client.send(&Request::get(Api::CloudKms, format!("v1/{key}"))).await {
        Err(error) if error.is_not_found() => {
            let fix = format!("{ANOTHER}, or create it: gcloud kms keys create");
            Some(Finding::bad("no-key", what, format!("{key} does not exist"), fix))
        }
        Ok(live) if live["purpose"].as_str().is_some_and(|purpose| purpose != "ENCRYPT_DECRYPT") => {
            let seen = format!("{key} is for {}, and not for ENCRYPT_DECRYPT", live["purpose"]);
            Some(Finding::bad("key-purpose", what, seen, ANOTHER))
        }
        Ok(live) if live["primary"]["state"].as_str().is_some_and(|state| state != "ENABLED") => {
            let seen = format!("the primary version of {key} is {}", live["primary"]["state"]);
            let fix = "enable that version, or make an enabled one the primary: gcloud kms keys versions enable";
            Some(Finding::bad("key-disabled", what, seen, fix))
        }
        _ => None,
    }
}

async fn may_grant(client: &Client, key: &str) -> bool {
    let test = Request::new(Api::CloudKms, Method::Post, format!("v1/{key}:testIamPermissions"));
    let answer = client.send(&test.body(json!({"permissions": GRANT}))).await;
    answer.is_ok_and(|answer| grants::lacking(&GRANT, &answer).is_empty())
}
