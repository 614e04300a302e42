//! What `--prune` takes out of policies: grants of businesses and accounts that left the environment file. IAM counts
//! them against its limits for as long as they stay.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    desired::{access, desired},
    environment::{Environment, Managed},
    observation::{Live, Observation},
    policy,
    resource::{Desired, Grant, Id, Kind},
};

/// The grants of ours that are in a policy and that the environment file does not need, by policy.
pub(crate) fn stale_grants(environment: &Environment, observed: &Observation) -> BTreeMap<Id, BTreeSet<Grant>> {
    let resources = desired(environment);
    let policies: Vec<(&Id, &BTreeSet<Grant>)> = resources
        .iter()
        .filter(|resource| resource.managed == Managed::Create)
        .filter_map(|resource| match &resource.desired {
            Desired::Grants(grants) => Some((&resource.id, grants)),
            Desired::Fields(_) => None,
        })
        .collect();
    let ours: BTreeSet<&str> =
        policies.iter().flat_map(|(_, grants)| grants.iter()).map(|grant| grant.member.as_str()).collect();
    let leaving: BTreeSet<String> = observed
        .extra
        .keys()
        .filter(|id| id.kind == Kind::ServiceAccount)
        .map(|id| format!("serviceAccount:{}", id.short()))
        .collect();
    let mut stale = BTreeMap::new();
    for (id, needed) in policies {
        let Some(Live::Present(policy)) = observed.live.get(id) else { continue };
        let is_stale = |grant: &Grant| {
            // The account of a business that was pruned before is deleted; its grants stay under this name.
            let deleted =
                grant.member.strip_prefix("deleted:").map(|ghost| ghost.split("?uid=").next().unwrap_or(ghost));
            let member = deleted.unwrap_or(&grant.member);
            let on_bucket = id.kind == Kind::BucketPolicy;
            let same_role = |other: &Grant| other.role == grant.role && other.condition == grant.condition;
            let of_a_business = (deleted.is_some() || ours.contains(member)) && access::is_of_business(&id.name, grant);
            let of_nobody = deleted.is_some() && needed.iter().any(same_role);
            !needed.contains(grant) && (leaving.contains(member) || (on_bucket && (of_a_business || of_nobody)))
        };
        let grants: BTreeSet<Grant> = policy::grants(policy).into_iter().filter(is_stale).collect();
        if !grants.is_empty() {
            stale.insert(id.clone(), grants);
        }
    }
    stale
}
