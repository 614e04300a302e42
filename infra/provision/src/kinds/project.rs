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
    lengths: None,
    on_itself: None,
    checks: &[],
};

/// Reads the number of a project.
pub(crate) const NUMBER_METHOD: &str = "storage.projects.serviceAccount.get";

/// The number of a project, from the email of its Cloud Storage agent: a new project has this API and not yet Resource
/// Manager's. The agent exists from then on (cloud.google.com/storage/docs/getting-service-agent).
pub(crate) async fn number(client: &Client, project: &str) -> Result<Option<String>, Error> {
    let path = format!("storage/v1/projects/{}/serviceAccount", escape(project));
    let answer = client.send(&Request::get(Api::Storage, path)).await?;
    let email = answer["email_address"].as_str().and_then(|email| email.strip_prefix("service-")?.split_once('@'));
    Ok(email.map(|(number, _)| number.to_owned()))
}
