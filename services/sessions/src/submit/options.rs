//! Options of a submission, and the results for its Jobs.

use contract::{
    Identity,
    config::Business,
    message::{self, Work},
    object,
    pack::Pack,
};

/// Options of all Jobs of a submission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Session.
    pub session: String,
    /// Name of the client.
    pub client: Option<String>,
    /// Each input is a pack.
    pub pack: Option<Pack>,
    /// Started before Jobs without priority.
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
                first: None,
                attempt: 0,
            },
            business: business.name.clone(),
            session: self.session.clone(),
            job: job.to_owned(),
            client: self.client.clone(),
            pack: self.pack.clone(),
            only: None,
            span: None,
            priority: self.priority,
            common: self.common.clone(),
            resources: message::Resources::default(),
        }
    }
}

/// The result of a submission for one Job.
#[derive(Debug)]
pub enum Fate {
    /// Nothing was sent, because the submission stopped before.
    NotTried,
    /// Its input is written, and its message is not published: the submission stopped in between.
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
        /// The input existed already, with the same bytes.
        repeated: bool,
    },
    /// It already has an outcome, so nothing was sent.
    Settled {
        /// Generation of the input of that outcome.
        generation: i64,
    },
    /// It could not be submitted.
    Failed(anyhow::Error),
}

/// A default name for a session, `20261122-143355-ab12`: the time (UTC), and a hash of the time and `salt`, which
/// differs between submissions.
pub fn session_name(now: jiff::Timestamp, salt: &str) -> String {
    let tail = contract::names::hash(&[&now.as_nanosecond().to_string(), salt], 4);
    format!("{}-{tail}", now.strftime("%Y%m%d-%H%M%S"))
}
