//! Carries a plan out: in dependency order, as much at once as that allows, and without choices of its own.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    google::{Client, Error, Request},
    plan::{self, Action, Change, Plan},
    policy,
    resource::{Id, Kind, Wanted},
    wire::{self, Owner},
};

/// Changes in flight at once.
const AT_ONCE: usize = 32;
/// How long to look again for what was just made and is not visible everywhere yet.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);

/// What happens while a plan is made and carried out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// Reading what exists.
    Observing {
        /// Resources that are read.
        resources: usize,
    },
    /// A change began.
    Started {
        /// Resource.
        #[serde(flatten)]
        id: Id,
        /// What is done.
        #[serde(flatten)]
        action: Action,
    },
    /// A change is done.
    Finished {
        /// Resource.
        #[serde(flatten)]
        id: Id,
        /// What was done.
        #[serde(flatten)]
        action: Action,
        /// Milliseconds it took.
        elapsed_ms: u64,
    },
    /// A change failed.
    Failed {
        /// Resource.
        #[serde(flatten)]
        id: Id,
        /// Why.
        error: String,
    },
}

/// Told of every event; must not block.
pub type Progress = Arc<dyn Fn(Event) + Send + Sync>;

/// A change that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Resource.
    #[serde(flatten)]
    pub id: Id,
    /// Why.
    pub error: String,
}

/// What came of carrying out a plan.
#[derive(Debug, Default, Serialize)]
pub struct Applied {
    /// Changes made.
    pub done: usize,
    /// Changes that failed.
    pub failures: Vec<Failure>,
    /// Changes that were not begun because something before them failed.
    pub skipped: Vec<Id>,
}

/// Carries out the pending changes of a plan. After a failure, what does not depend on it is still done.
pub async fn apply(plan: &Plan, client: &Client, progress: &Progress) -> Applied {
    let worker = Worker { plan, client, made: Mutex::default(), slots: Semaphore::new(AT_ONCE) };
    let mut waiting: Vec<&Change> = plan.pending().collect();
    let mut unfinished: BTreeSet<&Id> = waiting.iter().map(|change| &change.id).collect();
    let mut broken: BTreeSet<&Id> = BTreeSet::new();
    let mut running = FuturesUnordered::new();
    let mut applied = Applied::default();
    loop {
        let mut later = Vec::new();
        let skipped_before = applied.skipped.len();
        for change in std::mem::take(&mut waiting) {
            let after = change.resource.iter().flat_map(|resource| &resource.after);
            let (mut ready, mut lost) = (true, false);
            for id in after {
                ready &= !unfinished.contains(id);
                lost |= broken.contains(id);
            }
            if lost {
                unfinished.remove(&change.id);
                broken.insert(&change.id);
                applied.skipped.push(change.id.clone());
            } else if ready {
                running.push(worker.carry_out(change, progress));
            } else {
                later.push(change);
            }
        }
        waiting = later;
        let Some((change, result)) = running.next().await else {
            if waiting.is_empty() {
                return applied;
            }
            // Only what was skipped a moment ago can have lost the rest; a circle would wait for itself.
            if applied.skipped.len() == skipped_before {
                applied.skipped.extend(waiting.iter().map(|change| change.id.clone()));
                return applied;
            }
            continue;
        };
        unfinished.remove(&change.id);
        match result {
            Ok(()) => applied.done += 1,
            Err(error) => {
                broken.insert(&change.id);
                applied.failures.push(Failure { id: change.id.clone(), error });
            }
        }
    }
}

struct Worker<'a> {
    plan: &'a Plan,
    client: &'a Client,
    /// What this run made: only of this is it normal that some part of the cloud does not know it yet.
    made: Mutex<BTreeSet<Id>>,
    slots: Semaphore,
}

impl Worker<'_> {
    async fn carry_out<'c>(&self, change: &'c Change, progress: &Progress) -> (&'c Change, Result<(), String>) {
        let _slot = self.slots.acquire().await;
        let started = Instant::now();
        progress(Event::Started { id: change.id.clone(), action: change.action.clone() });
        let result = self.perform(change).await.map_err(|error| error.to_string());
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        progress(match &result {
            Ok(()) => Event::Finished { id: change.id.clone(), action: change.action.clone(), elapsed_ms },
            Err(error) => Event::Failed { id: change.id.clone(), error: error.clone() },
        });
        (change, result)
    }

    async fn perform(&self, change: &Change) -> Result<(), Error> {
        let id = &change.id;
        if change.action == Action::Delete {
            return self.client.send_optional(&wire::delete(id)).await.map(|_| ());
        }
        let Some(resource) = &change.resource else { return Ok(()) };
        match (&resource.wanted, &change.action) {
            (Wanted::Grants(wanted), _) => self.grant(change, wanted).await,
            (Wanted::Fields(fields), Action::Create) => self.create(id, fields).await,
            (Wanted::Fields(fields), _) => {
                let live = change.live.clone().unwrap_or_default();
                self.update(id, fields, &live).await
            }
        }
    }

    async fn create(&self, id: &Id, fields: &Value) -> Result<(), Error> {
        let request = wire::create(id, fields, &self.plan.project);
        // A subscription may be asked for before its brand-new topic is known everywhere.
        let made = self.patiently(&request, |error| error.is_not_found() && id.kind == Kind::Subscription).await;
        match made {
            Ok(_) => {
                self.remember(id);
                Ok(())
            }
            // Made since we looked: by an earlier try of ours whose answer was lost, or by somebody else.
            Err(error) if error.is_already_exists() => {
                self.remember(id);
                let live =
                    self.patiently(&wire::read(id), |error| error.is_not_found() || error.may_not_exist()).await?;
                match wire::owner(id, &live, &self.plan.environment) {
                    Owner::Ours => self.update(id, fields, &live).await,
                    Owner::Other(owner) => {
                        Err(Error { message: format!("somebody else made it meanwhile: {owner}"), ..error })
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn update(&self, id: &Id, fields: &Value, live: &Value) -> Result<(), Error> {
        let mut live = live.clone();
        if live["deleted"].as_bool() == Some(true) {
            self.client.send(&wire::undelete(id)).await?;
            live = self.client.send(&wire::read(id)).await?;
        }
        let mut changed: Vec<String> = plan::field_differences(fields, &live)
            .iter()
            .filter_map(|difference| difference.field.split('.').next().map(str::to_owned))
            .collect();
        changed.dedup();
        if changed.is_empty() {
            return Ok(());
        }
        self.client.send(&wire::update(id, fields, &live, &changed)).await.map(|_| ())
    }

    /// Reads, edits and writes a policy until the write holds.
    async fn grant(&self, change: &Change, wanted: &BTreeSet<crate::resource::Grant>) -> Result<(), Error> {
        let id = &change.id;
        let fresh = self.was_made(&id.target());
        let lagging = |error: &Error| fresh && (error.is_not_found() || error.may_not_exist());
        let deadline = Instant::now() + SETTLE_LIMIT;
        let mut policy = change.live.clone();
        for attempt in 1.. {
            let current = match policy.take() {
                Some(policy) => policy,
                None => self.patiently(&wire::read(id), lagging).await?,
            };
            let edit = policy::edit(&current, wanted);
            if edit.is_empty() {
                return Ok(());
            }
            match self.client.send(&wire::write_policy(id, policy::apply(&current, &edit))).await {
                Ok(_) => return Ok(()),
                Err(error)
                    if (error.is_policy_conflict()
                        || error.is_unknown_principal()
                        || error.is_unknown_role()
                        || lagging(&error))
                        && Instant::now() < deadline =>
                {
                    tracing::debug!(attempt, "{error}; looking again");
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a request again while `expected` says that its error is one of something brand-new.
    async fn patiently(&self, request: &Request, expected: impl Fn(&Error) -> bool) -> Result<Value, Error> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let mut attempt = 1;
        loop {
            match self.client.send(request).await {
                Err(error) if expected(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn remember(&self, id: &Id) {
        if let Ok(mut made) = self.made.lock() {
            made.insert(id.clone());
        }
    }

    fn was_made(&self, id: &Id) -> bool {
        self.made.lock().is_ok_and(|made| made.contains(id))
    }
}

#[cfg(test)]
mod tests;
