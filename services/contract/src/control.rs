//! Session control: the control object of a session, and the messages that a pause parks.
//!
//! `B/control/SESSION.json` is JSON of this form:
//!
//! ```json
//! {"schema": 1, "session": "risk", "paused": true, "cancelled_before": "2026-11-22T14:33:55.5Z",
//!  "cancelled_jobs": {"book.json": "2026-11-22T14:35:01Z"}, "by": "alice@desk-7", "changed": "2026-11-22T14:35:01Z"}
//! ```
//!
//! `cancelled_before` and `cancelled_jobs` may be absent. A writer replaces the object only at the generation that it
//! read, so two operators never undo each other's decision. A session without decisions has no object.
//!
//! The orchestrator applies it, and stores a message of a paused session as
//! `B/parked/SESSION/JOB/GENERATION-ATTEMPT.json`, whose body is [`Parked`], until the pause ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{message::Work, object};

/// Schema version of the control objects and parked messages this program writes.
pub const SCHEMA: u32 = 1;

/// The decisions of operators about a session.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Control {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// Session.
    pub session: String,
    /// No Job of the session is started. Running Jobs go on.
    #[serde(default)]
    pub paused: bool,
    /// Jobs that were submitted before this time (of Cloud Storage's clock) do not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_before: Option<Timestamp>,
    /// The same for single Jobs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cancelled_jobs: BTreeMap<String, Timestamp>,
    /// Who decided last.
    #[serde(default)]
    pub by: String,
    /// When.
    pub changed: Timestamp,
}

impl Control {
    /// A control object without decisions.
    pub fn new(session: &str, now: Timestamp) -> Self {
        Self {
            schema: SCHEMA,
            session: session.to_owned(),
            paused: false,
            cancelled_before: None,
            cancelled_jobs: BTreeMap::new(),
            by: String::new(),
            changed: now,
        }
    }

    /// Reads a control object. An invalid one (written by hand, or by a newer version) counts as a pause, so that no
    /// Job runs against a decision and none is lost; the text says why it is invalid.
    pub fn parse(session: &str, body: &[u8]) -> (Self, Option<String>) {
        let paused = || Self { paused: true, ..Self::new(session, Timestamp::UNIX_EPOCH) };
        match serde_json::from_slice::<Self>(body) {
            Ok(control) if control.schema == SCHEMA && control.session == session => (control, None),
            Ok(control) if control.session != session => {
                (paused(), Some(format!("it is of the session {:?}", control.session)))
            }
            Ok(control) => (paused(), Some(format!("its schema version is {}, not {SCHEMA}", control.schema))),
            Err(error) => (paused(), Some(error.to_string())),
        }
    }

    /// Whether it has no decision.
    pub fn is_idle(&self) -> bool {
        !self.paused && !self.has_cancelled()
    }

    /// Whether anything of the session was cancelled.
    pub fn has_cancelled(&self) -> bool {
        self.cancelled_before.is_some() || !self.cancelled_jobs.is_empty()
    }

    /// The time before which requests of this Job are cancelled, if any.
    pub fn before(&self, job: &str) -> Option<Timestamp> {
        self.cancelled_before.max(self.cancelled_jobs.get(job).copied())
    }

    /// Whether it cancels this attempt of a Job. A first attempt is as old as its input, however late its message came;
    /// a retry is as old as its message.
    pub fn cancels(
        &self,
        job: &str,
        attempt: u32,
        published: Option<Timestamp>,
        input_created: Option<Timestamp>,
    ) -> bool {
        let Some(before) = self.before(job) else { return false };
        let is_old = |time: Option<Timestamp>| time.is_some_and(|time| time < before);
        is_old(published) || (attempt == 0 && is_old(input_created))
    }

    /// Records a cancel: of one Job, or of the whole session, which also ends a pause and replaces all cancels of
    /// single Jobs.
    pub fn cancel(&mut self, job: Option<&str>, time: Timestamp) {
        match job {
            Some(job) => {
                let known = self.cancelled_jobs.entry(job.to_owned()).or_insert(time);
                *known = time.max(*known);
            }
            None => {
                self.paused = false;
                self.cancelled_jobs.clear();
                self.cancelled_before = self.cancelled_before.max(Some(time));
            }
        }
    }
}

/// A message that was received while its session was paused.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Parked {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// What it asks for, with all its options.
    pub work: Work,
    /// The message.
    pub message_id: String,
    /// When Pub/Sub accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// When it was parked.
    pub parked: Timestamp,
}

impl Parked {
    /// Name of the object that keeps it.
    pub fn object(&self) -> String {
        let work = &self.work;
        object::parked(&work.business, &work.session, &work.job, &work.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(second).ok()
    }

    #[test]
    fn a_first_attempt_is_as_old_as_its_input_and_a_retry_as_its_message() {
        let mut control = Control::new("s", Timestamp::UNIX_EPOCH);
        assert!(control.is_idle() && !control.cancels("j", 0, at(1), at(1)));
        control.cancelled_before = at(100);
        for (attempt, published, created, wanted) in [
            (0, at(99), at(99), true),
            // Its message was lost, and the sweep published it again after the cancel.
            (0, at(200), at(99), true),
            (0, at(200), at(150), false),
            (0, at(100), at(100), false),
            // A retry of what was cancelled.
            (1, at(200), at(99), false),
            (1, at(99), at(50), true),
            (0, None, None, false),
            (0, None, at(99), true),
        ] {
            assert_eq!(
                control.cancels("j", attempt, published, created),
                wanted,
                "{attempt} {published:?} {created:?}"
            );
        }
    }

    #[test]
    fn a_cancel_of_one_job_means_no_other_and_one_of_all_means_it_too() {
        let mut control = Control::new("s", Timestamp::UNIX_EPOCH);
        control.paused = true;
        control.cancel(Some("a"), at(100).unwrap());
        control.cancel(Some("a"), at(50).unwrap());
        assert!(control.paused && control.has_cancelled() && !control.is_idle(), "the rest of it is still paused");
        assert!(control.cancels("a", 0, at(99), None) && !control.cancels("a", 1, at(101), at(1)));
        assert!(!control.cancels("b", 0, at(1), at(1)));
        let kept = serde_json::to_vec(&control).unwrap();
        assert_eq!(Control::parse("s", &kept), (control.clone(), None));
        control.cancel(None, at(200).unwrap());
        assert!(!control.paused && control.cancelled_jobs.is_empty());
        assert!(control.cancels("a", 0, at(199), None) && control.cancels("b", 0, at(199), None));
        control.cancel(Some("a"), at(300).unwrap());
        assert!(control.cancels("a", 0, at(299), None) && !control.cancels("b", 0, at(299), at(299)));
    }

    #[test]
    fn a_control_object_that_cannot_be_understood_holds_its_session() {
        let control = Control { paused: false, cancelled_before: at(5), ..Control::new("s", Timestamp::UNIX_EPOCH) };
        let body = serde_json::to_vec(&control).unwrap();
        assert_eq!(Control::parse("s", &body), (control, None));
        let newer = String::from_utf8(body.clone()).unwrap().replace("\"schema\":1", "\"schema\":2");
        for (session, body) in [("s", b"{" as &[u8]), ("t", &body), ("s", newer.as_bytes()), ("s", b"")] {
            let (control, problem) = Control::parse(session, body);
            assert!(control.paused && problem.is_some() && control.session == session);
        }
    }
}
