//! Keys of service accounts, for `auth = "key"`: each goes straight from IAM into a Kubernetes Secret and nowhere else.
//!
//! A key is made only when the Secret has none that IAM still knows. Keys that no Secret refers to are deleted, so
//! that nothing is left of a run that was killed between the two.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use common::labels;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cloud::Cloud,
    deploy::FIELD_MANAGER,
    environment::{Business, Environment, Managed},
    google::{self, Method, Request, escape},
};

/// Key of the Secret, and name of the file that it is mounted as.
const FILE: &str = "key.json";

/// Sees to it that every workload of a business has a key, and no account more than one. Gives the accounts with a new
/// key.
///
/// # Errors
/// When IAM or the cluster refuses.
pub async fn ensure(
    environment: &Environment,
    business: &Business,
    cloud: &Cloud,
    client: &Client,
) -> anyhow::Result<Vec<String>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &business.namespace);
    let mut made = Vec::new();
    for (workload, email) in workloads(business) {
        let name = secret_name(workload);
        let context = || format!("give {email} a key in the Secret {}/{name}", business.namespace);
        let live = secrets.get_opt(&name).await.with_context(context)?;
        let known = list(environment, cloud, email).await?;
        let held = live.and_then(|secret| key_of(&secret, email)).filter(|id| known.contains(id));
        let kept = match held {
            Some(id) => id,
            None => {
                let (id, data) = create(environment, cloud, email).await?;
                let secret = json!({
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name, "namespace": business.namespace, "labels": {
                        labels::APP: workload,
                        labels::BUSINESS: business.name,
                        labels::MANAGED_BY: labels::MANAGED_BY_DESKGRID,
                    }},
                    "type": "Opaque",
                    "data": {FILE: data},
                });
                let parameters = PatchParams::apply(FIELD_MANAGER).force();
                secrets.patch(&name, &parameters, &Patch::Apply(secret)).await.with_context(context)?;
                made.push(email.to_owned());
                id
            }
        };
        // Only of accounts that we make: the keys of somebody else's are not ours to judge.
        if environment.manage.iam == Managed::Create {
            for unreferenced in known.iter().filter(|id| **id != kept) {
                delete(environment, cloud, email, unreferenced).await?;
            }
        }
    }
    Ok(made)
}

/// Deletes every key of a business's workloads.
///
/// # Errors
/// When IAM refuses.
pub async fn revoke(environment: &Environment, business: &Business, cloud: &Cloud) -> anyhow::Result<()> {
    for (_, email) in workloads(business) {
        for id in list(environment, cloud, email).await? {
            delete(environment, cloud, email, &id).await?;
        }
    }
    Ok(())
}

fn workloads(business: &Business) -> [(&'static str, &str); 2] {
    [("orchestrator", &business.accounts.orchestrator), ("engine", &business.accounts.engine)]
}

fn secret_name(workload: &str) -> String {
    format!("google-key-{workload}")
}

/// Id of the key in a Secret, if it is one of this account.
fn key_of(secret: &Secret, email: &str) -> Option<String> {
    let data: &BTreeMap<String, ByteString> = secret.data.as_ref()?;
    let key: Value = serde_json::from_slice(&data.get(FILE)?.0).ok()?;
    (key["client_email"].as_str() == Some(email)).then(|| key["private_key_id"].as_str().map(str::to_owned))?
}

fn path(environment: &Environment, email: &str) -> String {
    format!("v1/projects/{}/serviceAccounts/{}/keys", escape(&environment.project), escape(email))
}

/// Ids of the keys of an account that people made.
async fn list(environment: &Environment, cloud: &Cloud, email: &str) -> anyhow::Result<Vec<String>> {
    let request = Request::get(google::Api::Iam, path(environment, email)).query("keyTypes", "USER_MANAGED");
    let answer = match cloud.google.send_optional(&request).await {
        Err(error) if error.may_not_exist() => None,
        answer => answer.with_context(|| format!("list the keys of {email}"))?,
    };
    let keys = answer.as_ref().and_then(|answer| answer["keys"].as_array()).into_iter().flatten();
    Ok(keys.filter_map(|key| Some(key["name"].as_str()?.rsplit('/').next()?.to_owned())).collect())
}

/// Makes a key: its id, and the file as the API has it, in base64.
async fn create(environment: &Environment, cloud: &Cloud, email: &str) -> anyhow::Result<(String, Value)> {
    let request = Request::new(google::Api::Iam, Method::Post, path(environment, email)).body(json!({}));
    let mut key = cloud.google.send(&request).await.with_context(|| format!("make a key for {email}"))?;
    let id = key["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_owned();
    let data = key["privateKeyData"].take();
    if id.is_empty() || !data.is_string() {
        bail!("IAM made a key for {email} and did not give it");
    }
    Ok((id, data))
}

async fn delete(environment: &Environment, cloud: &Cloud, email: &str, id: &str) -> anyhow::Result<()> {
    let request =
        Request::new(google::Api::Iam, Method::Delete, format!("{}/{}", path(environment, email), escape(id)));
    cloud.google.send_optional(&request).await.with_context(|| format!("delete the key {id} of {email}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_account_does_not_count() {
        let file = json!({"client_email": "a@p", "private_key_id": "1"}).to_string();
        let data = BTreeMap::from([(FILE.to_owned(), ByteString(file.into_bytes()))]);
        let secret = Secret { data: Some(data), ..Secret::default() };
        assert_eq!(key_of(&secret, "a@p").as_deref(), Some("1"));
        assert_eq!(key_of(&secret, "b@p"), None);
        assert_eq!(key_of(&Secret::default(), "a@p"), None);
    }
}
