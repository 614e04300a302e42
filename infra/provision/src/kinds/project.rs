//! The project itself, which only a policy is on: it is never read, created or changed.

use super::*;
use crate::environment::Managed;

pub(crate) const RULES: Rules = Rules {
    noun: "project",
    title: named,
    api: Api::CloudResourceManager,
    target: None,
    parent: no_parent,
    managed: |_| Managed::Off,
    desired: none_desired,
    is_first: false,
    mark: Mark::Nothing,
    immutable: &[],
    list: None,
    read: get,
    view: as_read,
    limit: None,
    differences: by_field,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: false,
    create: None,
    is_created: None,
    update: update_none,
    is_eventual: false,
    delete: delete_none,
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods::NONE,
    explain: unchanged_error,
    removal: Removal::Stays,
    role: "roles/owner",
    quotas: None,
};
