//! The gate in front of intake: closed while access, template or namespace is not as it should be, which is our fault
//! and not any message's.

use std::time::Duration;

use cloud::storage::Properties;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{answers::Answer, answers::classify, context::Context, job};

const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBE_FIRST: Duration = Duration::from_millis(200);
/// A generation that no object has.
const NEVER: i64 = 1;
/// The readiness reason that the gate sets and takes back.
const READINESS: &str = "jobs";

/// Closed with a reason, or open. Closed at first, until a dry run of the template passed.
#[derive(Debug)]
pub(crate) struct Gate(watch::Sender<Option<String>>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Some("the Job template was not tried yet".to_owned())))
    }

    /// Closes it. The first reason stays until it is open again.
    pub(crate) fn close(&self, why: String) {
        self.0.send_if_modified(|state| {
            let closes = state.is_none();
            if closes {
                tracing::error!(why, "intake stops: no message can become a Job");
                *state = Some(why);
            }
            closes
        });
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Wakes when it opens or closes.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    fn open(&self) {
        self.0.send_if_modified(|state| state.take().is_some());
    }
}

/// What the bare template and calls that change nothing tell: `Err` says what is wrong. All that a message may need is
/// tried, since a gate that opens while something else is denied lets every message through to be given back.
pub(crate) async fn probe(context: &Context) -> Result<(), String> {
    let job = context.template.bare(&context.business, (context.clock)()).map_err(|error| format!("{error:#}"))?;
    match context.cluster.dry_run(&job).await {
        Ok(()) => {}
        Err(error) => match classify(&error) {
            // A Job of that name, or a full quota: the template itself was accepted.
            Answer::Exists => {}
            Answer::Retry { reason: crate::metrics::retry::QUOTA, .. } => {}
            Answer::Retry { reason, .. } => return Err(format!("dry run of the Job template: {reason}: {error}")),
            Answer::OurFault(why) | Answer::Rejected(why) => {
                return Err(format!("the API server refuses the Job template: {why}"));
            }
        },
    }
    let tried = tokio::try_join!(try_jobs(context), try_objects(context));
    tried.map(|_| ()).map_err(|error| format!("{error:#}"))
}

/// Reads and deletes a Job that there never is.
async fn try_jobs(context: &Context) -> anyhow::Result<()> {
    context.cluster.job(job::DRY_RUN).await?;
    context.cluster.delete(job::DRY_RUN, "none").await
}

/// Looks for, lists, writes and deletes a generation that there never is: access is judged before that is found out.
async fn try_objects(context: &Context) -> anyhow::Result<()> {
    let (store, bucket) = (&context.store, &context.business.bucket);
    let object = contract::object::refused(&context.business.name, "probe");
    store.describe(bucket, &object, None).await?;
    store.list(bucket, &object).await?;
    store.replace(bucket, &object, "", Properties::json(), NEVER).await?;
    store.delete(bucket, &object, NEVER).await?;
    Ok(())
}

/// Tries to open the gate while it is closed, until `stop`.
pub(crate) async fn run(context: &Context, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut changes = context.gate.changes();
    while !stop.is_cancelled() {
        let why = changes.borrow_and_update().clone();
        if let Some(why) = why {
            context.health.not_ready(READINESS, why);
            let mut wait = PROBE_FIRST;
            loop {
                match probe(context).await {
                    Ok(()) => break,
                    Err(why) => {
                        tracing::warn!(why, "intake stays stopped");
                        context.health.not_ready(READINESS, why);
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(PROBE_EVERY),
                }
            }
            context.health.clear(READINESS);
            context.gate.open();
            tracing::info!("the Job template is accepted");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = changes.changed() => changed?,
        }
    }
    Ok(())
}
