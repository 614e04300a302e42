//! The Secret that holds a key, and what it records of our keys.

use std::collections::BTreeMap;

use anyhow::Context as _;
use contract::labels;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::iam::Key;
use crate::deploy::reach::{self, FIELD_MANAGER};

/// Key of the Secret, and name of the file that it is mounted as.
const FILE: &str = "key.json";
/// Annotation with the [`Record`].
const RECORD: &str = "deskgrid.dev/keys";
/// How far clocks may be apart.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What is known of our keys of an account. Ids are no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Keys that we made and have not seen deleted.
    pub(super) ours: Vec<String>,
    /// A key is being created; a run that is killed before the key is in the Secret leaves it unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) making: Option<PendingKey>,
    /// When the key in the Secret became the one it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
}

/// The moment before a key was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PendingKey {
    /// Keys that were there.
    pub(super) before: Vec<String>,
    /// When.
    pub(super) at: Timestamp,
}

impl Record {
    /// The keys that are there and ours. A key that appeared in the minutes in which one was made, and that was in no
    /// Secret afterwards, is ours too; all others are of people.
    pub(super) fn ours_of(&self, known: &[Key]) -> Vec<String> {
        let lost = |key: &Key| match (&self.making, key.made) {
            (Some(PendingKey { before, at }), Some(made)) => {
                !before.contains(&key.id) && made.duration_since(*at).abs() <= SKEW
            }
            _ => false,
        };
        known.iter().filter(|key| self.ours.contains(&key.id) || lost(key)).map(|key| key.id.clone()).collect()
    }

    /// Whether what was made at this moment may still have the key of before.
    pub(super) fn is_before(&self, made: Option<Timestamp>) -> bool {
        match (self.since, made) {
            (Some(since), Some(made)) => made.duration_since(since) <= SKEW,
            _ => true,
        }
    }
}

/// One workload's Secret.
pub(super) struct KeySecret<'a> {
    pub(super) secrets: Api<Secret>,
    /// Label `app` of the workload.
    pub(super) app: &'a str,
    /// Its Kubernetes service account.
    pub(super) account: &'a str,
    pub(super) business: Option<&'a str>,
    pub(super) namespace: &'a str,
    pub(super) email: &'a str,
}

/// Name of the Secret of a Kubernetes service account.
pub(super) fn name(account: &str) -> String {
    format!("google-key-{account}")
}

/// What a Secret holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Id of the key in it, if it is one of this account.
    pub(super) held: Option<String>,
    pub(super) record: Record,
    pub(super) exists: bool,
}

impl KeySecret<'_> {
    fn name(&self) -> String {
        name(self.account)
    }

    fn context(&self) -> String {
        format!("give {} a key in the Secret {}/{}", self.email, self.namespace, self.name())
    }

    pub(super) async fn read(&self) -> anyhow::Result<Content> {
        let live = self.secrets.get_opt(&self.name()).await.with_context(|| self.context())?;
        Ok(live.map(|secret| content(&secret, self.email)).unwrap_or_default())
    }

    /// Writes down what is about to happen, and leaves the key as it is.
    pub(super) async fn note(&self, content: &Content, record: &Record) -> anyhow::Result<()> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let annotations = json!({RECORD: encode(record)?});
        if content.exists {
            let (name, patch) = (self.name(), Patch::Merge(json!({"metadata": {"annotations": annotations}})));
            reach::write(|| self.secrets.patch(&name, &parameters, &patch)).await.with_context(|| self.context())?;
            return Ok(());
        }
        self.apply(record, None).await
    }

    /// Writes a key.
    pub(super) async fn write(&self, record: &Record, data: Value) -> anyhow::Result<()> {
        self.apply(record, Some(data)).await
    }

    /// Deletes it; one that is gone already is no error.
    pub(super) async fn delete(&self) -> anyhow::Result<()> {
        let (name, plainly) = (self.name(), DeleteParams::default());
        match reach::write(|| self.secrets.delete(&name, &plainly)).await {
            Err(error) if reach::is_missing(&error) => Ok(()),
            deleted => {
                deleted.map(drop).with_context(|| format!("delete the Secret {}/{}", self.namespace, self.name()))
            }
        }
    }

    async fn apply(&self, record: &Record, data: Option<Value>) -> anyhow::Result<()> {
        let mut secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name(),
                "namespace": self.namespace,
                "annotations": {RECORD: encode(record)?},
                "labels": {
                    labels::APP: self.app,
                    labels::MANAGED_BY: labels::MANAGED_BY_DESKGRID,
                },
            },
            "type": "Opaque",
        });
        if let Some(business) = self.business {
            secret["metadata"]["labels"][labels::BUSINESS] = json!(business);
        }
        if let Some(data) = data {
            secret["data"] = json!({FILE: data});
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let (name, patch) = (self.name(), Patch::Apply(secret));
        reach::write(|| self.secrets.patch(&name, &parameters, &patch)).await.with_context(|| self.context())?;
        Ok(())
    }
}

fn encode(record: &Record) -> anyhow::Result<String> {
    serde_json::to_string(record).context("encode the record of keys")
}

fn content(secret: &Secret, email: &str) -> Content {
    let recorded = secret.metadata.annotations.as_ref().and_then(|all| all.get(RECORD));
    let mut record: Record = recorded.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let held = key_of(secret, email);
    // A Secret of ours without a record, from before there were records.
    if let Some(id) = held.iter().find(|id| !record.ours.contains(id)) {
        record.ours.push(id.clone());
    }
    Content { held, record, exists: true }
}

/// Id of the key in a Secret, if it is one of this account.
fn key_of(secret: &Secret, email: &str) -> Option<String> {
    let key = key_file(secret)?;
    (key["client_email"].as_str() == Some(email)).then(|| key["private_key_id"].as_str().map(str::to_owned))?
}

/// The account whose key a Secret holds.
pub(crate) fn account_of(secret: &Secret) -> Option<String> {
    key_file(secret)?["client_email"].as_str().map(str::to_owned)
}

fn key_file(secret: &Secret) -> Option<Value> {
    let data: &BTreeMap<String, ByteString> = secret.data.as_ref()?;
    serde_json::from_slice(&data.get(FILE)?.0).ok()
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
        assert_eq!(content(&secret, "a@p").record.ours, ["1"]);
    }

    #[test]
    fn keys_of_people_are_not_ours() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let key = |id: &str, second| Key { id: id.to_owned(), made: Some(at(second)) };
        let known = [key("ours", 0), key("before", 900), key("lost", 1_005), key("later", 9_000)];
        let mut record = Record { ours: vec!["ours".to_owned(), "gone".to_owned()], ..Record::default() };
        assert_eq!(record.ours_of(&known), ["ours"]);
        record.making = Some(PendingKey { before: vec!["ours".to_owned(), "before".to_owned()], at: at(1_000) });
        assert_eq!(record.ours_of(&known), ["ours", "lost"]);
    }

    #[test]
    fn what_began_before_the_key_changed_may_have_the_old_one() {
        let at = |second: i64| Some(Timestamp::from_second(second).unwrap());
        let record = Record { since: at(10_000), ..Record::default() };
        assert!(record.is_before(at(9_000)) && record.is_before(at(10_100)) && record.is_before(None));
        assert!(!record.is_before(at(11_000)));
    }
}
