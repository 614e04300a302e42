//! Policies: who may do what on a resource. They are read and replaced, never created or deleted.

use serde_json::json;

use super::*;
use crate::{
    google::Method,
    policy::{self, VERSION},
};

pub(super) const BUCKET: Rules = Rules {
    read: |id, _| {
        Request::get(Api::Storage, format!("{}/iam", bucket::path(id)))
            .query("optionsRequestedPolicyVersion", VERSION.to_string())
    },
    update: |id, policy, _, _| {
        vec![Request::new(Api::Storage, Method::Put, format!("{}/iam", bucket::path(id))).body(policy.clone())]
    },
    ..policy(
        Api::Storage,
        "bucket",
        Kind::Bucket,
        &["storage.buckets.getIamPolicy"],
        &["storage.buckets.setIamPolicy"],
        "roles/storage.admin",
    )
};

pub(super) const TOPIC: Rules = policy(
    Api::Pubsub,
    "topic",
    Kind::Topic,
    &["pubsub.projects.topics.getIamPolicy"],
    &["pubsub.projects.topics.setIamPolicy"],
    "roles/pubsub.admin",
);

pub(super) const SUBSCRIPTION: Rules = policy(
    Api::Pubsub,
    "subscription",
    Kind::Subscription,
    &["pubsub.projects.subscriptions.getIamPolicy"],
    &["pubsub.projects.subscriptions.setIamPolicy"],
    "roles/pubsub.admin",
);

pub(super) const SERVICE_ACCOUNT: Rules = Rules {
    read: |id, _| {
        Request::new(Api::Iam, Method::Post, format!("{}:getIamPolicy", path(id)))
            .query("options.requestedPolicyVersion", VERSION.to_string())
    },
    absent_may_be_denied: true,
    ..policy(
        Api::Iam,
        "service account",
        Kind::ServiceAccount,
        &["iam.projects.serviceAccounts.getIamPolicy"],
        &["iam.projects.serviceAccounts.setIamPolicy"],
        "roles/iam.serviceAccountAdmin",
    )
};

pub(super) const REGISTRY: Rules = policy(
    Api::ArtifactRegistry,
    "registry",
    Kind::Registry,
    &["artifactregistry.projects.locations.repositories.getIamPolicy"],
    &["artifactregistry.projects.locations.repositories.setIamPolicy"],
    "roles/artifactregistry.admin",
);

pub(super) const PROJECT: Rules = Rules {
    read: |id, _| {
        Request::new(Api::CloudResourceManager, Method::Post, format!("{}:getIamPolicy", path(id)))
            .body(json!({"options": {"requestedPolicyVersion": VERSION}}))
    },
    ..policy(
        Api::CloudResourceManager,
        "project",
        Kind::Project,
        &["cloudresourcemanager.projects.getIamPolicy"],
        &["cloudresourcemanager.projects.setIamPolicy"],
        "roles/resourcemanager.projectIamAdmin",
    )
};

pub(super) const CRYPTO_KEY: Rules = Rules {
    // Somebody else may have granted it; a check says what is missing.
    denied: |_| None,
    update: |id, policy, live, _| {
        let before = policy::grants(live);
        let added = policy::grants(policy);
        let added = added.difference(&before).map(|grant| grant.member.as_str());
        let mut requests = crypto_key::ask_for_agents(added);
        let path = format!("{}:setIamPolicy", path(id));
        requests.push(Request::new(Api::CloudKms, Method::Post, path).body(json!({"policy": policy})));
        requests
    },
    explain: |error| match error.is_unknown_principal() {
        true => {
            let create = "create the agent: gcloud beta services identity create --service SERVICE.googleapis.com";
            Error { message: format!("{}; {create}", error.message.trim_end_matches('.')), ..error }
        }
        false => error,
    },
    // Data stays encrypted after its environment is gone.
    removal: Removal::Stays,
    ..policy(
        Api::CloudKms,
        "key",
        Kind::CryptoKey,
        &["cloudkms.projects.locations.keyRings.cryptoKeys.getIamPolicy"],
        &[
            "cloudkms.projects.locations.keyRings.cryptoKeys.setIamPolicy",
            "serviceusage.services.generateServiceIdentity",
        ],
        "roles/cloudkms.admin",
    )
};

/// What holds for all policies.
const fn policy(
    api: Api,
    noun: &'static str,
    target: Kind,
    read: &'static [&'static str],
    update: &'static [&'static str],
    role: &'static str,
) -> Rules {
    Rules {
        noun,
        title: |id| format!("permissions on {} {}", id.noun(), id.short()),
        api,
        target: Some(target),
        parent: no_parent,
        managed: |manage| manage.iam,
        desired: none_desired,
        is_first: false,
        mark: Mark::Nothing,
        immutable: &[],
        list: None,
        read: |id, _| {
            Request::get(id.rules().api, format!("{}:getIamPolicy", path(id)))
                .query("options.requestedPolicyVersion", VERSION.to_string())
        },
        view: as_read,
        limit: None,
        differences: by_field,
        phase: ready,
        denied: not_readable,
        absent_may_be_denied: false,
        create: None,
        is_created: None,
        // The etag inside the policy guards against other writers.
        update: |id, policy, _, _| {
            let path = format!("{}:setIamPolicy", path(id));
            vec![Request::new(id.rules().api, Method::Post, path).body(json!({"policy": policy}))]
        },
        is_eventual: false,
        delete: delete_none,
        undelete: None,
        started_operation: no_operation,
        exclusive_operations: None,
        methods: Methods { read, update, ..Methods::NONE },
        explain: unchanged_error,
        removal: Removal::Deleted,
        role,
        lengths: None,
        on_itself: None,
        checks: &[],
    }
}
