//! Keys as IAM has them.

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    calls,
    failure::Failure,
    google::{self, Client, Method, Request, escape},
};

/// Reads one key.
const GET: &str = "iam.projects.serviceAccounts.keys.get";
/// The methods of keys.
pub(crate) const METHODS: &[&str] = &[
    GET,
    "iam.projects.serviceAccounts.keys.list",
    "iam.projects.serviceAccounts.keys.create",
    "iam.projects.serviceAccounts.keys.delete",
];

/// A key that IAM knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: String,
    /// When it was made.
    pub(super) made: Option<Timestamp>,
}

/// A key that was just made.
pub(super) struct Made {
    pub(super) id: String,
    /// The file as the API has it, in base64.
    pub(super) data: Value,
    /// An answer was lost on the way: there may be keys that nobody has.
    pub(super) may_have_more: bool,
}

/// The keys of one account.
pub(super) struct Account<'a> {
    pub(super) client: &'a Client,
    pub(super) project: &'a str,
    pub(super) email: &'a str,
}

impl Account<'_> {
    fn path(&self) -> String {
        format!("v1/projects/{}/serviceAccounts/{}/keys", escape(self.project), escape(self.email))
    }

    /// The keys that somebody made, we or another.
    pub(super) async fn list(&self) -> anyhow::Result<Vec<Key>> {
        let request = Request::get(google::Api::Iam, self.path()).query("keyTypes", "USER_MANAGED");
        let answer = match self.client.send_optional(&request).await {
            Err(error) if error.may_not_exist() => None,
            answer => answer.with_context(|| format!("list the keys of {}", self.email))?,
        };
        let keys = answer.as_ref().and_then(|answer| answer["keys"].as_array()).into_iter().flatten();
        let key = |key: &Value| {
            let id = key["name"].as_str()?.rsplit('/').next()?.to_owned();
            Some(Key { id, made: key["validAfterTime"].as_str().and_then(|text| text.parse().ok()) })
        };
        Ok(keys.filter_map(key).collect())
    }

    /// Makes a key, and waits until IAM knows it.
    pub(super) async fn create(&self) -> anyhow::Result<Made> {
        let request = Request::new(google::Api::Iam, Method::Post, self.path()).body(json!({}));
        let (once, retry) = (self.client.once(), self.client.retry());
        let mut attempt = 1;
        let mut key = loop {
            match once.send(&request).await {
                // Each try may have made one that nobody was given.
                Err(error) if error.is_transient() && attempt < retry.attempts => {
                    tokio::time::sleep(retry.pause(attempt)).await;
                    attempt += 1;
                }
                answer => break answer.map_err(|error| self.refused(error))?,
            }
        };
        let id = key["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_owned();
        let data = key["privateKeyData"].take();
        if id.is_empty() || !data.is_string() {
            bail!("IAM made a key for {} and did not give it", self.email);
        }
        self.known(&id).await?;
        Ok(Made { id, data, may_have_more: attempt > 1 })
    }

    /// Waits until IAM shows a key that it just made: before that, who signs in with it may be refused.
    async fn known(&self, id: &str) -> anyhow::Result<()> {
        let request = Request::get(google::Api::Iam, format!("{}/{}", self.path(), escape(id)));
        let started = Instant::now();
        for attempt in 1.. {
            match self.client.send(&request).await {
                Err(error) if calls::not_yet(&[GET], error.answer()).is_some_and(|limit| started.elapsed() < limit) => {
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                }
                // A caller that may create keys but not list them continues.
                Err(error) if error.is_forbidden() => break,
                answer => {
                    answer.with_context(|| format!("see the new key {id} of {}", self.email))?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Deletes a key; one that is gone already is no error, and IAM may say 403 of it.
    pub(super) async fn delete(&self, id: &str) -> anyhow::Result<()> {
        let request = Request::new(google::Api::Iam, Method::Delete, format!("{}/{}", self.path(), escape(id)));
        match self.client.send_optional(&request).await {
            Err(error) if !error.may_not_exist() => {
                Err(error).with_context(|| format!("delete the key {id} of {}", self.email))
            }
            _ => Ok(()),
        }
    }

    fn refused(&self, error: google::Error) -> anyhow::Error {
        let why = error.to_string();
        if !why.contains("Key creation is not allowed") && !why.contains("disableServiceAccountKeyCreation") {
            return anyhow::Error::new(error).context(format!("make a key for {}", self.email));
        }
        Failure {
            code: "keys-forbidden",
            what: "the organisation forbids keys of service accounts".to_owned(),
            on: self.email.to_owned(),
            why,
            next: "set auth = \"workload-identity\" in the environment file; or have \
                   constraints/iam.disableServiceAccountKeyCreation lifted for the project"
                .to_owned(),
        }
        .into()
    }
}
