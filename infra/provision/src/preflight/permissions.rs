//! What `provision` does, as permissions, and the roles that have them.

use std::collections::BTreeSet;

use crate::{
    calls,
    desired::desired,
    environment::{Environment, Managed},
    finding::Pending,
    resource::Kind,
};

/// Permissions on the project that the changes need.
pub(super) fn needed(environment: &Environment, pending: &Pending<'_>) -> Vec<&'static str> {
    let mut permissions = calls::permissions(methods(environment, pending));
    for kind in Kind::ALL.iter().filter(|kind| !pending.creates(**kind)) {
        let elsewhere = kind.rules().on_itself.map(|permissions| permissions(environment)).unwrap_or_default();
        permissions.retain(|permission| !elsewhere.contains(permission));
    }
    permissions.into_iter().collect()
}

/// The methods of the changes.
pub(super) fn methods(environment: &Environment, pending: &Pending<'_>) -> BTreeSet<&'static str> {
    // Without a plan, what the environment does not have is not created.
    let desired: BTreeSet<Kind> = desired(environment).iter().map(|resource| resource.id.kind).collect();
    let is_ours = |kind: &&Kind| {
        (kind.rules().managed)(&environment.manage) == Managed::Create && (pending.is_plan() || desired.contains(kind))
    };
    let methods = Kind::ALL.iter().filter(is_ours).flat_map(|kind| {
        let methods = &kind.rules().methods;
        let parts = [
            (pending.creates(*kind), methods.create),
            (pending.changes(*kind), methods.update),
            (pending.deletes(*kind), methods.delete),
        ];
        parts.into_iter().filter(|(is_pending, _)| *is_pending).flat_map(|(_, methods)| methods)
    });
    methods.copied().collect()
}

/// The roles that have these permissions, each once.
pub(super) fn roles(permissions: &[&str]) -> BTreeSet<&'static str> {
    let role = |permission: &&str| {
        let mut rules = Kind::ALL.iter().map(|kind| kind.rules());
        rules
            .find(|rules| calls::permissions(rules.methods.all()).contains(permission))
            .map_or("roles/owner", |rules| rules.role)
    };
    permissions.iter().map(role).collect()
}
