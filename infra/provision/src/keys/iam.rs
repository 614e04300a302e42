//! Keys as IAM has them.

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    google::{self, Client, Method, Request, escape},
    trouble::Trouble,
};

/// A key that IAM knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: String,
    /// When it was made.
    pub(super) made: Option<Timestamp>,
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

    /// Makes a key: its id, and the file as the API has it, in base64.
    pub(super) async fn create(&self) -> anyhow::Result<(String, Value)> {
        let request = Request::new(google::Api::Iam, Method::Post, self.path()).body(json!({}));
        let mut key = self.client.send(&request).await.map_err(|error| self.refused(error))?;
        let id = key["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_owned();
        let data = key["privateKeyData"].take();
        if id.is_empty() || !data.is_string() {
            bail!("IAM made a key for {} and did not give it", self.email);
        }
        Ok((id, data))
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
        Trouble {
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
