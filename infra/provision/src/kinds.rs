//! The kinds of Google resource. A file of this folder holds everything that is known about one kind, and
//! [`Kind::rules`] is the one place that names them all: plan, observe, apply, removal and preflight know no kind.

use std::{collections::BTreeMap, fmt};

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::{
    change::{Change, Difference, field_differences},
    environment::{Business, Environment, Manage, Managed},
    finding::{Finding, Pending},
    google::{Api, Client, Error, Request, escape},
    resource::{Desired, Id, Kind, Resource},
};

pub(crate) mod bucket;
pub(crate) mod cluster;
mod mark;
mod node_pool;
mod notification;
mod policies;
mod project;
pub(crate) mod registry;
pub(crate) mod role;
pub(crate) mod service_account;
pub(crate) mod services;
pub(crate) mod subscription;
pub(crate) mod topic;

pub(crate) use mark::{Mark, Owner, description, labels};
pub use policies::write_policy;

/// What is known about a kind. Every field is set for every kind, so that the compiler names what a new kind lacks.
pub(crate) struct Rules {
    /// The word for it; of a policy, for what it is on.
    pub(crate) noun: &'static str,
    /// What messages call one.
    pub(crate) title: fn(&Id) -> String,
    /// The API that has it.
    pub(crate) api: Api,
    /// The kind of the policy on it, if it can have one.
    pub(crate) policy: Option<Kind>,
    /// The kind that it is the policy of.
    pub(crate) target: Option<Kind>,
    /// The resource that it is a part of. It is created together with that one, and deleted with it.
    pub(crate) parent: fn(&Id) -> Option<Id>,
    /// The setting that says who makes it.
    pub(crate) managed: fn(&Manage) -> Managed,
    /// All of them that an environment should have; policies follow from the table of grants.
    pub(crate) desired: fn(&Environment) -> Vec<Resource>,
    /// Everything else in the project waits for it.
    pub(crate) is_first: bool,
    /// By what it is known whose it is.
    pub(crate) mark: Mark,
    /// Fields that can never be changed once it exists, with what is inside them.
    pub(crate) immutable: &'static [&'static str],
    /// Fields that only say how to create it and cannot be read back.
    pub(crate) only_for_creation: &'static [&'static str],
    /// How those of a project are listed.
    pub(crate) list: Option<List>,
    /// Reads it, given the desired fields.
    pub(crate) read: fn(&Id, &Value) -> Request,
    /// The answer to `read` in the shape of the desired fields; nothing when it shows that the resource does not exist.
    pub(crate) view: fn(&Value, Value) -> Option<Value>,
    /// What the answer to `read` counts of something limited, and what it is limited in.
    pub(crate) count: fn(&Id, &Value) -> Option<(String, usize)>,
    /// Blocks changes that would exceed that limit.
    pub(crate) refuse: fn(&mut [Change], &BTreeMap<String, usize>),
    /// The desired fields that a live one does not have like that.
    pub(crate) differences: fn(&Value, &Value) -> Vec<Difference>,
    /// Whether a live one can be used and changed.
    pub(crate) phase: fn(&Id, &Value) -> Phase,
    /// What a person reads whose read of it was denied, given the reason.
    pub(crate) denied: fn(&str) -> String,
    /// The answer to a read of one that does not exist may say that access is denied.
    pub(crate) looks_denied: bool,
    /// Creates it; nothing for what always exists.
    pub(crate) create: Option<fn(&Creation<'_>) -> Request>,
    /// Creating it twice creates two.
    pub(crate) doubles: bool,
    /// Changes the fields of these paths: id, desired fields, live ones, paths.
    pub(crate) update: fn(&Id, &Value, &Value, &[String]) -> Vec<Request>,
    /// A change holds only when it can be read, which takes time.
    pub(crate) is_slow: bool,
    /// Deletes it, given the live one.
    pub(crate) delete: fn(&Id, &Value) -> Vec<Request>,
    /// Undeletes it. A deleted one can still be read for some time, with `deleted`.
    pub(crate) undelete: Option<fn(&Id) -> Request>,
    /// Path of the operation that an answer to a write names, if that has not ended.
    pub(crate) operation: fn(&Id, &Value) -> Option<String>,
    /// It takes one operation at a time; how those are found.
    pub(crate) operations: Option<Operations>,
    /// An error of a write that passes by itself, since what it needs was created a moment ago.
    pub(crate) is_too_early: fn(&Error) -> bool,
    /// An error of a write that passes by itself, whatever was created.
    pub(crate) is_passing: fn(&Error) -> bool,
    /// An error with what a person can do about it.
    pub(crate) explain: fn(Error) -> Error,
    /// What becomes of it when its environment is removed.
    pub(crate) removal: Removal,
    /// Permissions on the project that creating, changing and deleting it need.
    pub(crate) permissions: &'static [&'static str],
    /// The predefined role that has them.
    pub(crate) role: &'static str,
    /// Checks the quotas that it counts against.
    pub(crate) quotas: Option<Check>,
}

/// A check before anything is written.
pub(crate) type Check = for<'a> fn(&'a Environment, &'a Client, &'a Pending<'a>) -> BoxFuture<'a, Vec<Finding>>;

/// How the resources of a kind are listed.
pub(crate) struct List {
    /// Lists all of a project.
    pub(crate) request: fn(&Environment) -> Request,
    /// The key of the items.
    pub(crate) key: &'static str,
    /// The name of an item, given the project.
    pub(crate) name: fn(&Value, &str) -> String,
}

/// How the operations are found that a resource waits for.
pub(crate) struct Operations {
    /// Path of all of them.
    pub(crate) path: fn(&Id) -> String,
    /// Whether one of them is about the resource.
    pub(crate) is_about: fn(&Id, &Value) -> bool,
}

/// A resource to create.
pub(crate) struct Creation<'a> {
    /// Its id.
    pub(crate) id: &'a Id,
    /// Its fields.
    pub(crate) fields: &'a Value,
    /// The project it belongs to.
    pub(crate) project: &'a str,
    /// Its parts, which are created by the same request, each with its fields.
    pub(crate) parts: &'a [(&'a Id, &'a Value)],
}

/// Whether a live resource can be used and changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It can.
    Ready,
    /// It is being created.
    Creating,
    /// It is being deleted.
    Deleting,
    /// It could not be created; says why and what to do.
    Broken(String),
}

/// What becomes of a resource when its environment is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It stays, and that is no news.
    Stays,
    /// It is deleted.
    Deleted,
    /// It is deleted when data is; otherwise it is kept for this reason.
    WithData(&'static str),
    /// It is deleted when identities are; otherwise it is kept for this reason.
    WithIdentities(&'static str),
}

/// Why identities are kept.
pub(crate) const IDENTITY: &str = "a new one of the same name would be another one to every binding";

impl Kind {
    /// Every kind, in the order in which plans show their resources.
    pub(crate) const ALL: [Self; 17] = [
        Self::Services,
        Self::Topic,
        Self::Subscription,
        Self::ServiceAccount,
        Self::Cluster,
        Self::NodePool,
        Self::Registry,
        Self::Role,
        Self::Bucket,
        Self::Notification,
        Self::Project,
        Self::BucketPolicy,
        Self::TopicPolicy,
        Self::SubscriptionPolicy,
        Self::ServiceAccountPolicy,
        Self::RegistryPolicy,
        Self::ProjectPolicy,
    ];

    /// What is known about it.
    pub(crate) fn rules(self) -> &'static Rules {
        match self {
            Self::Services => &services::RULES,
            Self::Cluster => &cluster::RULES,
            Self::NodePool => &node_pool::RULES,
            Self::Registry => &registry::RULES,
            Self::Bucket => &bucket::RULES,
            Self::Role => &role::RULES,
            Self::ServiceAccount => &service_account::RULES,
            Self::Topic => &topic::RULES,
            Self::Subscription => &subscription::RULES,
            Self::Notification => &notification::RULES,
            Self::Project => &project::RULES,
            Self::BucketPolicy => &policies::BUCKET,
            Self::TopicPolicy => &policies::TOPIC,
            Self::SubscriptionPolicy => &policies::SUBSCRIPTION,
            Self::ServiceAccountPolicy => &policies::SERVICE_ACCOUNT,
            Self::RegistryPolicy => &policies::REGISTRY,
            Self::ProjectPolicy => &policies::PROJECT,
        }
    }
}

impl Id {
    /// What is known about its kind.
    pub(crate) fn rules(&self) -> &'static Rules {
        self.kind.rules()
    }

    /// The id of the policy on this resource; of a policy, or of what can have none, itself.
    pub fn policy(&self) -> Self {
        Self { kind: self.rules().policy.unwrap_or(self.kind), name: self.name.clone() }
    }

    /// The id of the resource that this policy is on; of anything else itself.
    pub fn target(&self) -> Self {
        Self { kind: self.rules().target.unwrap_or(self.kind), name: self.name.clone() }
    }

    /// Whether it is a policy.
    pub fn is_policy(&self) -> bool {
        self.rules().target.is_some()
    }

    /// The resource that it is a part of, or itself.
    pub(crate) fn whole(&self) -> Self {
        (self.rules().parent)(self).unwrap_or_else(|| self.clone())
    }

    /// The word for it, or for what its policy is on.
    pub fn noun(&self) -> &'static str {
        self.rules().noun
    }

    /// Reads it, where these fields are desired.
    pub fn read(&self, desired: &Value) -> Request {
        (self.rules().read)(self, desired)
    }

    /// Changes the fields `changed`, given as paths, of the live resource to what `desired` says, one request after
    /// another.
    pub fn updates(&self, desired: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
        (self.rules().update)(self, desired, live, changed)
    }

    /// Deletes the live resource.
    pub fn deletes(&self, live: &Value) -> Vec<Request> {
        (self.rules().delete)(self, live)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&(self.rules().title)(self))
    }
}

/// A resource with these fields, for a business or the whole environment.
fn resource(id: Id, business: Option<&Business>, managed: Managed, fields: Value, after: Vec<Id>) -> Resource {
    Resource { id, business: business.map(|one| one.name.clone()), managed, desired: Desired::Fields(fields), after }
}

// What holds for most kinds.

fn named(id: &Id) -> String {
    format!("{} {}", id.noun(), id.short())
}

fn alone(_: &Id) -> Option<Id> {
    None
}

/// How most kinds are listed: by items with a full name.
const fn list(key: &'static str, request: fn(&Environment) -> Request) -> Option<List> {
    Some(List { request, key, name: |item, _| item["name"].as_str().unwrap_or_default().to_owned() })
}

fn none_desired(_: &Environment) -> Vec<Resource> {
    Vec::new()
}

fn get(id: &Id, _: &Value) -> Request {
    Request::get(id.rules().api, path(id))
}

fn as_read(_: &Value, answer: Value) -> Option<Value> {
    Some(answer)
}

fn unlimited(_: &Id, _: &Value) -> Option<(String, usize)> {
    None
}

fn refuse_none(_: &mut [Change], _: &BTreeMap<String, usize>) {}

fn by_field(desired: &Value, live: &Value) -> Vec<Difference> {
    field_differences(desired, live)
}

fn ready(_: &Id, _: &Value) -> Phase {
    Phase::Ready
}

fn not_readable(reason: &str) -> String {
    format!("you may not read it: {reason}")
}

fn delete(id: &Id, _: &Value) -> Vec<Request> {
    vec![Request::new(id.rules().api, crate::google::Method::Delete, path(id))]
}

fn at_once(_: &Id, _: &Value) -> Option<String> {
    None
}

fn never(_: &Error) -> bool {
    false
}

fn as_said(error: Error) -> Error {
    error
}

/// `v1/` and the name.
fn path(id: &Id) -> String {
    format!("v1/{}", escaped(&id.name))
}

fn escaped(name: &str) -> String {
    name.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// A path without its last part.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(parent, _)| parent)
}

/// The top-level fields of these paths, each once.
fn top(paths: &[String]) -> Vec<&str> {
    let mut fields: Vec<&str> = paths.iter().filter_map(|path| path.split('.').next()).collect();
    fields.dedup();
    fields
}

/// The changed top-level fields with their desired values, and their names joined by commas. Labels are replaced as a
/// whole, so those of others stay.
fn changed_fields(desired: &Value, live: &Value, changed: &[String]) -> (Map<String, Value>, String) {
    let changed = top(changed);
    let value = |field: &str| match field {
        "labels" => merged(&live["labels"], &desired["labels"]),
        _ => desired[field].clone(),
    };
    let body = changed.iter().map(|field| ((*field).to_owned(), value(field))).collect();
    (body, changed.join(","))
}

/// A map that is replaced as a whole, with the entries of others kept.
fn merged(live: &Value, desired: &Value) -> Value {
    let mut merged: Map<String, Value> = live.as_object().cloned().unwrap_or_default();
    merged.extend(desired.as_object().cloned().unwrap_or_default());
    Value::Object(merged)
}

#[cfg(test)]
mod tests;
