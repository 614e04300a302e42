//! The way of what runs in the cluster to Google's APIs. No proxy leads there: Pub/Sub and Cloud Storage are spoken to
//! over gRPC, whose library connects directly, and every pod gets its tokens from its own node.

use crate::{
    environment::{Environment, Managed},
    finding::{Finding, Pending},
    google::{Api, Client, Error, Request, escape},
    resource::Kind,
};

/// Checks whether the network of a new cluster exists. A project may have no `default` one
/// (compute.skipDefaultNetworkCreation), and has it a moment after Compute Engine is enabled.
pub(super) async fn exists(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    if !makes_cluster(environment, pending) {
        return Vec::new();
    }
    let (what, project) = ("network", environment.network_project());
    let given = environment.network.network.rsplit('/').next().unwrap_or_default();
    let path = format!("compute/v1/projects/{}/global/networks/{}", escape(project), escape(given));
    vec![match client.send(&Request::get(Api::Compute, path)).await {
        // Kubernetes Engine: "uses manual subnet mode and requires specifying a subnetwork" (cilium.io #764).
        Ok(live) if live["autoCreateSubnetworks"] == false && environment.network.subnetwork.is_none() => Finding::bad(
            "subnetwork-unnamed",
            what,
            format!("the network {given} is in manual subnet mode, so a subnetwork has to be named"),
            format!(
                "name one as `subnetwork` under [network] in the environment file: gcloud compute networks subnets list \
                 --network {given} --project {project}"
            ),
        ),
        Ok(_) => Finding::good(what, format!("{given} exists")),
        Err(error) if error.is_not_found() => Finding::bad(
            "no-network",
            what,
            format!("project {project} has no network {given}"),
            format!(
                "name an existing one as `network` under [network] in the environment file, or create it: gcloud compute \
                 networks create {given} --project {project} --subnet-mode auto"
            ),
        ),
        Err(error) => unchecked(what, &error),
    }]
}

/// The finding of a check that Compute Engine did not answer.
pub(super) fn unchecked(what: &str, error: &Error) -> Finding {
    match error.is_service_disabled() {
        true => Finding::unchecked(what, "compute.googleapis.com is not enabled"),
        false => Finding::unchecked(what, error),
    }
}

/// Checks whether nodes without public addresses reach Google's APIs; a way that cannot be seen from here (a NAT, an
/// own route) may do as well, so nothing is stopped by it.
pub(super) async fn check(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let network = &environment.network;
    if !network.private_nodes || !makes_cluster(environment, pending) {
        return proxied(environment).into_iter().collect();
    }
    let what = "network: way to Google's APIs";
    let found = subnetwork(environment);
    let Subnetwork { project, region, name } = &found;
    vec![match client.send(&Request::get(Api::Compute, found.path())).await {
        Ok(live) if live["privateIpGoogleAccess"] == true => {
            Finding::good(what, format!("the subnetwork {name} has Private Google Access"))
        }
        Ok(_) => Finding::warning(
            what,
            format!(
                "the subnetwork {name} has no Private Google Access, so nodes without public addresses may not reach \
                 Pub/Sub, Cloud Storage and the image registry; a proxy does not help what runs in the cluster"
            ),
            format!(
                "gcloud compute networks subnets update {name} --project {project} --region {region} \
                 --enable-private-ip-google-access, and let *.googleapis.com and *.pkg.dev be \
                 restricted.googleapis.com (or a Private Service Connect endpoint) in the network's DNS"
            ),
        ),
        Err(error) => Finding::unchecked(what, error),
    }]
}

/// What a proxy in the environment file does not do.
fn proxied(environment: &Environment) -> Option<Finding> {
    let proxy = environment.network.proxy.as_ref()?;
    Some(Finding::warning(
        "network: proxy",
        format!("{proxy} is for this program; what runs in the cluster reaches Google's APIs without it"),
        "give the cluster's subnetwork Private Google Access (restricted.googleapis.com) or a Private Service Connect \
         endpoint, if it has no other way out",
    ))
}

/// Whether a new cluster is created.
pub(super) fn makes_cluster(environment: &Environment, pending: &Pending<'_>) -> bool {
    environment.manage.cluster == Managed::Create && pending.creates(Kind::Cluster)
}

pub(super) struct Subnetwork {
    pub(super) project: String,
    pub(super) region: String,
    pub(super) name: String,
}

impl Subnetwork {
    /// Path of it.
    pub(super) fn path(&self) -> String {
        let Self { project, region, name } = self;
        format!("compute/v1/projects/{}/regions/{}/subnetworks/{}", escape(project), escape(region), escape(name))
    }
}

/// The subnetwork of the nodes: given by its full name, by its last part, or the network's own one of the region.
pub(super) fn subnetwork(environment: &Environment) -> Subnetwork {
    let own = |name: &str| Subnetwork {
        project: environment.project.clone(),
        region: environment.location.clone(),
        name: name.to_owned(),
    };
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let network = &environment.network;
    let Some(given) = &network.subnetwork else { return own(&last(&network.network)) };
    match given.split('/').collect::<Vec<_>>().as_slice() {
        [.., "projects", project, "regions", region, "subnetworks", name] => {
            Subnetwork { project: (*project).to_owned(), region: (*region).to_owned(), name: (*name).to_owned() }
        }
        _ => own(&last(given)),
    }
}
