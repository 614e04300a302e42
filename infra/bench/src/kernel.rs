//! The Monte Carlo kernel beside QuantLib on one core, and over cores.

use std::{path::Path, process::Stdio, time::Instant};

use anyhow::{Context as _, bail};
use contract::labels;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::report::{Better, Goal, Measure, Row};

/// Observation dates of the Asian option: weekly for a year.
const DATES: u64 = 52;
/// The same two options, priced by QuantLib. Prints paths per second and steps per second.
const QUANTLIB: &str = include_str!("quantlib.py");

#[derive(Clone, Copy, Debug, Deserialize)]
struct Yardstick {
    european_paths_per_second: f64,
    asian_steps_per_second: f64,
}

/// Prices one option of each kind, for a few seconds each.
pub(super) async fn measure(engine: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let scale = if quick { 1 } else { 4 };
    let (yardstick, why) = match quantlib(scale).await {
        Ok(yardstick) => (Some(yardstick), String::new()),
        Err(why) => (None, format!("no yardstick: {why}; `pip install QuantLib` installs it")),
    };
    let european = paths_per_second(engine, &european(), 100_000_000 * scale, 1).await?;
    let asian = paths_per_second(engine, &asian(), 2_000_000 * scale, 1).await? * DATES as f64;
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let all = paths_per_second(engine, &self::asian(), 2_000_000 * scale * cores as u64, cores).await? * DATES as f64;
    let beside = |value: fn(&Yardstick) -> f64| yardstick.as_ref().map(|found| ("QuantLib, one core", value(found)));
    let ten_times = || Goal::Ratio(10.0, Better::Higher);
    Ok(vec![
        Row::new(
            "European call, one step, one core",
            Measure { value: european, unit: "paths/s" },
            beside(|found| found.european_paths_per_second),
            ten_times(),
            why.clone(),
        ),
        Row::new(
            format!("Asian call, {DATES} dates, one core"),
            Measure { value: asian, unit: "steps/s" },
            beside(|found| found.asian_steps_per_second),
            ten_times(),
            why,
        ),
        Row::new(
            format!("the same on {cores} cores"),
            Measure { value: all, unit: "steps/s" },
            Some((&format!("{cores} times one core"), asian * cores as f64)),
            Goal::Ratio(0.9, Better::Higher),
            "",
        ),
    ])
}

fn european() -> Value {
    json!({"id": "t", "kind": "european", "option": "call", "underlying": "A", "strike": 100, "maturity": 1.0,
        "quantity": 1})
}

fn asian() -> Value {
    json!({"id": "t", "kind": "asian", "option": "call", "underlying": "A", "strike": 100, "maturity": 1.0,
        "quantity": 1, "averaging": "arithmetic", "observations": DATES})
}

/// Paths per second without the start of the program: the time of many paths less the time of few.
async fn paths_per_second(engine: &Path, trade: &Value, paths: u64, threads: usize) -> anyhow::Result<f64> {
    let few = paths / 10;
    let short = price(engine, trade, few, threads).await?;
    let long = price(engine, trade, paths, threads).await?;
    let seconds = long - short;
    if seconds <= 0.0 {
        bail!("{paths} paths took no longer than {few}");
    }
    Ok((paths - few) as f64 / seconds)
}

/// Seconds that the engine takes for a portfolio of one trade.
async fn price(engine: &Path, trade: &Value, paths: u64, threads: usize) -> anyhow::Result<f64> {
    let book = json!({
        "schema": 1, "seed": 1, "paths": paths, "measures": ["price"],
        "underlyings": {"A": {"spot": 100, "volatility": 0.2, "rate": 0.01, "dividend_yield": 0.0}},
        "trades": [trade],
    });
    let started = Instant::now();
    let mut child = Command::new(engine)
        .arg("try")
        .env(labels::ENV_THREADS, threads.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", engine.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(book.to_string().as_bytes()).await.context("give the engine its input")?;
    }
    let ended = child.wait().await.context("wait for the engine")?;
    if !ended.success() {
        bail!("the engine ended with {ended}");
    }
    Ok(started.elapsed().as_secs_f64())
}

/// The speed of QuantLib, or why it cannot be measured.
async fn quantlib(scale: u64) -> Result<Yardstick, String> {
    let ended = Command::new("python3")
        .args(["-c", QUANTLIB, &scale.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run python3: {error}"))?;
    if !ended.status.success() {
        let messages = String::from_utf8_lossy(&ended.stderr).into_owned();
        return Err(messages.lines().last().unwrap_or("python3 failed").to_owned());
    }
    serde_json::from_slice(&ended.stdout).map_err(|error| format!("cannot read what it prints: {error}"))
}
