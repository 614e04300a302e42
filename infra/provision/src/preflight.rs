//! Checks, before anything is written, for what would stop a plan halfway: each finding has its exact fix.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    cloud::Cloud,
    environment::{CloudKind, ClusterMode, Environment, Managed},
    failure::Failure,
    finding::{Finding, Pending},
    google::{Api, Client, Method, Request, escape},
    kinds::services,
    plan::Plan,
    resource::Kind,
};

mod billing;
mod constraints;
mod grants;
mod keys;
mod location;
mod network;
mod permissions;
mod shared_network;

use permissions::{act_as_nodes, missing, needed, on_bucket, roles};

/// The methods of every check.
pub(crate) const METHODS: &[&str] = &[
    "cloudresourcemanager.projects.testIamPermissions",
    "storage.buckets.testIamPermissions",
    "iam.projects.serviceAccounts.testIamPermissions",
    "serviceusage.services.list",
    "cloudbilling.projects.getBillingInfo",
    "orgpolicy.projects.policies.getEffectivePolicy",
];
/// The methods of checks before a cluster is created.
pub(crate) const CLUSTER_METHODS: &[&str] = &[
    "compute.projects.get",
    "compute.projects.getXpnHost",
    "compute.regions.get",
    "compute.networks.get",
    "compute.subnetworks.get",
    "compute.subnetworks.getIamPolicy",
];
/// The methods of checks of keys, beside those of the kind.
pub(crate) const KEY_METHODS: &[&str] = &[
    "cloudkms.projects.locations.keyRings.getIamPolicy",
    "cloudkms.projects.locations.keyRings.cryptoKeys.get",
    "cloudkms.projects.locations.keyRings.cryptoKeys.testIamPermissions",
];
/// The methods that find out which roles others have on something.
pub(crate) const GRANTS_METHODS: &[&str] = &[
    "cloudresourcemanager.projects.getAncestry",
    "cloudresourcemanager.projects.getIamPolicy",
    "cloudresourcemanager.folders.getIamPolicy",
    "cloudresourcemanager.organizations.getIamPolicy",
];

/// Checks everything that a plan needs, or all that any plan could need. Writes nothing.
pub async fn check(environment: &Environment, cloud: &Cloud, plan: Option<&Plan>) -> Vec<Finding> {
    let pending = Pending(plan.map(|plan| plan.changes.as_slice()));
    let (mut findings, nodes, billing, bucket, constraints, services, location, quotas, network, shared, way, keys) = tokio::join!(
        project(environment, &cloud.google, &pending),
        act_as_nodes(environment, &cloud.google, &pending),
        billing::check(environment, &cloud.google),
        bucket(environment, &cloud.google),
        constraints::check(environment, &cloud.google, &pending),
        services(environment, &cloud.google),
        location::check(environment, &cloud.google, &pending),
        quotas(environment, &cloud.google, &pending),
        network::exists(environment, &cloud.google, &pending),
        shared_network::check(environment, &cloud.google, &pending),
        network::check(environment, &cloud.google, &pending),
        keys::check(environment, &cloud.google),
    );
    if findings.iter().any(|finding| finding.what == "credentials" && !finding.fine) {
        return findings;
    }
    findings.extend(nodes);
    findings.push(billing);
    findings.extend(bucket);
    findings.extend(services);
    findings.extend(constraints);
    findings.extend(location);
    findings.extend(quotas);
    findings.extend(network);
    findings.extend(shared);
    findings.extend(keys);
    findings.extend(way);
    findings.push(names(environment));
    findings
}

/// Whether nothing that was found stops a plan.
///
/// # Errors
/// When something does; says what, and how each is put right.
pub fn pass(environment: &Environment, findings: &[Finding]) -> Result<(), Failure> {
    let stops: Vec<&Finding> = findings.iter().filter(|finding| finding.needed && !finding.fine).collect();
    let Some(code) = stops.iter().find_map(|finding| finding.code) else { return Ok(()) };
    let lines = stops.iter().map(|finding| {
        // The first code is that of the failure.
        let own = finding.code.filter(|own| *own != code).map(|own| format!(" [{own}]")).unwrap_or_default();
        let fix = finding.fix.as_ref().map(|fix| format!("\n  {fix}")).unwrap_or_default();
        format!("{}: {}{own}{fix}", finding.what, finding.seen)
    });
    let lines: Vec<String> = lines.collect();
    Err(Failure {
        code,
        what: "the plan would stop halfway, so nothing was changed".to_owned(),
        on: format!("environment {} in project {}", environment.name, environment.project),
        why: lines.join("\n"),
        next: "do what is said above of each, then run the same again".to_owned(),
    })
}

/// Credentials, and permissions on the project.
async fn project(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let project = &environment.project;
    let permissions = needed(environment, pending);
    let path = format!("v1/projects/{}:testIamPermissions", escape(project));
    let test = Request::new(Api::CloudResourceManager, Method::Post, path).body(json!({"permissions": permissions}));
    match client.send(&test).await {
        Err(error) if error.code == 401 => {
            vec![Finding::bad("credentials", "credentials", error.message, "gcloud auth application-default login")]
        }
        Err(error) if error.is_service_disabled() => {
            let fix = format!("gcloud services enable --project {project} cloudresourcemanager.googleapis.com");
            vec![Finding::warning("permissions", "cannot be checked: Resource Manager is not enabled", fix)]
        }
        Err(error) => {
            let fix = format!(
                "check `project` in the environment file; calls count in it, for which you need: gcloud projects \
                 add-iam-policy-binding {project} --member YOU --role roles/serviceusage.serviceUsageConsumer"
            );
            vec![match error.reason.as_deref() {
                Some("USER_PROJECT_DENIED") => Finding::bad("quota-project", "project", error.to_string(), fix),
                _ => {
                    Finding::bad("no-project", "project", error.to_string(), "check `project` in the environment file")
                }
            }]
        }
        Ok(answer) => {
            let lacking = missing(&permissions, &answer);
            let found = match lacking.is_empty() {
                true => Finding::good("permissions", "everything that is to be done"),
                false => Finding::bad(
                    "denied",
                    "permissions",
                    format!("missing on project {project}: {}", lacking.join(", ")),
                    roles(&lacking)
                        .iter()
                        .map(|role| {
                            format!("gcloud projects add-iam-policy-binding {project} --member YOU --role {role}")
                        })
                        .collect::<Vec<_>>()
                        .join("\n  "),
                ),
            };
            vec![Finding::good("credentials", format!("accepted for project {project}")), found]
        }
    }
}

/// Permissions on the bucket, once there is one.
async fn bucket(environment: &Environment, client: &Client) -> Option<Finding> {
    let name = &environment.bucket;
    let permissions = on_bucket(environment);
    let mut test = Request::get(Api::Storage, format!("storage/v1/b/{}/iam/testPermissions", escape(name)));
    for permission in &permissions {
        test = test.query("permissions", *permission);
    }
    match client.send(&test).await {
        Err(error) if error.is_not_found() => None,
        // The plan itself reports a bucket of somebody else.
        Err(error) => Some(Finding::warning("bucket", error.to_string(), "")),
        Ok(answer) => {
            let lacking = missing(&permissions, &answer);
            Some(match lacking.is_empty() {
                true => Finding::good("bucket", "everything that is done to it"),
                false => Finding::bad(
                    "denied",
                    "bucket",
                    format!("missing on bucket {name}: {}", lacking.join(", ")),
                    format!(
                        "gcloud storage buckets add-iam-policy-binding gs://{name} --member YOU --role \
                         roles/storage.admin"
                    ),
                ),
            })
        }
    }
}

/// Services that are not enabled.
async fn services(environment: &Environment, client: &Client) -> Option<Finding> {
    let project = &environment.project;
    let list = Request::get(Api::ServiceUsage, format!("v1/projects/{}/services", escape(project)))
        .query("filter", "state:ENABLED")
        .query("pageSize", "200");
    let listed = match client.list(&list, "services").await {
        Ok(listed) => listed,
        Err(error) => return Some(Finding::warning("services", error.to_string(), "")),
    };
    let on: BTreeSet<&str> = listed.iter().filter_map(|service| service["config"]["name"].as_str()).collect();
    let desired = services::needed(environment).into_iter().map(|name| format!("{name}.googleapis.com"));
    let off: Vec<String> = desired.filter(|name| !on.contains(name.as_str())).collect();
    if off.is_empty() {
        return Some(Finding::good("services", "enabled"));
    }
    let seen = format!("not enabled: {}", off.join(", "));
    Some(match environment.manage.apis {
        Managed::Create => Finding::warning("services", seen, "cargo xtask provision enables them"),
        Managed::Verify | Managed::Off => {
            let fix = format!("gcloud services enable --project {project} {}", off.join(" "));
            let finding = Finding::bad("api-disabled", "services", seen, fix);
            // A laptop cloud serves what is not enabled too.
            if environment.cloud == CloudKind::Google { finding } else { finding.optional() }
        }
    })
}

/// The quotas of every kind.
async fn quotas(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let checks = Kind::ALL.iter().filter_map(|kind| kind.rules().quotas);
    futures::future::join_all(checks.map(|check| check(environment, client, pending))).await.concat()
}

/// Names that Google would refuse for their length, most of which come from the project's.
fn names(environment: &Environment) -> Finding {
    let cluster = (environment.manage.cluster == Managed::Create).then(|| {
        let most = if environment.cluster.mode == ClusterMode::Autopilot { 39 } else { 40 };
        ("cluster", environment.cluster.name.clone(), 1, most)
    });
    let mut names: Vec<(&str, String, usize, usize)> = cluster.into_iter().collect();
    names.extend(environment.buckets().into_iter().map(|(bucket, _)| ("bucket", bucket.to_owned(), 3, 63)));
    names.push(("registry", environment.build.registry.clone(), 1, 63));
    names.push(("project", environment.project.clone(), 6, 30));
    let accounts = &environment.accounts;
    let nodes = (environment.manage.cluster == Managed::Create).then_some(&accounts.nodes);
    for email in nodes.into_iter().chain([&accounts.builder, &accounts.web_client, &accounts.web_monitor]) {
        names.push(("service account", email.split('@').next().unwrap_or_default().to_owned(), 6, 30));
    }
    for business in &environment.businesses {
        for email in [&business.accounts.client, &business.accounts.orchestrator, &business.accounts.engine] {
            names.push(("service account", email.split('@').next().unwrap_or_default().to_owned(), 6, 30));
        }
        names.push(("namespace", business.namespace.clone(), 1, 63));
        for topic in [&business.topic, &business.events_topic, &business.subscription] {
            names.push(("topic or subscription", topic.clone(), 3, 255));
        }
    }
    let wrong = names.iter().filter(|(_, name, least, most)| !(*least..=*most).contains(&name.len()));
    let wrong: Vec<String> = wrong
        .map(|(what, name, least, most)| format!("{what} {name} has {} characters, not {least} to {most}", name.len()))
        .collect();
    match wrong.is_empty() {
        true => Finding::good("names", "of lengths that Google takes"),
        false => {
            Finding::bad("name-length", "names", wrong.join("; "), "give them other names in the environment file")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_too_long_is_found_with_what_to_do() {
        let mut environment = crate::environment::tests::environment(
            "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n",
        );
        assert!(names(&environment).fine);
        environment.cluster.name = "c".repeat(41);
        let found = names(&environment);
        assert!(!found.fine && found.seen.contains("has 41 characters, not 1 to 40"), "{found:?}");
        let failure = pass(&environment, &[found]).unwrap_err();
        assert!(failure.why.ends_with("\n  give them other names in the environment file"), "{failure}");
    }
}
