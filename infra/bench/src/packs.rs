//! The small items of a pack, from message to outcome.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cli::Context;
use cloud::storage::{Properties, Written};
use contract::{
    config::Business,
    message::Work,
    object,
    pack::{Format, ITEMS_PER_RANGE_MAX, Pack},
};

use super::{
    load,
    report::{Better, Goal, Measure, Row},
};

/// Size of an item, in bytes.
const ITEM_BYTES: usize = 1024;
/// Deadline of a pack.
const LIMIT: Duration = Duration::from_secs(300);

/// Measures the business `small`, whose packs are computed in Jobs.
pub(super) async fn measure(context: &Context, quick: bool) -> anyhow::Result<Vec<Row>> {
    measure_business(context, context.business(Some("small"))?, quick, 1000.0, "in Jobs of 1,000 items").await
}

/// Publishes the message of one pack of many small items, and waits until its input is deleted.
pub(super) async fn measure_business(
    context: &Context,
    business: &Business,
    quick: bool,
    goal: f64,
    how: &str,
) -> anyhow::Result<Vec<Row>> {
    let items: u32 = if quick { 5_000 } else { 20_000 };
    run(context, business, "warm", 100).await?;
    let seconds = run(context, business, "items", items).await?;
    let writes = writes(context, business, "items").await?;
    let name = format!("{}: a pack of {items} items of 1 KiB, published to all settled", business.name);
    Ok(vec![
        Row::new(
            name.clone(),
            Measure { value: f64::from(items) / seconds, unit: "items/s" },
            None,
            Goal::Value(goal, Better::Higher),
            format!("{how}; storage, Pub/Sub, API server and engines share this machine"),
        ),
        Row::new(
            format!("{name}: object writes"),
            Measure { value: writes as f64 / f64::from(items), unit: "writes/item" },
            None,
            Goal::Value(0.005, Better::Lower),
            "the input and its deletion included",
        ),
    ])
}

/// Uploads a pack of small items.
pub(super) async fn upload(context: &Context, business: &Business, session: &str, items: u32) -> anyhow::Result<Work> {
    let mut work = load::upload(context, business, session, 1).await?.pop().context("upload an input")?;
    let pack = Pack { format: Format::Lines, items, items_per_range: ITEMS_PER_RANGE_MAX, rows_per_item: 1 };
    (work.job, work.pack) = ("pack".to_owned(), Some(pack));
    work.identity.object = object::input(&business.name, session, &work.job);
    // A JSON text: an object would be priced, and this is echoed.
    let line = format!("\"{}\"\n", "x".repeat(ITEM_BYTES - 3));
    let properties = Properties { content_type: "text/plain".to_owned(), metadata: work.metadata() };
    let text = line.repeat(items as usize);
    let written = context.store.write_once(&business.bucket, &work.identity.object, text, properties).await?;
    let Written::New(generation) = written else { bail!("{} exists already", work.identity.object) };
    work.identity.generation = generation;
    Ok(work)
}

/// Computes one pack, and returns the seconds it took.
async fn run(context: &Context, business: &Business, session: &str, items: u32) -> anyhow::Result<f64> {
    let work = upload(context, business, session, items).await?;
    let started = Instant::now();
    load::publish_all(context, business, std::slice::from_ref(&work)).await?;
    wait_until_deleted(context, business, &work).await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn wait_until_deleted(context: &Context, business: &Business, work: &Work) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while context.store.describe(&business.bucket, &work.identity.object, None).await?.is_some() {
        ensure!(Instant::now() < deadline, "the pack has not succeeded after {} s", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Objects that were written for a pack: its input, which is deleted too, and what is there now.
async fn writes(context: &Context, business: &Business, session: &str) -> anyhow::Result<usize> {
    let outcomes = context.store.list(&business.bucket, &object::outcome_prefix(&business.name, Some(session))).await?;
    let outputs = context.store.list(&business.bucket, &object::output_prefix(&business.name, session)).await?;
    let of_pack = outcomes.iter().chain(&outputs).filter(|found| found.name.contains("/pack/"));
    Ok(2 + of_pack.count())
}
