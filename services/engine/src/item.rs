//! One item that is computed: by the built-in kernel, and what a try means for its record.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contract::{
    outcome::{Reason, State},
    pack::Item,
};

use crate::{compute::Output, failure::Failure, log::LogTail, range::items::Items, resident};

/// Pause before items that failed are tried again for the first time; later ones are four times as long each.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// The record of an item after a try, without its result; `None` when it is to be tried again. The first try is 0.
pub(crate) fn record_of(
    index: u32,
    attempt: u32,
    retries: u32,
    ended: Result<(), Failure>,
    seconds: f64,
    log: &LogTail,
) -> Option<Item> {
    let seconds = Some((seconds * 1e6).round() / 1e6);
    let Err(failure) = ended else {
        let (name, state, reason, log_tail, result) = (None, State::Succeeded, None, None, None);
        return Some(Item { index, name, state, reason, log_tail, row_errors: 0, seconds, result });
    };
    let log_tail = Some(log.text()).filter(|text| !text.is_empty());
    log.line(&failure.to_string());
    // An item that ended two processes will end more.
    let is_last = attempt >= retries || failure.code == resident::ENDED && attempt > 0;
    if !failure.permanent && !is_last {
        return None;
    }
    let reason = if failure.permanent || attempt == 0 {
        Reason { code: failure.code.to_owned(), message: failure.message }
    } else {
        let message = format!("it failed {} times, at last with {failure}", attempt + 1);
        Reason { code: "retries-exhausted".to_owned(), message }
    };
    Some(Item { log_tail, seconds, ..Item::without_result(index, State::Failed, reason) })
}

/// Pause before what failed is tried again.
pub(crate) fn retry_pause(attempt: u32) -> Duration {
    RETRY_PAUSE.saturating_mul(4_u32.saturating_pow(attempt)).min(RETRY_PAUSE_MAX)
}

/// Computes an item with the built-in kernel on a thread of its own, so that the runtime's thread keeps connections and
/// credentials alive. The thread drops `held` when it ends, which may be later: it cannot be stopped.
pub(crate) async fn compute_with_kernel(
    items: Arc<Items>,
    index: u32,
    threads: usize,
    limit: Duration,
    held: impl Send + 'static,
) -> Result<Output, Failure> {
    let computing = tokio::task::spawn_blocking(move || {
        let _held = held;
        items.compute(index, threads)
    });
    match tokio::time::timeout(limit, computing).await {
        Ok(computed) => computed.context("compute the result")?,
        Err(_) => {
            let message = format!("the item was computed for longer than {} s", limit.as_secs());
            Err(Failure::transient("timeout", message))
        }
    }
}
