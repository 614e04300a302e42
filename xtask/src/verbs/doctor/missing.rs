//! Checks which resources and namespaces of an environment are missing, for example after a deletion by hand.

use std::sync::Arc;

use inspect::cluster::{NamespaceState, namespace_state};
use provision::{
    Cloud, Environment, apply,
    finding::Finding,
    plan::{self, Action, Change, Plan},
    resource::Kind,
};

use crate::context;

/// Checks that the project has the resources of the environment file.
pub(super) async fn resources(environment: &Environment, cloud: &Cloud) -> Finding {
    let silent: apply::Progress = Arc::new(|_| {});
    match provision::make_plan(environment, cloud, plan::Options::default(), &silent).await {
        Ok(plan) => of_plan(&plan),
        Err(error) => Finding::bad("failed", "resources", format!("{error:#}"), ""),
    }
}

fn of_plan(plan: &Plan) -> Finding {
    const WHAT: &str = "resources";
    const FIX: &str = "cargo xtask provision; `cargo xtask plan` shows what it does";
    let gone: Vec<String> = plan.changes.iter().filter_map(gone).collect();
    let is_set_up = |change: &Change| {
        change.live.is_some() && matches!(change.id.kind, Kind::Cluster | Kind::Topic | Kind::Subscription)
    };
    let differ = plan.pending().count();
    if gone.is_empty() {
        return match differ {
            0 => Finding::good(WHAT, "as the environment file says"),
            _ => Finding::warning(WHAT, format!("{differ} are not as the environment file says"), FIX),
        };
    }
    if !plan.changes.iter().any(is_set_up) {
        // That is normal before the first `provision`.
        return Finding::warning(WHAT, "nothing is provisioned", "cargo xtask provision");
    }
    Finding::bad("not-found", WHAT, gone.join(", "), FIX)
}

/// The reason for a change, when its resource does not exist or cannot work.
fn gone(change: &Change) -> Option<String> {
    let id = &change.id;
    match &change.action {
        Action::Create => Some(format!("there is no {id}")),
        Action::Missing if change.live.is_none() => Some(format!("there is no {id}; somebody else must create it")),
        Action::Replace => Some(format!("the topic of the {id} was deleted")),
        Action::Blocked { reason, .. } => Some(format!("{id}: {reason}")),
        Action::Foreign { owner } => Some(format!("{id} is somebody else's: {owner}")),
        Action::Missing
        | Action::Update
        | Action::Adopt
        | Action::Await
        | Action::Delete
        | Action::Revoke
        | Action::Kept { .. }
        | Action::Extra
        | Action::Nothing => None,
    }
}

/// The namespaces of the businesses; one that was deployed from this machine must exist.
pub(super) async fn namespaces(environment: &Environment, client: &kube::Client) -> Finding {
    let (mut gone, mut was_deployed) = (Vec::new(), false);
    for business in &environment.businesses {
        match namespace_state(client, &business.namespace).await {
            Ok(NamespaceState::Active) => {}
            Ok(NamespaceState::Terminating) => {
                let seen = format!("{} is being deleted, which waits for its unsettled Jobs", business.namespace);
                let fix = format!(
                    "cargo xtask clean --business {} releases them; then, if it should exist, cargo xtask deploy",
                    business.name
                );
                return Finding::bad("namespace-ending", "namespaces", seen, fix);
            }
            Ok(NamespaceState::Missing) => {
                gone.push(business.namespace.as_str());
                was_deployed |= context::generated(environment).join("manifests").join(&business.name).is_dir();
            }
            Err(error) => return Finding::bad("failed", "namespaces", format!("{error:#}"), ""),
        }
    }
    if gone.is_empty() {
        return Finding::good("namespaces", "every business has its namespace");
    }
    let finding =
        Finding::bad("no-namespace", "namespaces", format!("missing: {}", gone.join(", ")), "cargo xtask deploy");
    if was_deployed { finding } else { finding.optional() }
}
