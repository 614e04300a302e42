//! Changes the control object of a session: pause, resume, cancel (see [`contract::control`]).

use anyhow::Context as _;
use cloud::{
    controls::read,
    storage::{Properties, Replaced, Store},
};
use contract::{
    config::Business,
    control::{Control, SCHEMA},
    labels, object,
};
use jiff::Timestamp;

/// Attempts at a change when other operators change the object first.
const TRIES: usize = 20;

/// Changes the control object of a session, and returns it. Changes that others make at the same time are kept.
///
/// # Errors
/// When the object cannot be read or written.
pub async fn change(
    store: &Store,
    business: &Business,
    session: &str,
    by: &str,
    change: impl Fn(&mut Control),
) -> anyhow::Result<Control> {
    let name = object::control(&business.name, session);
    for _ in 0..TRIES {
        let now = Timestamp::now();
        let (before, generation) = read(store, business, session).await?;
        let mut control = before.clone().unwrap_or_else(|| Control::new(session, now));
        change(&mut control);
        if before.as_ref() == Some(&control) || (before.is_none() && control.is_idle()) {
            return Ok(control);
        }
        (control.schema, control.by, control.changed) = (SCHEMA, by.to_owned(), now);
        if control.is_idle() {
            if store.delete(&business.bucket, &name, generation).await? {
                return Ok(control);
            }
            continue;
        }
        let text = serde_json::to_vec_pretty(&control).context("encode the control object")?;
        let written = store.replace(&business.bucket, &name, text, Properties::json(), generation).await?;
        if let Replaced::Done { .. } = written {
            return Ok(control);
        }
    }
    anyhow::bail!("gs://{}/{name} keeps changing; try again", business.bucket)
}

/// Cancels the Jobs that were submitted to a session before now, or only one `job`; see [`cancel_jobs`].
///
/// # Errors
/// When the object cannot be read or written.
pub async fn cancel(
    store: &Store,
    business: &Business,
    session: &str,
    job: Option<&str>,
    by: &str,
) -> anyhow::Result<Control> {
    cancel_jobs(store, business, session, job.as_slice(), by).await
}

/// Cancels the Jobs that were submitted to a session before now, or only these `jobs`, with one decision. Cancelling a
/// whole session, without names, ends its pause. The time is that of Cloud Storage's clock, as the times of inputs are:
/// the object is written twice, and the first write, which decides nothing, shows the time.
///
/// # Errors
/// When the object cannot be read or written.
pub async fn cancel_jobs(
    store: &Store,
    business: &Business,
    session: &str,
    jobs: &[&str],
    by: &str,
) -> anyhow::Result<Control> {
    let name = object::control(&business.name, session);
    for _ in 0..TRIES {
        let (before, generation) = read(store, business, session).await?;
        let write = async |control: &Control, generation| {
            let text = serde_json::to_vec_pretty(control).context("encode the control object")?;
            store.replace(&business.bucket, &name, text, Properties::json(), generation).await
        };
        let mut control = before.unwrap_or_else(|| Control::new(session, Timestamp::now()));
        let Replaced::Done { generation, created } = write(&control, generation).await? else { continue };
        let now = created.with_context(|| format!("read the time at which {name} was written"))?;
        (control.schema, control.by, control.changed) = (SCHEMA, by.to_owned(), now);
        match jobs {
            [] => control.cancel(None, now),
            jobs => jobs.iter().for_each(|job| control.cancel(Some(job), now)),
        }
        if let Replaced::Done { .. } = write(&control, generation).await? {
            return Ok(control);
        }
    }
    anyhow::bail!("gs://{}/{name} keeps changing; try again", business.bucket)
}

/// Whether an orchestrator has applied the decisions about a session.
///
/// # Errors
/// When the object cannot be read.
pub async fn is_applied(store: &Store, business: &Business, session: &str) -> anyhow::Result<bool> {
    let found = store.describe(&business.bucket, &object::control(&business.name, session), None).await?;
    Ok(found.is_none_or(|control| control.metadata.contains_key(labels::METADATA_APPLIED)))
}
