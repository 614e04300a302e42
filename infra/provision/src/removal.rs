//! The plan for taking away: what one environment has and another one, or none, has not.
//!
//! By default what computes goes and what cannot be made again as it was stays: data, and identities, since an account
//! of the same name is another account to every binding elsewhere.

use std::collections::BTreeSet;

use crate::{
    desired::desired,
    environment::{Environment, Managed},
    kinds::{Mark, Owner, Removal},
    observe::{Live, Observation},
    plan::{Action, Change, Plan, grant_differences},
    policy,
    resource::{Desired, Id, Resource},
};

/// What else goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Buckets, which must be empty by then.
    pub data: bool,
    /// Service accounts and custom roles.
    pub identities: bool,
}

/// The resources of `before` that `after` does not have, and of policies the grants that it does not have.
/// What stood behind something now stands before it.
pub fn resources_to_delete(before: &Environment, after: Option<&Environment>) -> Vec<Resource> {
    let staying = after.map(desired).unwrap_or_default();
    let mut resources_to_delete: Vec<Resource> = Vec::new();
    for mut resource in desired(before) {
        let stays = staying.iter().find(|other| other.id == resource.id);
        match (&mut resource.desired, stays.map(|other| &other.desired)) {
            (Desired::Grants(grants), Some(Desired::Grants(kept))) => grants.retain(|grant| !kept.contains(grant)),
            (_, Some(_)) => continue,
            _ => {}
        }
        if !matches!(&resource.desired, Desired::Grants(grants) if grants.is_empty()) {
            resources_to_delete.push(resource);
        }
    }
    let edges: Vec<(Id, Id)> = resources_to_delete
        .iter()
        .flat_map(|resource| resource.after.iter().map(|first| (first.clone(), resource.id.clone())))
        .collect();
    for resource in &mut resources_to_delete {
        resource.after =
            edges.iter().filter(|(first, _)| *first == resource.id).map(|(_, second)| second.clone()).collect();
    }
    resources_to_delete
}

/// Makes the plan for what is going.
pub fn plan(before: &Environment, resources_to_delete: &[Resource], observed: &Observation, options: Options) -> Plan {
    let mut changes: Vec<Change> = Vec::new();
    for resource in resources_to_delete.iter().filter(|resource| !resource.id.is_policy()) {
        let live = observed.live.get(&resource.id);
        let action = match live {
            None | Some(Live::Absent | Live::Unsupported) => Action::Nothing,
            Some(Live::Denied(reason)) => {
                Action::Blocked { code: "denied", reason: format!("you may not read it: {reason}") }
            }
            Some(Live::Present(live)) => match others(resource, observed) {
                Some(names) if options.identities => {
                    Action::Kept { reason: format!("{names} of this project would lose it") }
                }
                _ => delete(before, resource, live, options),
            },
        };
        changes.push(Change::for_resource(resource, live, action, vec![]));
    }
    let deleted: BTreeSet<Id> =
        changes.iter().filter(|change| change.action == Action::Delete).map(|change| change.id.clone()).collect();
    // Parts go with the whole.
    changes.retain(|change| !change.id.parent().is_some_and(|whole| deleted.contains(&whole)));
    for resource in resources_to_delete.iter().filter(|resource| resource.id.is_policy()) {
        let live = observed.live.get(&resource.id);
        let (Some(Live::Present(policy)), Desired::Grants(grants)) = (live, &resource.desired) else { continue };
        // Whoever makes accounts and grants keeps them.
        if resource.id.rules().removal == Removal::Stays || resource.managed != Managed::Create {
            continue;
        }
        // A policy goes with what it is on.
        if deleted.contains(&resource.id.target()) {
            continue;
        }
        let differences = grant_differences(&policy::removal(policy, grants));
        let action = if differences.is_empty() { Action::Nothing } else { Action::Revoke };
        changes.push(Change::for_resource(resource, live, action, differences));
    }
    Plan { environment: before.name.clone(), project: before.project.clone(), changes }
}

/// Who else needs what all environments of a project share.
fn others(resource: &Resource, observed: &Observation) -> Option<String> {
    let names: Vec<&str> = observed.others.keys().map(String::as_str).collect();
    match names.as_slice() {
        [] => None,
        _ if resource.id.rules().mark != Mark::SharedDescription => None,
        [one] => Some(format!("the environment {one}")),
        many => Some(format!("the environments {}", many.join(", "))),
    }
}

fn delete(before: &Environment, resource: &Resource, live: &serde_json::Value, options: Options) -> Action {
    let kept = |reason: &str| Action::Kept { reason: reason.to_owned() };
    if resource.managed != Managed::Create {
        return kept("somebody else makes it");
    }
    if let Owner::Other(owner) = resource.id.rules().mark.owner(live, &before.name) {
        return kept(&format!("it is not ours: {owner}"));
    }
    match deletion(resource.id.rules().removal, options) {
        Action::Delete if resource.id.is_deleted(live) => Action::Nothing,
        action => action,
    }
}

fn deletion(removal: Removal, options: Options) -> Action {
    match removal {
        Removal::Stays => Action::Nothing,
        Removal::WithData(reason) if !options.data => Action::Kept { reason: reason.to_owned() },
        Removal::WithIdentities(reason) if !options.identities => Action::Kept { reason: reason.to_owned() },
        Removal::Deleted | Removal::WithData(_) | Removal::WithIdentities(_) => Action::Delete,
    }
}

/// What is of this environment although its file does not name it: businesses that were taken out by hand.
pub fn extra(before: &Environment, observed: &Observation, options: Options) -> Vec<Change> {
    let action = |id: &Id| match (id.rules().managed)(&before.manage) {
        Managed::Create => deletion(id.rules().removal, options),
        Managed::Verify | Managed::Off => Action::Kept { reason: "somebody else makes it".to_owned() },
    };
    observed.extra.iter().map(|(id, live)| Change::for_extra(id, live, action(id))).collect()
}
