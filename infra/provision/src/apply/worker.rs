//! Carries out one change, and waits for what takes its time: operations, and what is eventually consistent.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use serde_json::Value;
use tokio::{sync::Semaphore, time::Instant};

use super::{Event, Progress};
use crate::{
    calls,
    google::{Client, Error, Method, Request},
    kinds::{Creation, Owner, Phase},
    operation::Operation,
    plan::{Action, Change, Plan},
    policy,
    resource::{Desired, Id},
};

/// Changes in flight at once: fifty businesses are some hundred, and IAM takes ten writes a second on average.
const AT_ONCE: usize = 64;
/// How long others may be at work on a cluster before it is our turn.
const CLUSTER_LIMIT: Duration = Duration::from_secs(3600);

pub(super) struct Worker<'a> {
    plan: &'a Plan,
    client: &'a Client,
    progress: &'a Progress,
    /// What this run made or changed: only of this is it normal that some part of the cloud does not know it yet.
    made: Mutex<BTreeSet<Id>>,
    slots: Semaphore,
}

impl<'a> Worker<'a> {
    pub(super) fn new(plan: &'a Plan, client: &'a Client, progress: &'a Progress) -> Self {
        Self { plan, client, progress, made: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }

    pub(super) async fn carry_out<'c>(&self, change: &'c Change) -> (&'c Change, Result<(), String>) {
        let _slot = self.slots.acquire().await;
        let started = Instant::now();
        (self.progress)(Event::Started { id: change.id.clone(), action: change.action.clone() });
        let result = self.perform(change).await.map_err(|error| error.to_string());
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        (self.progress)(match &result {
            Ok(()) => Event::Finished { id: change.id.clone(), action: change.action.clone(), elapsed_ms },
            Err(error) => Event::Failed { id: change.id.clone(), error: error.clone() },
        });
        (change, result)
    }

    async fn perform(&self, change: &Change) -> Result<(), Error> {
        let id = &change.id;
        if change.action == Action::Delete {
            return self.delete(change).await;
        }
        let Some(resource) = &change.resource else { return Ok(()) };
        match (&resource.desired, &change.action) {
            (Desired::Grants(grants), Action::Revoke) => {
                self.edit_policy(change, |policy| policy::removal(policy, grants)).await
            }
            (Desired::Grants(grants), _) => {
                let edit = |policy: &Value| {
                    let mut edit = policy::edit(policy, grants);
                    edit.remove.extend(policy::removal(policy, &change.stale).remove);
                    edit
                };
                self.edit_policy(change, edit).await
            }
            (Desired::Fields(fields), Action::Create) => self.create(change, fields).await,
            (Desired::Fields(fields), Action::Replace) => {
                self.delete(change).await?;
                self.create(change, fields).await
            }
            (Desired::Fields(fields), Action::Await) => {
                self.await_operations(id).await?;
                // A killed run made it; what comes with it may be as late as if we had.
                self.remember(id);
                self.read_and_update(id, fields, false).await
            }
            (Desired::Fields(fields), _) => {
                let live = change.live.clone().unwrap_or_default();
                let mut updated = self.update(id, fields, &live).await;
                for attempt in 1..self.client.retry().attempts {
                    // Changed since the read: by an earlier try of ours whose answer was lost, or by somebody else.
                    if !updated.as_ref().is_err_and(Error::is_stale) {
                        break;
                    }
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                    updated = self.read_and_update(id, fields, false).await;
                }
                updated
            }
        }
    }

    async fn delete(&self, change: &Change) -> Result<(), Error> {
        let (id, live) = (&change.id, change.live.clone().unwrap_or_default());
        for request in id.deletes(&live) {
            match self.write(id, &request).await {
                Err(error) if !error.is_not_found() && !self.is_gone(id, &error).await => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn create(&self, change: &Change, fields: &Value) -> Result<(), Error> {
        let id = &change.id;
        let rules = id.rules();
        if id.parent().is_some_and(|whole| self.was_made(&whole)) {
            // It was created together with that.
            return self.read_and_update(id, fields, true).await;
        }
        if change.live.is_some() {
            // An older one of the same name is being deleted.
            self.await_operations(id).await?;
        }
        let parts = self.plan.pending().filter(|other| other.id.parent().as_ref() == Some(id));
        let parts: Vec<(&Id, &Value)> = parts
            .filter_map(|part| match &part.resource.as_ref()?.desired {
                Desired::Fields(fields) => Some((&part.id, fields)),
                Desired::Grants(_) => None,
            })
            .collect();
        let Some(create) = rules.create else { return Ok(()) };
        let request = create(&Creation { id, fields, project: &self.plan.project, parts: &parts });
        let not_yet = |error: &Error| calls::not_yet(rules.methods.create, error.answer());
        match self.patiently(not_yet, || self.post(id, fields, &request)).await {
            Ok(_) => {
                self.remember(id);
                Ok(())
            }
            // Made since the read: by an earlier try of ours whose answer was lost, or by somebody else.
            Err(error) if error.is_already_exists() => {
                self.remember(id);
                self.read_and_update(id, fields, true).await.map_err(|other| match other.code {
                    409 => Error { message: other.message, ..error },
                    _ => other,
                })
            }
            Err(error) => Err((rules.explain)(error)),
        }
    }

    /// Sends a creation. If a second one would make a second resource, checks first whether only the answer was lost.
    async fn post(&self, id: &Id, fields: &Value, request: &Request) -> Result<Value, Error> {
        let rules = id.rules();
        let Some(is_created) = rules.is_created else { return self.write(id, request).await };
        let once = self.client.once();
        let mut attempt = 1;
        loop {
            match once.send(request).await {
                Err(error) if error.is_transient() && attempt < self.client.retry().attempts => {
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                    attempt += 1;
                }
                answer => return answer,
            }
            let live = (rules.view)(fields, self.client.read(&id.read(fields)).await?);
            if let Some(live) = live.filter(|live| is_created(fields, live)) {
                return Ok(live);
            }
        }
    }

    /// Changes a resource to the desired fields, if it is ours. With `patient`, reads may not show it yet.
    async fn read_and_update(&self, id: &Id, fields: &Value, patient: bool) -> Result<(), Error> {
        let rules = id.rules();
        let lagging = |error: &Error| unseen(error).filter(|_| patient);
        let request = id.read(fields);
        let mut live = self.patiently(lagging, || self.client.read(&request)).await?;
        if (rules.phase)(id, &live) == Phase::Creating {
            self.await_operations(id).await?;
            live = self.client.send(&request).await?;
        }
        let live = (rules.view)(fields, live).unwrap_or_default();
        match rules.mark.owner(&live, &self.plan.environment) {
            Owner::Ours => self.update(id, fields, &live).await,
            Owner::Other(owner) => Err(Error {
                request: request.to_string(),
                code: 409,
                status: None,
                reason: None,
                message: format!("somebody else made it meanwhile: {owner}"),
                retry_after_secs: None,
            }),
        }
    }

    async fn update(&self, id: &Id, fields: &Value, live: &Value) -> Result<(), Error> {
        let rules = id.rules();
        let mut live = live.clone();
        if let Some(undelete) = rules.undelete.filter(|_| id.is_deleted(&live)) {
            live = self.undelete(id, &undelete(id)).await?;
        }
        let changed: Vec<String> =
            (rules.differences)(fields, &live).into_iter().map(|difference| difference.field).collect();
        if changed.is_empty() {
            return Ok(());
        }
        for request in id.updates(fields, &live, &changed) {
            match request.method {
                // The answer to a creation may be lost, here as there.
                Method::Post => self.post(id, fields, &request).await?,
                Method::Delete => match self.write(id, &request).await {
                    // It went with an earlier try of ours.
                    Err(error) if error.is_not_found() => Value::Null,
                    answer => answer?,
                },
                Method::Get | Method::Put | Method::Patch => self.write(id, &request).await?,
            };
        }
        if rules.is_eventual {
            self.remember(id);
            self.await_change(id, fields).await?;
        }
        Ok(())
    }

    /// Undeletes a resource, and returns it. An earlier attempt, whose answer was lost, may have undeleted it: then the
    /// request is refused, and that is no error.
    async fn undelete(&self, id: &Id, undelete: &Request) -> Result<Value, Error> {
        let refused = match self.client.send(undelete).await {
            Err(error) if error.code != 400 => return Err(error),
            answer => answer.err(),
        };
        let live = self.client.send(&id.read(&Value::Null)).await?;
        match refused.filter(|_| id.is_deleted(&live)) {
            Some(error) => Err((id.rules().explain)(error)),
            None => Ok(live),
        }
    }

    /// Waits until a change can be read.
    async fn await_change(&self, id: &Id, fields: &Value) -> Result<(), Error> {
        let deadline = Instant::now() + calls::lasts("service-disabled");
        for attempt in 1.. {
            let rules = id.rules();
            let live = (rules.view)(fields, self.client.send(&id.read(fields)).await?).unwrap_or_default();
            if (rules.differences)(fields, &live).is_empty() || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(self.client.retry().pause(attempt)).await;
        }
        Ok(())
    }

    /// Waits until no operation is under way that a resource, or what it is a part of, waits for.
    async fn await_operations(&self, id: &Id) -> Result<(), Error> {
        let Some(operations) = &id.rules().exclusive_operations else { return Ok(()) };
        let deadline = Instant::now() + CLUSTER_LIMIT;
        let whole = id.whole();
        for attempt in 1.. {
            for operation in Operation::under_way(self.client, id, operations).await? {
                self.follow(id, &operation).await?;
            }
            let live = self.client.send_optional(&whole.read(&Value::Null)).await?.unwrap_or_default();
            let is_busy = matches!((whole.rules().phase)(&whole, &live), Phase::Creating | Phase::Deleting);
            if !is_busy || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(self.client.retry().pause(attempt)).await;
        }
        Ok(())
    }

    async fn follow(&self, id: &Id, operation: &Operation) -> Result<(), Error> {
        let report = |advance: crate::operation::Advance| {
            (self.progress)(Event::Advanced { id: id.clone(), what: advance.what, percent: advance.percent });
        };
        operation.wait(self.client, report).await
    }

    /// Sends a write and waits for the operation that it begins. Where another one has to end first, waits for that.
    async fn write(&self, id: &Id, request: &Request) -> Result<Value, Error> {
        let deadline = Instant::now() + CLUSTER_LIMIT;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.patiently(|error| self.is_new_service(id, error), || self.client.send(request)).await
            {
                Ok(answer) => {
                    let ended = match Operation::of(id, &answer) {
                        Some(operation) => self.follow(id, &operation).await,
                        None => Ok(()),
                    };
                    match ended {
                        // An operation can end with such an error too: its request is sent again.
                        Err(error) if self.is_new_service(id, &error).is_some() && Instant::now() < deadline => {
                            tokio::time::sleep(self.client.retry().pause(attempt)).await;
                            continue;
                        }
                        ended => return ended.map(|()| answer),
                    }
                }
                Err(error) => error,
            };
            match self.blocking(id, &error).filter(|_| Instant::now() < deadline) {
                Some(operation) => {
                    // Somebody else started it, so its failure is not ours.
                    if let Err(failed) = self.follow(id, &operation).await {
                        tracing::debug!("{failed}; continuing");
                    }
                    tokio::time::sleep(self.client.retry().pause(attempt.min(4))).await;
                }
                None => return Err(error),
            }
        }
    }

    /// The operation that has to end first, when an error names it.
    fn blocking(&self, id: &Id, error: &Error) -> Option<Operation> {
        let operations = id.rules().exclusive_operations.as_ref()?;
        Some(Operation::named(id, operations, error.blocking_operation()?))
    }

    /// Whether a deletion is refused since the resource was deleted before: by an earlier attempt whose answer was
    /// lost, or by somebody else. A resource that can be undeleted can still be read, and cannot be deleted again.
    async fn is_gone(&self, id: &Id, error: &Error) -> bool {
        if id.rules().undelete.is_none() || error.code != 400 {
            return false;
        }
        let live = self.client.send(&id.read(&Value::Null)).await;
        live.is_ok_and(|live| id.is_deleted(&live))
    }

    /// How long to wait out an error of a service that this run, or one before it, enabled and that does not know it
    /// everywhere yet; of others being switched while we want to; or of a key that this run granted.
    fn is_new_service(&self, id: &Id, error: &Error) -> Option<Duration> {
        let enables = self.plan.changes.iter().any(|change| change.id.rules().is_first);
        match error {
            error if error.is_service_disabled() && enables => Some(calls::lasts("service-disabled")),
            error if error.is_key_denied() && self.granted_before(id) => Some(calls::lasts("key-denied")),
            error => calls::passing(id.rules().methods.update, error.answer()),
        }
    }

    /// Whether this run granted something that this resource waits for.
    fn granted_before(&self, id: &Id) -> bool {
        let change = self.plan.changes.iter().find(|change| change.id == *id);
        let mut after = change.and_then(|change| change.resource.as_ref()).into_iter().flat_map(|one| &one.after);
        after.any(|before| before.is_policy() && self.was_made(before))
    }

    /// Reads, edits and writes a policy until the write holds.
    async fn edit_policy(&self, change: &Change, edit: impl Fn(&Value) -> policy::Edit) -> Result<(), Error> {
        let id = &change.id;
        let fresh = self.was_made(&id.target());
        let lagging = |error: &Error| unseen(error).filter(|_| fresh);
        let after = change.resource.iter().flat_map(|resource| &resource.after);
        let mut after = after.filter(|before| **before != id.target() && !before.rules().is_first);
        let is_new = after.any(|before| self.was_made(before));
        // The pool of Kubernetes accounts comes with a cluster of this run, or never.
        let not_yet = |error: &Error| match error {
            error if error.is_policy_conflict() => Some(calls::lasts("unseen")),
            error if error.is_pool_missing() && !is_new => None,
            error => calls::not_yet(id.rules().methods.update, error.answer()),
        };
        let started = Instant::now();
        let mut policy = change.live.clone();
        for attempt in 1.. {
            let current = match policy.take() {
                Some(policy) => policy,
                None => {
                    let read = id.read(&Value::Null);
                    let expected = |error: &Error| lagging(error).or_else(|| self.is_new_service(id, error));
                    self.patiently(expected, || self.client.send(&read)).await?
                }
            };
            let edit = edit(&current);
            if edit.is_empty() {
                return Ok(());
            }
            let mut written = Ok(Value::Null);
            for request in id.updates(&policy::apply(&current, &edit), &current, &[]) {
                written = self.write(id, &request).await;
            }
            match written {
                Ok(_) => {
                    self.remember(id);
                    return Ok(());
                }
                // Others look after it and may have granted it elsewhere; what needs it reports that it is missing.
                Err(error) if error.is_forbidden() && (id.rules().denied)("").is_none() => return Ok(()),
                Err(error)
                    if not_yet(&error).or_else(|| lagging(&error)).is_some_and(|limit| started.elapsed() < limit) =>
                {
                    tracing::debug!(attempt, "{error}; reading again");
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                }
                Err(error) => return Err((id.rules().explain)(error)),
            }
        }
        Ok(())
    }

    /// Sends again as long as `expected` gives the error, which is one of something brand-new.
    async fn patiently<F: Future<Output = Result<Value, Error>>>(
        &self,
        expected: impl Fn(&Error) -> Option<Duration>,
        send: impl Fn() -> F,
    ) -> Result<Value, Error> {
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            match send().await {
                Err(error) if expected(&error).is_some_and(|limit| started.elapsed() < limit) => {
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

/// How long a resource that was just made may be unseen.
fn unseen(error: &Error) -> Option<Duration> {
    let name = if error.is_not_found() { "unseen" } else { "hidden" };
    calls::is(name, error.answer()).then(|| calls::lasts(name))
}
