//! The environment: the one file a person edits, resolved into values with every derived name filled in.

use std::{collections::BTreeMap, path::PathBuf};

use contract::config;
use serde::Serialize;

mod alerts;
mod business;
pub mod edit;
mod locate;
mod network;
mod parse;
mod problem;
mod read;
mod value;
mod web;

pub use alerts::Alerts;
pub use business::{Business, BusinessAccounts, Engine, Retention};
pub use locate::{LOCAL, load, locate};
pub use parse::parse;
pub use problem::{Place, Problem, Problems};
pub use web::{Iap, IapApp, Web, WebAccess};

/// Environment variables that override a key of the file when they are set and not empty, in the order of the keys.
pub const OVERRIDES: [&str; 5] = ["PROJECT_NAME", "LOCATION", "ZONE", "CLOUD_STORAGE_BUCKET_NAME", "GKE_CLUSTER_NAME"];

/// What the ids of custom roles begin with, unless the environment file says otherwise.
pub(crate) const ROLE_PREFIX: &str = "deskgrid";

/// Values of the environment variables in [`OVERRIDES`]; the caller reads them, this crate never does.
pub type Overrides = BTreeMap<String, String>;

/// One deployment: one project, cluster and bucket, any number of businesses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Name: the file's, without its extension.
    pub name: String,
    /// The file it was read from, if it was one.
    pub path: Option<PathBuf>,
    /// Google Cloud project id.
    pub project: String,
    /// Region of cluster, bucket and registry.
    pub location: String,
    /// Zone of the cluster, which is regional without one.
    pub zone: Option<String>,
    /// Bucket of every business that has none of its own.
    pub bucket: String,
    /// Where it runs.
    pub cloud: CloudKind,
    /// How workloads prove who they are.
    pub auth: Auth,
    /// Labels on every Google resource, besides our own.
    pub labels: BTreeMap<String, String>,
    /// The Kubernetes cluster.
    pub cluster: Cluster,
    /// Network of the cluster.
    pub network: Network,
    /// What a security department asks for.
    pub security: Security,
    /// Which resources are ours to make.
    pub manage: Manage,
    /// What Cloud Monitoring reports; nothing without `[alerts]`.
    pub alerts: Option<Alerts>,
    /// How images are built.
    pub build: Build,
    /// The web apps.
    pub web: Web,
    /// Ids of the environment's own service accounts.
    pub accounts: Accounts,
    /// Businesses in the order of the file.
    pub businesses: Vec<Business>,
}

/// Where an environment runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CloudKind {
    /// Google Cloud.
    #[default]
    Google,
    /// The laptop cloud.
    Local,
}

/// How workloads prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Kubernetes service accounts stand for Google ones; there is no key.
    #[default]
    WorkloadIdentity,
    /// A key per account in a Kubernetes Secret.
    Key,
}

/// The Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Name.
    pub name: String,
    /// Who manages its nodes.
    pub mode: ClusterMode,
    /// Nodes of the main pool (standard mode).
    pub nodes: u32,
    /// Machine type of the main pool (standard mode).
    pub machine_type: String,
    /// Disk of each node, in GB (standard mode).
    pub disk_size_gb: u32,
    /// The pool that engines run on (standard mode).
    pub engine_pool: EnginePool,
}

/// Who manages a cluster's nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterMode {
    /// We name the node pools.
    #[default]
    Standard,
    /// Google does.
    Autopilot,
}

/// The node pool that engines run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnginePool {
    /// Fewest nodes.
    pub min: u32,
    /// Most nodes.
    pub max: u32,
    /// Spot machines.
    pub spot: bool,
    /// Machine type.
    pub machine_type: String,
}

/// Network of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// VPC network.
    pub network: String,
    /// Subnetwork; the network's own of the region without one.
    pub subnetwork: Option<String>,
    /// Secondary ranges of the subnetwork; without them Google makes its own.
    pub ranges: Option<Ranges>,
    /// Nodes have no public addresses.
    pub private_nodes: bool,
    /// How the control plane is reached.
    pub endpoint: Endpoint,
    /// HTTP proxy of this program's own calls.
    pub proxy: Option<String>,
    /// File with further certificate authorities, PEM.
    pub ca_bundle: Option<PathBuf>,
}

/// Names of the secondary ranges of a subnetwork that a cluster uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ranges {
    /// For pods.
    pub pods: String,
    /// For services.
    pub services: String,
}

/// How the control plane is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// Its DNS name, guarded by IAM.
    #[default]
    Dns,
    /// Its public address.
    Public,
    /// Its address inside the network.
    Private,
}

/// What a security department asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Security {
    /// Full names of KMS keys by what they encrypt: `bucket`, `pubsub`, `cluster`, `disks`, `registry`.
    pub kms_keys: BTreeMap<String, String>,
    /// Email of an existing service account for the nodes, in place of our own.
    pub node_account: Option<String>,
    /// Regions that may hold data; also the regions in which Pub/Sub may store messages. Empty: any.
    pub allowed_locations: Vec<String>,
    /// Seconds for which deleted objects can be restored; 0 for not at all.
    pub soft_delete_secs: u32,
    /// What the ids of our custom roles begin with: the id of a deleted role stays taken for weeks.
    pub role_prefix: String,
}

/// What becomes of a class of resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Managed {
    /// We make it.
    #[default]
    Create,
    /// Somebody else makes it; we say exactly what is missing.
    Verify,
    /// We do not read it.
    Off,
}

/// What becomes of each class of resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Manage {
    /// Services of the project.
    pub apis: Managed,
    /// Cluster and node pools.
    pub cluster: Managed,
    /// Buckets.
    pub bucket: Managed,
    /// Topics and subscriptions.
    pub pubsub: Managed,
    /// Service accounts, custom roles and bindings.
    pub iam: Managed,
    /// Image registry.
    pub registry: Managed,
}

/// How images are built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Build {
    /// Who builds.
    pub builder: Builder,
    /// Region of Cloud Build.
    pub region: String,
    /// Name of the registry.
    pub registry: String,
}

/// Who builds the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builder {
    /// Cloud Build.
    #[default]
    CloudBuild,
    /// This program.
    Local,
}

/// Emails of the environment's own service accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accounts {
    /// The client web app.
    pub web_client: String,
    /// The monitor web app.
    pub web_monitor: String,
    /// The nodes.
    pub nodes: String,
    /// The image builder.
    pub builder: String,
}

impl Environment {
    /// The generated configuration that the services are driven by. It has no image: those that run are in the
    /// manifests only, so that a build changes no configuration.
    pub fn config(&self, endpoints: &config::Endpoints) -> config::Config {
        config::Config {
            schema: config::SCHEMA,
            environment: self.name.clone(),
            project: self.project.clone(),
            location: self.location.clone(),
            bucket: self.bucket.clone(),
            endpoints: endpoints.clone(),
            cluster: None,
            businesses: self
                .businesses
                .iter()
                .map(|business| (business.name.clone(), business.config(&self.project)))
                .collect(),
        }
    }

    /// The business called `name`, if there is one.
    pub fn business(&self, name: &str) -> Option<&Business> {
        self.businesses.iter().find(|business| business.name == name)
    }

    /// Where the cluster is: the zone, or the whole region.
    pub fn cluster_location(&self) -> &str {
        self.zone.as_deref().unwrap_or(&self.location)
    }

    /// The project that the cluster's network is in: the environment's own, or the host project of a Shared VPC.
    pub fn network_project(&self) -> &str {
        match self.network.network.split('/').collect::<Vec<_>>().as_slice() {
            ["projects", project, ..] => project,
            _ => &self.project,
        }
    }

    /// The project's Workload Identity pool.
    pub fn workload_pool(&self) -> String {
        format!("{}.svc.id.goog", self.project)
    }

    /// The values of [`OVERRIDES`] with which its file gives this environment again, in any shell.
    pub fn overrides(&self) -> [&str; OVERRIDES.len()] {
        let zone = self.zone.as_deref().unwrap_or_default();
        [&self.project, &self.location, zone, &self.bucket, &self.cluster.name]
    }

    /// Every bucket of the environment with the businesses whose objects it holds, the environment's own first.
    pub fn buckets(&self) -> Vec<(&str, Vec<&Business>)> {
        let mut buckets: Vec<(&str, Vec<&Business>)> = Vec::new();
        for business in &self.businesses {
            match buckets.iter_mut().find(|(bucket, _)| *bucket == business.bucket) {
                Some((_, businesses)) => businesses.push(business),
                None => buckets.push((&business.bucket, vec![business])),
            }
        }
        match buckets.iter().position(|(bucket, _)| *bucket == self.bucket) {
            Some(position) => buckets[..=position].rotate_right(1),
            None => buckets.insert(0, (&self.bucket, vec![])),
        }
        buckets
    }
}

#[cfg(test)]
pub(crate) mod tests;
