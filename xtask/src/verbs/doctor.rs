//! `doctor`: checks everything an environment needs, and says how to fix each problem.

use std::path::Path;

use cli::{error::Failure, output::Output};
use contract::exit;
use provision::{
    Cloud, Environment, certificates,
    environment::CloudKind,
    finding::Finding,
    least_role::{self, Least},
    preflight, presence,
};

use crate::{context, globals::Globals, setup};

mod missing;

/// Programs for people; no verb needs them.
const TOOLS: [&str; 3] = ["kubectl", "gcloud", KUBECTL_PLUGIN];
const KUBECTL_PLUGIN: &str = "gke-gcloud-auth-plugin";

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only print the least custom role that the verbs need for this environment, and the commands that grant it
    #[arg(long)]
    roles: bool,
}

/// Checks the environment, prints every finding, and fails when something that is needed is missing or wrong.
///
/// # Errors
/// When the environment file cannot be read, or something needed is not fine.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    if args.roles {
        let least = least_role::least(&environment, globals.impersonated());
        if output.json {
            output.document(&least)?;
        } else {
            output.line(roles(&least))?;
        }
        return Ok(exit::DONE);
    }
    let paths = contract::config::variables().remove("PATH").unwrap_or_default();
    let mut findings: Vec<Finding> = TOOLS.iter().map(|tool| look_for(tool, &paths)).collect();
    findings.extend(login(&environment, globals));
    match setup::connect(&environment, globals).await {
        Ok(cloud) => {
            let (google, resources, cluster) = tokio::join!(
                preflight::check(&environment, &cloud, None),
                missing::resources(&environment, &cloud),
                cluster(&environment, &cloud, globals)
            );
            findings.extend(google);
            findings.push(resources);
            if let (true, Ok(client)) = (cluster.fine, &cloud.kubernetes) {
                findings.push(missing::namespaces(&environment, client).await);
                findings.extend(
                    certificates::check(&environment, client)
                        .await
                        .unwrap_or_else(|error| Some(Finding::bad("failed", "certificates", format!("{error:#}"), ""))),
                );
            }
            findings.push(cluster);
        }
        Err(error) => {
            let failure = cli::error::explain(&error);
            findings.push(Finding::bad(failure.code, "credentials", failure.what, failure.next.unwrap_or_default()));
        }
    }
    if output.json {
        output.document(&findings)?;
    } else {
        for Finding { what, code, fine, needed, seen, fix } in &findings {
            let word = if *fine {
                "ok"
            } else if *needed {
                "BAD"
            } else {
                "-"
            };
            let code = code.map(|code| format!(" [{code}]")).unwrap_or_default();
            output.line(format_args!("{word:<4} {what}: {seen}{code}"))?;
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

/// Each role as the file that `gcloud iam roles create --file` reads, below the commands that create and grant it.
fn roles(Least { roles, others }: &Least) -> String {
    let parts = roles.iter().map(|role| {
        let commands: String = role.commands.iter().map(|command| format!("#   {command}\n")).collect();
        format!("# {}: save this as {}.yaml, then\n{commands}{}", role.description, role.id, role.yaml())
    });
    let others: String = others.iter().map(|other| format!("# {other}\n")).collect();
    let parts = parts.chain((!others.is_empty()).then_some(others));
    parts.collect::<Vec<String>>().join("---\n").trim_end().to_owned()
}

/// Finds a program in these folders, written as in `PATH`.
fn look_for(tool: &str, paths: &str) -> Finding {
    let found = std::env::split_paths(paths)
        .map(|folder| folder.join(tool))
        .find(|path: &std::path::PathBuf| Path::is_file(path));
    match found {
        Some(path) => Finding::good(tool, path.display().to_string()).optional(),
        None => Finding::warning(tool, "not found", get(tool)),
    }
}

/// The login of everything on Google Cloud; a laptop cloud has its own.
fn login(environment: &Environment, globals: &Globals) -> Option<Finding> {
    if environment.cloud == CloudKind::Local {
        return None;
    }
    Some(match cloud::login::describe(&contract::config::variables()) {
        Ok(login) => Finding::good(
            "login",
            match globals.impersonated() {
                Some(email) => format!("{email}, impersonated by: {login}"),
                None => login,
            },
        ),
        Err(error) => {
            Finding::bad("credentials", "login", format!("{error:#}"), "gcloud auth application-default login")
        }
    })
}

fn get(tool: &str) -> &'static str {
    match tool {
        KUBECTL_PLUGIN => "needed only by kubectl: gcloud components install gke-gcloud-auth-plugin",
        "kubectl" => "needed only by people, not by any verb: gcloud components install kubectl",
        _ => "needed only by people, not by any verb: https://cloud.google.com/sdk/docs/install",
    }
}

async fn cluster(environment: &Environment, cloud: &Cloud, globals: &Globals) -> Finding {
    if let (Some(name), Err(why)) = (globals.context(), &cloud.kubernetes) {
        let fix = "see which contexts there are: kubectl config get-contexts";
        return Finding::bad("no-cluster", "cluster", format!("no way to that of the context {name}: {why}"), fix);
    }
    match presence::has_cluster(environment, cloud).await {
        // Before the first `provision` that is as it should be.
        Ok(false) => return Finding::warning("cluster", "there is none", "cargo xtask provision"),
        Err(error) => return Finding::bad("failed", "cluster", format!("{error:#}"), ""),
        Ok(true) => {}
    }
    let client = match &cloud.kubernetes {
        Ok(client) => client,
        Err(why) => {
            return Finding::bad("no-cluster", "cluster", why.clone(), "cargo xtask provision");
        }
    };
    match client.apiserver_version().await {
        Ok(version) => Finding::good("cluster", format!("Kubernetes {}", version.git_version)),
        Err(error) => {
            let seen = format!("{:#}", anyhow::Error::new(error).context("it does not answer"));
            let fix = "see whether `kubectl version` works; the login needs `container.clusters.connect`";
            Finding::bad("cluster-unreachable", "cluster", seen, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_found_or_comes_with_where_to_get_it() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |folders: &[&Path]| std::env::join_paths(folders).unwrap().into_string().unwrap();
        for (tool, fix) in [
            ("kubectl", "gcloud components install kubectl"),
            ("gcloud", "https://cloud.google.com/sdk/docs/install"),
            ("gke-gcloud-auth-plugin", "gcloud components install gke-gcloud-auth-plugin"),
        ] {
            assert!(TOOLS.contains(&tool));
            let missing = look_for(tool, &path(&[empty.path()]));
            assert!(!missing.fine && !missing.needed && missing.fix.unwrap().contains(fix), "{tool}");
            std::fs::write(full.path().join(tool), "").unwrap();
            let found = look_for(tool, &path(&[empty.path(), full.path()]));
            assert!(found.fine && found.seen.ends_with(tool), "{found:?}");
        }
    }
}
