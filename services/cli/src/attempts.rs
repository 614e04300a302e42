//! New attempts at Jobs: the resources they may get, how many run at once, and the report of them.

use std::time::Duration;

use contract::{config::Business, exit, message::Resources};
use futures::{StreamExt as _, stream};
use serde_json::json;
use sessions::Retried;

use crate::{
    error::{self, Failure},
    output::Output,
    text,
};

/// Requests under way at once.
const CONCURRENCY: usize = 32;
/// Jobs named in a message.
const NAMED: usize = 5;

/// Resources of a new attempt that differ from the last one.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ResourceArgs {
    /// Memory of the new attempt, as a Kubernetes quantity such as 2Gi (at most 8 times the business's)
    #[arg(long)]
    memory: Option<String>,
    /// Time limit of the new attempt, such as 2h (at most 8 times the business's timeout)
    #[arg(long, value_parser = text::parse_duration)]
    timeout: Option<Duration>,
}

impl ResourceArgs {
    /// The resources as a message carries them.
    ///
    /// # Errors
    /// When the business does not allow so much.
    pub(crate) fn resources(&self, business: &Business) -> anyhow::Result<Resources> {
        let timeout_secs = self.timeout.map(|timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
        let resources = Resources { memory: self.memory.clone(), timeout_secs };
        resources.check(business).map_err(|refusal| {
            Failure::usage("these resources are outside the limits of an attempt")
                .why(refusal.message)
                .next("engine.memory and engine.timeout of the business in the environment file set the limits")
        })?;
        Ok(resources)
    }
}

/// Sends the requests, some at a time, with progress; returns each Job with its result, in order of name.
pub(crate) async fn send(
    what: &str,
    requests: Vec<impl Future<Output = (String, anyhow::Result<Retried>)>>,
    output: &Output,
) -> Vec<(String, anyhow::Result<Retried>)> {
    let mut progress = output.progress(what, requests.len());
    let mut all = std::pin::pin!(stream::iter(requests).buffer_unordered(CONCURRENCY));
    let mut done = Vec::new();
    while let Some(one) = all.next().await {
        done.push(one);
        progress.set(done.len(), "");
    }
    done.sort_by(|(one, _), (other, _)| one.cmp(other));
    done
}

/// Prints the results of the requests, as JSON when `is_last`, and returns the exit code.
///
/// # Errors
/// When a request failed.
pub(crate) fn report(done: &[(String, anyhow::Result<Retried>)], output: &Output, is_last: bool) -> anyhow::Result<u8> {
    let failed: Vec<(&str, String)> = done
        .iter()
        .filter_map(|(job, retried)| match retried {
            Ok(Retried::Published { .. }) => None,
            Ok(Retried::InputGone) => Some((job.as_str(), "its input does not exist any more".to_owned())),
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
    Err(Failure::new("not-retried", format!("{} not retried: {names}", text::count(failed.len(), "Job")))
        .why(format!("{first}: {why}"))
        .next("submit Jobs without an input again; run the same command for the others")
        .into())
}
