//! What should exist: a pure function of the environment file.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    environment::{Business, Environment, Managed},
    resource::{Condition, Desired, Grant, Id, Kind, Resource},
};

pub mod access;

/// Stands for the number of the project in the members of a policy, until it is read.
pub(crate) const PROJECT_NUMBER: &str = "{project number}";
/// Stands for the accounts of the nodes of somebody else's cluster among the members of a policy, until it is read.
pub(crate) const NODES: &str = "serviceAccount:{the nodes}";

/// The member of policies that is a service agent of the project with this number: cloud.google.com/iam/docs/service-agents.
pub(crate) fn agent(of: &str, number: &str) -> String {
    format!("serviceAccount:service-{number}@{of}.iam.gserviceaccount.com")
}

/// Every resource of an environment, with what must exist before it: what all share, business by business, then the
/// policies.
pub fn desired(environment: &Environment) -> Vec<Resource> {
    let mut list: Vec<Resource> = Kind::ALL
        .iter()
        .flat_map(|kind| (kind.rules().desired)(environment))
        .filter(|resource| resource.managed != Managed::Off)
        .collect();
    let position = |resource: &Resource| {
        environment.businesses.iter().position(|business| Some(&business.name) == resource.business.as_ref())
    };
    list.sort_by_key(position);
    let mut resources = Resources { environment, list, grants: BTreeMap::new() };
    for business in &environment.businesses {
        resources.business_grants(business);
    }
    resources.environment_grants();
    resources.finish()
}

struct Resources<'a> {
    environment: &'a Environment,
    list: Vec<Resource>,
    /// Grants by what they are on, with the one business they are for, if it is one.
    grants: BTreeMap<Id, (Option<String>, BTreeSet<Grant>)>,
}

impl Resources<'_> {
    /// All grants on one thing become one resource, so that its policy is written once.
    fn finish(self) -> Vec<Resource> {
        let mut list = self.list;
        let managed = self.environment.manage.iam;
        let grants = if managed == Managed::Off { BTreeMap::new() } else { self.grants };
        for (on, (business, grants)) in grants {
            let emails: BTreeSet<&str> =
                grants.iter().filter_map(|grant| grant.member.strip_prefix("serviceAccount:")).collect();
            let roles: BTreeSet<&str> = grants.iter().map(|grant| grant.role.as_str()).collect();
            let after = list
                .iter()
                .filter(|other| {
                    other.id == on
                        || (other.id.kind == Kind::ServiceAccount && emails.contains(other.id.short()))
                        || (other.id.kind == Kind::Role && roles.contains(other.id.name.as_str()))
                        // The pool of Kubernetes accounts comes with the first cluster that uses it.
                        || (other.id.kind == Kind::Cluster && on.kind == Kind::ServiceAccount)
                })
                .map(|other| other.id.clone())
                .collect();
            list.push(Resource { id: on.policy(), business, managed, desired: Desired::Grants(grants), after });
        }
        let known: BTreeSet<Id> = list.iter().map(|resource| resource.id.clone()).collect();
        let first: Vec<Id> = known.iter().filter(|id| id.rules().is_first).cloned().collect();
        for resource in list.iter_mut().filter(|resource| !resource.id.rules().is_first) {
            // What others make is not waited for.
            resource.after.retain(|id| known.contains(id));
            resource.after.splice(0..0, first.iter().cloned());
        }
        list
    }
}

#[cfg(test)]
mod tests;
