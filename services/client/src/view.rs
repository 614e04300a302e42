//! What the pages show of a session: figures, Jobs, results and their chart. Pure.

mod jobs;
mod parts;
mod results;
mod status;

pub(crate) use jobs::jobs;
pub(crate) use parts::{Choice, Segment, bar};
pub(crate) use results::results;
pub(crate) use status::status;

#[cfg(test)]
mod tests;
