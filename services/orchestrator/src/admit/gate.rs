//! The gate in front of intake: closed while access, template or namespace is wrong, which no message can change.

use std::{sync::Arc, time::Duration};

use cloud::storage::Properties;
use contract::identity::INLINE_GENERATION;
use kube::api::PropagationPolicy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    base::Base,
    cluster::answers::{Answer, classify},
    execute::job::{self, Template},
};

const PROBE_MAX: Duration = Duration::from_secs(10);
const PROBE_MIN: Duration = Duration::from_millis(200);
/// The readiness reason that the gate sets and clears.
const READINESS: &str = "jobs";

/// Closed with a reason, or open. Closed at first, until a dry run of the template passed.
#[derive(Debug)]
pub(crate) struct Gate(watch::Sender<Option<String>>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Some("the Job template was not checked yet".to_owned())))
    }

    /// Closes it. The first reason stays until it opens.
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
}

/// Checks the bare template with a dry run and every kind of access with calls that change nothing; `Err` says what is
/// wrong. Everything that a message may need is checked: if the gate opened while some access is denied, every message
/// would be received and nacked.
pub(crate) async fn probe(base: &Base, template: &Template) -> Result<(), String> {
    let job = template.bare(&base.business, (base.clock)()).map_err(|error| format!("{error:#}"))?;
    match base.cluster.dry_run(&job).await {
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
    check_access(base).await.map_err(|error| format!("{error:#}"))
}

/// Reads and deletes a Job that never exists, and describes, lists, replaces and deletes a generation of an object that
/// never exists: Cloud Storage checks access first.
async fn check_access(base: &Base) -> anyhow::Result<()> {
    base.cluster.job(job::DRY_RUN).await?;
    base.cluster.delete(job::DRY_RUN, "none", PropagationPolicy::Background).await?;
    let (store, bucket) = (&base.store, &base.business.bucket);
    let object = contract::object::refused(&base.business.name, "probe");
    store.describe(bucket, &object, None).await?;
    store.list(bucket, &object).await?;
    store.replace(bucket, &object, "", Properties::json(), INLINE_GENERATION).await?;
    store.delete(bucket, &object, INLINE_GENERATION).await?;
    Ok(())
}

/// Checks regularly whether a closed gate can open, until `stop`.
pub(crate) async fn run(
    gate: Arc<Gate>,
    base: Arc<Base>,
    template: Template,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut changes = gate.changes();
    while !stop.is_cancelled() {
        let why = changes.borrow_and_update().clone();
        if let Some(why) = why {
            base.health.not_ready(READINESS, why);
            let mut wait = PROBE_MIN;
            loop {
                match probe(&base, &template).await {
                    Ok(()) => break,
                    Err(why) => {
                        tracing::warn!(why, "intake stays stopped");
                        base.health.not_ready(READINESS, why);
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(PROBE_MAX),
                }
            }
            base.health.clear(READINESS);
            gate.0.send_replace(None);
            tracing::info!("the Job template is accepted");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = changes.changed() => changed?,
        }
    }
    Ok(())
}
