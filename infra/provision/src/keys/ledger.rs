//! Which keys are ours, recorded where it outlives the cluster: an object of ids in the environment's bucket. A cluster
//! that is gone took its Secrets with it, and the accounts with their keys stayed.

use anyhow::Context as _;

use super::secret::Record;
use crate::google::{Api, Client, Error, Method, Request, escape};

/// Folder of the records. No business may be called `deskgrid`, so no tenant may touch it.
const FOLDER: &str = "deskgrid/keys";

/// The record of one account.
pub(super) struct Ledger<'a> {
    pub(super) client: &'a Client,
    pub(super) bucket: &'a str,
    pub(super) email: &'a str,
}

impl Ledger<'_> {
    fn object(&self) -> String {
        format!("{FOLDER}/{}.json", self.email)
    }

    fn path(&self) -> String {
        format!("storage/v1/b/{}/o/{}", escape(self.bucket), escape(&self.object()))
    }

    fn context(&self) -> String {
        format!("keep gs://{}/{}", self.bucket, self.object())
    }

    /// Writes it. Where there is no bucket nothing can be kept.
    pub(super) async fn write(&self, record: &Record) -> anyhow::Result<()> {
        let body = serde_json::to_value(record).context("encode the record of keys")?;
        let request =
            Request::new(Api::Storage, Method::Post, format!("upload/storage/v1/b/{}/o", escape(self.bucket)))
                .query("uploadType", "media")
                .query("name", self.object())
                .body(body);
        self.client.send_optional(&request).await.with_context(|| self.context())?;
        Ok(())
    }

    /// Reads it; nothing of an account that never had a key of ours.
    pub(super) async fn read(&self) -> anyhow::Result<Record> {
        let request = Request::get(Api::Storage, self.path()).query("alt", "media");
        let answer = self.client.send_optional(&request).await.with_context(|| self.context())?;
        // What is not of our form says nothing of our keys.
        Ok(answer.and_then(|answer| serde_json::from_value(answer).ok()).unwrap_or_default())
    }

    /// Deletes it.
    pub(super) async fn delete(&self) -> Result<(), Error> {
        self.client.send_optional(&Request::new(Api::Storage, Method::Delete, self.path())).await.map(drop)
    }
}
