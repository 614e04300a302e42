//! One operator at a time: a lock that ends by itself, as an object in the environment's bucket.
//!
//! Cloud Storage writes an object only when it has the generation that the writer expects (`ifGenerationMatch`), so
//! of two that take the lock at once one is refused. A lock is renewed while its holder works; one that was not
//! renewed for a lease may be taken over. A holder that finds its lock gone stops at once. What a stopped holder still
//! had on its way does no harm: policies carry etags, and what is made has a name of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{failure::Failure, google::Client};

mod record;
mod store;

pub use record::{Holder, Judgement, Record, Watch};
pub use store::OBJECT;
use store::{Found, Store, Written};

/// How long a lock lasts that is not renewed.
pub const LEASE: Duration = Duration::from_secs(60);
/// How often it is renewed; Cloud Storage takes one write of an object a second.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// Interval between two reads of somebody else's lock.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// A holder that could not renew stops this long before others may take over.
const MARGIN: Duration = Duration::from_secs(15);
/// The methods with which a lock is taken, read and released; the record of keys is kept with them too.
pub(crate) const METHODS: &[&str] = &["storage.objects.insert", "storage.objects.get", "storage.objects.delete"];
/// Writes that may be refused although there is no lock: each time somebody may have released it in between.
const MAX_REFUSALS: u32 = 5;

/// The clock.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// Receives the events of a lock; must not block.
pub type Notify = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// An event of a lock.
#[derive(Debug)]
pub enum Event<'a> {
    /// Somebody else holds it.
    Waiting(Option<&'a Record>),
    /// The lock of somebody who stopped was taken over.
    TakenOver(Option<&'a Record>, Judgement),
    /// There is no bucket to hold it, and none is being made.
    Without,
    /// It could not be released; it expires by itself.
    Kept(&'a str),
}

/// How to acquire a lock.
#[derive(Clone)]
pub struct Settings {
    /// Who acquires it.
    pub holder: Holder,
    /// The verb that needs it.
    pub verb: String,
    /// Longest time to wait for somebody else.
    pub wait: Duration,
    /// The clock that leases are measured with.
    pub now: Now,
    /// Receives the events.
    pub notify: Notify,
    /// How often it is renewed.
    pub renew_every: Duration,
    /// Interval between two reads of somebody else's lock.
    pub poll_every: Duration,
}

impl Settings {
    /// The usual way.
    pub fn new(holder: Holder, verb: &str, wait: Duration, notify: Notify) -> Self {
        Self {
            holder,
            verb: verb.to_owned(),
            wait,
            now: Arc::new(Timestamp::now),
            notify,
            renew_every: RENEW_EVERY,
            poll_every: POLL_EVERY,
        }
    }

    fn time_in(&self, from_now: Duration) -> Timestamp {
        let span = SignedDuration::try_from(from_now).unwrap_or(SignedDuration::MAX);
        (self.now)().checked_add(span).unwrap_or(Timestamp::MAX)
    }
}

/// The result of an attempt to acquire a lock.
pub enum Acquired {
    /// It is ours.
    Held(Box<Lock>),
    /// There is no bucket for it.
    NoBucket,
}

/// A lock that is held. It is not released when dropped, as a killed process does not release it either.
pub struct Lock {
    store: Store,
    settings: Settings,
    state: Mutex<State>,
}

struct State {
    record: Record,
    generation: String,
}

impl Lock {
    /// Acquires the lock of an environment, and waits while somebody else has it.
    ///
    /// # Errors
    /// When somebody else still has it after the longest wait, or the bucket may not be written to.
    pub async fn acquire(
        client: &Client,
        bucket: &str,
        environment: &str,
        settings: &Settings,
    ) -> anyhow::Result<Acquired> {
        let store = Store::new(client, bucket);
        let id = format!("{:032x}", rand::random::<u128>());
        let (mut watch, mut replaces, mut reported) = (Watch::default(), None, None);
        let until = settings.time_in(settings.wait);
        let mut refusals = 0;
        loop {
            let record = Record::new(&id, environment, settings, settings.time_in(LEASE));
            let refused = match store.write(&record, replaces.as_deref()).await? {
                Written::New(generation) => {
                    let state = Mutex::new(State { record, generation });
                    return Ok(Acquired::Held(Box::new(Self { store, settings: settings.clone(), state })));
                }
                Written::NoBucket => return Ok(Acquired::NoBucket),
                Written::Refused(error) => error,
            };
            let Some(Found { generation, record: theirs }) = store.read().await? else {
                // Released in between, or the write is refused for another reason.
                replaces = None;
                refusals += 1;
                if refusals > MAX_REFUSALS {
                    return Err(store.refused(&refused).into());
                }
                tokio::time::sleep(client.retry().pause(refusals)).await;
                continue;
            };
            if let Some(record) = theirs.clone().filter(|record| record.id == id) {
                // Ours, although the answer was lost.
                let state = Mutex::new(State { record, generation });
                return Ok(Acquired::Held(Box::new(Self { store, settings: settings.clone(), state })));
            }
            let now = (settings.now)();
            match watch.judge(&generation, theirs.as_ref(), now, &settings.holder) {
                Judgement::Held => {}
                judgement => {
                    (settings.notify)(Event::TakenOver(theirs.as_ref(), judgement));
                    replaces = Some(generation);
                    continue;
                }
            }
            replaces = None;
            if now >= until {
                return Err(held(bucket, theirs.as_ref(), now).into());
            }
            let whose = theirs.as_ref().map(|record| record.id.clone());
            if reported.as_ref() != Some(&whose) {
                (settings.notify)(Event::Waiting(theirs.as_ref()));
                reported = Some(whose);
            }
            tokio::time::sleep(settings.poll_every).await;
        }
    }

    /// What is being done, for others to read.
    pub fn step(&self, what: &str) {
        what.clone_into(&mut self.state().record.step);
    }

    /// Works as long as the lock is held.
    ///
    /// # Errors
    /// As `work`, or that the lock is lost; then `work` is dropped where it is.
    pub async fn hold<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            lost = self.keep() => Err(lost.into()),
        }
    }

    /// Renews once. True when the lock is still ours.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn renew(&self) -> anyhow::Result<bool> {
        let (mut record, generation) = {
            let state = self.state();
            (state.record.clone(), state.generation.clone())
        };
        record.renewed = (self.settings.now)();
        record.expires = self.settings.time_in(LEASE);
        let generation = match self.store.write(&record, Some(&generation)).await? {
            Written::New(written) => written,
            Written::NoBucket => return Ok(false),
            // Somebody else's, or ours although the answer was lost.
            Written::Refused(_) => match self.store.read().await? {
                Some(Found { generation, record: Some(live) }) if live.id == record.id => generation,
                _ => return Ok(false),
            },
        };
        let mut state = self.state();
        (state.record.renewed, state.record.expires, state.generation) = (record.renewed, record.expires, generation);
        Ok(true)
    }

    /// Releases the lock.
    pub async fn release(self) {
        if let Err(error) = self.delete().await {
            (self.settings.notify)(Event::Kept(&format!("{error:#}")));
        }
    }

    async fn delete(&self) -> anyhow::Result<()> {
        let (id, generation) = {
            let state = self.state();
            (state.record.id.clone(), state.generation.clone())
        };
        if self.store.delete(&generation).await? {
            return Ok(());
        }
        // A renewal whose answer nobody waited for may have replaced it.
        match self.store.read().await? {
            Some(Found { generation, record: Some(live) }) if live.id == id => {
                self.store.delete(&generation).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Renews until the lock is lost.
    async fn keep(&self) -> Failure {
        loop {
            tokio::time::sleep(self.settings.renew_every).await;
            let mut last = String::new();
            match tokio::time::timeout(MARGIN, self.renew()).await {
                Ok(Ok(true)) => continue,
                Ok(Ok(false)) => return self.lost("somebody else has it now, or removed it".to_owned()),
                Ok(Err(error)) => last = format!("{error:#}"),
                Err(_) => last.push_str("Cloud Storage does not answer"),
            }
            if self.settings.time_in(MARGIN) >= self.state().record.expires {
                return self.lost(format!("it could not be renewed: {last}"));
            }
        }
    }

    fn lost(&self, why: String) -> Failure {
        Failure {
            code: "lock-lost",
            what: "the lock on the environment was lost, and nothing more is changed".to_owned(),
            on: self.store.to_string(),
            why,
            next: "see who works on it, then run the same again; it goes on from what is there".to_owned(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(bucket: &str, record: Option<&Record>, now: Timestamp) -> Failure {
    Failure {
        code: "locked",
        what: "somebody else works on the environment".to_owned(),
        on: format!("gs://{bucket}/{OBJECT}"),
        why: Record::describe(record, now),
        next: "run it again when that is done, or wait longer with --lock-wait SECONDS; a lock whose holder died ends \
               by itself after a minute"
            .to_owned(),
    }
}
