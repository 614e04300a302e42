//! The rollouts of a deploy, waited for together.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use kube::Client;
use tokio::time::{Instant, timeout_at};

use super::{
    Rollout,
    event::{Event, Progress, elapsed_ms},
    options::Options,
    wait_for,
};
use crate::manifests::Rendered;

/// Time for which a rollout waits on one cause before the cause is reported.
const QUIET: Duration = Duration::from_secs(3);

/// Every Deployment among the objects.
pub(super) fn of_rendered(rendered: &Rendered, options: &Options) -> Vec<Rollout> {
    let deployments = rendered.objects().filter(|object| object["kind"] == "Deployment");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let rollout = |object: &serde_json::Value| Rollout {
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
        limit: options.limit,
        patience: options.patience,
    };
    deployments.map(rollout).collect()
}

/// What came of rollouts.
pub(super) struct Waited {
    /// Of those that failed, the first one first.
    pub(super) failures: Vec<anyhow::Error>,
    /// Those that had come to no end soon after the first that failed, as `namespace/name`.
    pub(super) left: Vec<String>,
}

/// Waits for all of them; once one has failed, only as long as others with the same cause need to fail.
pub(super) async fn wait(client: &Client, rollouts: &[Rollout], started: Instant, progress: &Progress) -> Waited {
    let mut open: BTreeMap<String, &Rollout> =
        rollouts.iter().map(|rollout| (format!("{}/{}", rollout.namespace, rollout.name), rollout)).collect();
    let grace = rollouts.iter().map(|rollout| rollout.patience.creating.max(rollout.patience.unready)).max();
    let mut failures = Vec::new();
    let mut until = None;
    let waits = open.clone().into_iter().map(|(deployment, rollout)| async move {
        progress(Event::Waiting { deployment: deployment.clone() });
        let begun = Instant::now();
        let report = |why: &str| {
            if begun.elapsed() >= QUIET {
                progress(Event::Delayed { deployment: deployment.clone(), why: why.to_owned() });
            }
        };
        (deployment.clone(), wait_for(client, rollout, &report).await)
    });
    let mut waits: FuturesUnordered<_> = waits.collect();
    loop {
        let next = match until {
            None => waits.next().await,
            Some(until) => timeout_at(until, waits.next()).await.unwrap_or_default(),
        };
        let Some((deployment, ended)) = next else { break };
        open.remove(&deployment);
        match ended {
            Ok(()) => progress(Event::Ready { deployment, elapsed_ms: elapsed_ms(started) }),
            Err(error) => {
                progress(Event::Failed { deployment, why: format!("{error:#}") });
                failures.push(error);
                until = until.or(grace.map(|grace| Instant::now() + grace));
            }
        }
    }
    Waited { failures, left: open.into_keys().collect() }
}
