//! The plan: a pure function of what should exist and what does.
//!
//! The live cloud is the state, there is no other. A plan is made from two values, shown to a person, and then carried
//! out as it is: every choice is made here, and none later. Three rules keep it safe on a cloud that others use too:
//!
//! - What has our name but not our mark (labels, or the description where there are no labels) is *foreign*. One
//!   foreign resource blocks the whole plan, unless the person adopts it.
//! - Only fields that we set are compared, and only grants that we need. Other people's labels, bindings and settings
//!   are not differences.
//! - A resource that cannot be changed in place is never deleted and created again unseen: it blocks the plan too.
//!   Only a subscription whose topic was deleted, which nothing reaches any more, is created again, as the plan shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

pub use crate::change::{Action, Change, Difference};
use crate::{
    change::field_differences,
    environment::{Environment, Managed},
    kinds::{Owner, Phase},
    observation::{Live, Observation},
    policy, prune,
    resource::{Desired, Grant, Id, Kind, Resource},
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
    refuse_shared_identities(environment, &mut changes, &observed.others);
    for limit in Kind::ALL.iter().filter_map(|kind| kind.rules().limit.as_ref()) {
        (limit.refuse)(&mut changes, &observed.counts);
    }
    let stale = prune::stale_grants(environment, observed);
    add_stale_grants(&mut changes, &stale, options.prune);
    policy::limits::refuse_too_large(&mut changes, &stale);
    for (id, live) in &observed.extra {
        let is_ours = (id.rules().managed)(&environment.manage) == Managed::Create;
        let action = if options.prune && is_ours { Action::Delete } else { Action::Extra };
        changes.push(Change::for_extra(id, live, action));
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
        Some(Live::Present(_)) if goes(observed, &resource.id) => &Live::Absent,
        live => live.unwrap_or(&Live::Absent),
    };
    let rules = resource.id.rules();
    let (action, differences) = match (live, &resource.desired) {
        (Live::Denied(reason), _) => ((rules.denied)(reason).unwrap_or(Action::Nothing), vec![]),
        (Live::Unsupported, _) => (Action::Nothing, vec![]),
        (Live::Absent, Desired::Fields(fields)) => {
            // What always exists is only changed.
            let action = if rules.create.is_some() { Action::Create } else { Action::Update };
            (verified(resource, action), created(fields))
        }
        (Live::Present(live), Desired::Fields(fields)) => compare(environment, resource, fields, live, options),
        (live, Desired::Grants(desired)) => {
            let policy = match live {
                Live::Present(policy) => policy,
                _ => &Value::Null,
            };
            let differences = grant_differences(&policy::edit(policy, desired));
            // What others look after, they may have granted elsewhere.
            let is_theirs = resource.managed != Managed::Create && (rules.denied)("").is_none();
            match differences.is_empty() || is_theirs {
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

/// Whether a resource goes with what it is on, or is a part of: that is absent by now, being deleted, or can only be
/// created again.
fn goes(observed: &Observation, id: &Id) -> bool {
    let target = Some(id.target()).filter(|target| target != id);
    target.into_iter().chain(id.parent()).any(|whole| match observed.live.get(&whole) {
        Some(Live::Absent) => true,
        Some(Live::Present(live)) => {
            matches!((whole.rules().phase)(&whole, live), Phase::Deleting | Phase::Detached)
        }
        Some(Live::Denied(_) | Live::Unsupported) | None => false,
    })
}

fn compare(
    environment: &Environment,
    resource: &Resource,
    fields: &Value,
    live: &Value,
    options: Options,
) -> (Action, Vec<Difference>) {
    let id = &resource.id;
    let rules = id.rules();
    let mut differences = (rules.differences)(fields, live);
    if id.is_deleted(live) {
        let deleted = Difference { field: "deleted".to_owned(), live: Some(Value::Bool(true)), desired: None };
        differences.insert(0, deleted);
    }
    let foreign = match rules.mark.owner(live, &environment.name) {
        Owner::Other(owner) if resource.managed == Managed::Create => Some(owner),
        _ => None,
    };
    if let Some(owner) = foreign.clone().filter(|_| !options.adopt) {
        return (Action::Foreign { owner }, vec![]);
    }
    let phase = (rules.phase)(id, live);
    if phase == Phase::Deleting {
        return (verified(resource, Action::Create), created(fields));
    }
    if resource.managed == Managed::Create {
        match &phase {
            Phase::Broken(reason) => {
                let reason = reason.clone();
                return (Action::Blocked { code: "creation-failed", reason }, vec![]);
            }
            Phase::Creating if differences.is_empty() => return (Action::Await, vec![]),
            Phase::Creating | Phase::Deleting | Phase::Detached | Phase::Ready => {}
        }
    }
    if differences.is_empty() {
        return (Action::Nothing, vec![]);
    }
    if phase == Phase::Detached {
        return (verified(resource, Action::Replace), differences);
    }
    let fixed = differences.iter().find(|difference| {
        let inside = |field: &&str| {
            difference.field.strip_prefix(*field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        rules.immutable.iter().any(inside)
    });
    if let Some(Difference { field, .. }) = fixed.filter(|_| resource.managed == Managed::Create) {
        let reason = format!(
            "`{field}` can never be changed; give it another name in the environment file, or delete it by hand"
        );
        return (Action::Blocked { code: "immutable", reason }, differences);
    }
    let action = if foreign.is_some() { Action::Adopt } else { Action::Update };
    (verified(resource, action), differences)
}

/// Blocks grants to Kubernetes accounts that another environment of the project has too: the identity pool is the
/// project's, so an account of the same name in the same namespace of another cluster is the same principal
/// (cloud.google.com/kubernetes-engine/docs/concepts/workload-identity, "identity sameness").
fn refuse_shared_identities(
    environment: &Environment,
    changes: &mut [Change],
    others: &BTreeMap<String, BTreeSet<String>>,
) {
    let pool = format!("serviceAccount:{}[", environment.workload_pool());
    for change in changes.iter_mut().filter(|change| change.action == Action::Update) {
        let Some(Desired::Grants(grants)) = change.resource.as_ref().map(|resource| &resource.desired) else {
            continue;
        };
        let mut namespaces =
            grants.iter().filter_map(|grant| grant.member.strip_prefix(&pool)?.split_once('/')).map(|(name, _)| name);
        let shared = namespaces.find_map(|namespace| {
            let (other, _) = others.iter().find(|(_, used)| used.contains(namespace))?;
            Some((namespace.to_owned(), other))
        });
        if let Some((namespace, other)) = shared {
            let reason = format!(
                "the environment {other} of this project has a namespace {namespace} too; Google sees accounts of that \
                 namespace as the same in both clusters, so one environment could act as the other; set another `namespace` \
                 for the business, `enabled = false` under [web] in one environment, or `auth = \"key\"`, or use another \
                 project"
            );
            change.action = Action::Blocked { code: "shared-identity", reason };
        }
    }
}

/// What we only verify is never changed.
fn verified(resource: &Resource, action: Action) -> Action {
    if resource.managed == Managed::Create { action } else { Action::Missing }
}

fn created(fields: &Value) -> Vec<Difference> {
    field_differences(fields, &Value::Null)
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
