//! Reports the pool to people: engines, rate, and where each item is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::pool::dispatcher::Places;
use anyhow::Context as _;
use contract::pool_report::{CONFIG_MAP, Engine, OLD_AFTER, PERIOD, RANGES_MAX, REPEATED_AFTER, Range, Report};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Pool;

/// Writes a report every few seconds until `stop`, as that of the pod `name`.
pub(crate) async fn run(pool: Arc<Pool>, name: String, stop: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Report> = None;
    let (mut before, mut is_failing) = ((pool.now(), 0), false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let report = pool.report(&mut before, (pool.base.clock)());
        if last.as_ref().is_some_and(|last| !is_news(last, &report)) {
            continue;
        }
        match write(&pool, &name, &report, last.is_none()).await {
            Ok(()) => (last, is_failing) = (Some(report), false),
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::warn!("failed to report the state of the pool, will retry: {error:#}");
            }
            Err(_) => {}
        }
    }
}

fn is_news(last: &Report, report: &Report) -> bool {
    !report.says_the_same(last) || report.at.duration_since(last.at) >= REPEATED_AFTER
}

/// Writes the report, and with the first one removes those of orchestrators that have ended.
async fn write(pool: &Pool, name: &str, report: &Report, is_first: bool) -> anyhow::Result<()> {
    let cluster = &pool.base.cluster;
    let mut data = if is_first { old(cluster.config(CONFIG_MAP).await?, report.at) } else { Map::new() };
    data.insert(name.to_owned(), serde_json::to_string(report).context("encode the report")?.into());
    cluster.patch_config(CONFIG_MAP, json!({ "data": data })).await
}

/// A patch that removes the old reports.
fn old(reports: BTreeMap<String, String>, now: Timestamp) -> Map<String, Value> {
    let is_old = |text: &str| match serde_json::from_str::<Report>(text) {
        Ok(report) => now.duration_since(report.at) > OLD_AFTER,
        Err(_) => true,
    };
    reports.into_iter().filter(|(_, text)| is_old(text)).map(|(name, _)| (name, Value::Null)).collect()
}

impl Pool {
    /// The report. `before` is when the one before was made, and how many items had ended by then.
    fn report(&self, before: &mut (Duration, u64), at: Timestamp) -> Report {
        let state = self.lock();
        let dispatcher = &state.dispatcher;
        let (now, ended) = (self.now(), dispatcher.ended_items());
        let (since, count) = (now.saturating_sub(before.0), ended - before.1);
        *before = (now, ended);
        let engines = dispatcher.engines().values().filter(|engine| engine.is_connected);
        let engines = engines.map(|engine| Engine {
            pod: engine.pod.clone(),
            node: engine.node.clone(),
            slots: engine.slots,
            credits: engine.window,
            items: engine.assigned,
        });
        let places = dispatcher.places(RANGES_MAX);
        Report {
            at,
            waiting: dispatcher.waiting(),
            items_per_second: count as f64 / since.as_secs_f64().max(0.001),
            item_seconds: dispatcher.item_secs(),
            engines: engines.collect(),
            ranges_left_out: state.executions.len().saturating_sub(places.len()),
            ranges: places
                .into_iter()
                .filter_map(|(name, Places { items, waiting, engines })| {
                    let work = &state.executions.get(&name)?.work;
                    Some(Range {
                        session: work.session.clone(),
                        job: work.job.clone(),
                        generation: work.identity.generation,
                        waiting: waiting.into_iter().collect(),
                        engines: engines.into_iter().map(|(pod, items)| (pod, items.into_iter().collect())).collect(),
                        items: items.into_iter().collect(),
                    })
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_when_it_says_something_new_or_is_old() {
        let report = |at: &str, waiting| Report {
            at: at.parse().unwrap(),
            waiting,
            items_per_second: 0.0,
            item_seconds: None,
            engines: vec![],
            ranges: vec![],
            ranges_left_out: 0,
        };
        let last = report("2026-01-01T00:00:00Z", 1);
        assert!(!is_news(&last, &report("2026-01-01T00:00:59Z", 1)));
        assert!(is_news(&last, &report("2026-01-01T00:00:03Z", 2)));
        assert!(is_news(&last, &report("2026-01-01T00:01:00Z", 1)));
        let text = |report: &Report| serde_json::to_string(report).unwrap();
        let reports = [("a", text(&last)), ("b", text(&report("2026-01-01T00:10:00Z", 1))), ("c", "?".to_owned())];
        let reports = reports.map(|(name, text)| (name.to_owned(), text)).into();
        let removed: Vec<String> =
            old(reports, "2026-01-01T00:10:30Z".parse().unwrap()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(removed, ["a", "c"]);
    }
}
