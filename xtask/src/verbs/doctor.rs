//! `doctor`: looks at everything an environment needs, and says how to put right what is wrong.

use std::path::Path;

use common::exit;
use provision::{
    Cloud, Environment,
    environment::{CloudKind, Manage, Managed},
    google::{Api, Method, Request},
    presence,
};
use serde::Serialize;
use serde_json::json;

use crate::{args::Globals, context, error::Failure, output::Output, setup};

/// Programs that a person looks around with; nothing of ours needs them.
const TOOLS: [&str; 2] = ["kubectl", "gcloud"];
/// Permissions, and who makes the class of resource that they are for.
type Needed = (fn(&Manage) -> Managed, &'static [&'static str]);

/// What `provision` does, as permissions on the project, by the class of resource that it is for.
const PERMISSIONS: [Needed; 6] = [
    (|manage| manage.apis, &["serviceusage.services.enable"]),
    (|manage| manage.cluster, &["container.clusters.create", "container.clusters.delete", "container.clusters.update"]),
    (|manage| manage.bucket, &["storage.buckets.create"]),
    (|manage| manage.pubsub, &["pubsub.subscriptions.create", "pubsub.topics.create"]),
    (
        |manage| manage.iam,
        &[
            "iam.roles.create",
            "iam.serviceAccounts.create",
            "iam.serviceAccounts.setIamPolicy",
            "pubsub.topics.setIamPolicy",
            "resourcemanager.projects.setIamPolicy",
            "storage.buckets.setIamPolicy",
        ],
    ),
    (|manage| manage.registry, &["artifactregistry.repositories.create"]),
];

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    fine: bool,
    /// False for what only makes life easier.
    needed: bool,
    seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Looks, prints every finding, and fails when something needed is not fine.
///
/// # Errors
/// When the environment file cannot be read, or something needed is not fine.
pub(crate) async fn run(globals: &Globals, _: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let mut findings: Vec<Finding> = TOOLS.iter().map(|tool| look_for(tool)).collect();
    match setup::connect(&environment, globals).await {
        Ok(cloud) => {
            let (google, cluster) = tokio::join!(google(&environment, &cloud), cluster(&environment, &cloud));
            findings.extend(google);
            findings.push(cluster);
        }
        Err(error) => {
            let failure = crate::error::explain(&error);
            findings.push(bad("credentials", failure.what, failure.next.unwrap_or_default()));
        }
    }
    if output.json {
        output.document(&findings)?;
    } else {
        for Finding { what, fine, needed, seen, fix } in &findings {
            let word = if *fine {
                "ok"
            } else if *needed {
                "BAD"
            } else {
                "-"
            };
            output.line(format_args!("{word:<4} {what}: {seen}"))?;
            if let Some(fix) = fix {
                output.line(format_args!("       {fix}"))?;
            }
        }
    }
    let bad: Vec<&str> = findings.iter().filter(|f| f.needed && !f.fine).map(|f| f.what.as_str()).collect();
    if bad.is_empty() {
        return Ok(exit::DONE);
    }
    Err(Failure::new("unhealthy", "something that the environment needs is not as it should be")
        .on(format!("environment {}", environment.name))
        .why(bad.join(", "))
        .next("do what is said above of each")
        .into())
}

fn good(what: &str, seen: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), fine: true, needed: true, seen: seen.into(), fix: None }
}

fn bad(what: &str, seen: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { fine: false, fix: Some(fix.into()).filter(|fix: &String| !fix.is_empty()), ..good(what, seen) }
}

fn look_for(tool: &str) -> Finding {
    let paths = common::config::variables().remove("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .map(|folder| folder.join(tool))
        .find(|path: &std::path::PathBuf| Path::is_file(path));
    match found {
        Some(path) => Finding { needed: false, ..good(tool, path.display().to_string()) },
        None => Finding { needed: false, ..bad(tool, "not found", "needed only to look around by hand") },
    }
}

/// Credentials, services and permissions, as the project tells of them.
async fn google(environment: &Environment, cloud: &Cloud) -> Vec<Finding> {
    let project = &environment.project;
    let permissions: Vec<&str> = PERMISSIONS
        .iter()
        .filter(|(managed, _)| managed(&environment.manage) == Managed::Create)
        .flat_map(|(_, permissions)| permissions.iter().copied())
        .collect();
    let test =
        Request::new(Api::CloudResourceManager, Method::Post, format!("v1/projects/{project}:testIamPermissions"))
            .body(json!({"permissions": permissions}));
    let list = Request::get(Api::ServiceUsage, format!("v1/projects/{project}/services"))
        .query("filter", "state:ENABLED")
        .query("pageSize", "200");
    let (tested, listed) = tokio::join!(cloud.google.send(&test), cloud.google.list(&list, "services"));
    let mut findings = Vec::new();
    match tested {
        Err(error) if error.code == 401 => {
            findings.push(bad("credentials", error.message, "gcloud auth application-default login"));
            return findings;
        }
        Err(error) => findings.push(bad("project", error.to_string(), "check `project` in the environment file")),
        Ok(answer) => {
            findings.push(good("credentials", format!("accepted for project {project}")));
            let has = |wanted: &str| answer["permissions"].as_array().into_iter().flatten().any(|held| held == wanted);
            let missing: Vec<&str> = permissions.into_iter().filter(|wanted| !has(wanted)).collect();
            findings.push(match missing.is_empty() {
                true => good("permissions", "everything that provision does"),
                false => bad("permissions", format!("missing: {}", missing.join(", ")), "ask for a role that has them"),
            });
        }
    }
    findings.push(match listed {
        Err(error) => Finding { needed: false, ..bad("services", error.to_string(), "") },
        Ok(services) => {
            let on = |wanted: &str| services.iter().any(|service| service["config"]["name"] == wanted);
            let services = provision::desired::services(environment).into_iter();
            let off: Vec<String> =
                services.map(|name| format!("{name}.googleapis.com")).filter(|wanted| !on(wanted)).collect();
            let (fix, needed) = match environment.manage.apis {
                Managed::Create => ("cargo xtask provision enables them".to_owned(), false),
                // A laptop cloud serves what is not enabled too.
                _ => (
                    format!("gcloud services enable --project {project} {}", off.join(" ")),
                    environment.cloud == CloudKind::Google,
                ),
            };
            match off.is_empty() {
                true => good("services", "enabled"),
                false => Finding { needed, ..bad("services", format!("not enabled: {}", off.join(", ")), fix) },
            }
        }
    });
    findings
}

async fn cluster(environment: &Environment, cloud: &Cloud) -> Finding {
    match presence::has_cluster(environment, cloud).await {
        // Before the first `provision` that is as it should be.
        Ok(false) => return Finding { needed: false, ..bad("cluster", "there is none", "cargo xtask provision") },
        Err(error) => return bad("cluster", format!("{error:#}"), ""),
        Ok(true) => {}
    }
    let client = match &cloud.kubernetes {
        Ok(client) => client,
        Err(why) => return bad("cluster", why.clone(), "gcloud container clusters get-credentials"),
    };
    match client.apiserver_version().await {
        Ok(version) => good("cluster", format!("Kubernetes {}", version.git_version)),
        Err(error) => bad("cluster", error.to_string(), "see whether `kubectl version` works with the same context"),
    }
}
