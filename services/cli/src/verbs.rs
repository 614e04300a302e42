//! One file per verb.

pub(crate) mod completions;
pub(crate) mod dead_letters;
pub(crate) mod explain;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod results;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod verify;

/// How long a verb waits for Jobs unless its command line says otherwise.
pub(crate) const WAIT_LIMIT: std::time::Duration = std::time::Duration::from_secs(86_400);
