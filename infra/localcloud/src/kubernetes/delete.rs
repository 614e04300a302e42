//! Deleting objects: grace periods, finalizers, preconditions and what becomes of dependents.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    failure::{Answer, Failure},
    kinds::{self, Kind},
    objects::is_finished,
    request::{Query, Target},
    select::Selector,
    store::{Key, Transaction},
    value::{self, number, text},
};

/// Finalizer of an object whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Deleted afterwards.
    Background,
    /// Deleted before.
    Foreground,
    /// Kept.
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seconds that pods get to end; their own when absent.
    pub grace: Option<i64>,
    /// What becomes of dependents; the kind's default when absent.
    pub propagation: Option<Propagation>,
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only the object at this version.
    pub version: Option<String>,
    /// Do all but write.
    pub dry_run: bool,
}

/// What a deletion came to.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object, as it is or last was.
    pub object: Arc<Value>,
    /// Whether it is gone already.
    pub gone: bool,
}

impl Options {
    /// Reads a `DeleteOptions` body and the query.
    ///
    /// # Errors
    /// 400 for values that make no sense.
    pub fn parse(body: &Value, query: &Query) -> Answer<Self> {
        let policy = match text(body, "/propagationPolicy") {
            "" => query.text("propagationPolicy"),
            policy => policy,
        };
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let propagation = match (policy, orphan) {
            ("", None) => None,
            ("", Some(true)) | ("Orphan", _) => Some(Propagation::Orphan),
            ("Background", _) | ("", Some(false)) => Some(Propagation::Background),
            ("Foreground", _) => Some(Propagation::Foreground),
            (other, _) => {
                return Err(Failure::bad_request(format!("invalid propagationPolicy: {other:?}")));
            }
        };
        let dry = |given: &str| match given {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(Failure::bad_request(format!("invalid dryRun: {other:?}"))),
        };
        let in_body = value::items(body, "/dryRun").first().and_then(Value::as_str).unwrap_or_default();
        Ok(Self {
            grace: number(body, "/gracePeriodSeconds").or(query.number("gracePeriodSeconds")?),
            propagation,
            uid: body.pointer("/preconditions/uid").and_then(Value::as_str).map(str::to_owned),
            version: body.pointer("/preconditions/resourceVersion").and_then(Value::as_str).map(str::to_owned),
            dry_run: dry(in_body)? || dry(query.text("dryRun"))?,
        })
    }
}

impl Cluster {
    /// Deletes one object, or begins to.
    ///
    /// # Errors
    /// 404 when there is none, 409 when a precondition does not hold.
    pub fn delete(&self, key: &Key, options: &Options) -> Answer<Deleted> {
        let now = self.clock.now();
        self.store.write(|transaction| delete(transaction, key, options, now))
    }

    /// Deletes every selected object of a collection.
    ///
    /// # Errors
    /// As [`Cluster::delete`], but that objects that went meanwhile are no error.
    pub fn delete_collection(
        &self,
        target: &Target,
        selector: &Selector,
        options: &Options,
    ) -> Answer<Vec<Arc<Value>>> {
        let page = self.store.page(target.kind, target.scope(), None, 0, |object| selector.takes(target.kind, object));
        for object in &page.items {
            match self.delete(&Key::of(target.kind, object), options) {
                Err(failure) if failure.code != 404 => return Err(failure),
                _ => {}
            }
        }
        Ok(page.items)
    }

    /// Says that nothing of a pod runs any more, so that its object can go.
    pub fn finish_pod(&self, key: &Key, uid: &str) {
        self.store.write(|transaction| {
            let Some(pod) = transaction.at(key).filter(|pod| value::uid(pod) == uid) else { return };
            let mut pod = (*pod).clone();
            value::set(&mut pod, &["metadata", "deletionGracePeriodSeconds"], 0);
            settle(transaction, key, pod);
        });
    }
}

/// Deletes one object inside a transaction.
///
/// # Errors
/// 404 when there is none, 409 when a precondition does not hold.
pub fn delete(transaction: &mut Transaction<'_>, key: &Key, options: &Options, now: Timestamp) -> Answer<Deleted> {
    let kind = key.kind;
    let old = transaction.at(key).ok_or_else(|| Failure::not_found(kind, &key.name))?;
    for (what, desired, have) in [
        ("UID", &options.uid, value::uid(&old)),
        ("ResourceVersion", &options.version, text(&old, "/metadata/resourceVersion")),
    ] {
        if let Some(desired) = desired.as_deref().filter(|desired| *desired != have) {
            let why = format!("Precondition failed: {what} in precondition: {desired}, {what} in object meta: {have}");
            return Err(Failure::conflict(kind, &key.name, &why));
        }
    }
    if options.dry_run {
        return Ok(Deleted { object: old, gone: true });
    }
    match options.propagation.unwrap_or_else(|| default_propagation(kind)) {
        Propagation::Background => {}
        Propagation::Orphan => orphan(transaction, value::uid(&old)),
        Propagation::Foreground => {
            let held = transaction.edit(key, |object| {
                let fresh = !value::has_finalizer(object, FOREGROUND);
                if fresh {
                    value::list_at(object, &["metadata", "finalizers"]).push(FOREGROUND.into());
                }
                fresh
            });
            drop(held);
        }
    }
    let mut object = transaction.at(key).map_or_else(Value::default, |object| (*object).clone());
    let grace = if kind == &kinds::POD { pod_grace(&object, options.grace) } else { 0 };
    if value::is_deleting(&object) {
        let sooner = number(&object, "/metadata/deletionGracePeriodSeconds").is_some_and(|left| grace < left);
        if kind == &kinds::POD && options.grace.is_some() && sooner {
            value::set(&mut object, &["metadata", "deletionGracePeriodSeconds"], grace);
        }
    } else {
        let at = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
        value::set(&mut object, &["metadata", "deletionTimestamp"], value::seconds(at));
        value::set(&mut object, &["metadata", "deletionGracePeriodSeconds"], grace);
        if let Some(generation) = number(&object, "/metadata/generation") {
            value::set(&mut object, &["metadata", "generation"], generation + 1);
        }
        if kind == &kinds::NAMESPACE {
            value::set(&mut object, &["status", "phase"], "Terminating");
        }
    }
    Ok(settle(transaction, key, object))
}

/// The default of `propagationPolicy`: a Job deleted through batch/v1 without one keeps its pods.
pub fn default_propagation(kind: &Kind) -> Propagation {
    if kind == &kinds::JOB { Propagation::Orphan } else { Propagation::Background }
}

/// Writes an object that is being deleted, or removes it when nothing holds it.
fn settle(transaction: &mut Transaction<'_>, key: &Key, object: Value) -> Deleted {
    if !is_finished(key.kind, &object) {
        return Deleted { object: transaction.put(key.kind, object), gone: false };
    }
    match transaction.remove(key) {
        Some(object) => Deleted { object, gone: true },
        None => Deleted { object: Arc::new(object), gone: true },
    }
}

/// Seconds a pod gets: none when nothing of it can be running.
fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let idle = text(pod, "/spec/nodeName").is_empty() || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if idle {
        return 0;
    }
    asked.or_else(|| number(pod, "/spec/terminationGracePeriodSeconds")).unwrap_or(30).max(0)
}

fn orphan(transaction: &mut Transaction<'_>, uid: &str) {
    for key in transaction.dependents(uid) {
        transaction.edit(&key, |object| {
            let owners = value::list_at(object, &["metadata", "ownerReferences"]);
            owners.retain(|owner| text(owner, "/uid") != uid);
            if owners.is_empty() {
                value::unset(object, &["metadata", "ownerReferences"]);
            }
            true
        });
    }
}

/// The `Status` that answers a deletion that is done.
pub fn success(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({"name": value::name(object), "kind": kind.plural, "uid": value::uid(object)});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
