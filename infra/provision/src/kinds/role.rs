//! Custom roles of the project: each grants one permission that no predefined role grants alone.

use serde_json::json;

use super::{mark::shared_description, *};
use crate::{
    environment::{Managed, ROLE_PREFIX},
    finding::{Finding, Pending},
    google::{Client, Method, escape},
};

pub(crate) const RULES: Rules = Rules {
    noun: "role",
    title: named,
    api: Api::Iam,
    target: None,
    parent: no_parent,
    managed: |manage| manage.iam,
    desired,
    is_first: false,
    mark: Mark::SharedDescription,
    immutable: &[],
    list: None,
    read: get,
    view: as_read,
    limit: None,
    differences: by_field,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| {
        let body = json!({"roleId": new.id.short(), "role": new.fields});
        Request::new(Api::Iam, Method::Post, collection(&path(new.id))).body(body)
    }),
    is_created: None,
    update: |id, desired, live, changed| {
        let (mut body, mask) = changed_fields(desired, live, changed);
        if let Some(etag) = live["etag"].as_str() {
            body.insert("etag".to_owned(), json!(etag));
        }
        vec![Request::new(Api::Iam, Method::Patch, path(id)).query("updateMask", mask).body(body.into())]
    },
    is_eventual: false,
    delete,
    undelete: Some(|id| Request::new(Api::Iam, Method::Post, format!("{}:undelete", path(id))).body(json!({}))),
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["iam.projects.roles.get", "iam.projects.roles.list"],
        create: &["iam.projects.roles.create"],
        update: &["iam.projects.roles.patch", "iam.projects.roles.undelete"],
        delete: &["iam.projects.roles.delete"],
    },
    explain,
    removal: Removal::WithIdentities(IDENTITY),
    role: "roles/iam.roleAdmin",
    lengths: None,
    on_itself: None,
    checks: &[|environment, client, pending| Box::pin(quotas(environment, client, pending))],
};

/// Custom role that only lists objects; no predefined role grants that alone. IAM evaluates listing on the bucket,
/// never on a prefix, so a condition on objects cannot limit it. The nearest predefined role also shows the bucket's
/// metadata.
pub const LISTER_ROLE: &str = "deskgridObjectLister";
/// Custom role for marking an object in its metadata. It neither makes, replaces nor deletes one, which every
/// predefined role that changes metadata also does (or it hands out access).
pub const MARKER_ROLE: &str = "deskgridObjectMarker";
/// The project's custom roles: id, title, what they are for, what they hold.
const CUSTOM_ROLES: &[(&str, &str, &str, &[&str])] = &[
    (LISTER_ROLE, "Deskgrid object lister", "list the names of objects", &["storage.objects.list"]),
    (MARKER_ROLE, "Deskgrid object marker", "change the metadata of objects", &["storage.objects.update"]),
];
/// Custom roles of a project, which cannot be raised: cloud.google.com/iam/quotas.
const LIMIT: usize = 300;

/// The full name of a custom role, or of a predefined one.
pub(crate) fn full_name(environment: &Environment, role: &str) -> String {
    match role {
        LISTER_ROLE | MARKER_ROLE => {
            let Environment { project, security, .. } = environment;
            let rest = role.strip_prefix(ROLE_PREFIX).unwrap_or(role);
            format!("projects/{project}/roles/{}{rest}", security.role_prefix)
        }
        predefined => predefined.to_owned(),
    }
}

/// The roles that the table of grants uses.
fn desired(environment: &Environment) -> Vec<Resource> {
    let needed = CUSTOM_ROLES.iter().filter(|(name, ..)| *name != MARKER_ROLE || environment.web.enabled);
    let roles = needed.map(|(name, title, purpose, permissions)| {
        let fields = json!({
            "title": title,
            "description": shared_description(purpose),
            "stage": "GA",
            "includedPermissions": permissions,
        });
        let id = Id::new(Kind::Role, full_name(environment, name));
        resource(environment, id, None, fields, vec![])
    });
    roles.collect()
}

fn explain(error: Error) -> Error {
    if !error.is_role_buried() {
        return error;
    }
    let message = format!(
        "{}; it was deleted more than a week ago, so it cannot be brought back, and its id is free again only some five \
         weeks after that: until then give the custom roles another `role_prefix` under [security] in the environment \
         file",
        error.message.trim_end_matches('.')
    );
    Error { message, ..error }
}

/// The number of custom roles; deleted ones count too.
async fn quotas(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    if environment.manage.iam != Managed::Create || pending.count(Kind::Role) == 0 {
        return Vec::new();
    }
    let list = Request::get(Api::Iam, format!("v1/projects/{}/roles", escape(&environment.project)))
        .query("pageSize", "1000")
        .query("showDeleted", "true");
    let Ok(roles) = client.list(&list, "roles").await else { return Vec::new() };
    let seen = format!("{} of {LIMIT} exist", roles.len());
    vec![match roles.len() < LIMIT {
        true => Finding::good("limit: custom roles", seen),
        false => Finding::bad(
            "too-many-roles",
            "limit: custom roles",
            seen,
            format!("delete one that nothing uses: gcloud iam roles list --project {}", environment.project),
        ),
    }]
}
