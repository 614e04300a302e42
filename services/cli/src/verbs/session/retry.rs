//! `session retry`: another attempt at what did not succeed, if wanted with more memory or time.

use std::{collections::BTreeMap, time::Duration};

use contract::{config::Business, exit, message::Resources};
use futures::{StreamExt as _, stream};
use serde_json::json;
use sessions::{Retried, Retrier, Selection, jobs::State};

use super::{Change, Of, wait};
use crate::{
    context::Opener,
    error::{self, Failure},
    output::Output,
    text,
};

/// Retries under way at once.
const CONCURRENCY: usize = 32;
/// Jobs named in a message.
const NAMED: usize = 5;

/// Each Job that failed, was cancelled, or was not accepted by the cluster gets another attempt, with the options of the
/// one before. What succeeded has no input any more and is left alone.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only these Jobs [default: all that did not succeed]
    jobs: Vec<String>,
    /// Only those that failed, not those that were cancelled
    #[arg(long)]
    failed: bool,
    /// Only those with these reason codes (`out-of-memory`, `timeout`, …)
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    reason: Vec<String>,
    #[command(flatten)]
    more: More,
    /// Wait until every Job of the session has its outcome; exit 1 unless all succeeded
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    change: Change,
}

/// What the new attempt is given other than the one before.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct More {
    /// Memory of the new attempt, as a Kubernetes quantity such as 2Gi (at most 8 times the business's)
    #[arg(long)]
    memory: Option<String>,
    /// How long the new attempt may run, such as 2h (at most 8 times the business's timeout)
    #[arg(long, value_parser = text::parse_duration)]
    timeout: Option<Duration>,
}

impl More {
    /// As the message carries it.
    ///
    /// # Errors
    /// When it is not within what the business may give an attempt.
    pub(crate) fn resources(&self, business: &Business) -> anyhow::Result<Resources> {
        let timeout_secs = self.timeout.map(|timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
        let resources = Resources { memory: self.memory.clone(), timeout_secs };
        resources.check(business).map_err(|refusal| {
            Failure::usage("an attempt cannot have so much, or so little")
                .why(refusal.message)
                .next("the business's engine.memory and engine.timeout in the environment file set what is usual")
        })?;
        Ok(resources)
    }
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let seen = args.of.look(&context, output, false).await?;
    let more = args.more.resources(seen.business)?;
    let selection = Selection {
        states: if args.failed { vec![State::Failed] } else { Vec::new() },
        codes: args.reason.clone(),
        jobs: args.jobs.clone(),
    };
    let chosen = selection.choose(&seen.jobs);
    if let Some(unknown) = args.jobs.iter().find(|job| !seen.jobs.iter().any(|known| known.job == **job)) {
        return Err(Failure::new("no-such-job", format!("there is no Job {unknown:?} in session {}", seen.session))
            .next(format!("cargo xtask{} jobs --session {}", context.flag, seen.session))
            .into());
    }
    if chosen.is_empty() {
        output.note(format_args!("nothing of session {} is to be tried again", seen.session));
        if output.json {
            output.document(&json!({"session": seen.session, "retried": [], "failed": []}))?;
        }
        return Ok(exit::DONE);
    }
    let mut by_code: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &chosen {
        *by_code.entry(if one.code.is_empty() { one.state.as_str() } else { &one.code }).or_default() += 1;
    }
    let reasons: Vec<String> = by_code.iter().map(|(code, count)| format!("{count} {code}")).collect();
    output.note(format_args!(
        "{} of session {} get another attempt ({}){}",
        text::count(chosen.len(), "Job"),
        seen.session,
        reasons.join(", "),
        described(&more)
    ));
    if seen.control.as_ref().is_some_and(|control| control.paused) {
        output.warn(format_args!("the session is paused; they wait until `session resume {}`", seen.scope));
    }
    if args.change.dry_run {
        if output.json {
            output.document(&chosen)?;
        } else {
            output.line(chosen.iter().map(|one| one.job.as_str()).collect::<Vec<_>>().join("\n"))?;
        }
        return Ok(exit::DONE);
    }
    args.change.agree(&context, "try them again?")?;
    let publisher = context.connection.base_publisher().await?;
    let retrier = Retrier::new(context.store.clone(), &publisher, seen.business.clone());
    let (retrier, more) = (&retrier, &more);
    let retries =
        chosen.iter().map(|one| async move { (one.job.clone(), retrier.retry(one, more).await) }).collect::<Vec<_>>();
    let done = carry_out("retried", retries, output).await;
    let code = tell(&done, output, !args.wait)?;
    if !args.wait || code != exit::DONE {
        return Ok(code);
    }
    let seen = args.of.look(&context, output, false).await?;
    wait::until_settled(&context, seen, None, output).await
}

fn described(more: &Resources) -> String {
    let memory = more.memory.as_ref().map(|memory| format!("{memory} of memory"));
    let timeout = more.timeout_secs.map(|seconds| format!("{seconds} s to run"));
    let parts: Vec<String> = memory.into_iter().chain(timeout).collect();
    if parts.is_empty() { String::new() } else { format!(", with {}", parts.join(" and ")) }
}

/// What became of each of many, some at a time.
pub(crate) async fn carry_out(
    what: &str,
    retries: Vec<impl Future<Output = (String, anyhow::Result<Retried>)>>,
    output: &Output,
) -> Vec<(String, anyhow::Result<Retried>)> {
    let mut progress = output.progress(what, retries.len());
    let mut all = std::pin::pin!(stream::iter(retries).buffer_unordered(CONCURRENCY));
    let mut done = Vec::new();
    while let Some(one) = all.next().await {
        done.push(one);
        progress.set(done.len(), "");
    }
    done.sort_by(|(one, _), (other, _)| one.cmp(other));
    done
}

/// Says what became of them, and gives the exit code. Prints it as JSON when asked to and it `is_last`.
///
/// # Errors
/// When some could not be tried again.
pub(crate) fn tell(done: &[(String, anyhow::Result<Retried>)], output: &Output, is_last: bool) -> anyhow::Result<u8> {
    let failed: Vec<(&str, String)> = done
        .iter()
        .filter_map(|(job, retried)| match retried {
            Ok(Retried::Published { .. }) => None,
            Ok(Retried::InputGone) => Some((job.as_str(), "its input is gone".to_owned())),
            Err(error) => Some((job.as_str(), error::chain(error).join(": "))),
        })
        .collect();
    if output.json && is_last {
        let published = done.iter().filter_map(|(job, retried)| match retried {
            Ok(Retried::Published { attempt, message_id }) => {
                Some(json!({"job": job, "attempt": attempt, "message_id": message_id}))
            }
            _ => None,
        });
        let failed = failed.iter().map(|(job, why)| json!({"job": job, "error": why}));
        output.document(&json!({
            "retried": published.collect::<Vec<_>>(), "failed": failed.collect::<Vec<_>>(),
        }))?;
    }
    output.note(format_args!("{} published", text::count(done.len() - failed.len(), "message")));
    let Some((first, why)) = failed.first() else { return Ok(exit::DONE) };
    let names = text::some(failed.iter().map(|(job, _)| *job), NAMED);
    Err(Failure::new("not-retried", format!("{} not tried again: {names}", text::count(failed.len(), "Job")))
        .why(format!("{first}: {why}"))
        .next("submit what has no input any more again; for the others run the same command")
        .into())
}
