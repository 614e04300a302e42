//! An orchestrator in this process that a test can crash.

use tokio_util::sync::CancellationToken;

use super::{PATIENCE, eventually};

/// An orchestrator in this process.
pub(crate) struct Running {
    pub(super) runtime: Option<tokio::runtime::Runtime>,
    pub(super) task: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    pub(super) stop: CancellationToken,
    pub(super) address: std::net::SocketAddr,
}

impl Running {
    /// What its probe answers: whether it is ready, and why not.
    pub(crate) async fn readiness(&self) -> (bool, String) {
        let answer = reqwest::get(format!("http://{}/readyz", self.address)).await.unwrap();
        (answer.status().is_success(), answer.text().await.unwrap())
    }

    /// What it counts and times.
    pub(crate) async fn metrics(&self) -> String {
        reqwest::get(format!("http://{}/metrics", self.address)).await.unwrap().text().await.unwrap()
    }

    /// Waits until it is ready, or is not for a reason with this in it.
    pub(crate) async fn wait_until(&self, ready: bool, why: &str) {
        eventually(&format!("ready: {ready} {why}"), async || {
            let (is_ready, said) = self.readiness().await;
            is_ready == ready && said.contains(why)
        })
        .await;
    }

    /// Ends it as SIGKILL would: nothing of it runs on, nothing is flushed.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Ends it as SIGTERM would, and waits for that.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(PATIENCE, task).await.expect("the orchestrator stops").unwrap().unwrap();
        }
        self.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
