//! Small tasks in batches, from message to outcome.

use std::time::Instant;

use cli::Context;

use super::{
    load,
    report::{Better, Goal, Measure, Row},
};

/// Publishes many small inputs at once, and waits for their outcomes.
pub(super) async fn measure(context: &Context, quick: bool) -> anyhow::Result<Row> {
    let count: usize = if quick { 1000 } else { 5000 };
    let business = context.business(Some("small"))?;
    let warm = load::upload(context, business, "warm", 20).await?;
    load::publish_all(context, business, &warm).await?;
    load::outcomes(context, business, "warm", warm.len()).await?;

    let works = load::upload(context, business, "tasks", count).await?;
    let started = Instant::now();
    load::publish_all(context, business, &works).await?;
    load::outcomes(context, business, "tasks", count).await?;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    Ok(Row::new(
        format!("batch dispatch, {count} tiny tasks published to all settled"),
        Measure { value: rate, unit: "tasks/s" },
        None,
        Goal::Value(1000.0, Better::Higher),
        "each with its own input, result and outcome; storage, Pub/Sub, API server and engines share this machine",
    ))
}
