//! The watch that feeds the view, and its recovery after failures.
//!
//! While the watch fails or is silent, the limit of active Jobs must hold: a created Job counts until a listing that
//! began later does not show it, and while the watch is lost no message is received.

use std::{sync::Arc, time::Duration};

use cloud::probes::Health;
use contract::labels;
use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::time::{Instant, MissedTickBehavior};

use self::{health::WatchHealth, jobs::Jobs, view::View};
use crate::base::Base;

mod health;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod view;

/// Seconds after which the API server ends a watch and a new one begins: a broken connection may stay unnoticed for
/// this time and 5 seconds more.
const WATCH_SECS: u32 = 60;
/// The readiness reason that the watch sets and clears.
const READINESS: &str = "watch";

/// How often the health of the watch is checked.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Keeps the view up to date; never returns while the watch can go on.
pub(crate) async fn run(base: Arc<Base>) -> anyhow::Result<()> {
    let api = base.cluster.watched_jobs();
    follow(api, &base.business.name, &base.jobs, &base.health, SECOND).await
}

/// As [`run`], with this unit of time.
pub(crate) async fn follow(
    api: Api<Job>,
    business: &str,
    jobs: &Jobs,
    health: &Health,
    second: Duration,
) -> anyhow::Result<()> {
    let config = watcher::Config::default().labels(&selector(business)).page_size(100).timeout(WATCH_SECS);
    let begin = || watcher(api.clone(), config.clone()).default_backoff().boxed();
    let mut events = begin();
    let mut watch_health = WatchHealth::new(second, Instant::now());
    let mut last_error = String::new();
    let mut is_lost = false;
    let mut checks = tokio::time::interval(second);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => apply(event, jobs, health, &mut watch_health),
                Some(Err(error)) => {
                    last_error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!("failed to watch the Jobs: {last_error}");
                    watch_health.record_failure(Instant::now());
                    if !jobs.view().is_synced() {
                        health.not_ready(READINESS, &*last_error);
                    }
                }
                None => anyhow::bail!("the watch of the Jobs ended"),
            },
            _ = checks.tick() => {}
        }
        let now = Instant::now();
        if watch_health.is_lost(now) != is_lost {
            is_lost = !is_lost;
            jobs.change(|view| view.set_lost(is_lost));
            if is_lost {
                tracing::error!("intake stops: the watch of the Jobs is lost: {last_error}");
                health.not_ready(READINESS, format!("the watch of the Jobs is lost: {last_error}"));
            } else {
                tracing::info!("the watch of the Jobs works");
                health.clear(READINESS);
            }
        }
        if watch_health.needs_listing(jobs.view().awaited_since(), now) {
            tracing::info!("listing the Jobs, since the watch does not show them");
            watch_health.start_listing(now);
            events = begin();
        }
    }
}

/// Selects the Jobs and pods of a business: engines of a pool are not of one Job's work.
pub(crate) fn selector(business: &str) -> String {
    format!("{}={business},{}={},!{}", labels::BUSINESS, labels::APP, labels::APP_ENGINE, labels::POOL)
}

/// Applies an event to the view.
fn apply(event: watcher::Event<Job>, jobs: &Jobs, health: &Health, watch_health: &mut WatchHealth) {
    let now = Instant::now();
    match event {
        watcher::Event::Init => {
            watch_health.start_listing(now);
            jobs.view().start_listing(now);
        }
        watcher::Event::InitApply(job) => {
            watch_health.record_page(now);
            jobs.view().apply(&job);
        }
        watcher::Event::InitDone => {
            watch_health.finish_listing(now);
            jobs.change(View::finish_listing);
            health.clear("starting");
            if !watch_health.is_lost(now) {
                health.clear(READINESS);
            }
        }
        watcher::Event::Apply(job) => {
            watch_health.record_change(now);
            jobs.change(|view| view.apply(&job));
        }
        watcher::Event::Delete(job) => {
            watch_health.record_change(now);
            jobs.change(|view| view.remove(job.metadata.name.as_deref().unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests;
