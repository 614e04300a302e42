//! Checks, before anything is written, for what would stop a plan halfway: each finding has its exact fix.

use serde_json::json;

use crate::{
    cloud::Cloud,
    desired::desired,
    environment::{Environment, Managed},
    failure::Failure,
    finding::{Finding, Pending},
    google::{Api, Client, Method, Request, escape},
    grants,
    plan::Plan,
    resource::{Kind, Resource},
};

mod billing;
mod constraints;
mod permissions;

use permissions::{needed, roles};

/// The methods of every check.
pub(crate) const METHODS: &[&str] = &[
    "cloudresourcemanager.projects.testIamPermissions",
    "storage.buckets.testIamPermissions",
    "iam.projects.serviceAccounts.testIamPermissions",
    "serviceusage.services.list",
    "cloudbilling.projects.getBillingInfo",
    "orgpolicy.projects.policies.getEffectivePolicy",
];
/// Checks everything that a plan needs, or all that any plan could need. Writes nothing.
pub async fn check(environment: &Environment, cloud: &Cloud, plan: Option<&Plan>) -> Vec<Finding> {
    let pending = Pending(plan.map(|plan| plan.changes.as_slice()));
    let (mut findings, billing, constraints, kinds) = tokio::join!(
        project(environment, &cloud.google, &pending),
        billing::check(environment, &cloud.google),
        constraints::check(environment, &cloud.google, &pending),
        kinds(environment, &cloud.google, &pending),
    );
    if findings.iter().any(|finding| finding.what == "credentials" && !finding.fine) {
        return findings;
    }
    findings.push(billing);
    findings.extend(kinds);
    findings.extend(constraints);
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
            let lacking = grants::lacking(&permissions, &answer);
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

/// The checks of every kind.
async fn kinds(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let checks = Kind::ALL.iter().flat_map(|kind| kind.rules().checks);
    futures::future::join_all(checks.map(|check| check(environment, client, pending))).await.concat()
}

/// Names that Google would refuse for their length, most of which come from the project's.
fn names(environment: &Environment) -> Finding {
    let ours = desired(environment).into_iter().filter(|resource| resource.managed == Managed::Create);
    let wrong = ours.filter_map(|Resource { id, .. }| {
        let lengths = (id.rules().lengths?)(environment);
        // Of an account its id counts, which its email begins with.
        let name = id.short().split('@').next().unwrap_or_default();
        let is_wrong = !lengths.contains(&name.len());
        let (least, most) = lengths.into_inner();
        is_wrong.then(|| format!("{} {name} has {} characters, not {least} to {most}", id.noun(), name.len()))
    });
    let wrong: Vec<String> = wrong.collect();
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
