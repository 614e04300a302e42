//! Policies: who may do what on a resource. They are read and replaced, never created or deleted.

use serde_json::{Value, json};

use super::{
    Api, Error, Id, Kind, Mark, Removal, Request, Rules, alone, as_read, as_said, at_once, by_field, never,
    none_desired, not_readable, path, ready, refuse_none, unlimited,
};
use crate::{google::Method, policy::VERSION};

pub(super) const BUCKET: Rules = Rules {
    api: Api::Storage,
    read: |id, _| {
        Request::get(Api::Storage, format!("{}/iam", super::bucket::path(id)))
            .query("optionsRequestedPolicyVersion", VERSION.to_string())
    },
    ..policy("bucket", Kind::Bucket, &["storage.buckets.setIamPolicy"], "roles/storage.admin")
};

pub(super) const TOPIC: Rules =
    Rules { api: Api::Pubsub, ..policy("topic", Kind::Topic, &["pubsub.topics.setIamPolicy"], "roles/pubsub.admin") };

pub(super) const SUBSCRIPTION: Rules = Rules {
    api: Api::Pubsub,
    ..policy("subscription", Kind::Subscription, &["pubsub.topics.setIamPolicy"], "roles/pubsub.admin")
};

pub(super) const SERVICE_ACCOUNT: Rules = Rules {
    api: Api::Iam,
    read: |id, _| {
        Request::new(Api::Iam, Method::Post, format!("{}:getIamPolicy", path(id)))
            .query("options.requestedPolicyVersion", VERSION.to_string())
    },
    // The pool of Kubernetes accounts comes with the first cluster that uses it.
    is_too_early: Error::is_pool_missing,
    looks_denied: true,
    ..policy(
        "service account",
        Kind::ServiceAccount,
        &["iam.serviceAccounts.setIamPolicy"],
        "roles/iam.serviceAccountAdmin",
    )
};

pub(super) const REGISTRY: Rules = Rules {
    api: Api::ArtifactRegistry,
    // Whoever makes the registry may also set its policy.
    ..policy("registry", Kind::Registry, &[], "roles/artifactregistry.admin")
};

pub(super) const PROJECT: Rules = Rules {
    api: Api::CloudResourceManager,
    read: |id, _| {
        Request::new(Api::CloudResourceManager, Method::Post, format!("{}:getIamPolicy", path(id)))
            .body(json!({"options": {"requestedPolicyVersion": VERSION}}))
    },
    ..policy(
        "project",
        Kind::Project,
        &["resourcemanager.projects.setIamPolicy"],
        "roles/resourcemanager.projectIamAdmin",
    )
};

/// What holds for all policies; each names its API.
const fn policy(noun: &'static str, target: Kind, permissions: &'static [&'static str], role: &'static str) -> Rules {
    Rules {
        noun,
        title: |id| format!("permissions on {} {}", id.noun(), id.short()),
        api: Api::Iam,
        policy: None,
        target: Some(target),
        parent: alone,
        managed: |manage| manage.iam,
        desired: none_desired,
        is_first: false,
        mark: Mark::Nothing,
        immutable: &[],
        only_for_creation: &[],
        list: None,
        read: |id, _| {
            Request::get(id.rules().api, format!("{}:getIamPolicy", path(id)))
                .query("options.requestedPolicyVersion", VERSION.to_string())
        },
        view: as_read,
        count: unlimited,
        refuse: refuse_none,
        differences: by_field,
        phase: ready,
        denied: not_readable,
        looks_denied: false,
        create: None,
        doubles: false,
        update: |_, _, _, _| Vec::new(),
        is_slow: false,
        delete: |_, _| Vec::new(),
        undelete: None,
        operation: at_once,
        operations: None,
        is_too_early: never,
        is_passing: never,
        explain: as_said,
        removal: Removal::Stays,
        permissions,
        role,
        quotas: None,
    }
}

/// Replaces a policy; the etag inside it guards against other writers.
pub fn write_policy(id: &Id, policy: Value) -> Request {
    match id.rules().api {
        Api::Storage => {
            Request::new(Api::Storage, Method::Put, format!("{}/iam", super::bucket::path(id))).body(policy)
        }
        api => Request::new(api, Method::Post, format!("{}:setIamPolicy", path(id))).body(json!({"policy": policy})),
    }
}
