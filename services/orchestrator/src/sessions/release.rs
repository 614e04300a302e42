//! Releases parked messages: requeues those of sessions that are no longer paused, and writes the outcomes of cancelled
//! ones.
//!
//! A session may have very many parked messages, so many are released at the same time. After some hundreds the
//! decisions are read once more, so that a new decision does not wait for the rest.

use anyhow::Context as _;
use cloud::storage::Object;
use contract::{control::Parked, object};
use futures::StreamExt as _;

use super::{Controls, Decisions, Errors, SessionState, cancelled_outcome, read};
use crate::{execute::job::Origin, hooks::Step, settle::record::Records};

/// Records that are released at the same time.
const CONCURRENCY: usize = 64;
/// Records after which the decisions are read once more.
const RECORDS_PER_READ: usize = 256;

/// Releases every releasable record. A record that fails does not block the others. Returns whether the decisions
/// changed meanwhile, which ends this early.
pub(super) async fn all(
    controls: &Controls,
    records: &Records,
    decisions: &Decisions,
    errors: &mut Errors,
) -> anyhow::Result<bool> {
    let (base, business) = (&controls.base, &controls.base.business);
    let prefix = object::parked_prefix(&business.name, None);
    let releasable = base.store.list_stream(&business.bucket, &prefix).filter(|found| {
        let keep = found.as_ref().map_or(true, |found| is_releasable(&business.name, found, decisions));
        std::future::ready(keep)
    });
    let mut releasable = releasable.chunks(RECORDS_PER_READ);
    let mut count = 0_u64;
    let mut changed = false;
    while let Some(some) = releasable.next().await {
        let some = some.into_iter().collect::<anyhow::Result<Vec<Object>>>()?;
        let is_more = some.len() == RECORDS_PER_READ;
        let tried = futures::stream::iter(some).map(|found| release(controls, records, found));
        let mut tried = Box::pin(tried.buffer_unordered(CONCURRENCY));
        while let Some(tried) = tried.next().await {
            match tried {
                Ok(released) => count += u64::from(released),
                Err(error) => errors.add(error),
            }
        }
        if is_more && read(controls).await?.changed {
            changed = true;
            break;
        }
    }
    if count > 0 {
        tracing::info!(count, "released parked messages");
    }
    Ok(changed)
}

/// Whether a record may be released by its session's decision. Of a paused session only cancelled work is released,
/// which only the record's contents show.
fn is_releasable(business: &str, found: &Object, decisions: &Decisions) -> bool {
    let Some(session) = object::parse_parked(business, &found.name) else { return false };
    let control = decisions.get(session).map(|decision| &decision.control);
    control.is_none_or(|control| !control.paused || control.has_cancelled())
}

/// Releases one record unless its session is paused; returns whether it was released.
async fn release(controls: &Controls, records: &Records, found: Object) -> anyhow::Result<bool> {
    let base = &controls.base;
    let bucket = &base.business.bucket;
    let Object { name, generation, .. } = &found;
    let Some((_, body)) = base.store.read(bucket, name, None).await? else { return Ok(false) };
    let parked: Parked = match serde_json::from_slice(&body) {
        Ok(parked) => parked,
        Err(error) => {
            // Its input stays, so the sweep requeues it when the session is not paused any more.
            tracing::error!(object = name, "failed to read a parked message: {error}");
            return Ok(false);
        }
    };
    let context_of = || format!("release {name}");
    let Parked { work, message_id, published, parked, .. } = parked;
    let origin = Origin { message_id, published, received: parked };
    match controls.state_of_session(&work, published).await.with_context(context_of)? {
        SessionState::Paused => return Ok(false),
        SessionState::Cancelled => {
            records.conclude(&origin, &work, cancelled_outcome(&work)).await.with_context(context_of)?;
        }
        SessionState::Open => match work.check_message() {
            Ok(()) => {
                base.requeue(&work, published).await?;
                base.hooks.reached(Step::Released, None, Some(&work.identity)).await;
            }
            Err(refusal) => records.refuse(&origin, &work, &refusal).await.with_context(context_of)?,
        },
    }
    base.store.delete(bucket, name, *generation).await?;
    Ok(true)
}
