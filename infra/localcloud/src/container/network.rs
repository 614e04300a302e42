//! The network of a cluster: of the project itself, or of the host project of a Shared VPC.

use serde_json::Value;

use super::Container;
use crate::{
    google::error::{Error, Result},
    identity::{Target, principal::Principal},
};

impl Container {
    /// Refuses a cluster whose network does not exist or may not be used, in Kubernetes Engine's words.
    ///
    /// # Errors
    /// 400 for a network, a subnetwork or a range that does not exist; 403 for a service agent without its role.
    pub(super) fn check_network(&self, cluster: &Value) -> Result<()> {
        let own = self.identity.project();
        let full = cluster["networkConfig"]["network"].as_str().unwrap_or_default();
        let parts: Vec<&str> = full.split('/').collect();
        let (project, network) = match parts.as_slice() {
            [.., "projects", project, "global", "networks", network] => (*project, *network),
            _ => (own, full),
        };
        // cloud-ops-sandbox #678.
        let missing = || Error::invalid(format!("Project \"{project}\" has no network named \"{network}\"."));
        if project == own {
            return if self.identity.has_network(network) { Ok(()) } else { Err(missing()) };
        }
        let Some(host) = self.identity.neighbour(project).filter(|neighbour| neighbour.is_host) else {
            // gke-enterprise-mt #20.
            return Err(Error::invalid(format!(
                "Project \"{own}\" does not have an associated Shared-VPC host project."
            )));
        };
        if host.network != network {
            return Err(missing());
        }
        let robot = self.identity.agent("container-engine-robot");
        if !self.identity.allowed(&robot, "container.hostServiceAgent.use", &Target::project(project).within(project)) {
            // terraform-google-kubernetes-engine #616.
            return Err(Error::forbidden(format!(
                "Kubernetes Engine Service Agent is missing required permissions on this project. See \
                 https://cloud.google.com/kubernetes-engine/docs/troubleshooting#gke_service_account_deleted for more \
                 info: required \"container.hostServiceAgent.use\" permission(s) for \"projects/{project}\"."
            )));
        }
        let subnetwork = cluster["networkConfig"]["subnetwork"].as_str().unwrap_or_default();
        if subnetwork != format!("projects/{project}/{}", host.subnetwork) {
            return Err(Error::invalid(format!("Subnetwork \"{subnetwork}\" does not exist in network \"{full}\".")));
        }
        let apis = format!("{}@cloudservices.gserviceaccount.com", self.identity.number());
        for agent in [robot, Principal::ServiceAccount { email: apis, uid: None }] {
            let target = Target::resource(subnetwork, "compute.googleapis.com/Subnetwork", "compute.googleapis.com");
            for permission in ["compute.subnetworks.get", "compute.subnetworks.use"] {
                if !self.identity.allowed(&agent, permission, &target.clone().within(project)) {
                    // terraform-google-kubernetes-engine #302, where the operation ends with it.
                    return Err(Error::forbidden(format!(
                        "Google Compute Engine: Required '{permission}' permission for '{subnetwork}'"
                    )));
                }
            }
        }
        let ranges = [("Pod", "clusterSecondaryRangeName"), ("Service", "servicesSecondaryRangeName")];
        for (what, field) in ranges {
            let range = cluster["ipAllocationPolicy"][field].as_str().unwrap_or_default();
            if !host.ranges.iter().any(|known| known == range) {
                // fabianlee/gcp-gke-clusters-ingress #2.
                return Err(Error::invalid(format!(
                    "{what} secondary range \"{range}\" not found in network \"{full}\", subnetwork \"{subnetwork}\"."
                )));
            }
        }
        Ok(())
    }
}
