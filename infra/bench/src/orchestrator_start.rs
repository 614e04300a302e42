//! From the start of an orchestrator to its readiness: it has listed the Jobs, read the decisions and
//! subscribed to the messages.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use cli::Context;
use contract::config::Business;
use provision::{Environment, LocalState};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use super::{
    report::Row,
    target::{self, Target},
};
use xtask::context::{self, STATE_FILE};

/// Time after which a start has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// Stops the deployed orchestrator of the business, and times starts of one on this machine.
///
/// # Errors
/// When one cannot be started, or is not ready in time.
pub(super) async fn measure(
    context: &Context,
    environment: &Environment,
    business: &Business,
    program: &Path,
    quick: bool,
) -> anyhow::Result<Row> {
    Target::laptop(context, business)?.run(false).await?;
    let state = LocalState::read(&context::generated(environment).join(STATE_FILE))?;
    let kubeconfig = std::fs::read_to_string(&state.kubeconfig)
        .with_context(|| format!("read the kubeconfig {}", state.kubeconfig.display()))?;
    let mut times = Vec::new();
    for _ in 0..if quick { 10 } else { 30 } {
        let port = localcloud::serve::free_port().context("find a free port")?;
        let variables =
            target::orchestrator_variables(context, environment, business, &business.namespace, &kubeconfig, port)
                .await?;
        times.push(start_once(program, &variables, port).await?);
    }
    let note = ", with no Jobs in its namespace; /readyz is read once a millisecond";
    Ok(Row::of_starts("orchestrator started to ready", times, note))
}

/// Milliseconds of one start.
async fn start_once(program: &Path, variables: &[(&'static str, String)], port: u16) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut child = Command::new(program)
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    while !is_ready(port).await {
        if let Some(ended) = child.try_wait().context("wait for the orchestrator")? {
            bail!("the orchestrator ended with {ended} before it was ready");
        }
        if begun.elapsed() > LIMIT {
            bail!("the orchestrator is not ready after {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = begun.elapsed();
    child.kill().await.context("end the orchestrator")?;
    Ok(elapsed.as_secs_f64() * 1000.0)
}

/// Sends the request of a readiness probe, without the cost of an HTTP client.
async fn is_ready(port: u16) -> bool {
    let probe = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await?;
        std::io::Result::Ok(&answer[9..] == b"200")
    };
    probe.await.unwrap_or(false)
}
