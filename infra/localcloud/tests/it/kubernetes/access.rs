//! Who may what: tokens, RBAC, and the messages of refusals.

use std::sync::Arc;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Error,
    api::{ListParams, PostParams},
};
use serde_json::json;

use crate::kubernetes::support::{Lab, client, has, job};

#[tokio::test(flavor = "multi_thread")]
async fn roles_decide_for_service_accounts() {
    let lab = Lab::with(|options| {
        options.google_user = Arc::new(|token| match token {
            "operator" => Some("user:me@example.com".to_owned()),
            "account" => Some("serviceAccount:a@p.iam.gserviceaccount.com".to_owned()),
            _ => None,
        });
        options.google_allows = Arc::new(|token, _| token == "operator");
    })
    .await;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "orchestrator"}})).unwrap();
    Api::default_namespaced(lab.client.clone()).create(&PostParams::default(), &account).await.unwrap();
    let token = lab.kubernetes.service_account_token("bu1", "orchestrator").unwrap();
    let jobs: Api<Job> = Api::default_namespaced(client(&lab.kubernetes, &token, "bu1").await);
    let refused = |error: Error| match error {
        Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other}"),
    };
    let error = jobs.create(&PostParams::default(), &job("mine", "true", json!({}))).await.unwrap_err();
    let expected = "jobs.batch is forbidden: User \"system:serviceaccount:bu1:orchestrator\" cannot create resource \
                    \"jobs\" in API group \"batch\" in the namespace \"bu1\"";
    assert_eq!(refused(error), (403, expected.to_owned()));
    let role: Role = serde_json::from_value(json!({
        "metadata": {"name": "orchestrator"},
        "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]}],
    }))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "orchestrator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "orchestrator"},
        "subjects": [{"kind": "ServiceAccount", "name": "orchestrator", "namespace": "bu1"}],
    }))
    .unwrap();
    Api::default_namespaced(lab.client.clone()).create(&PostParams::default(), &role).await.unwrap();
    Api::default_namespaced(lab.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
    jobs.create(&PostParams::default(), &job("mine", "true", json!({}))).await.unwrap();
    assert_eq!(refused(jobs.list(&ListParams::default()).await.unwrap_err()).0, 403);
    let elsewhere: Api<Job> = Api::namespaced(client(&lab.kubernetes, &token, "bu1").await, "default");
    assert_eq!(refused(elsewhere.get("mine").await.unwrap_err()).0, 403);

    let operator: Api<Job> = Api::default_namespaced(client(&lab.kubernetes, "operator", "bu1").await);
    assert_eq!(operator.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let account: Api<Job> = Api::default_namespaced(client(&lab.kubernetes, "account", "bu1").await);
    let (code, message) = refused(account.get("mine").await.unwrap_err());
    assert!(code == 403 && message.contains("User \"a@p.iam.gserviceaccount.com\" cannot get"), "{message}");
    let nobody: Api<Job> = Api::default_namespaced(client(&lab.kubernetes, "nobody", "bu1").await);
    assert_eq!(refused(nobody.get("mine").await.unwrap_err()), (401, "Unauthorized".to_owned()));
    lab.until_job("mine", |job| has(job, "Complete")).await;
    lab.kubernetes.stop().await;
}
