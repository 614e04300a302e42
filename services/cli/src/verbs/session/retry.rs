//! `session retry`: a new attempt at Jobs that did not succeed, optionally with more memory or time.

use std::collections::BTreeMap;

use contract::{exit, message::Resources};
use serde_json::json;
use sessions::{Retrier, Selection, jobs::State};

use super::{target::SessionArgs, wait};
use crate::{
    attempts::{self, ResourceArgs},
    change::Change,
    context::Opener,
    error::Failure,
    output::Output,
    text,
    verbs::WAIT_LIMIT,
};

/// Jobs that failed, were cancelled or were refused by the cluster get a new attempt, with the options of the last one.
/// Jobs that succeeded are not run again.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Only these Jobs [default: all that did not succeed]
    jobs: Vec<String>,
    /// Only failed Jobs, not cancelled ones
    #[arg(long)]
    failed: bool,
    /// Only Jobs with these reason codes (`out-of-memory`, `timeout`, …)
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    reason: Vec<String>,
    #[command(flatten)]
    resources: ResourceArgs,
    /// Wait until every Job of the session has an outcome; exit code 1 unless all succeeded
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, false).await?;
    let resources = args.resources.resources(session.business)?;
    let selection = Selection {
        states: if args.failed { vec![State::Failed] } else { Vec::new() },
        codes: args.reason.clone(),
        jobs: args.jobs.clone(),
    };
    let chosen = selection.choose(&session.jobs);
    if let Some(unknown) = args.jobs.iter().find(|job| !session.jobs.iter().any(|known| known.job == **job)) {
        return Err(Failure::new("no-such-job", format!("there is no Job {unknown:?} in session {}", session.name))
            .next(format!("cargo xtask{} jobs --session {}", context.flag, session.name))
            .into());
    }
    if chosen.is_empty() {
        output.note(format_args!("session {} has no Job to retry", session.name));
        if output.json {
            output.document(&json!({"session": session.name, "retried": [], "failed": []}))?;
        }
        return Ok(exit::DONE);
    }
    let mut by_code: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &chosen {
        *by_code.entry(if one.code.is_empty() { one.state.as_str() } else { &one.code }).or_default() += 1;
    }
    let reasons: Vec<String> = by_code.iter().map(|(code, count)| format!("{count} {code}")).collect();
    output.note(format_args!(
        "{} of session {} get a new attempt ({}){}",
        text::count(chosen.len(), "Job"),
        session.name,
        reasons.join(", "),
        described(&resources)
    ));
    if session.control.as_ref().is_some_and(|control| control.paused) {
        output.warn(format_args!("the session is paused; the Jobs wait until `session resume {}`", session.scope));
    }
    if args.change.dry_run {
        if output.json {
            output.document(&chosen)?;
        } else {
            output.line(chosen.iter().map(|one| one.job.as_str()).collect::<Vec<_>>().join("\n"))?;
        }
        return Ok(exit::DONE);
    }
    args.change.confirm(&context, "retry them?")?;
    context.check_queue(session.business).await?;
    let publisher = context.connection.base_publisher().await?;
    let retrier = Retrier::new(context.store.clone(), &publisher, session.business.clone());
    let (retrier, resources) = (&retrier, &resources);
    let requests = chosen.iter().map(|one| async move { (one.job.clone(), retrier.retry(one, resources).await) });
    let done = attempts::send("retried", requests.collect(), output).await;
    let code = attempts::report(&done, output, !args.wait)?;
    if !args.wait || code != exit::DONE {
        return Ok(code);
    }
    let session = args.session.read(&context, output, false).await?;
    wait::until_settled(&context, session, WAIT_LIMIT, output).await
}

fn described(resources: &Resources) -> String {
    let memory = resources.memory.as_ref().map(|memory| format!("{memory} of memory"));
    let timeout = resources.timeout_secs.map(|seconds| format!("a time limit of {seconds} s"));
    let parts: Vec<String> = memory.into_iter().chain(timeout).collect();
    if parts.is_empty() { String::new() } else { format!(", with {}", parts.join(" and ")) }
}
