//! The plan: a pure function of what should exist and what does.
//!
//! The live cloud is the state, there is no other. A plan is made from two values, shown to a person, and then carried
//! out as it is: every choice is made here, and none later. Three rules keep it safe on a cloud that others use too:
//!
//! - What has our name but not our mark (labels, or the description where there are no labels) is *foreign*. One
//!   foreign resource blocks the whole plan, unless the person adopts it.
//! - Only fields that we set are compared, and only grants that we need. Other people's labels, bindings and settings
//!   are not differences.
//! - What cannot be changed in place is never deleted and made again behind somebody's back: it blocks the plan too. Only
//!   a subscription whose topic was deleted, which nothing reaches any more, is created again, and the plan says so.

use std::collections::{BTreeMap, BTreeSet};

use cloud::queue::DELETED_TOPIC;
use serde::Serialize;
use serde_json::Value;

pub use crate::change::{Action, Change, Difference};
use crate::{
    change::field_differences,
    environment::{Environment, Managed},
    notification,
    observation::{Live, Observation},
    policy, prune,
    resource::{Desired, Grant, Id, Kind, Resource},
    wire::{self, Owner},
};

/// Everything to do, in the order of [`crate::desired::desired`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Environment.
    pub environment: String,
    /// Project.
    pub project: String,
    /// One per resource, those with nothing to do as well.
    pub changes: Vec<Change>,
}

/// What a person allowed beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Take over foreign resources that have our names.
    pub adopt: bool,
    /// Delete what is ours and not in the environment file.
    pub prune: bool,
}

/// Makes the plan.
pub fn plan(environment: &Environment, desired: &[Resource], observed: &Observation, options: Options) -> Plan {
    let mut changes: Vec<Change> =
        desired.iter().map(|resource| change(environment, resource, observed, options)).collect();
    notification::refuse_too_many(&mut changes, &observed.notifications);
    let stale = prune::stale_grants(environment, observed);
    add_stale_grants(&mut changes, &stale, options.prune);
    policy::limits::refuse_too_large(&mut changes, &stale);
    for (id, live) in &observed.extra {
        changes.push(Change::for_extra(id, live, if options.prune { Action::Delete } else { Action::Extra }));
    }
    Plan { environment: environment.name.clone(), project: environment.project.clone(), changes }
}

impl Plan {
    /// The changes that would be made.
    pub fn pending(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.action.is_change())
    }

    /// What stops the plan.
    pub fn blockers(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.action.is_blocker())
    }

    /// Nothing to do, and nothing in the way.
    pub fn is_empty(&self) -> bool {
        self.pending().next().is_none() && self.blockers().next().is_none()
    }
}

fn change(environment: &Environment, resource: &Resource, observed: &Observation, options: Options) -> Change {
    let live = match observed.live.get(&resource.id) {
        // A policy goes with the subscription that is created again.
        Some(_) if resource.id.is_policy() && is_detached(observed, &resource.id.target()) => &Live::Absent,
        live => live.unwrap_or(&Live::Absent),
    };
    let (action, differences) = match (live, &resource.desired) {
        (Live::Denied(_), _) if resource.id.kind == Kind::Bucket => {
            let reason = "you may not read it; bucket names are shared by all of Google Cloud, so it may be somebody \
                          else's: set another `bucket` in the environment file";
            (Action::Blocked { reason: reason.to_owned() }, vec![])
        }
        (Live::Denied(reason), _) if resource.id.kind == Kind::Services => {
            let reason = format!(
                "you may not read it: {reason}; where somebody else manages the services, say `apis = \"off\"` under \
                 `[manage]` in the environment file"
            );
            (Action::Blocked { reason }, vec![])
        }
        (Live::Denied(reason), _) => (Action::Blocked { reason: format!("you may not read it: {reason}") }, vec![]),
        (Live::Unsupported, _) => (Action::Nothing, vec![]),
        // None of them is enabled, or the project does not list them.
        (Live::Absent, Desired::Fields(fields)) if resource.id.kind == Kind::Services => {
            (verified(resource, Action::Update), created(fields))
        }
        (Live::Absent, Desired::Fields(fields)) => (verified(resource, Action::Create), created(fields)),
        (Live::Present(live), Desired::Fields(fields)) => compare(environment, resource, fields, live, options),
        (live, Desired::Grants(desired)) => {
            let policy = match live {
                Live::Present(policy) => policy,
                _ => &Value::Null,
            };
            let differences = grant_differences(&policy::edit(policy, desired));
            match differences.is_empty() {
                true => (Action::Nothing, vec![]),
                false => (verified(resource, Action::Update), differences),
            }
        }
    };
    Change::for_resource(resource, Some(live), action, differences)
}

/// Adds the removal of stale grants to the changes; without `prune` only names those of a policy that is otherwise as
/// it should be.
fn add_stale_grants(changes: &mut [Change], stale: &BTreeMap<Id, BTreeSet<Grant>>, prune: bool) {
    for change in changes {
        let Some(grants) = stale.get(&change.id) else { continue };
        let removal = policy::Edit { add: vec![], remove: grants.iter().cloned().collect() };
        let differences: Vec<Difference> =
            grant_differences(&removal).into_iter().filter(|new| !change.differences.contains(new)).collect();
        let is_nothing = change.action == Action::Nothing;
        if is_nothing && !prune {
            change.action = Action::Extra;
            change.differences = differences;
        } else if prune && (is_nothing || change.action == Action::Update) {
            change.action = Action::Update;
            change.differences.extend(differences);
            change.stale.clone_from(grants);
        }
    }
}

/// Whether it is a subscription whose topic was deleted: it stays without one, even if a topic of that name comes again.
fn is_detached(observed: &Observation, id: &Id) -> bool {
    id.kind == Kind::Subscription
        && matches!(observed.live.get(id), Some(Live::Present(live)) if live["topic"] == DELETED_TOPIC)
}

fn compare(
    environment: &Environment,
    resource: &Resource,
    fields: &Value,
    live: &Value,
    options: Options,
) -> (Action, Vec<Difference>) {
    let id = &resource.id;
    let mut differences = differences(id.kind, fields, live);
    if live["deleted"].as_bool() == Some(true) {
        let deleted = Difference { field: "deleted".to_owned(), live: Some(Value::Bool(true)), desired: None };
        differences.insert(0, deleted);
    }
    let foreign = match wire::owner(id, live, &environment.name) {
        Owner::Other(owner) if resource.managed == Managed::Create => Some(owner),
        _ => None,
    };
    if let Some(owner) = foreign.clone().filter(|_| !options.adopt) {
        return (Action::Foreign { owner }, vec![]);
    }
    if id.kind == Kind::Cluster && resource.managed == Managed::Create {
        match live["status"].as_str() {
            // What is on its way out is made again.
            Some("STOPPING") => return (Action::Create, created(fields)),
            Some("ERROR") => return (Action::Blocked { reason: broken_cluster(environment, live) }, vec![]),
            Some("PROVISIONING") if differences.is_empty() => return (Action::Await, vec![]),
            _ => {}
        }
    }
    if differences.is_empty() {
        return (Action::Nothing, vec![]);
    }
    if id.kind == Kind::Subscription && live["topic"] == DELETED_TOPIC {
        return (verified(resource, Action::Replace), differences);
    }
    let fixed = differences.iter().find(|difference| {
        let inside = |field: &&str| {
            difference.field.strip_prefix(*field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        wire::immutable(id.kind).iter().any(inside)
    });
    if let Some(Difference { field, .. }) = fixed.filter(|_| resource.managed == Managed::Create) {
        let reason = format!(
            "`{field}` can never be changed; give it another name in the environment file, or delete it by hand"
        );
        return (Action::Blocked { reason }, differences);
    }
    let action = if foreign.is_some() { Action::Adopt } else { Action::Update };
    (verified(resource, action), differences)
}

/// Why a cluster that could not be made stands in the way, in Google's words.
fn broken_cluster(environment: &Environment, live: &Value) -> String {
    let conditions = live["conditions"].as_array().into_iter().flatten();
    let mut reasons: Vec<&str> = conditions.filter_map(|condition| condition["message"].as_str()).collect();
    reasons.extend(live["statusMessage"].as_str().filter(|_| reasons.is_empty()));
    format!(
        "it could not be made: {}; put that right, delete it with `gcloud container clusters delete {} --location {}`, \
         and provision again",
        if reasons.is_empty() { "Google does not say why".to_owned() } else { reasons.join("; ") },
        environment.cluster.name,
        environment.cluster_location(),
    )
}

/// What we only verify is never changed.
fn verified(resource: &Resource, action: Action) -> Action {
    if resource.managed == Managed::Create { action } else { Action::Missing }
}

fn created(fields: &Value) -> Vec<Difference> {
    field_differences(fields, &Value::Null)
}

/// The fields of `desired` that a live resource of this kind does not have like that.
pub(crate) fn differences(kind: Kind, desired: &Value, live: &Value) -> Vec<Difference> {
    let mut desired = desired.clone();
    if let Some(fields) = desired.as_object_mut() {
        fields.retain(|field, _| !wire::only_for_creation(kind).contains(&field.as_str()));
    }
    if kind == Kind::Services {
        // Their names have dots.
        let services = desired.as_object().into_iter().flatten().filter(|(name, state)| live[name.as_str()] != **state);
        let difference = |(name, state): (&String, &Value)| Difference {
            field: name.clone(),
            live: live.get(name).cloned(),
            desired: Some(state.clone()),
        };
        return services.map(difference).collect();
    }
    field_differences(&desired, live)
}

pub(crate) fn grant_differences(edit: &policy::Edit) -> Vec<Difference> {
    let field = |grant: &crate::resource::Grant| match &grant.condition {
        Some(condition) => format!("{} if {}", grant.role, condition.title),
        None => grant.role.clone(),
    };
    let member = |grant: &crate::resource::Grant| Some(Value::String(grant.member.clone()));
    let removed =
        edit.remove.iter().map(|grant| Difference { field: field(grant), live: member(grant), desired: None });
    let added = edit.add.iter().map(|grant| Difference { field: field(grant), live: None, desired: member(grant) });
    removed.chain(added).collect()
}

#[cfg(test)]
mod tests;
