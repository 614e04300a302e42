//! The watch that feeds the view, and what is done when nothing is heard of it.
//!
//! A watch that fails or is silent must not let more Jobs be made than are allowed: what was created counts until a
//! listing that was begun later does not show it, and while nothing is heard for long no message is taken.

use cloud::probes::Health;
use contract::labels;
use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::time::{Instant, MissedTickBehavior};

use self::pulse::{Patience, Pulse};
use crate::{jobs::Jobs, view::View, watched::Watched};

mod pulse;

/// Seconds after which the API server ends a watch, to be begun again: for so long, and 5 seconds more, a connection may
/// be dead unnoticed.
const WATCH_SECS: u32 = 60;
/// The readiness reason that the watch sets and takes back.
const READINESS: &str = "watch";

type Events = BoxStream<'static, Result<watcher::Event<Watched>, watcher::Error>>;

/// Keeps the view up to date, for ever.
pub(crate) async fn follow(api: Api<Watched>, business: &str, jobs: &Jobs, health: &Health) -> anyhow::Result<()> {
    with_patience(api, business, jobs, health, Patience::PRODUCTION).await
}

async fn with_patience(
    api: Api<Watched>,
    business: &str,
    jobs: &Jobs,
    health: &Health,
    patience: Patience,
) -> anyhow::Result<()> {
    let selector = format!("{}={business},{}={}", labels::BUSINESS, labels::APP, labels::APP_ENGINE);
    let config = watcher::Config::default().labels(&selector).page_size(100).timeout(WATCH_SECS);
    let begin = || -> Events { watcher(api.clone(), config.clone()).default_backoff().boxed() };
    let mut events = begin();
    let mut pulse = Pulse::new(patience, Instant::now());
    let mut last_error = String::new();
    let mut is_lost = false;
    let mut looks = tokio::time::interval(patience.look_every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => apply(event, jobs, health, &mut pulse),
                Some(Err(error)) => {
                    last_error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!("failed to watch the Jobs: {last_error}");
                    pulse.failed(Instant::now());
                    if !jobs.look().is_synced() {
                        health.not_ready(READINESS, &*last_error);
                    }
                }
                None => anyhow::bail!("the watch of the Jobs ended"),
            },
            _ = looks.tick() => {}
        }
        let now = Instant::now();
        if pulse.is_lost(now) != is_lost {
            is_lost = !is_lost;
            jobs.change(|view| view.lose(is_lost));
            if is_lost {
                tracing::error!("intake stops: nothing is heard of the Jobs: {last_error}");
                health.not_ready(READINESS, format!("nothing is heard of the Jobs: {last_error}"));
            } else {
                tracing::info!("the Jobs are heard of again");
                health.clear(READINESS);
            }
        }
        if pulse.wants_listing(jobs.look().awaited_since(), now) {
            tracing::info!("listing the Jobs anew, since the watch does not show them");
            pulse.begun(now);
            events = begin();
        }
    }
}

/// Takes an event into the view.
fn apply(event: watcher::Event<Watched>, jobs: &Jobs, health: &Health, pulse: &mut Pulse) {
    let now = Instant::now();
    match event {
        watcher::Event::Init => {
            pulse.begun(now);
            jobs.look().listing(now);
        }
        watcher::Event::InitApply(job) => {
            pulse.heard(now);
            jobs.look().shown(&job);
        }
        watcher::Event::InitDone => {
            pulse.listed(now);
            jobs.change(View::listed);
            health.clear("starting");
            if !pulse.is_lost(now) {
                health.clear(READINESS);
            }
        }
        watcher::Event::Apply(job) => {
            pulse.changed(now);
            jobs.change(|view| view.shown(&job));
        }
        watcher::Event::Delete(job) => {
            pulse.changed(now);
            jobs.change(|view| view.gone(job.name()));
        }
    }
}

#[cfg(test)]
mod tests;
