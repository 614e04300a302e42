//! What the cloud is started with, and where it is then.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    faults::Faults,
    identity::{asked::Asked, lags::Lags, neighbour::Neighbour},
    storage::WriteRates,
};

/// How long an operation on a cluster takes by default: long enough to be seen.
const OPERATIONS_TAKE: Duration = Duration::from_millis(100);

/// What the cloud is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Clock of every deadline.
    pub clock: Clock,
    /// Project id.
    pub project: String,
    /// Project number.
    pub project_number: u64,
    /// Region.
    pub location: String,
    /// Email address of the user that owns the project.
    pub operator: String,
    /// Folder to keep everything in; none to forget it.
    pub persist: Option<PathBuf>,
    /// Address to listen on.
    pub listen: IpAddr,
    /// Ports; 0 picks free ones.
    pub ports: Ports,
    /// A call without credentials is the operator's, as with emulators.
    pub allow_anonymous: bool,
    /// Refuse calls of APIs that are not enabled in the project (403 SERVICE_DISABLED).
    pub enforce_apis: bool,
    /// Tokens age with the clock. Otherwise they age with wall time, so that a jump of the clock does not invalidate
    /// what a client has cached: clients measure a token's age by wall time and never ask again on a 401.
    pub strict_token_expiry: bool,
    /// Constraints of the organisation that are enforced, such as `iam.disableServiceAccountCreation`.
    /// One that lists values says those that it allows: `gcp.resourceLocations=in:europe-west1-locations,EU`.
    pub constraints: std::collections::BTreeSet<String>,
    /// Whether nobody pays for the project.
    pub unbilled: bool,
    /// Quotas that differ from those of a new project, by metric, such as `CPUS`.
    pub quotas: BTreeMap<String, u32>,
    /// The project has no network called `default`, as where `compute.skipDefaultNetworkCreation` is enforced.
    pub no_default_network: bool,
    /// Another project, whose network and keys the project may use.
    pub neighbour: Option<Neighbour>,
    /// How long an operation on a cluster takes.
    pub operations_take: Duration,
    /// What takes effect late.
    pub lags: Lags,
    /// How often buckets and object names may be written; none for any number of times.
    pub write_rates: Option<WriteRates>,
    /// What goes wrong.
    pub faults: Faults,
    /// Which permissions are asked for.
    pub asked: Asked,
}

/// Fixed ports; 0 picks a free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// Pub/Sub.
    pub pubsub: u16,
    /// Cloud Storage.
    pub storage: u16,
    /// Cloud Storage over TLS.
    pub storage_tls: u16,
    /// Everything else.
    pub identity: u16,
    /// Kubernetes Engine.
    pub container: u16,
    /// Artifact Registry.
    pub artifactregistry: u16,
    /// Cloud Build.
    pub cloudbuild: u16,
    /// Monitoring.
    pub monitoring: u16,
}

impl Options {
    /// Options for a project with everything else at its default: loopback, free ports, nothing kept.
    pub fn new(project: &str) -> Self {
        Self {
            clock: Clock::default(),
            project: project.to_owned(),
            project_number: 123_456_789_012,
            location: "europe-west1".to_owned(),
            operator: "operator@example.com".to_owned(),
            persist: None,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: Ports::default(),
            allow_anonymous: false,
            enforce_apis: false,
            strict_token_expiry: false,
            constraints: std::collections::BTreeSet::new(),
            unbilled: false,
            quotas: BTreeMap::new(),
            no_default_network: false,
            neighbour: None,
            operations_take: OPERATIONS_TAKE,
            lags: Lags::default(),
            write_rates: None,
            faults: Faults::default(),
            asked: Asked::default(),
        }
    }
}

/// Addresses, `http://HOST:PORT` without a slash at the end. Several are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Pub/Sub, gRPC and REST.
    pub pubsub: String,
    /// Cloud Storage, gRPC and JSON.
    pub storage: String,
    /// Cloud Storage over TLS with a certificate of its own: gsutil speaks nothing else.
    pub storage_tls: String,
    /// IAM.
    pub iam: String,
    /// IAM Credentials.
    pub iamcredentials: String,
    /// Resource Manager.
    pub cloudresourcemanager: String,
    /// Service Usage.
    pub serviceusage: String,
    /// Kubernetes Engine.
    pub container: String,
    /// Artifact Registry.
    pub artifactregistry: String,
    /// Cloud Build.
    pub cloudbuild: String,
    /// Organization Policy.
    pub orgpolicy: String,
    /// Cloud Billing.
    pub cloudbilling: String,
    /// Compute Engine, as far as its quotas go.
    pub compute: String,
    /// Key Management.
    pub cloudkms: String,
    /// Monitoring.
    pub monitoring: String,
    /// OAuth: `/token`.
    pub oauth2: String,
}
