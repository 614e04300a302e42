//! What one environment needs that another one does not: the delta of an added business.

use std::collections::BTreeMap;

use crate::{
    desired::desired,
    environment::Environment,
    resource::{Id, Resource, Wanted},
};

/// The resources of `after` that `before` does not have, of policies only the grants that it does not have; and what
/// the whole environment shares, which has to be there for them.
pub fn coming(before: &Environment, after: &Environment) -> Vec<Resource> {
    let had: BTreeMap<Id, Resource> =
        desired(before).into_iter().map(|resource| (resource.id.clone(), resource)).collect();
    let mut coming = Vec::new();
    for mut resource in desired(after) {
        let known = had.get(&resource.id).map(|known| &known.wanted);
        match (&mut resource.wanted, known) {
            (Wanted::Grants(grants), Some(Wanted::Grants(known))) => {
                grants.retain(|grant| !known.contains(grant));
                if grants.is_empty() {
                    continue;
                }
            }
            (Wanted::Fields(fields), Some(Wanted::Fields(known))) if fields == known && resource.business.is_some() => {
                continue;
            }
            _ => {}
        }
        coming.push(resource);
    }
    coming
}

/// The resources that both have and that `after` wants otherwise, such as the bucket with its rules for every business.
pub fn shared(before: &Environment, after: &Environment) -> Vec<Resource> {
    let had = desired(before);
    let differs = |resource: &Resource| {
        had.iter().any(|known| known.id == resource.id && known.wanted != resource.wanted)
            && matches!(resource.wanted, Wanted::Fields(_))
    };
    desired(after).into_iter().filter(differs).collect()
}
