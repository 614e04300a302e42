//! What one environment needs that another one does not: the delta of an added business.

use std::collections::BTreeMap;

use crate::{
    desired::desired,
    environment::Environment,
    resource::{Desired, Id, Resource},
};

/// The resources of `after` that `before` does not have, of policies only the grants that it does not have; and what
/// the whole environment shares, which has to be there for them.
pub fn added_resources(before: &Environment, after: &Environment) -> Vec<Resource> {
    let had: BTreeMap<Id, Resource> =
        desired(before).into_iter().map(|resource| (resource.id.clone(), resource)).collect();
    let mut added_resources = Vec::new();
    for mut resource in desired(after) {
        let known = had.get(&resource.id).map(|known| &known.desired);
        match (&mut resource.desired, known) {
            (Desired::Grants(grants), Some(Desired::Grants(known))) => {
                grants.retain(|grant| !known.contains(grant));
                if grants.is_empty() {
                    continue;
                }
            }
            (Desired::Fields(fields), Some(Desired::Fields(known)))
                if fields == known && resource.business.is_some() =>
            {
                continue;
            }
            _ => {}
        }
        added_resources.push(resource);
    }
    added_resources
}

/// The resources that both have and that `after` wants otherwise, such as the bucket with its rules for every business.
pub fn shared(before: &Environment, after: &Environment) -> Vec<Resource> {
    let had = desired(before);
    let differs = |resource: &Resource| {
        had.iter().any(|known| known.id == resource.id && known.desired != resource.desired)
            && matches!(resource.desired, Desired::Fields(_))
    };
    desired(after).into_iter().filter(differs).collect()
}
