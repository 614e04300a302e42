//! The image registry.

use serde_json::json;

use super::*;
use crate::{environment::Managed, google::Method};

pub(crate) const RULES: Rules = Rules {
    noun: "registry",
    title: named,
    api: Api::ArtifactRegistry,
    target: None,
    parent: no_parent,
    managed: |manage| manage.registry,
    desired,
    is_first: false,
    mark: Mark::Labels("/labels"),
    immutable: &["format", "kmsKeyName"],
    list: list("repositories", |environment| {
        let Environment { project, location, .. } = environment;
        let path = format!("v1/projects/{}/locations/{}/repositories", escape(project), escape(location));
        Request::get(Api::ArtifactRegistry, path).query("pageSize", "1000")
    }),
    read: get,
    view: as_read,
    limit: None,
    differences: by_field,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| {
        Request::new(Api::ArtifactRegistry, Method::Post, collection(&path(new.id)))
            .query("repositoryId", new.id.short())
            .body(new.fields.clone())
    }),
    is_created: None,
    update: |id, desired, live, changed| {
        let (body, mask) = changed_fields(desired, live, changed);
        vec![Request::new(Api::ArtifactRegistry, Method::Patch, path(id)).query("updateMask", mask).body(body.into())]
    },
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: |_, answer| {
        let name = answer["name"].as_str().filter(|name| name.contains("/operations/"))?;
        (answer["done"] != true).then(|| format!("v1/{name}"))
    },
    exclusive_operations: None,
    methods: Methods {
        read: &[
            "artifactregistry.projects.locations.repositories.get",
            "artifactregistry.projects.locations.repositories.list",
        ],
        create: &["artifactregistry.projects.locations.repositories.create", OPERATION],
        update: &["artifactregistry.projects.locations.repositories.patch"],
        delete: &["artifactregistry.projects.locations.repositories.delete", OPERATION],
    },
    explain: crypto_key::explain,
    removal: Removal::WithData("images stay with the data unless asked for"),
    role: "roles/artifactregistry.admin",
    lengths: Some(|_| 1..=63),
    on_itself: None,
    checks: &[],
};

/// Reads an operation.
const OPERATION: &str = "artifactregistry.projects.locations.operations.get";
/// Images without a tag are deleted when they are this old.
const UNTAGGED: &str = "2592000s";
/// So many of the newest versions of each image stay, whatever their age.
const KEPT: u32 = 10;

/// The id of the environment's registry.
pub(crate) fn id(environment: &Environment) -> Id {
    let Environment { project, location, build, .. } = environment;
    Id::new(Kind::Registry, format!("projects/{project}/locations/{location}/repositories/{}", build.registry))
}

fn desired(environment: &Environment) -> Vec<Resource> {
    let mut fields = json!({"format": "DOCKER"});
    if environment.manage.registry == Managed::Create {
        fields["labels"] = labels(environment, None);
        fields["cleanupPolicies"] = json!({
            "delete-untagged": {
                "id": "delete-untagged",
                "action": "DELETE",
                "condition": {"tagState": "UNTAGGED", "olderThan": UNTAGGED},
            },
            "keep-newest": {"id": "keep-newest", "action": "KEEP", "mostRecentVersions": {"keepCount": KEPT}},
        });
        fields["cleanupPolicyDryRun"] = json!(false);
        if let Some(key) = environment.security.kms_keys.get("registry") {
            fields["kmsKeyName"] = json!(key);
        }
    }
    vec![resource(environment, id(environment), None, fields, crypto_key::permissions(environment, &["registry"]))]
}
