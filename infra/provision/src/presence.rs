//! Whether the cluster is there to be asked.

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    cloud::Cloud,
    environment::{Environment, Managed},
    kinds::{Phase, cluster},
};

/// Whether an environment has a cluster that can hold anything: one that is being made, could not be made or is on its
/// way out holds nothing that matters. Of a cluster that we may not or shall not ask about, a way to it is enough.
///
/// # Errors
/// When the cloud does not answer.
pub async fn has_cluster(environment: &Environment, cloud: &Cloud) -> anyhow::Result<bool> {
    if environment.manage.cluster == Managed::Off {
        return Ok(cloud.kubernetes.is_ok());
    }
    let id = cluster::id(environment);
    match cloud.google.send_optional(&id.read(&Value::Null)).await {
        Ok(Some(cluster)) => Ok((id.rules().phase)(&id, &cluster) == Phase::Ready),
        Ok(None) => Ok(false),
        // Without the service there never was one.
        Err(error) if error.is_service_disabled() => Ok(false),
        Err(error) if error.is_forbidden() => Ok(cloud.kubernetes.is_ok()),
        Err(error) => Err(error).with_context(|| format!("read the {id}")),
    }
}
