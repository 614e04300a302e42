//! Submitting Jobs: inputs go into the bucket, and a message for each goes onto the business's topic.
//!
//! Everything here may be repeated. An input is written only if there is none of its name, so a second run of the same
//! submission finds the same object, hence the same generation, hence the same identity, and its message is a harmless
//! duplicate. Inputs whose Job has its outcome already are left alone: the first run's success deleted the input, and
//! writing it again would compute it again.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;

use contract::{
    Identity,
    config::Business,
    message::{self, Work},
    object,
};

mod existing;
mod send;
mod stream;
mod wait;

pub use existing::{Existing, Step};
pub use send::{Report, Submitter};
pub use stream::Differs;
pub use wait::{Ended, Waited, wait};

/// One Job to submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Job id within the session.
    pub job: String,
    /// Where its bytes are.
    pub source: Source,
    /// Content type of the object.
    pub content_type: String,
}

/// Where the bytes of an input are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, which is streamed.
    File(PathBuf),
    /// In memory.
    Bytes(Bytes),
}

/// What all Jobs of one submission have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Session.
    pub session: String,
    /// Who submits.
    pub client: Option<String>,
    /// Number of tasks when each Job is split.
    pub tasks: Option<u32>,
    /// Each input is a table, and each task computes so many of its rows.
    pub rows_per_task: Option<u32>,
    /// Drained first.
    pub priority: bool,
    /// Names of the session's common data that each Job reads.
    pub common: Vec<String>,
}

impl Options {
    /// The work item of one job; the generation is 0 until the input is written.
    pub fn work(&self, business: &Business, job: &str) -> Work {
        Work {
            identity: Identity {
                bucket: business.bucket.clone(),
                object: object::input(&business.name, &self.session, job),
                generation: 0,
                attempt: 0,
            },
            business: business.name.clone(),
            session: self.session.clone(),
            job: job.to_owned(),
            client: self.client.clone(),
            tasks: self.tasks,
            rows_per_task: self.rows_per_task,
            priority: self.priority,
            common: self.common.clone(),
            resources: message::Resources::default(),
        }
    }
}

/// What became of one Job of a submission.
#[derive(Debug)]
pub enum Fate {
    /// It was not tried, because the submission stopped before.
    NotTried,
    /// Its input is in the bucket, but nobody said so: the submission stopped in between.
    Uploaded {
        /// Generation of the input.
        generation: i64,
    },
    /// Its message is published.
    Submitted {
        /// Generation of the input.
        generation: i64,
        /// Id that Pub/Sub gave the message.
        message_id: String,
        /// The input was there already, with the same bytes.
        repeated: bool,
    },
    /// It has its outcome already, so nothing was sent.
    Settled {
        /// Generation of the input it is the outcome of.
        generation: i64,
    },
    /// It could not be submitted.
    Failed(anyhow::Error),
}

/// Two inputs that would be the same Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The job id both have.
    pub job: String,
    /// Positions of the two in the list of inputs.
    pub positions: (usize, usize),
}

/// The first pair of every job id that more than one input has.
pub fn collisions(inputs: &[Input]) -> Vec<Collision> {
    let mut seen: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    let mut found = Vec::new();
    for (position, input) in inputs.iter().enumerate() {
        match seen.get_mut(input.job.as_str()) {
            None => {
                seen.insert(&input.job, (position, false));
            }
            Some((_, reported)) if *reported => {}
            Some((first, reported)) => {
                *reported = true;
                found.push(Collision { job: input.job.clone(), positions: (*first, position) });
            }
        }
    }
    found
}

/// A name for a session that nobody named: `20261122-143355-ab12`, from a time (UTC) and something that differs from
/// one submission to the next.
pub fn session_name(now: jiff::Timestamp, salt: &str) -> String {
    let tail = contract::names::hash(&[&now.as_nanosecond().to_string(), salt], 4);
    format!("{}-{tail}", now.strftime("%Y%m%d-%H%M%S"))
}

/// Content type of a file, by its extension.
pub fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit('/').next().unwrap_or(name).rsplit_once('.').map(|(_, extension)| extension);
    match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
        "json" => "application/json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "csv" => "text/csv; charset=utf-8",
        "txt" | "log" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "gz" => "application/gzip",
        "zip" => "application/zip",
        "parquet" => "application/vnd.apache.parquet",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
