//! Settings of nodes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;

use super::reaper::Reaper;

/// A pod's question for the address of its metadata server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRequest {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its Kubernetes service account.
    pub service_account: String,
    /// The Google service account that the Kubernetes one is annotated with (`iam.gke.io/gcp-service-account`).
    pub google_account: Option<String>,
}

/// Gives the address of a metadata server for a pod, or none.
pub type Metadata =
    Arc<dyn Fn(MetadataRequest) -> BoxFuture<'static, anyhow::Result<Option<SocketAddr>>> + Send + Sync>;

/// One node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its name.
    pub name: String,
    /// Cores it says it has.
    pub cpu: u32,
    /// Bytes of memory it says it has.
    pub memory_bytes: u64,
    /// Most pods at once.
    pub pods: u32,
    /// Labels beyond the usual ones.
    pub labels: BTreeMap<String, String>,
}

impl NodeSettings {
    /// A node with room for much: processes on a laptop are small.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cpu: 64,
            memory_bytes: 256 << 30,
            pods: 110,
            labels: BTreeMap::from([("cloud.google.com/gke-spot".to_owned(), "true".to_owned())]),
        }
    }
}

/// What every node needs to run pods.
pub struct Settings {
    /// Address of the API server.
    pub api: SocketAddr,
    /// Address of the cluster's name server.
    pub name_server: SocketAddr,
    /// What pods trust.
    pub ca_pem: String,
    /// Where pods find a metadata server.
    pub metadata: Metadata,
    /// Environment of every container.
    pub extra_env: Vec<(String, String)>,
    /// The search path of this process.
    pub search_path: String,
    /// What kills the processes of pods when this process dies.
    pub reaper: Reaper,
}
