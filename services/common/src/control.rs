//! What a person decided about a whole session: the control object, and the messages that wait because of it.
//!
//! `B/control/SESSION.json` is JSON of this form:
//!
//! ```json
//! {"schema": 1, "session": "risk", "paused": true, "cancelled_before": "2026-11-22T14:33:55.5Z",
//!  "cancelled_jobs": {"book.json": "2026-11-22T14:35:01Z"}, "by": "alice@desk-7", "changed": "2026-11-22T14:35:01Z"}
//! ```
//!
//! `cancelled_before` and `cancelled_jobs` may be absent. The object is only replaced at the generation it was read at, so that two operators
//! never undo each other's decision. When there is nothing to say about a session there is no object.
//!
//! Whoever runs Jobs heeds it; a message of a paused session is kept as `B/parked/SESSION/JOB/GENERATION-ATTEMPT.json`,
//! whose body is [`Parked`], until the pause ends.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    config::Business,
    message::Work,
    object,
    storage::{Properties, Replaced, Store},
};

/// Schema version of the control objects and parked messages this program writes.
pub const SCHEMA: u32 = 1;
/// How often a change is begun anew because another operator was first.
const TRIES: usize = 20;
/// Control objects read at a time.
const READS: usize = 16;

/// What was decided about a session.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Control {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// Session.
    pub session: String,
    /// No Job of the session is started. Those that run go on.
    #[serde(default)]
    pub paused: bool,
    /// What was submitted before this time (of Cloud Storage's clock) is not to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_before: Option<Timestamp>,
    /// The same of single Jobs, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cancelled_jobs: BTreeMap<String, Timestamp>,
    /// Who decided last.
    #[serde(default)]
    pub by: String,
    /// When.
    pub changed: Timestamp,
}

impl Control {
    /// Nothing was decided about a session.
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

    /// Reads a control object. One that cannot be understood (written by hand, or by a newer version) holds its session
    /// as paused, so that nothing runs against somebody's will and nothing is lost; the text says what is wrong with it.
    pub fn parse(session: &str, body: &[u8]) -> (Self, Option<String>) {
        let held = || Self { paused: true, ..Self::new(session, Timestamp::UNIX_EPOCH) };
        match serde_json::from_slice::<Self>(body) {
            Ok(control) if control.schema == SCHEMA && control.session == session => (control, None),
            Ok(control) if control.session != session => {
                (held(), Some(format!("it is of the session {:?}", control.session)))
            }
            Ok(control) => (held(), Some(format!("its schema version is {}, not {SCHEMA}", control.schema))),
            Err(error) => (held(), Some(error.to_string())),
        }
    }

    /// Whether it says anything.
    pub fn is_idle(&self) -> bool {
        !self.paused && !self.has_cancelled()
    }

    /// Whether anything of the session was cancelled.
    pub fn has_cancelled(&self) -> bool {
        self.cancelled_before.is_some() || !self.cancelled_jobs.is_empty()
    }

    /// The time before which what was asked for under this name is cancelled, if any of it is.
    pub fn before(&self, job: &str) -> Option<Timestamp> {
        self.cancelled_before.max(self.cancelled_jobs.get(job).copied())
    }

    /// Whether it cancels work of this name that was asked for at this time. A first attempt is as old as its input, however late
    /// its message came; a person's retry is as old as its message.
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
}

/// A message that came while its session was paused.
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
    /// When it was put aside.
    pub parked: Timestamp,
}

impl Parked {
    /// Name of the object that keeps it.
    pub fn object(&self) -> String {
        let work = &self.work;
        object::parked(&work.business, &work.session, &work.job, &work.identity)
    }
}

/// Reads what was decided about a session, and the generation of the object, 0 when there is none.
///
/// # Errors
/// When the object cannot be read.
pub async fn read(store: &Store, business: &Business, session: &str) -> anyhow::Result<(Option<Control>, i64)> {
    let name = object::control(&business.name, session);
    Ok(match store.read(&business.bucket, &name, None).await? {
        Some((object, body)) => (Some(Control::parse(session, &body).0), object.generation),
        None => (None, 0),
    })
}

/// Everything decided about the sessions of a business.
///
/// # Errors
/// When the objects cannot be read.
pub async fn all(store: &Store, business: &Business) -> anyhow::Result<BTreeMap<String, Control>> {
    let listed = store.list(&business.bucket, &object::control_prefix(&business.name)).await?;
    let sessions: Vec<String> =
        listed.iter().filter_map(|o| object::parse_control(&business.name, &o.name).map(str::to_owned)).collect();
    let reads =
        sessions.into_iter().map(|session| async move { Ok((read(store, business, &session).await?, session)) });
    let reads: Vec<_> = reads.collect();
    futures::stream::iter(reads)
        .buffer_unordered(READS)
        .try_filter_map(|((control, _), session)| async move { Ok(control.map(|control| (session, control))) })
        .try_collect()
        .await
}

/// Changes what is decided about a session, on top of whatever others decide at the same time. Returns what holds then.
///
/// # Errors
/// When the object cannot be read or written.
pub async fn change(
    store: &Store,
    business: &Business,
    session: &str,
    by: &str,
    change: impl Fn(&mut Control),
) -> anyhow::Result<Control> {
    let name = object::control(&business.name, session);
    for _ in 0..TRIES {
        let now = Timestamp::now();
        let (before, generation) = read(store, business, session).await?;
        let mut control = before.clone().unwrap_or_else(|| Control::new(session, now));
        change(&mut control);
        if before.as_ref() == Some(&control) || (before.is_none() && control.is_idle()) {
            return Ok(control);
        }
        (control.schema, control.by, control.changed) = (SCHEMA, by.to_owned(), now);
        if control.is_idle() {
            if store.delete(&business.bucket, &name, generation).await? {
                return Ok(control);
            }
            continue;
        }
        let text = serde_json::to_vec_pretty(&control).context("encode the control object")?;
        let written = store.replace(&business.bucket, &name, text, Properties::json(), generation).await?;
        if let Replaced::Done { .. } = written {
            return Ok(control);
        }
    }
    anyhow::bail!("others change gs://{}/{name} all the time; try again", business.bucket)
}

/// Decides that what was submitted to a session until now is not to run, or only what was under the name of one `job`.
/// A pause of a session ends when all of it is cancelled. The time is that of Cloud Storage's clock, which also dates
/// what is submitted.
///
/// # Errors
/// When the object cannot be read or written.
pub async fn cancel(
    store: &Store,
    business: &Business,
    session: &str,
    job: Option<&str>,
    by: &str,
) -> anyhow::Result<Control> {
    let name = object::control(&business.name, session);
    for _ in 0..TRIES {
        let now = Timestamp::now();
        let (before, generation) = read(store, business, session).await?;
        let mut control = before.unwrap_or_else(|| Control::new(session, now));
        (control.schema, control.by, control.changed) = (SCHEMA, by.to_owned(), now);
        decide(&mut control, job, now);
        let decided = job.map_or(control.cancelled_before, |job| control.before(job));
        let write = async |control: &Control, generation| {
            let text = serde_json::to_vec_pretty(control).context("encode the control object")?;
            store.replace(&business.bucket, &name, text, Properties::json(), generation).await
        };
        let Replaced::Done { generation, created } = write(&control, generation).await? else { continue };
        let Some(created) = created.filter(|created| Some(*created) > decided) else { return Ok(control) };
        // This machine's clock is behind: what came in between counts too.
        decide(&mut control, job, created);
        if let Replaced::Done { .. } = write(&control, generation).await? {
            return Ok(control);
        }
    }
    anyhow::bail!("others change gs://{}/{name} all the time; try again", business.bucket)
}

/// Puts a cancel down: of one Job, or of everything, which ends a pause and says all that was said of single Jobs.
fn decide(control: &mut Control, job: Option<&str>, time: Timestamp) {
    match job {
        Some(job) => {
            let known = control.cancelled_jobs.entry(job.to_owned()).or_insert(time);
            *known = time.max(*known);
        }
        None => {
            control.paused = false;
            control.cancelled_jobs.clear();
            control.cancelled_before = control.cancelled_before.max(Some(time));
        }
    }
}

/// Names of the parked messages of a session.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn parked(store: &Store, business: &Business, session: &str) -> anyhow::Result<Vec<String>> {
    let prefix = object::parked_prefix(&business.name, Some(session));
    Ok(store.list(&business.bucket, &prefix).await?.into_iter().map(|object| object.name).collect())
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
        decide(&mut control, Some("a"), at(100).unwrap());
        decide(&mut control, Some("a"), at(50).unwrap());
        assert!(control.paused && control.has_cancelled() && !control.is_idle(), "the rest of it is still paused");
        assert!(control.cancels("a", 0, at(99), None) && !control.cancels("a", 1, at(101), at(1)));
        assert!(!control.cancels("b", 0, at(1), at(1)));
        let kept = serde_json::to_vec(&control).unwrap();
        assert_eq!(Control::parse("s", &kept), (control.clone(), None));
        decide(&mut control, None, at(200).unwrap());
        assert!(!control.paused && control.cancelled_jobs.is_empty());
        assert!(control.cancels("a", 0, at(199), None) && control.cancels("b", 0, at(199), None));
        decide(&mut control, Some("a"), at(300).unwrap());
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
