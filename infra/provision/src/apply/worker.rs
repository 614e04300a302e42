//! Carries out one change, and waits for what takes its time: operations, and what is eventually consistent.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use serde_json::Value;
use tokio::{sync::Semaphore, time::Instant};

use super::{Event, Progress};
use crate::{
    google::{Client, Error, Method, Request},
    notification,
    operation::Operation,
    plan::{self, Action, Change, Plan},
    policy,
    resource::{Desired, Id, Kind},
    wire::{self, Owner},
};

/// Changes in flight at once: fifty businesses are some hundred, and IAM takes ten writes a second on average.
const AT_ONCE: usize = 64;
/// Time within which a new resource becomes visible everywhere.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// How long a service that was just enabled may be refused.
const SERVICE_LIMIT: Duration = Duration::from_secs(600);
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
            (Desired::Fields(_), Action::Create) => self.create(change, &resource.desired).await,
            (Desired::Fields(_), Action::Replace) => {
                self.delete(change).await?;
                self.create(change, &resource.desired).await
            }
            (Desired::Fields(_), Action::Await) => {
                self.rest(id).await?;
                // A killed run made it; what comes with it may be as late as if we had.
                self.remember(id);
                self.read_and_update(id, &resource.desired, false).await
            }
            (Desired::Fields(fields), _) => {
                let live = change.live.clone().unwrap_or_default();
                let mut updated = self.update(id, &resource.desired, fields, &live).await;
                for attempt in 1..self.client.retry().attempts {
                    // Changed since the read: by an earlier try of ours whose answer was lost, or by somebody else.
                    if !updated.as_ref().is_err_and(Error::is_stale) {
                        break;
                    }
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                    updated = self.read_and_update(id, &resource.desired, false).await;
                }
                updated
            }
        }
    }

    async fn delete(&self, change: &Change) -> Result<(), Error> {
        let (id, live) = (&change.id, change.live.clone().unwrap_or_default());
        for request in wire::deletes(id, &live) {
            match self.write(id, &request).await {
                Err(error) if !error.is_not_found() && !self.is_gone(id, &error).await => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn create(&self, change: &Change, desired: &Desired) -> Result<(), Error> {
        let id = &change.id;
        let Desired::Fields(fields) = desired else { return Ok(()) };
        if id.kind == Kind::NodePool && self.was_made(&id.cluster()) {
            // It came with its cluster.
            return self.read_and_update(id, desired, true).await;
        }
        if id.kind == Kind::Cluster && change.live.is_some() {
            // An older one of the same name is on its way out.
            self.rest(id).await?;
        }
        let request = match id.kind {
            Kind::Cluster => {
                let pools = self.plan.pending().filter(|other| other.id != *id && other.id.cluster() == *id);
                let pools: Vec<(&Id, &Value)> = pools
                    .filter_map(|pool| match &pool.resource.as_ref()?.desired {
                        Desired::Fields(fields) => Some((&pool.id, fields)),
                        Desired::Grants(_) => None,
                    })
                    .collect();
                wire::create_cluster(id, fields, &pools)
            }
            _ => wire::create(id, fields, &self.plan.project),
        };
        // What was made a moment ago may not be known everywhere yet: a topic, or a grant of its notifier.
        let lagging = |error: &Error| match id.kind {
            Kind::Subscription => error.is_not_found(),
            Kind::Notification => error.is_not_found() || error.is_forbidden(),
            Kind::Cluster => error.is_unknown_principal(),
            _ => false,
        };
        let make = || async {
            match id.kind {
                Kind::Notification => notification::make(self.client, id, desired, fields).await,
                _ => self.write(id, &request).await,
            }
        };
        match self.patiently(SETTLE_LIMIT, lagging, make).await {
            Ok(_) => {
                self.remember(id);
                Ok(())
            }
            // Made since the read: by an earlier try of ours whose answer was lost, or by somebody else.
            Err(error) if error.is_already_exists() => {
                self.remember(id);
                self.read_and_update(id, desired, true).await.map_err(|other| match other.code {
                    409 => Error { message: other.message, ..error },
                    _ => other,
                })
            }
            Err(error) => Err(buried(id, error)),
        }
    }

    /// Brings what exists to what is wanted, if it is ours. With `patient` it must exist, and may not be seen at once.
    async fn read_and_update(&self, id: &Id, desired: &Desired, patient: bool) -> Result<(), Error> {
        let Desired::Fields(fields) = desired else { return Ok(()) };
        let lagging = |error: &Error| patient && (error.is_not_found() || error.may_not_exist());
        let request = wire::read_as(id, desired);
        let mut live = self.patiently(SETTLE_LIMIT, lagging, || self.client.send(&request)).await?;
        if id.kind == Kind::Cluster && live["status"] == "PROVISIONING" {
            self.rest(id).await?;
            live = self.client.send(&request).await?;
        }
        let live = wire::view(id, desired, live);
        match wire::owner(id, &live, &self.plan.environment) {
            Owner::Ours => self.update(id, desired, fields, &live).await,
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

    async fn update(&self, id: &Id, desired: &Desired, fields: &Value, live: &Value) -> Result<(), Error> {
        let mut live = live.clone();
        if live["deleted"].as_bool() == Some(true) {
            live = self.undelete(id).await?;
        }
        let changed: Vec<String> =
            plan::differences(id.kind, fields, &live).into_iter().map(|difference| difference.field).collect();
        if changed.is_empty() {
            return Ok(());
        }
        for request in wire::updates(id, fields, &live, &changed) {
            // The answer to a creation may be lost, here as there.
            match (id.kind, request.method) {
                (Kind::Notification, Method::Post) => notification::make(self.client, id, desired, fields).await?,
                (_, Method::Delete) => match self.write(id, &request).await {
                    // It went with an earlier try of ours.
                    Err(error) if error.is_not_found() => Value::Null,
                    answer => answer?,
                },
                _ => self.write(id, &request).await?,
            };
        }
        if id.kind == Kind::Services {
            self.remember(id);
            self.enabled(id, desired, fields).await?;
        }
        Ok(())
    }

    /// Undeletes a custom role, and returns it. One that came back already, by an earlier try of
    /// ours whose answer was lost, is refused and is fine.
    async fn undelete(&self, id: &Id) -> Result<Value, Error> {
        let refused = match self.client.send(&wire::undelete(id)).await {
            Err(error) if error.code != 400 => return Err(error),
            answer => answer.err(),
        };
        let live = self.client.send(&wire::read(id)).await?;
        match refused.filter(|_| live["deleted"].as_bool() == Some(true)) {
            Some(error) => Err(buried(id, error)),
            None => Ok(live),
        }
    }

    /// Waits until the project lists the services as enabled.
    async fn enabled(&self, id: &Id, desired: &Desired, fields: &Value) -> Result<(), Error> {
        let deadline = Instant::now() + SERVICE_LIMIT;
        for attempt in 1.. {
            let live = wire::view(id, desired, self.client.send(&wire::read_as(id, desired)).await?);
            if plan::differences(id.kind, fields, &live).is_empty() || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(self.client.retry().pause(attempt)).await;
        }
        Ok(())
    }

    /// Waits until nothing is under way with a cluster.
    async fn rest(&self, id: &Id) -> Result<(), Error> {
        let deadline = Instant::now() + CLUSTER_LIMIT;
        for attempt in 1.. {
            for operation in Operation::under_way(self.client, id).await? {
                self.follow(id, &operation).await?;
            }
            let live = self.client.send_optional(&wire::read(&id.cluster())).await?;
            let status = live.as_ref().and_then(|live| live["status"].as_str());
            if !matches!(status, Some("PROVISIONING" | "STOPPING")) || Instant::now() > deadline {
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
            let error = match self
                .patiently(SERVICE_LIMIT, |error| self.is_new_service(id, error), || self.client.send(request))
                .await
            {
                Ok(answer) => {
                    let ended = match Operation::of(id, &answer) {
                        Some(operation) => self.follow(id, &operation).await,
                        None => Ok(()),
                    };
                    match ended {
                        // Said of an operation, too: its request is sent again.
                        Err(error) if self.is_new_service(id, &error) && Instant::now() < deadline => {
                            tokio::time::sleep(self.client.retry().pause(attempt)).await;
                            continue;
                        }
                        ended => return ended.map(|()| answer),
                    }
                }
                Err(error) => error,
            };
            let is_cluster = matches!(id.kind, Kind::Cluster | Kind::NodePool);
            match error.blocking_operation().filter(|_| is_cluster && Instant::now() < deadline) {
                Some(name) => {
                    // What it does is somebody else's, and so is its failure.
                    if let Err(failed) = self.follow(id, &Operation::named(id, name)).await {
                        tracing::debug!("{failed}; continuing");
                    }
                    tokio::time::sleep(self.client.retry().pause(attempt.min(4))).await;
                }
                None => return Err(error),
            }
        }
    }

    /// Whether what a deletion is refused for is that it was deleted before: by an earlier try of ours whose answer was
    /// lost, or by somebody else. A custom role stays to be seen for a week, and cannot be deleted again.
    async fn is_gone(&self, id: &Id, error: &Error) -> bool {
        if id.kind != Kind::Role || error.code != 400 {
            return false;
        }
        let role = self.client.send(&wire::read(id)).await;
        role.is_ok_and(|role| role["deleted"].as_bool() == Some(true))
    }

    /// An error of a service that this run, or one before it, enabled and that does not know it everywhere yet; or of
    /// others being switched while we want to.
    fn is_new_service(&self, id: &Id, error: &Error) -> bool {
        let services = self.plan.changes.iter().find(|change| change.id.kind == Kind::Services);
        (error.is_service_disabled() && services.is_some())
            || (id.kind == Kind::Services && error.is_service_switching())
    }

    /// Reads, edits and writes a policy until the write holds.
    async fn edit_policy(&self, change: &Change, edit: impl Fn(&Value) -> policy::Edit) -> Result<(), Error> {
        let id = &change.id;
        let fresh = self.was_made(&id.target());
        let lagging = |error: &Error| fresh && (error.is_not_found() || error.may_not_exist());
        let deadline = Instant::now() + SETTLE_LIMIT;
        let mut policy = change.live.clone();
        for attempt in 1.. {
            let current = match policy.take() {
                Some(policy) => policy,
                None => {
                    let read = wire::read(id);
                    let expected = |error: &Error| lagging(error) || self.is_new_service(id, error);
                    self.patiently(SETTLE_LIMIT, expected, || self.client.send(&read)).await?
                }
            };
            let edit = edit(&current);
            if edit.is_empty() {
                return Ok(());
            }
            match self.write(id, &wire::write_policy(id, policy::apply(&current, &edit))).await {
                Ok(_) => return Ok(()),
                Err(error)
                    if (error.is_policy_conflict()
                        || error.is_unknown_principal()
                        || error.is_unknown_role()
                        || (error.is_pool_missing() && self.made_a_cluster())
                        || lagging(&error))
                        && Instant::now() < deadline =>
                {
                    tracing::debug!(attempt, "{error}; reading again");
                    tokio::time::sleep(self.client.retry().pause(attempt)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends again while `expected` says that the error is one of something brand-new, within `limit`.
    async fn patiently<F: Future<Output = Result<Value, Error>>>(
        &self,
        limit: Duration,
        expected: impl Fn(&Error) -> bool,
        send: impl Fn() -> F,
    ) -> Result<Value, Error> {
        let deadline = Instant::now() + limit;
        let mut attempt = 1;
        loop {
            match send().await {
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

    fn made_a_cluster(&self) -> bool {
        self.made.lock().is_ok_and(|made| made.iter().any(|id| id.kind == Kind::Cluster))
    }
}

/// An error with what a person can do about it, when it is that a custom role's id cannot be used.
fn buried(id: &Id, error: Error) -> Error {
    if id.kind != Kind::Role || !error.is_role_buried() {
        return error;
    }
    let message = format!(
        "{}; it was deleted more than a week ago, so it cannot be brought back, and its id is free again only some five \
         weeks after that: until then give the custom roles another `role_prefix` under [security] in the environment \
         file",
        error.message.trim_end_matches('.')
    );
    Error { message, ..error }
}
