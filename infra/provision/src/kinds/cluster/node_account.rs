//! The account of the nodes of a new cluster or node pool.

use serde_json::json;

use crate::{
    environment::{Environment, Managed},
    finding::{Finding, Pending},
    google::{Api, Client, Method, Request, escape},
    grants,
    resource::Kind,
};

/// What needs on their account; the role that makes accounts does not have it.
const ACT_AS: &str = "iam.serviceAccounts.actAs";

/// Whether nodes may be made that run as their account. Where the account is not there yet, what counts is the project.
pub(super) async fn act_as(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let makes = environment.manage.cluster == Managed::Create;
    if !makes || !(pending.creates(Kind::Cluster) || pending.creates(Kind::NodePool)) {
        return Vec::new();
    }
    let what = "permissions: nodes";
    let email = environment.security.node_account.as_ref().unwrap_or(&environment.accounts.nodes);
    let home = email.split_once('@').and_then(|(_, domain)| domain.strip_suffix(".iam.gserviceaccount.com"));
    let account =
        format!("v1/projects/{}/serviceAccounts/{}", escape(home.unwrap_or(&environment.project)), escape(email));
    let test = |api, path: String| {
        let request = Request::new(api, Method::Post, format!("{path}:testIamPermissions"));
        request.body(json!({"permissions": [ACT_AS]}))
    };
    let answer = match client.send(&test(Api::Iam, account)).await {
        Err(error) if error.is_not_found() || error.may_not_exist() || error.is_service_disabled() => {
            let project = format!("v1/projects/{}", escape(&environment.project));
            client.send(&test(Api::CloudResourceManager, project)).await
        }
        answer => answer,
    };
    vec![match answer {
        Ok(answer) if grants::lacking(&[ACT_AS], &answer).is_empty() => {
            Finding::good(what, format!("may run as {email}"))
        }
        Ok(_) => Finding::bad(
            "act-as-denied",
            what,
            format!("missing {ACT_AS}, without which no cluster is made whose nodes run as {email}"),
            format!(
                "gcloud iam service-accounts add-iam-policy-binding {email} --member YOU --role \
                 roles/iam.serviceAccountUser; where it does not exist yet: gcloud projects add-iam-policy-binding {} \
                 --member YOU --role roles/iam.serviceAccountUser",
                environment.project
            ),
        ),
        Err(error) => Finding::unchecked(what, error),
    }]
}
