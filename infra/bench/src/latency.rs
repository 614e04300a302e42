//! From a published message to its Kubernetes Job.

use std::time::Duration;

use cli::Context;
use contract::labels;
use jiff::Timestamp;
use tokio::{task::JoinSet, time::interval};

use super::{
    load,
    report::{Better, Goal, Measure, Row, percentile},
    target::Target,
};

/// Messages per second.
const RATE: u64 = 50;

/// Publishes at a steady rate, and watches the Jobs appear.
pub(super) async fn measure(context: &Context, target: &mut Target, quick: bool) -> anyhow::Result<Row> {
    let count: usize = if quick { 250 } else { 1000 };
    let business = context.business(Some("wide"))?;
    let session = format!("latency-{}", target.namespace);
    let works = load::upload(context, business, &session, count).await?;
    // The orchestrator has handled a message before the first measured one.
    target.run(true).await?;
    let warm = load::upload(context, business, &format!("warm-{}", target.namespace), 1).await?;
    load::publish_all(context, business, &warm).await?;
    load::Seen::begin(&target.client, &target.namespace).await?.wait_for(1).await?;
    let publisher = context.connection.publisher(&business.topic).await?;
    let mut seen = load::Seen::begin(&target.client, &target.namespace).await?;
    let mut ticks = interval(Duration::from_millis(1000 / RATE));
    let mut sending = JoinSet::new();
    for work in works {
        ticks.tick().await;
        let publisher = publisher.clone();
        sending.spawn(async move { load::publish(&publisher, &work).await });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let sightings = seen.wait_for(count + warm.len()).await?;
    let mut waits: Vec<f64> = sightings
        .iter()
        .filter(|sighting| sighting.is_fresh)
        .filter_map(|sighting| {
            let published: Timestamp = sighting.annotations.get(labels::ANNOTATION_PUBLISHED)?.parse().ok()?;
            Some(sighting.now.duration_since(published).as_secs_f64() * 1000.0)
        })
        .collect();
    let p99 = percentile(&mut waits, 0.99);
    let p50 = percentile(&mut waits, 0.5);
    Ok(Row::new(
        format!("message published to Job seen{}, p50 at {RATE} msg/s", target.label),
        Measure { value: p50, unit: "ms" },
        None,
        Goal::Value(25.0, Better::Lower),
        format!(
            "p99 {p99:.0} ms (goal ≤ 100 ms) over {} messages, the Jobs seen by a watch of another client",
            waits.len()
        ),
    ))
}
