//! Keeps the nodes of the cluster up to date.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use tokio::time::{sleep, timeout};

use crate::{
    nodes::{self, Nodes},
    state::State,
};

/// Between two listings of the nodes.
const EVERY: Duration = Duration::from_secs(10);
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists the nodes for ever.
pub(crate) async fn follow_nodes(state: &State) {
    let api: Api<Node> = Api::all(state.kube.clone());
    loop {
        let listed = match timeout(PATIENCE, api.list(&ListParams::default())).await {
            Ok(Ok(list)) => Nodes { lines: list.items.iter().map(nodes::line).collect(), error: None },
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                Nodes { lines: Vec::new(), error: Some("the monitor may not list nodes".to_owned()) }
            }
            Ok(Err(error)) => Nodes { error: Some(error.to_string()), ..state.nodes() },
            Err(_) => Nodes { error: Some("no answer in time".to_owned()), ..state.nodes() },
        };
        state.set_nodes(listed);
        sleep(EVERY).await;
    }
}
