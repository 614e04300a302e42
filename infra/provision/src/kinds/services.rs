//! The services (APIs) that are enabled in a project: one resource for all of them, which always exists.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::{
    environment::{Auth, Builder, CloudKind, Managed, WebAccess},
    google::Method,
};

pub(crate) const RULES: Rules = Rules {
    noun: "services",
    title: |_| "services of the project".to_owned(),
    api: Api::ServiceUsage,
    target: None,
    parent: no_parent,
    managed: |manage| manage.apis,
    desired,
    is_first: true,
    mark: Mark::Nothing,
    immutable: &[],
    list: None,
    read,
    view,
    limit: None,
    differences,
    phase: ready,
    denied: |reason| {
        let reason = format!(
            "you may not read it: {reason}; where somebody else manages the services, say `apis = \"off\"` under \
             `[manage]` in the environment file"
        );
        Some(Action::Blocked { code: "denied", reason })
    },
    absent_may_be_denied: false,
    create: None,
    is_created: None,
    update: |id, _, _, changed| update(id, changed),
    is_eventual: true,
    delete: delete_none,
    undelete: None,
    started_operation: |_, answer| {
        let name = answer["name"].as_str().filter(|name| name.starts_with("operations/"))?;
        (answer["done"] != true).then(|| format!("v1/{name}"))
    },
    exclusive_operations: None,
    methods: Methods {
        read: &["serviceusage.services.batchGet"],
        update: &["serviceusage.services.enable", "serviceusage.services.batchEnable", "serviceusage.operations.get"],
        ..Methods::NONE
    },
    explain: unchanged_error,
    // Other things of the project may need them.
    removal: Removal::Stays,
    role: "roles/serviceusage.serviceUsageAdmin",
    lengths: None,
    on_itself: None,
    checks: &[|environment, client, _| Box::pin(check(environment, client))],
};

/// Services that one request enables at most.
const MAX_PER_REQUEST: usize = 20;

/// The services of the project that an environment needs, as far as it may enable or use them.
pub(crate) fn needed(environment: &Environment) -> Vec<&'static str> {
    let manage = &environment.manage;
    let mut services = vec!["cloudresourcemanager", "iam", "logging", "monitoring", "pubsub", "storage"];
    if manage.cluster != Managed::Off {
        services.extend(["compute", "container"]);
    }
    if manage.registry != Managed::Off {
        services.push("artifactregistry");
    }
    if environment.build.builder == Builder::CloudBuild {
        services.push("cloudbuild");
    }
    if environment.auth == Auth::WorkloadIdentity {
        services.push("iamcredentials");
    }
    if environment.web.enabled && environment.web.access == WebAccess::Iap {
        services.push("iap");
    }
    if crypto_key::used(environment).next().is_some() {
        services.push("cloudkms");
    }
    services.sort_unstable();
    services
}

fn desired(environment: &Environment) -> Vec<Resource> {
    let id = Id::new(Kind::Services, format!("projects/{}/services", environment.project));
    let enabled = needed(environment).into_iter();
    let fields: Value = enabled.map(|service| (format!("{service}.googleapis.com"), json!("ENABLED"))).collect();
    vec![resource(environment, id, None, fields, vec![])]
}

fn read(id: &Id, desired: &Value) -> Request {
    let names = desired.as_object().into_iter().flat_map(|services| services.keys());
    names.fold(Request::get(Api::ServiceUsage, format!("{}:batchGet", path(id))), |request, service| {
        request.query("names", format!("{}/{service}", id.name))
    })
}

fn view(_: &Value, answer: Value) -> Option<Value> {
    let services = answer["services"].as_array().into_iter().flatten();
    let state = |service: &Value| {
        let name = service["name"].as_str()?.rsplit('/').next()?.to_owned();
        Some((name, service["state"].clone()))
    };
    Some(services.filter_map(state).collect())
}

/// By service: their names have dots.
fn differences(desired: &Value, live: &Value) -> Vec<Difference> {
    let services = desired.as_object().into_iter().flatten().filter(|(name, state)| live[name.as_str()] != **state);
    let difference = |(name, state): (&String, &Value)| Difference {
        field: name.clone(),
        live: live.get(name).cloned(),
        desired: Some(state.clone()),
    };
    services.map(difference).collect()
}

/// Enables these services: one, or up to twenty together.
fn update(id: &Id, names: &[String]) -> Vec<Request> {
    let post = |path: String| Request::new(Api::ServiceUsage, Method::Post, path);
    match names {
        [one] => vec![post(format!("{}/{}:enable", path(id), escape(one))).body(json!({}))],
        many => {
            let batches = many.chunks(MAX_PER_REQUEST);
            batches.map(|batch| post(format!("{}:batchEnable", path(id))).body(json!({"serviceIds": batch}))).collect()
        }
    }
}

/// Services that are not enabled.
async fn check(environment: &Environment, client: &Client) -> Vec<Finding> {
    let project = &environment.project;
    let list = Request::get(Api::ServiceUsage, format!("v1/projects/{}/services", escape(project)))
        .query("filter", "state:ENABLED")
        .query("pageSize", "200");
    let listed = match client.list(&list, "services").await {
        Ok(listed) => listed,
        Err(error) => return vec![Finding::warning("services", error.to_string(), "")],
    };
    let on: BTreeSet<&str> = listed.iter().filter_map(|service| service["config"]["name"].as_str()).collect();
    let desired = needed(environment).into_iter().map(|name| format!("{name}.googleapis.com"));
    let off: Vec<String> = desired.filter(|name| !on.contains(name.as_str())).collect();
    if off.is_empty() {
        return vec![Finding::good("services", "enabled")];
    }
    let seen = format!("not enabled: {}", off.join(", "));
    vec![match environment.manage.apis {
        Managed::Create => Finding::warning("services", seen, "cargo xtask provision enables them"),
        Managed::Verify | Managed::Off => {
            let fix = format!("gcloud services enable --project {project} {}", off.join(" "));
            let finding = Finding::bad("api-disabled", "services", seen, fix);
            // A laptop cloud serves what is not enabled too.
            if environment.cloud == CloudKind::Google { finding } else { finding.optional() }
        }
    }]
}
