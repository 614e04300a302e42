//! The lock object in Cloud Storage.

use std::fmt;

use anyhow::Context as _;

use super::Record;
use crate::{
    failure::Failure,
    google::{Api, Client, Error, Method, Request, escape},
};

/// Name of the lock object. No business may be called `deskgrid`, so no tenant may touch it.
pub const OBJECT: &str = "deskgrid/lock.json";

/// A lock that is there.
pub(super) struct Found {
    pub(super) generation: String,
    /// Nothing when it is not in a form that we know.
    pub(super) record: Option<Record>,
}

/// The result of a write.
pub(super) enum Written {
    /// The lock has this generation now.
    New(String),
    /// There is no bucket.
    NoBucket,
    /// The lock has another generation, or something else forbids the write.
    Refused(Error),
}

pub(super) struct Store {
    client: Client,
    bucket: String,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs://{}/{OBJECT}", self.bucket)
    }
}

impl Store {
    pub(super) fn new(client: &Client, bucket: &str) -> Self {
        Self { client: client.clone(), bucket: bucket.to_owned() }
    }

    /// Writes the lock if it has this generation, or does not exist when none is given.
    pub(super) async fn write(&self, record: &Record, replaces: Option<&str>) -> anyhow::Result<Written> {
        let body = serde_json::to_value(record).context("encode the lock")?;
        let request =
            Request::new(Api::Storage, Method::Post, format!("upload/storage/v1/b/{}/o", escape(&self.bucket)))
                .query("uploadType", "media")
                .query("name", OBJECT)
                .query("ifGenerationMatch", replaces.unwrap_or("0"))
                .body(body);
        match self.client.send(&request).await {
            Ok(object) => {
                let generation = object["generation"].as_str().context("find the generation of the lock")?;
                Ok(Written::New(generation.to_owned()))
            }
            Err(error) if error.code == 412 => Ok(Written::Refused(error)),
            Err(error) if error.is_not_found() => Ok(Written::NoBucket),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The lock as it is; nothing when there is none.
    pub(super) async fn read(&self) -> anyhow::Result<Option<Found>> {
        let read = Request::get(Api::Storage, self.path());
        loop {
            let object = match self.client.send_optional(&read).await {
                Ok(Some(object)) => object,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            };
            let generation = object["generation"].as_str().context("find the generation of the lock")?.to_owned();
            let content = read.clone().query("alt", "media").query("generation", generation.clone());
            match self.client.send(&content).await {
                Ok(content) => {
                    let record = serde_json::from_value(content).ok();
                    return Ok(Some(Found { generation, record }));
                }
                // It was renewed in between.
                Err(error) if error.is_not_found() => {}
                // What is not JSON is not of ours.
                Err(error) if error.code == 502 => return Ok(Some(Found { generation, record: None })),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Deletes the lock if it has this generation; returns whether it had.
    pub(super) async fn delete(&self, generation: &str) -> Result<bool, Error> {
        let request = Request::new(Api::Storage, Method::Delete, self.path()).query("ifGenerationMatch", generation);
        match self.client.send(&request).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == 412 || error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn path(&self) -> String {
        format!("storage/v1/b/{}/o/{}", escape(&self.bucket), escape(OBJECT))
    }

    /// The failure of writes that are refused although there is no lock, as by a constraint of the organisation.
    pub(super) fn refused(&self, error: &Error) -> Failure {
        Failure {
            code: "lock-denied",
            what: "the lock on the environment cannot be written".to_owned(),
            on: self.to_string(),
            why: error.to_string(),
            next: "remove what forbids new objects in this bucket: a constraint of the organisation, or a setting of the bucket"
                .to_owned(),
        }
    }

    fn failed(&self, error: Error) -> anyhow::Error {
        if !error.is_forbidden() {
            return anyhow::Error::new(error).context(format!("use the lock {self}"));
        }
        Failure {
            code: "lock-denied",
            what: "the lock on the environment may not be taken".to_owned(),
            on: self.to_string(),
            why: error.to_string(),
            next: format!(
                "gcloud storage buckets add-iam-policy-binding gs://{} --member user:YOU --role \
                 roles/storage.objectUser",
                self.bucket
            ),
        }
        .into()
    }
}
