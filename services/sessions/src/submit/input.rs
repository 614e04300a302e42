//! Inputs of a submission: their names, bytes and content types.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;

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
        "tar" => "application/x-tar",
        "gz" => "application/gzip",
        "zip" => "application/zip",
        "parquet" => "application/vnd.apache.parquet",
        _ => "application/octet-stream",
    }
}
