//! `provision` from nothing, here and on a cloud that is far away, and `plan` with nothing to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cli::output::Output;
use google_cloud_auth::credentials::anonymous;
use localcloud::{
    faults::{Fault, Faults, When},
    google::{Google, Options},
};
use provision::{
    Cloud, Environment,
    environment::{Overrides, parse},
    google::{Client, Endpoints},
    plan,
};

use super::{
    report::{Better, Goal, Measure, Row},
    script,
};
use crate::setup;

/// How long each call takes on a cloud that is far away.
const TRIP: Duration = Duration::from_millis(100);
/// What is provisioned there.
const FAR: &str = "project = \"far-desk\"\nlocation = \"europe-west1\"\n\
                   [businesses.bu1]\n[businesses.bu2]\n[businesses.bu3]\n";

/// Provisions the environment, and plans again; then, if that is wanted, one on a cloud that takes its time.
pub(super) async fn measure(environment: &Environment, far: bool, output: &Output) -> anyhow::Result<Vec<Row>> {
    let quiet = output.errors_only();
    let cloud = setup::connect(environment, &crate::args::Globals::default()).await?;
    let begun = Instant::now();
    let plan = setup::look(environment, &cloud, plan::Options::default(), &quiet).await?;
    let report = setup::carry_out(plan, &cloud, &quiet).await?;
    let provisioned = begun.elapsed().as_secs_f64() * 1000.0;
    setup::write_config(environment, &cloud)?;
    let begun = Instant::now();
    let again = setup::look(environment, &cloud, plan::Options::default(), &quiet).await?;
    let planned = begun.elapsed().as_secs_f64() * 1000.0;
    let left = if again.is_empty() { "" } else { "it still finds something to change" };
    let mut rows = vec![Row::new(
        format!("provision from nothing, {} businesses", environment.businesses.len()),
        Measure { value: provisioned, unit: "ms" },
        None,
        Goal::None,
        format!("{} changes; the laptop cloud answers at once", report.applied.done),
    )];
    if far {
        rows.extend(far_away(&quiet).await?);
    }
    rows.push(Row::new("plan with nothing to do", Measure { value: planned, unit: "ms" }, None, Goal::None, left));
    Ok(rows)
}

/// Provisions three businesses on a cloud of its own where every call takes its time: beside the same calls one after
/// another, and beside the script that a person would write, its commands as long as one takes on the same cloud.
async fn far_away(output: &Output) -> anyhow::Result<Vec<Row>> {
    let faults = Faults::default();
    faults.add("", "", When::Always, Fault::Delay(TRIP));
    let environment = parse("far", "far.toml", FAR, &Overrides::new())?;
    let options = Options { faults, allow_anonymous: true, enforce_apis: true, ..Options::new(&environment.project) };
    let google = Google::start(options).await.context("start a cloud that takes its time")?;
    let endpoints: Endpoints = serde_json::from_value(serde_json::to_value(google.endpoints())?)?;
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let client = Client::new(endpoints, anonymous::Builder::new().build())?.observed(Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let kubernetes = Err("only Google's half is measured".to_owned());
    let cloud = Cloud { google: client, kubernetes, endpoints: contract::config::Endpoints::default() };
    let begun = Instant::now();
    let plan = setup::look(&environment, &cloud, plan::Options::default(), output).await?;
    let kinds = script::commands(&plan);
    let commands = kinds.len();
    let report = setup::carry_out(plan, &cloud, output).await?;
    let took = begun.elapsed();
    let (google, timed) = tokio::task::spawn_blocking(move || {
        let timed = script::timed(&google, &kinds);
        (google, timed)
    })
    .await
    .context("time gcloud")?;
    google.stop().await;
    let calls = calls.load(Ordering::Relaxed);
    let name =
        format!("provision from nothing, {} businesses, {} ms a call", environment.businesses.len(), TRIP.as_millis());
    let measure = || Measure { value: took.as_secs_f64() * 1000.0, unit: "ms" };
    let script = match timed? {
        Some(script::Timed { whole, samples }) => Row::new(
            format!("{name}, and a script"),
            measure(),
            Some(("the same as gcloud commands", whole.as_secs_f64() * 1000.0)),
            Goal::Ratio(0.1, Better::Lower),
            format!("{commands} commands; one of each kind was run: {samples}; the others count as the quickest"),
        ),
        None => Row::new(
            format!("{name}, and a script"),
            measure(),
            None,
            Goal::None,
            format!("skipped: there is no gcloud on PATH to time; the script has {commands} commands"),
        ),
    };
    let row = Row::new(
        name,
        measure(),
        Some(("the same calls one after another", (TRIP * calls).as_secs_f64() * 1000.0)),
        Goal::Ratio(0.1, Better::Lower),
        format!("{} changes, {calls} calls; Google's half", report.applied.done),
    );
    Ok(vec![row, script])
}
