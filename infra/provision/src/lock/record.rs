//! What a lock says, and when it is over. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{LEASE, Settings};

/// How far two operators' clocks may be apart: a lock that ended longer ago than this has ended for everybody.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Who holds a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Login name of the person, and the service account in whose place they act.
    pub who: String,
    /// Name of the machine.
    pub host: String,
    /// Process id.
    pub process: u32,
    /// What makes process ids comparable: the boot of the machine and the space of process ids. Nothing where a
    /// system does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
}

/// The content of the lock object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub schema: u32,
    /// Differs at every taking.
    pub id: String,
    /// Environment.
    pub environment: String,
    /// Who holds it.
    #[serde(flatten)]
    pub holder: Holder,
    /// What for.
    pub verb: String,
    /// How far that is.
    pub step: String,
    /// When it was taken, by the holder's clock.
    pub since: Timestamp,
    /// When it was renewed last.
    pub renewed: Timestamp,
    /// When it ends unless renewed.
    pub expires: Timestamp,
}

/// Whether a lock is to be respected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Its holder works.
    Held,
    /// It was not renewed for a lease.
    Expired,
    /// It was taken on this machine by a process that is gone.
    Dead,
}

/// Watches a lock of somebody else.
#[derive(Debug, Default)]
pub struct Watch {
    /// The generation seen last, and when it was seen first.
    seen: Option<(String, Timestamp)>,
}

impl Watch {
    /// Judges a lock that is there now. A lease is measured from when this watcher first saw this generation, so that
    /// clocks that differ take no lock from anybody; only one that ended long ago by any clock ends at once.
    pub fn judge(&mut self, generation: &str, record: Option<&Record>, now: Timestamp, me: &Holder) -> Judgement {
        if record.is_some_and(|record| is_dead(&record.holder, me)) {
            return Judgement::Dead;
        }
        if record.is_some_and(|record| now.duration_since(record.expires) > SKEW) {
            return Judgement::Expired;
        }
        let first = match &self.seen {
            Some((seen, first)) if seen == generation => *first,
            _ => {
                self.seen = Some((generation.to_owned(), now));
                now
            }
        };
        let lease = SignedDuration::try_from(LEASE).unwrap_or(SignedDuration::MAX);
        if now.duration_since(first) >= lease { Judgement::Expired } else { Judgement::Held }
    }
}

impl Record {
    pub(super) fn new(id: &str, environment: &str, settings: &Settings, expires: Timestamp) -> Self {
        let now = (settings.now)();
        Self {
            schema: 1,
            id: id.to_owned(),
            environment: environment.to_owned(),
            holder: settings.holder.clone(),
            verb: settings.verb.clone(),
            step: "begins".to_owned(),
            since: now,
            renewed: now,
            expires,
        }
    }

    /// Who holds a lock and since when, for people.
    pub fn describe(record: Option<&Self>, now: Timestamp) -> String {
        let Some(Self { holder: Holder { who, host, process, .. }, verb, step, since, .. }) = record else {
            return "a lock of another version of this program is there".to_owned();
        };
        let secs = now.duration_since(*since).as_secs().max(0);
        format!("{who} on {host} (process {process}) has it for `{verb}` since {since:.0}, {secs} s ago, and {step}")
    }
}

/// Whether the holder was a process of this machine that is gone.
fn is_dead(holder: &Holder, me: &Holder) -> bool {
    let Ok(process) = i32::try_from(holder.process) else { return false };
    holder.space.is_some()
        && holder.space == me.space
        && holder.process != me.process
        && nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), None) == Err(nix::errno::Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(expires: i64) -> Record {
        let at = |second| Timestamp::from_second(second).unwrap();
        Record {
            schema: 1,
            id: "a".to_owned(),
            environment: "e".to_owned(),
            holder: Holder { who: "ann".to_owned(), host: "h".to_owned(), process: 7, space: None },
            verb: "provision".to_owned(),
            step: "changes".to_owned(),
            since: at(1_000_000),
            renewed: at(1_000_000),
            expires: at(expires),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_lease_is_counted_from_the_first_look_and_anew_after_a_renewal() {
        let (mut watch, me, theirs) = (Watch::default(), Holder::default(), record(1_000_060));
        // The watcher's clock is two minutes ahead: that alone takes nothing from anybody.
        assert_eq!(watch.judge("1", Some(&theirs), at(1_000_120), &me), Judgement::Held);
        assert_eq!(watch.judge("1", Some(&theirs), at(1_000_179), &me), Judgement::Held);
        assert_eq!(watch.judge("2", Some(&theirs), at(1_000_181), &me), Judgement::Held);
        assert_eq!(watch.judge("2", Some(&theirs), at(1_000_240), &me), Judgement::Held);
        assert_eq!(watch.judge("2", Some(&theirs), at(1_000_241), &me), Judgement::Expired);
    }

    #[test]
    fn a_lock_of_yesterday_ends_at_once_and_one_that_nobody_can_read_after_a_lease() {
        let me = Holder::default();
        assert_eq!(Watch::default().judge("1", Some(&record(1_000_060)), at(1_086_400), &me), Judgement::Expired);
        let mut watch = Watch::default();
        assert_eq!(watch.judge("1", None, at(0), &me), Judgement::Held);
        assert_eq!(watch.judge("1", None, at(60), &me), Judgement::Expired);
    }

    #[test]
    fn only_a_process_of_this_machine_can_be_known_to_be_dead() {
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let me = Holder { process: std::process::id(), space: Some("boot".to_owned()), ..Holder::default() };
        let mut theirs = Holder { process: ended.id(), ..me.clone() };
        assert!(is_dead(&theirs, &me));
        assert!(!is_dead(&me, &me));
        theirs.space = Some("another".to_owned());
        assert!(!is_dead(&theirs, &me));
        theirs.space = None;
        assert!(!is_dead(&theirs, &Holder { space: None, ..me }));
    }

    #[test]
    fn the_second_operator_is_told_who_and_since_when() {
        let description = Record::describe(Some(&record(1_000_060)), at(1_000_030));
        assert_eq!(
            description,
            "ann on h (process 7) has it for `provision` since 1970-01-12T13:46:40Z, 30 s ago, and changes"
        );
    }
}
