//! The promises of the queue, checked in the bucket.

use std::collections::{BTreeMap, BTreeSet};

use cli::Context;
use cloud::{
    clients::Connection,
    storage::{self, Properties, Store},
};
use contract::{Identity, object};
use provision::{Cloud, Environment};
use serde::Serialize;

use super::{
    BUSINESSES, impersonate,
    work::{Found, MALFORMED, Submitted},
};

/// One promise, and whether it held.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// The promise.
    pub(super) promise: String,
    /// Whether it held.
    pub(super) holds: bool,
    /// What was seen.
    pub(super) seen: String,
}

/// Runs all checks.
pub(super) async fn all(
    context: &Context,
    environment: &Environment,
    cloud: &Cloud,
    submitted: &[Submitted],
    outcomes: &[Found],
) -> anyhow::Result<Vec<Check>> {
    let mut inputs = BTreeSet::new();
    for business in BUSINESSES {
        let listed = context.store.list(&context.config.bucket, &object::input_prefix(business)).await?;
        inputs.extend(listed.into_iter().map(|input| input.name));
    }
    Ok(vec![
        inputs_gone(outcomes, &inputs),
        inputs_kept(outcomes, &inputs),
        one_outcome_each(submitted, outcomes),
        results_exist(context, outcomes).await?,
        malformed_named(outcomes),
        isolated(context, environment, cloud, &inputs).await?,
    ])
}

fn input_of(found: &Found) -> Option<&str> {
    found.outcome.identity().map(|identity| identity.object.as_str())
}

fn inputs_gone(outcomes: &[Found], inputs: &BTreeSet<String>) -> Check {
    let succeeded: Vec<&str> = outcomes.iter().filter(|found| found.succeeded()).filter_map(input_of).collect();
    let left: Vec<&str> = succeeded.iter().copied().filter(|input| inputs.contains(*input)).collect();
    Check {
        promise: "the input of every job that succeeded is gone".to_owned(),
        holds: left.is_empty() && !succeeded.is_empty(),
        seen: format!("{} succeeded, {} inputs of theirs left", succeeded.len(), left.len()),
    }
}

fn inputs_kept(outcomes: &[Found], inputs: &BTreeSet<String>) -> Check {
    let failed: Vec<&str> = outcomes.iter().filter(|found| !found.succeeded()).filter_map(input_of).collect();
    let kept = failed.iter().filter(|input| inputs.contains(**input)).count();
    Check {
        promise: "the input of every job that failed is kept".to_owned(),
        holds: kept == failed.len() && !failed.is_empty(),
        seen: format!("{} failed, {kept} inputs of theirs kept", failed.len()),
    }
}

fn one_outcome_each(submitted: &[Submitted], outcomes: &[Found]) -> Check {
    let mut count: BTreeMap<&Identity, usize> = BTreeMap::new();
    for identity in outcomes.iter().filter_map(|found| found.outcome.identity()) {
        *count.entry(identity).or_default() += 1;
    }
    let wanted: BTreeMap<&str, i64> = submitted
        .iter()
        .flat_map(|submitted| submitted.inputs.iter().map(|(input, generation)| (input.as_str(), *generation)))
        .collect();
    let expected = count.keys().filter(|identity| {
        wanted.get(identity.object.as_str()).is_some_and(|generation| [0, identity.generation].contains(generation))
    });
    let expected = expected.count();
    let twice = count.values().filter(|count| **count != 1).count();
    Check {
        promise: "every identity has exactly one outcome".to_owned(),
        holds: expected == wanted.len() && count.len() == wanted.len() && twice == 0 && outcomes.len() == wanted.len(),
        seen: format!("{} submitted, {} outcomes for {} identities", wanted.len(), outcomes.len(), count.len()),
    }
}

async fn results_exist(context: &Context, outcomes: &[Found]) -> anyhow::Result<Check> {
    let mut listed = 0;
    let mut missing = 0;
    let mut results = BTreeSet::new();
    for business in BUSINESSES {
        let prefix = format!("{business}/output/");
        results
            .extend(context.store.list(&context.config.bucket, &prefix).await?.into_iter().map(|result| result.name));
    }
    for found in outcomes.iter().filter(|found| found.succeeded()) {
        for result in found.outcome.work.iter().map(contract::message::Work::output) {
            listed += 1;
            missing += usize::from(!results.contains(&result));
        }
    }
    Ok(Check {
        promise: "every job that succeeded has its result, and no other job has one".to_owned(),
        holds: missing == 0 && listed == results.len(),
        seen: format!("{listed} results expected, {missing} missing, {} there", results.len()),
    })
}

fn malformed_named(outcomes: &[Found]) -> Check {
    let malformed: Vec<_> = outcomes
        .iter()
        .filter(|found| found.outcome.work.as_ref().is_some_and(|work| work.job == MALFORMED))
        .map(|found| &found.outcome)
        .collect();
    let named = malformed
        .iter()
        .filter(|outcome| {
            let message = &outcome.reason.message;
            outcome.exit_code == Some(i32::from(contract::exit::PERMANENT))
                && message.contains("line ")
                && message.contains("strike")
        })
        .count();
    Check {
        promise: "a malformed input fails at once, with line and field named".to_owned(),
        holds: named == BUSINESSES.len() && malformed.len() == BUSINESSES.len(),
        seen: malformed.first().map(|outcome| outcome.reason.message.clone()).unwrap_or_default(),
    }
}

/// Tries everything that the first business's identities must not do to the second's objects, existing or not.
async fn isolated(
    context: &Context,
    environment: &Environment,
    cloud: &Cloud,
    inputs: &BTreeSet<String>,
) -> anyhow::Result<Check> {
    let [ours, theirs] = BUSINESSES;
    let bucket = &context.config.bucket;
    let existing = inputs.iter().find(|input| input.starts_with(&object::input_prefix(theirs))).cloned();
    let absent = object::input(theirs, "none", "none.json");
    let accounts = environment.business(ours).map(|business| business.accounts.clone());
    let mut tried = 0;
    let mut refused = 0;
    let mut allowed = Vec::new();
    for email in accounts.iter().flat_map(|accounts| [&accounts.client, &accounts.orchestrator, &accounts.engine]) {
        let credentials = impersonate::credentials(cloud, &environment.project, email).await?;
        let store = Store::connect(&Connection::with_credentials(&context.connection.endpoints, credentials)).await?;
        let mut attempts = Vec::new();
        for name in existing.iter().chain([&absent]) {
            attempts.push((format!("read {name}"), store.read(bucket, name, None).await.map(|_| ())));
        }
        let planted = object::input(theirs, "planted", "by-another.json");
        let written = store.write_once(bucket, &planted, "{}", Properties::json()).await;
        attempts.push((format!("write {planted}"), written.map(|_| ())));
        if let Some(name) = &existing
            && let Some(live) = context.store.describe(bucket, name, None).await?
        {
            attempts.push((format!("delete {name}"), store.delete(bucket, name, live.generation).await.map(|_| ())));
        }
        for (what, result) in attempts {
            tried += 1;
            match result {
                Err(error) if storage::is_denied(&error) => refused += 1,
                Ok(()) => allowed.push(format!("{email} could {what}")),
                Err(error) => allowed.push(format!("{email}: {what}: {error:#}")),
            }
        }
    }
    Ok(Check {
        promise: format!("{ours}'s identities are refused on {theirs}'s objects"),
        holds: existing.is_some() && tried > 0 && refused == tried,
        seen: format!(
            "{refused} of {tried} attempts refused{}",
            allowed.iter().map(|line| format!("; {line}")).collect::<String>()
        ),
    })
}
