//! `provision` from nothing, on the laptop cloud and on a cloud with latency, and `plan` with nothing to do.

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
use xtask::{Globals, setup};

/// Time of each call to the cloud with latency.
const LATENCY: Duration = Duration::from_millis(100);
/// The environment on the cloud with latency.
const REMOTE: &str = "project = \"far-desk\"\nlocation = \"europe-west1\"\n\
                   [businesses.bu1]\n[businesses.bu2]\n[businesses.bu3]\n";

/// Provisions the environment, and plans again; with `remote` also an environment on a cloud with latency.
pub(super) async fn measure(environment: &Environment, remote: bool, output: &Output) -> anyhow::Result<Vec<Row>> {
    let quiet = output.errors_only();
    let cloud = setup::connect(environment, &Globals::default()).await?;
    let started = Instant::now();
    let plan = setup::make_plan(environment, &cloud, plan::Options::default(), &quiet).await?;
    let report = setup::carry_out(plan, &cloud, &quiet).await?;
    let provisioned = started.elapsed().as_secs_f64() * 1000.0;
    setup::write_config(environment, &cloud)?;
    let started = Instant::now();
    let again = setup::make_plan(environment, &cloud, plan::Options::default(), &quiet).await?;
    let planned = started.elapsed().as_secs_f64() * 1000.0;
    let left = if again.is_empty() { "" } else { "the second plan still has changes" };
    let mut rows = vec![Row::new(
        format!("provision from nothing, {} businesses", environment.businesses.len()),
        Measure { value: provisioned, unit: "ms" },
        None,
        Goal::None,
        format!("{} changes; the laptop cloud answers without latency", report.applied.done),
    )];
    if remote {
        rows.extend(with_latency(&quiet).await?);
    }
    rows.push(Row::new("plan with nothing to do", Measure { value: planned, unit: "ms" }, None, Goal::None, left));
    Ok(rows)
}

/// Provisions three businesses on a cloud with latency, beside the same calls one after another, and beside a script of
/// `gcloud` commands on the same cloud.
async fn with_latency(output: &Output) -> anyhow::Result<Vec<Row>> {
    let faults = Faults::default();
    faults.add("", "", When::Always, Fault::Delay(LATENCY));
    let environment = parse("far", "far.toml", REMOTE, &Overrides::new())?;
    let options = Options { faults, allow_anonymous: true, enforce_apis: true, ..Options::new(&environment.project) };
    let google = Google::start(options).await.context("start a cloud with latency")?;
    let endpoints: Endpoints = serde_json::from_value(serde_json::to_value(google.endpoints())?)?;
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let client = Client::new(endpoints, anonymous::Builder::new().build())?.observed(Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let kubernetes = Err("only Google's half is measured".to_owned());
    let cloud = Cloud { google: client, kubernetes, server: None, endpoints: contract::config::Endpoints::default() };
    let started = Instant::now();
    let plan = setup::make_plan(&environment, &cloud, plan::Options::default(), output).await?;
    let kinds = script::commands(&plan);
    let commands = kinds.len();
    let report = setup::carry_out(plan, &cloud, output).await?;
    let took = started.elapsed();
    let (google, timed) = tokio::task::spawn_blocking(move || {
        let timed = script::time_commands(&google, &kinds);
        (google, timed)
    })
    .await
    .context("time gcloud")?;
    google.stop().await;
    let calls = calls.load(Ordering::Relaxed);
    let name = format!(
        "provision from nothing, {} businesses, {} ms a call",
        environment.businesses.len(),
        LATENCY.as_millis()
    );
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
        Some(("the same calls one after another", (LATENCY * calls).as_secs_f64() * 1000.0)),
        Goal::Ratio(0.1, Better::Lower),
        format!("{} changes, {calls} calls; Google's half", report.applied.done),
    );
    Ok(vec![row, script])
}
