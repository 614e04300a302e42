//! Small items in a pool of warm engines: in a pack, each alone, and one after another.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use cli::Context;
use cloud::outcomes;
use contract::{config::Business, identity::INLINE_GENERATION, object};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use google_cloud_pubsub::{client::Publisher, model::Message};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{
    load, packs,
    report::{Better, Goal, Measure, Row, percentile},
};

/// Size of an item, in bytes.
const ITEM_BYTES: usize = 1024;
/// How often the outcome of a single item is looked up, until it is there.
const POLL: Duration = Duration::from_millis(1);
/// Deadline of a single item.
const LIMIT: Duration = Duration::from_secs(60);
/// Tasks per second of a peer with as many workers as this machine has CPUs: the name of the peer is an argument, and
/// the number of tasks.
const PEER: &str = r#"
import sys, time
peer, count, data = sys.argv[1], int(sys.argv[2]), b"x" * 1024
if peer == "ray":
    import ray
    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR")
    task = ray.remote(lambda data: len(data))
    run = lambda n: ray.get([task.remote(data) for _ in range(n)])
else:
    from distributed import Client, LocalCluster
    client = Client(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None))
    run = lambda n: client.gather(client.map(len, [data] * n, pure=False))
run(100)
best = 0.0
for _ in range(3):
    start = time.perf_counter()
    run(count)
    best = max(best, count / (time.perf_counter() - start))
print(best)
"#;

/// Measures the business `pool`.
pub(super) async fn measure(context: &Context, quick: bool) -> anyhow::Result<Vec<Row>> {
    let business = context.business(Some("pool"))?;
    let mut rows =
        packs::measure_business(context, business, quick, 10_000.0, "two engines with one slot each").await?;
    let publisher = context.connection.publisher(&business.topic).await?;
    let count = if quick { 2_000 } else { 10_000 };
    alone(context, business, &publisher, 100).await?;
    let rate = alone(context, business, &publisher, count).await?;
    for (peer, ratio) in [("ray", 1.5), ("distributed", 4.0)] {
        let name = format!("{count} items of 1 KiB, each in a message, published to all settled");
        let measure = Measure { value: rate, unit: "items/s" };
        rows.push(match tasks_per_second(peer, count).await {
            Ok(peers) => {
                Row::new(name, measure, Some((peer, peers)), Goal::Ratio(ratio, Better::Higher), "outcomes are durable")
            }
            Err(why) => Row::new(name, measure, None, Goal::None, format!("{peer} was not measured: {why}")),
        });
    }
    let count = if quick { 100 } else { 500 };
    rows.extend(one_by_one(context, business, &publisher, count, [(2.0, 9.0), (15.0, 50.0)]).await?);
    Ok(rows)
}

/// Measures the business `far`, on a laptop cloud that takes its time for each call, and few object writes.
pub(super) async fn measure_far(context: &Context, quick: bool) -> anyhow::Result<Vec<Row>> {
    let business = context.business(Some("far"))?;
    let how = "50 ms for each call to storage and Pub/Sub, 1,000 object writes/s";
    let mut rows = packs::measure_business(context, business, quick, 10_000.0, how).await?;
    let publisher = context.connection.publisher(&business.topic).await?;
    let count = if quick { 2_000 } else { 10_000 };
    alone(context, business, &publisher, 100).await?;
    rows.push(Row::new(
        format!("far: {count} items of 1 KiB, each in a message, published to all settled"),
        Measure { value: alone(context, business, &publisher, count).await?, unit: "items/s" },
        Some(("the object writes that the bucket takes, one an item", 1000.0)),
        Goal::None,
        how,
    ));
    // To publish, to write the outcome, and to look for it once or twice.
    let goals = [(2.0, 9.0), (200.0, 250.0)];
    rows.extend(one_by_one(context, business, &publisher, if quick { 20 } else { 100 }, goals).await?);
    Ok(rows)
}

/// Publishes a small payload; returns the id of the message.
pub(super) async fn publish(publisher: &Publisher) -> anyhow::Result<String> {
    let message = Message::new().set_data("x".repeat(ITEM_BYTES));
    publisher.publish(message).await.context("publish a message")
}

/// Publishes this many payloads, and waits for all outcomes; returns items per second.
async fn alone(context: &Context, business: &Business, publisher: &Publisher, count: usize) -> anyhow::Result<f64> {
    let before = settled(context, business).await?;
    let started = Instant::now();
    stream::iter(0..count).map(|_| publish(publisher)).buffer_unordered(1000).try_collect::<Vec<_>>().await?;
    load::outcomes(context, business, object::INLINE_SESSION, before + count).await?;
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

async fn settled(context: &Context, business: &Business) -> anyhow::Result<usize> {
    let prefix = object::outcome_prefix(&business.name, Some(object::INLINE_SESSION));
    Ok(context.store.list(&business.bucket, &prefix).await?.len())
}

/// Publishes one item after another to a warm engine; the goals of both rows are a median and a 99th percentile, in
/// milliseconds.
async fn one_by_one(
    context: &Context,
    business: &Business,
    publisher: &Publisher,
    count: usize,
    goals: [(f64, f64); 2],
) -> anyhow::Result<Vec<Row>> {
    let (mut seen, mut computed) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let started = Instant::now();
        let id = publish(publisher).await?;
        let prefix = object::outcome_prefix(&business.name, Some(object::INLINE_SESSION));
        let name = format!("{prefix}{id}/{INLINE_GENERATION}-0.json");
        let outcome = loop {
            if let Some(outcome) = outcomes::read(&context.store, &business.bucket, &name).await? {
                break outcome.context("read an outcome")?;
            }
            ensure!(started.elapsed() < LIMIT, "{name} does not exist after {} s", LIMIT.as_secs());
            sleep(POLL).await;
        };
        seen.push(started.elapsed().as_secs_f64() * 1000.0);
        let times = outcome.timestamps;
        if let (Some(received), Some(finished)) = (times.received, times.finished) {
            computed.push(finished.duration_since(received).as_secs_f64() * 1000.0);
        }
    }
    let row = |name: &str, mut times: Vec<f64>, (goal, goal_99): (f64, f64)| {
        let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        Row::new(
            format!("{}, warm: {name}, p50", business.name),
            Measure { value: p50, unit: "ms" },
            None,
            Goal::Value(goal, Better::Lower),
            format!("p99 {p99:.1} ms (goal ≤ {goal_99} ms) over {} messages, one after another", times.len()),
        )
    };
    Ok(vec![
        row("message received to result back", computed, goals[0]),
        row("published to outcome read", seen, goals[1]),
    ])
}

/// Small tasks per second of a peer, or why it cannot be measured.
async fn tasks_per_second(peer: &str, count: usize) -> Result<f64, String> {
    let mut command = Command::new("python3");
    command.args(["-c", PEER, peer, &count.to_string()]).stdin(Stdio::null()).kill_on_drop(true);
    let ended = command.output().await.map_err(|error| format!("cannot run python3: {error}"))?;
    let (printed, messages) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let last = |text: &str| text.lines().last().unwrap_or_default().to_owned();
    last(&printed).trim().parse().map_err(|_| last(&messages))
}
