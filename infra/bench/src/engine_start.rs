//! From the start of an engine to its first request for data.

use std::{path::Path, process::Stdio, time::Instant};

use anyhow::{Context as _, bail};
use cloud::clients::STORAGE_EMULATOR_HOST;
use contract::{config, labels};
use provision::environment;
use serde_json::json;
use tokio::{io::AsyncReadExt as _, net::TcpListener, process::Command};

use super::report::Row;

/// Starts engines whose storage is a socket of the bench, and times the first byte that arrives there.
pub(super) async fn measure(engine: &Path, quick: bool) -> anyhow::Result<Row> {
    let mut times = Vec::new();
    for _ in 0..if quick { 10 } else { 30 } {
        times.push(start_once(engine).await?);
    }
    Ok(Row::of_starts("engine started to first byte asked for", times, ""))
}

/// Milliseconds of one start. Every start has its own socket, so that it cannot receive bytes of an earlier one.
async fn start_once(engine: &Path) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on loopback")?;
    let address = listener.local_addr()?.to_string();
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let environment = environment::parse("bench", "bench.toml", super::ENVIRONMENT, &environment::Overrides::new())?;
    let endpoints = config::Endpoints { pubsub: None, storage: Some(format!("http://{address}")) };
    let file = folder.path().join("config.json");
    let configuration = serde_json::to_vec(&environment.config(&endpoints))?;
    std::fs::write(&file, configuration).context("write a configuration")?;
    let work = json!({"bucket": environment.bucket, "object": "flow/input/s/j", "generation": 1, "attempt": 0,
        "business": "flow", "session": "s", "job": "j"});
    let started = Instant::now();
    let mut child = Command::new(engine)
        .env_clear()
        .env(labels::ENV_CONFIG, &file)
        .env(labels::ENV_WORK, work.to_string())
        .env(labels::ENV_WORK_DIR, folder.path())
        .env(STORAGE_EMULATOR_HOST, &address)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", engine.display()))?;
    let elapsed = tokio::select! {
        accepted = listener.accept() => {
            let (mut socket, _) = accepted.context("accept a connection")?;
            socket.read_exact(&mut [0; 1]).await.context("read from the engine")?;
            started.elapsed()
        }
        ended = child.wait() => {
            let mut messages = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = stderr.read_to_string(&mut messages).await;
            }
            bail!("the engine ended with {} before it requested its input: {}", ended?, messages.trim());
        }
    };
    child.kill().await.context("end the engine")?;
    Ok(elapsed.as_secs_f64() * 1000.0)
}
