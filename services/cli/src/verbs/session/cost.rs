//! `session cost`: what the outcomes of a session say about CPU and memory, and an estimate of the price.

use cloud::outcomes;
use contract::{Outcome, config::Business, exit, object, quantity};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::target::SessionArgs;
use crate::{context::Opener, error::Failure, output::Output, text};

/// Outcomes read at a time.
const READS: usize = 32;
/// List prices in US dollars.
const PRICES: &str = include_str!("prices.json");

/// The time that pods ran, times the CPU and memory that the business requests for them, times list prices: an
/// estimate, without idle nodes, storage and messages. Every attempt counts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
}

/// The resources that the outcomes of a session name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Usage {
    outcomes: usize,
    /// Those without the times of a pod.
    without_times: usize,
    /// CPU time that engines used, in seconds.
    cpu_seconds: f64,
    standard: Requested,
    /// On machines that Google may take away.
    spot: Requested,
}

/// Requested resources times the seconds for which pods had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Requested {
    vcpu_seconds: f64,
    gib_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Prices {
    date: String,
    region: String,
    prices: Vec<Price>,
}

#[derive(Debug, Deserialize)]
struct Price {
    name: String,
    source: String,
    standard: Rate,
    spot: Rate,
}

/// US dollars per hour.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Rate {
    cpu_hour: f64,
    gib_hour: f64,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let business = context.business(args.session.business.as_deref())?;
    let session = &args.session.session;
    let prefix = object::outcome_prefix(&business.name, Some(session));
    let listed = context.store.list(&business.bucket, &prefix).await?;
    let names = listed.iter().filter(|listed| object::parse_outcome(&business.name, &listed.name).is_some());
    let reads = names.map(|listed| outcomes::read_or_replace(&context.store, &business.bucket, &listed.name));
    let mut reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READS);
    let mut usage = Usage::default();
    while let Some(outcome) = reads.try_next().await? {
        if let Some(outcome) = outcome {
            usage.add(business, &outcome);
        }
    }
    if usage.outcomes == 0 {
        return Err(Failure::new("no-results", format!("no Job of {} has ended in session {session}", business.name))
            .next(format!("cargo xtask{} session list --business {}", context.flag, business.name))
            .into());
    }
    let prices: Prices = serde_json::from_str(PRICES)?;
    if output.json {
        let estimates = prices.prices.iter().map(|price| json!({"on": price.name, "usd": usage.estimate(price)}));
        let mut document = json!(usage);
        document["business"] = business.name.as_str().into();
        document["session"] = session.as_str().into();
        document["estimates"] = estimates.collect();
        document["prices_of"] = format!("{}, {}", prices.date, prices.region).into();
        output.document(&document)?;
    } else {
        output.line(describe(&usage, &prices))?;
    }
    for price in &prices.prices {
        output.detail(format_args!("prices of {}: {}", price.name, price.source));
    }
    Ok(exit::DONE)
}

impl Usage {
    /// Adds an outcome, with the resources that the business requests today.
    fn add(&mut self, business: &Business, outcome: &Outcome) {
        self.outcomes += 1;
        self.cpu_seconds += outcome.cpu_seconds.unwrap_or_default();
        let times = &outcome.timestamps;
        let ran = times.started.zip(times.finished).map(|(started, finished)| finished.duration_since(started));
        let ran = ran.map(|ran| ran.as_secs_f64().max(0.0));
        // An engine of a pool computes other items at the same time.
        let pool = business.pool.filter(|_| outcome.kubernetes_job.is_none());
        let seconds = match pool {
            None => ran,
            Some(pool) => {
                // The other items were computed by an attempt before.
                let only = outcome.work.as_ref().and_then(|work| work.only.as_ref());
                let items = outcome.items.iter().filter(|item| only.is_none_or(|only| only.contains(&item.index)));
                let items: Vec<f64> = items.filter_map(|item| item.seconds).collect();
                let busy = if items.is_empty() { ran } else { Some(items.iter().sum()) };
                busy.map(|busy| busy / f64::from(pool.slots.max(1)))
            }
        };
        let Some(seconds) = seconds else {
            self.without_times += 1;
            return;
        };
        let memory = outcome.work.as_ref().and_then(|work| work.resources.memory.as_deref());
        let gib =
            quantity::bytes(memory.unwrap_or(&business.engine.memory)).unwrap_or_default() as f64 / f64::from(1 << 30);
        let vcpus = quantity::millis(&business.engine.cpu).unwrap_or_default() as f64 / 1000.0;
        let is_spot = pool.map_or(business.engine.spot, |pool| pool.spot);
        let requested = if is_spot { &mut self.spot } else { &mut self.standard };
        requested.vcpu_seconds += seconds * vcpus;
        requested.gib_seconds += seconds * gib;
    }

    /// US dollars.
    fn estimate(&self, price: &Price) -> f64 {
        let of = |requested: Requested, rate: Rate| {
            (requested.vcpu_seconds * rate.cpu_hour + requested.gib_seconds * rate.gib_hour) / 3600.0
        };
        of(self.standard, price.standard) + of(self.spot, price.spot)
    }
}

fn describe(usage: &Usage, prices: &Prices) -> String {
    let mut lines =
        vec![format!("{}: {:.1} s of CPU time used", text::count(usage.outcomes, "outcome"), usage.cpu_seconds)];
    for (requested, on) in [(usage.standard, ""), (usage.spot, " on Spot machines")] {
        if requested != Requested::default() || on.is_empty() {
            let Requested { vcpu_seconds, gib_seconds } = requested;
            lines.push(format!("requested{on}: {vcpu_seconds:.1} vCPU seconds, {gib_seconds:.1} GiB seconds"));
        }
    }
    for price in &prices.prices {
        lines.push(format!("estimate: ${:.4} on {}", usage.estimate(price), price.name));
    }
    if usage.without_times > 0 {
        let count = text::count(usage.without_times, "outcome");
        lines.push(format!("{count} without the times of a pod: not in the estimate"));
    }
    lines.push(format!(
        "An estimate and no bill: list prices of {} in {}, without idle nodes, storage and messages.",
        prices.date, prices.region
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use contract::{
        config::Pool,
        message::{Resources, Work},
        outcome::{Reason, State},
        pack::{Format, Item, Pack},
        testing,
    };
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    /// An outcome of a Job whose pod ran for so many seconds.
    fn outcome(seconds: Option<i64>) -> Outcome {
        let mut outcome = Outcome::new("bu1", State::Succeeded, "completed", "");
        outcome.work = Some(testing::work("bu1", "s", "j"));
        outcome.kubernetes_job = Some("job-1".into());
        outcome.cpu_seconds = seconds.map(|_| 1.5);
        outcome.timestamps.started = seconds.map(|_| Timestamp::UNIX_EPOCH);
        outcome.timestamps.finished = seconds.map(|seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
        outcome
    }

    fn usage(business: &Business, outcomes: &[Outcome]) -> Usage {
        let mut usage = Usage::default();
        outcomes.iter().for_each(|outcome| usage.add(business, outcome));
        usage
    }

    #[test]
    fn the_time_of_pods_is_multiplied_with_what_they_request() {
        let mut business = testing::business("bu1");
        (business.engine.cpu, business.engine.memory) = ("500m".into(), "1Gi".into());
        let mut larger = outcome(Some(100));
        larger.work.as_mut().unwrap().resources = Resources { memory: Some("4Gi".into()), timeout_secs: None };
        let found = usage(&business, &[outcome(Some(100)), larger.clone(), outcome(None)]);
        let standard = Requested { vcpu_seconds: 100.0, gib_seconds: 500.0 };
        let expected = Usage { outcomes: 3, without_times: 1, cpu_seconds: 3.0, standard, ..Usage::default() };
        assert_eq!(found, expected);
        business.engine.spot = true;
        let found = usage(&business, &[larger]);
        assert_eq!((found.standard, found.spot.gib_seconds), (Requested::default(), 400.0));
    }

    #[test]
    fn an_item_of_a_pool_has_a_part_of_its_engine() {
        let mut business = testing::business("bu1");
        (business.engine.cpu, business.engine.memory) = ("1".into(), "2Gi".into());
        business.pool = Some(Pool { min: 0, max: 1, slots: 4, idle_secs: 1, spot: true });
        let mut range = Outcome { kubernetes_job: None, ..outcome(None) };
        let pack = Pack { format: Format::Lines, items: 3, items_per_range: 3, rows_per_item: 1 };
        // The record of item 0 is that of the attempt before.
        let only = Some(vec![1, 2]);
        range.work = Some(Work { pack: Some(pack), only, ..testing::work("bu1", "s", "p") }.of_range(0));
        let item = |index| Item { seconds: Some(8.0), ..Item::without_result(index, State::Failed, Reason::default()) };
        range.items = (0..3).map(item).collect();
        assert_eq!(usage(&business, &[range]).spot, Requested { vcpu_seconds: 4.0, gib_seconds: 8.0 });
    }

    #[test]
    fn the_estimate_says_that_it_is_one() {
        let prices: Prices = serde_json::from_str(PRICES).unwrap();
        let hour = Requested { vcpu_seconds: 3600.0, gib_seconds: 7200.0 };
        let usage = Usage { outcomes: 2, without_times: 1, standard: hour, spot: hour, ..Usage::default() };
        let text = describe(&usage, &prices);
        assert!(text.contains("estimate: $0.0706 on GKE Autopilot\n"), "{text}");
        assert!(text.contains("requested on Spot machines: 3600.0 vCPU seconds, 7200.0 GiB seconds\n"), "{text}");
        assert!(text.contains("1 outcome without the times of a pod"), "{text}");
        assert!(text.ends_with("An estimate and no bill: list prices of 2026-09 in Iowa (us-central1), without idle nodes, storage and messages."), "{text}");
    }
}
