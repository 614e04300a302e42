//! A deploy that failed: rolls it back, and describes the failure.

use std::sync::Arc;

use futures::future::join_all;
use kube::Client;

use super::{
    Failed, Preview, Rollout, Why,
    event::{Event, Progress},
    rollback::{self, had_before},
    wait_for,
};
use crate::{Cloud, environment::Environment, failure::Failure, plan, resource::Kind};

/// Rolls a deploy back and returns notes for the error message.
pub(super) async fn roll_back(
    client: &Client,
    preview: &Preview,
    rollouts: &[Rollout],
    progress: &Progress,
) -> Vec<String> {
    progress(Event::RollingBack);
    let mut notes = match rollback::roll_back(client, preview).await {
        Ok(notes) if notes.is_empty() => {
            return vec!["nothing was taken back: there was no version before this one".to_owned()];
        }
        Ok(notes) => notes,
        Err(error) => return vec![format!("it could not be taken back: {error:#}")],
    };
    for what in &notes {
        progress(Event::RolledBack { what: what.clone() });
    }
    notes = vec![format!("{} objects were taken back", notes.len())];
    let before = had_before(preview);
    let had = |rollout: &&Rollout| before.contains(&format!("{}/{}", rollout.namespace, rollout.name));
    let waits = rollouts.iter().filter(had).map(|rollout| async move {
        match wait_for(client, rollout, &|_| {}).await {
            Ok(()) => format!("{}/{} runs as before", rollout.namespace, rollout.name),
            Err(error) => format!("{}/{} does not run as before: {error:#}", rollout.namespace, rollout.name),
        }
    });
    notes.extend(join_all(waits).await);
    notes
}

/// The error with the notes of the rollback.
pub(super) fn with_notes(error: anyhow::Error, notes: &[String]) -> anyhow::Error {
    match error.downcast::<Failure>() {
        Ok(failure) => {
            let why = format!("{}\n{}", failure.why, notes.join("\n"));
            Failure { why, ..failure }.into()
        }
        Err(error) => anyhow::anyhow!("{error:#}\n{}", notes.join("\n")),
    }
}

/// The failure that rollouts led to.
pub(super) async fn describe(
    environment: &Environment,
    cloud: &Cloud,
    failures: Vec<anyhow::Error>,
    notes: Vec<String>,
) -> anyhow::Error {
    let failed: Vec<Failed> = failures.iter().filter_map(|error| error.downcast_ref::<Failed>().cloned()).collect();
    let Some(first) = failed.first() else {
        let all: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
        return anyhow::anyhow!("{}", all.join("\n"));
    };
    let mut why: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    if failed.iter().any(|failed| failed.cause.why == Why::Identity)
        && let Some(gap) = missing_identity(environment, cloud).await
    {
        why.push(gap);
    }
    why.extend(notes);
    let on: Vec<&str> = failed.iter().map(|failed| failed.deployment.as_str()).collect();
    let namespace = first.deployment.split('/').next().unwrap_or_default();
    Failure {
        code: first.cause.why.code(),
        what: format!("{} of the rollouts failed", failures.len()),
        on: on.join(", "),
        why: why.join("\n"),
        next: first.cause.why.next().replace("NAMESPACE", namespace),
    }
    .into()
}

/// Differences of the identities from the environment file, if the cloud can be read.
async fn missing_identity(environment: &Environment, cloud: &Cloud) -> Option<String> {
    let silent: crate::apply::Progress = Arc::new(|_| {});
    let plan = crate::make_plan(environment, cloud, plan::Options::default(), &silent).await.ok()?;
    let is_identity = |id: &crate::resource::Id| id.is_policy() || id.kind == Kind::ServiceAccount;
    let missing = plan.pending().filter(|change| is_identity(&change.id)).map(|change| change.id.to_string());
    let missing: Vec<String> = missing.collect();
    match missing.is_empty() {
        true => {
            let known = "a new one takes two minutes to be known as a rule, and at times seven";
            Some(format!("every binding of the environment is there: {known}"))
        }
        false => Some(format!("these are not as they should be: {}", missing.join(", "))),
    }
}
