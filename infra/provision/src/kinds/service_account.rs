//! Service accounts: of businesses, of nodes, of the image builder, of the web apps.

use serde_json::{Value, json};

use super::{mark::WEB_APP, *};
use crate::{
    environment::{Builder, Business, Managed},
    finding::{Finding, Pending},
    google::{Client, Method, escape},
};

pub(crate) const RULES: Rules = Rules {
    noun: "service account",
    title: named,
    api: Api::Iam,
    target: None,
    parent: no_parent,
    managed: |manage| manage.iam,
    desired,
    is_first: false,
    mark: Mark::Description,
    immutable: &[],
    list: list("accounts", all),
    read: get,
    view: as_read,
    limit: None,
    differences: by_field,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: true,
    create: Some(|new| {
        let account = new.id.short().split('@').next().unwrap_or_default();
        Request::new(Api::Iam, Method::Post, collection(&path(new.id)))
            .body(json!({"accountId": account, "serviceAccount": new.fields}))
    }),
    is_created: None,
    update: |id, desired, live, changed| {
        let (body, mask) = changed_fields(desired, live, changed);
        let body = json!({"serviceAccount": body, "updateMask": mask.replace("displayName", "display_name")});
        vec![Request::new(Api::Iam, Method::Patch, path(id)).body(body)]
    },
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["iam.projects.serviceAccounts.get", "iam.projects.serviceAccounts.list"],
        create: &["iam.projects.serviceAccounts.create"],
        update: &["iam.projects.serviceAccounts.patch"],
        delete: &["iam.projects.serviceAccounts.delete"],
    },
    explain: unchanged_error,
    removal: Removal::WithIdentities(IDENTITY),
    role: "roles/iam.serviceAccountAdmin",
    lengths: Some(|_| 6..=30),
    on_itself: None,
    checks: &[|environment, client, pending| Box::pin(quotas(environment, client, pending))],
};

/// Service accounts of a project unless it asked for more: cloud.google.com/iam/quotas.
const QUOTA: usize = 100;

/// The id of the account of an email address.
pub(crate) fn id(email: &str) -> Id {
    let project = email.split_once('@').and_then(|(_, domain)| domain.strip_suffix(".iam.gserviceaccount.com"));
    Id::new(Kind::ServiceAccount, format!("projects/{}/serviceAccounts/{email}", project.unwrap_or("-")))
}

/// The accounts that something uses.
fn desired(environment: &Environment) -> Vec<Resource> {
    let accounts = &environment.accounts;
    let mut resources = Vec::new();
    let mut add = |email: &str, business: Option<&Business>, purpose: &str| {
        // Accounts of other projects are granted to, and not created.
        if email.ends_with(&format!("@{}.iam.gserviceaccount.com", environment.project)) {
            resources.push(account(environment, email, business, purpose));
        }
    };
    if environment.manage.cluster == Managed::Create && environment.security.node_account.is_none() {
        add(&accounts.nodes, None, "nodes");
    }
    if environment.build.builder == Builder::CloudBuild && environment.manage.registry != Managed::Off {
        add(&accounts.builder, None, "image builder");
    }
    if environment.web.enabled {
        add(&accounts.web_client, None, &format!("client {WEB_APP}"));
        add(&accounts.web_monitor, None, &format!("monitor {WEB_APP}"));
    }
    for business in &environment.businesses {
        let accounts = &business.accounts;
        for (identity, email) in
            [("client", &accounts.client), ("orchestrator", &accounts.orchestrator), ("engine", &accounts.engine)]
        {
            add(email, Some(business), &format!("{identity} of {}", business.name));
        }
    }
    resources
}

fn account(environment: &Environment, email: &str, business: Option<&Business>, purpose: &str) -> Resource {
    let fields: Value = match environment.manage.iam {
        Managed::Create => json!({
            "displayName": format!("Deskgrid {purpose}"),
            "description": description(&environment.name, purpose),
        }),
        Managed::Verify | Managed::Off => json!({}),
    };
    resource(environment, id(email), business, fields, vec![])
}

fn all(environment: &Environment) -> Request {
    let path = format!("v1/projects/{}/serviceAccounts", escape(&environment.project));
    Request::get(Api::Iam, path).query("pageSize", "100")
}

/// The number of service accounts; a quota that may have been raised, so it stops nothing.
async fn quotas(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let planned = pending.count(Kind::ServiceAccount);
    if pending.is_plan() && planned == 0 {
        return Vec::new();
    }
    let existing = match client.list(&all(environment), "accounts").await {
        Ok(accounts) => accounts.len(),
        // Before the service is enabled there are none.
        Err(error) if error.is_service_disabled() => 0,
        Err(_) => return Vec::new(),
    };
    let seen = format!("{existing} exist and {planned} are to be created; the default quota is {QUOTA}");
    vec![match existing + planned <= QUOTA {
        true => Finding::good("quota: service accounts", seen),
        false => Finding::warning(
            "quota: service accounts",
            seen,
            format!(
                "request more quota (\"Service Account Count\"): \
                 https://console.cloud.google.com/iam-admin/quotas?service=iam.googleapis.com&project={}",
                environment.project
            ),
        ),
    }]
}
