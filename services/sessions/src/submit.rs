//! Submits Jobs: writes inputs into the bucket, and publishes a message for each to the business's topic.
//!
//! Everything here may be repeated. An input is written only if there is none of its name, so a second run of the same
//! submission finds the same object, hence the same generation, hence the same identity, and its message is a harmless
//! duplicate. Inputs whose Job already has an outcome are not sent: the first run's success deleted the input, and
//! writing it again would compute it again.

mod compare;
mod existing;
mod input;
mod options;
mod send;
mod stream;
mod wait;

pub use compare::Differs;
pub use existing::{Existing, Step};
pub use input::{Collision, Input, Source, collisions, content_type};
pub use options::{Fate, Options, session_name};
pub use send::{Report, Submitter};
pub use wait::{Ended, Waited, wait};

#[cfg(test)]
mod tests;
