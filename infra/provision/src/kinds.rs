//! The kinds of Google resource. A file of this folder holds everything that is known about one kind, and
//! `kinds!` is the one place that names them all: plan, observe, apply, removal and preflight know no kind.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::{
    calls::Methods,
    change::{Action, Change, Difference, field_differences},
    environment::{Business, Environment, Manage, Managed},
    finding::{Finding, Pending},
    google::{Api, Client, Error, Request, escape},
    resource::{Desired, Id, Kind, Resource},
};

mod alert;
mod assigned;
pub(crate) mod bucket;
pub(crate) mod cluster;
pub(crate) mod constraints;
pub(crate) mod crypto_key;
mod dashboard;
mod mark;
mod node_pool;
mod notification;
mod policies;
pub(crate) mod project;
pub(crate) mod registry;
pub(crate) mod role;
pub(crate) mod service_account;
pub(crate) mod services;
pub(crate) mod subscription;
pub(crate) mod topic;

pub(crate) use mark::{Mark, Owner, description, labels};

/// What is known about a kind. Every field is set for every kind, so that the compiler names what a new kind lacks.
pub(crate) struct Rules {
    /// The noun for it in messages; of a policy, the noun for the resource that it is on.
    pub(crate) noun: &'static str,
    /// The name of one resource in messages.
    pub(crate) title: fn(&Id) -> String,
    /// The API that serves it.
    pub(crate) api: Api,
    /// Of a policy: the kind of resource that it is on.
    pub(crate) target: Option<Kind>,
    /// The resource that it is a part of. Both are created and deleted together.
    pub(crate) parent: fn(&Id) -> Option<Id>,
    /// The setting under `[manage]` that says who creates it.
    pub(crate) managed: fn(&Manage) -> Managed,
    /// All of them that an environment should have; policies follow from the table of grants.
    pub(crate) desired: fn(&Environment) -> Vec<Resource>,
    /// True when every other change in the project waits for it.
    pub(crate) is_first: bool,
    /// How a resource shows its owner.
    pub(crate) mark: Mark,
    /// Fields that can never be changed after the creation, including everything inside them.
    pub(crate) immutable: &'static [&'static str],
    /// How to list the resources of this kind in a project.
    pub(crate) list: Option<List>,
    /// Reads it, given the desired fields.
    pub(crate) read: fn(&Id, &Value) -> Request,
    /// The answer to `read` in the shape of the desired fields; nothing when it shows that the resource does not exist.
    pub(crate) view: fn(&Value, Value) -> Option<Value>,
    /// A limit on the number of resources, such as the notifications of a bucket.
    pub(crate) limit: Option<Limit>,
    /// The desired fields whose live values differ.
    pub(crate) differences: fn(&Value, &Value) -> Vec<Difference>,
    /// Whether a live one can be used and changed.
    pub(crate) phase: fn(&Id, &Value) -> Phase,
    /// What stops the plan when reading it is denied; takes the reason. Nothing for what others look after.
    pub(crate) denied: fn(&str) -> Option<Action>,
    /// True when a read of a resource that does not exist may answer that access is denied.
    pub(crate) absent_may_be_denied: bool,
    /// Creates it; nothing for what always exists.
    pub(crate) create: Option<fn(&Creation<'_>) -> Request>,
    /// Whether the live resource shows that a creation succeeded although its answer was lost, so that it is not sent
    /// again; set for kinds where two creations make two resources.
    pub(crate) is_created: Option<fn(&Value, &Value) -> bool>,
    /// Changes the fields of these paths: id, desired fields, live ones, paths.
    pub(crate) update: fn(&Id, &Value, &Value, &[String]) -> Vec<Request>,
    /// A change takes effect some time after its answer, when it can be read.
    pub(crate) is_eventual: bool,
    /// Deletes it, given the live one.
    pub(crate) delete: fn(&Id, &Value) -> Vec<Request>,
    /// Undeletes it. A deleted one can still be read for some time, with `deleted`.
    pub(crate) undelete: Option<fn(&Id) -> Request>,
    /// Path of the operation that an answer to a write started, if that has not ended.
    pub(crate) started_operation: fn(&Id, &Value) -> Option<String>,
    /// How to find its operations; set when it takes only one operation at a time.
    pub(crate) exclusive_operations: Option<Operations>,
    /// The methods that the requests above call: their permissions, passing errors and constraints are in the table
    /// of calls.
    pub(crate) methods: Methods,
    /// Adds to an error what an operator can do about it.
    pub(crate) explain: fn(Error) -> Error,
    /// How the removal of its environment treats it.
    pub(crate) removal: Removal,
    /// The predefined role that has the permissions of its methods.
    pub(crate) role: &'static str,
    /// The lengths that Google takes of the name of one, in characters; nothing where Google or another resource names
    /// it.
    pub(crate) lengths: Option<fn(&Environment) -> RangeInclusive<usize>>,
    /// The permissions on one that exists which the changes to it need; they may be granted on it alone.
    pub(crate) on_itself: Option<fn(&Environment) -> Vec<&'static str>>,
    /// Checks, before anything is written, that only this kind needs: of its quotas, and of what it is made with.
    pub(crate) checks: &'static [Check],
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

/// A limit on the number of resources of a kind.
pub(crate) struct Limit {
    /// The name of what has the limit, and the number of resources that the answer to a read shows.
    pub(crate) count: fn(&Id, &Value) -> (String, usize),
    /// Blocks creations that would exceed the limit, given the live numbers.
    pub(crate) refuse: fn(&mut [Change], &BTreeMap<String, usize>),
}

/// How to find the operations that a resource waits for.
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
    /// What it was attached to is deleted; it can only be created again.
    Detached,
    /// Its creation failed; the text says why and what to do.
    Broken(String),
}

/// How the removal of an environment treats a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is kept, and the plan does not mention it.
    Stays,
    /// It is deleted.
    Deleted,
    /// It is deleted when data is; otherwise it is kept for this reason.
    WithData(&'static str),
    /// It is deleted when identities are; otherwise it is kept for this reason.
    WithIdentities(&'static str),
}

/// Why identities are kept.
pub(crate) const IDENTITY: &str = "existing bindings would not apply to a new one of the same name";

/// Lists the kinds, in the order in which plans show their resources.
macro_rules! kinds {
    ($($kind:ident => $rules:path),* $(,)?) => {
        impl Kind {
            /// Every kind.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// What is known about it.
            pub(crate) fn rules(self) -> &'static Rules {
                match self {
                    $(Self::$kind => &$rules,)*
                }
            }
        }
    };
}

kinds! {
    Services => services::RULES,
    Topic => topic::RULES,
    Subscription => subscription::RULES,
    ServiceAccount => service_account::RULES,
    Cluster => cluster::RULES,
    NodePool => node_pool::RULES,
    Registry => registry::RULES,
    Role => role::RULES,
    Bucket => bucket::RULES,
    Notification => notification::RULES,
    Alert => alert::RULES,
    Dashboard => dashboard::RULES,
    Project => project::RULES,
    CryptoKey => crypto_key::RULES,
    BucketPolicy => policies::BUCKET,
    TopicPolicy => policies::TOPIC,
    SubscriptionPolicy => policies::SUBSCRIPTION,
    ServiceAccountPolicy => policies::SERVICE_ACCOUNT,
    RegistryPolicy => policies::REGISTRY,
    ProjectPolicy => policies::PROJECT,
    CryptoKeyPolicy => policies::CRYPTO_KEY,
}

impl Id {
    /// What is known about its kind.
    pub(crate) fn rules(&self) -> &'static Rules {
        self.kind.rules()
    }

    /// The id of the policy on this resource; of a policy, or of what can have none, itself.
    pub fn policy(&self) -> Self {
        let policy = Kind::ALL.iter().find(|kind| kind.rules().target == Some(self.kind));
        Self { kind: policy.copied().unwrap_or(self.kind), name: self.name.clone() }
    }

    /// The id of the resource that this policy is on; of anything else itself.
    pub fn target(&self) -> Self {
        Self { kind: self.rules().target.unwrap_or(self.kind), name: self.name.clone() }
    }

    /// Whether it is a policy.
    pub fn is_policy(&self) -> bool {
        self.rules().target.is_some()
    }

    /// The resource that it is a part of.
    pub(crate) fn parent(&self) -> Option<Self> {
        (self.rules().parent)(self)
    }

    /// The resource that it is a part of, or itself.
    pub(crate) fn whole(&self) -> Self {
        self.parent().unwrap_or_else(|| self.clone())
    }

    /// Whether a live one is deleted, and can be undeleted.
    pub(crate) fn is_deleted(&self, live: &Value) -> bool {
        self.rules().undelete.is_some() && live["deleted"].as_bool() == Some(true)
    }

    /// The word for it, or for what its policy is on.
    pub fn noun(&self) -> &'static str {
        self.rules().noun
    }

    /// Reads it, where these fields are desired.
    pub fn read(&self, desired: &Value) -> Request {
        (self.rules().read)(self, desired)
    }

    /// What an answer to that read shows, in the shape of the desired fields.
    pub fn view(&self, desired: &Value, answer: Value) -> Option<Value> {
        (self.rules().view)(desired, answer)
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
fn resource(environment: &Environment, id: Id, business: Option<&Business>, fields: Value, after: Vec<Id>) -> Resource {
    let managed = (id.rules().managed)(&environment.manage);
    Resource { id, business: business.map(|one| one.name.clone()), managed, desired: Desired::Fields(fields), after }
}

// What holds for most kinds.

fn named(id: &Id) -> String {
    format!("{} {}", id.noun(), id.short())
}

fn no_parent(_: &Id) -> Option<Id> {
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

fn by_field(desired: &Value, live: &Value) -> Vec<Difference> {
    field_differences(desired, live)
}

fn ready(_: &Id, _: &Value) -> Phase {
    Phase::Ready
}

fn not_readable(reason: &str) -> Option<Action> {
    Some(Action::Blocked { code: "denied", reason: format!("you may not read it: {reason}") })
}

fn update_none(_: &Id, _: &Value, _: &Value, _: &[String]) -> Vec<Request> {
    Vec::new()
}

fn delete_none(_: &Id, _: &Value) -> Vec<Request> {
    Vec::new()
}

fn delete(id: &Id, _: &Value) -> Vec<Request> {
    vec![Request::new(id.rules().api, crate::google::Method::Delete, path(id))]
}

fn no_operation(_: &Id, _: &Value) -> Option<String> {
    None
}

fn unchanged_error(error: Error) -> Error {
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
fn collection(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(parent, _)| parent)
}

/// The top-level fields of these paths, each once.
fn top_level_fields(paths: &[String]) -> Vec<&str> {
    let mut fields: Vec<&str> = paths.iter().filter_map(|path| path.split('.').next()).collect();
    fields.dedup();
    fields
}

/// The changed top-level fields with their desired values, and their names joined by commas. Labels are replaced as a
/// whole, so those of others stay.
fn changed_fields(desired: &Value, live: &Value, changed: &[String]) -> (Map<String, Value>, String) {
    let changed = top_level_fields(changed);
    let value = |field: &str| match field {
        "labels" | "userLabels" => merged(&live[field], &desired[field]),
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
