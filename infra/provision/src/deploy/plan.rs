//! What a deploy does, found out without a write: objects and prunes, the certificates of pools, the keys of service
//! accounts, and the token of the web apps.

use std::collections::{BTreeMap, BTreeSet};

use contract::labels;

use super::{
    Applied, Change, ChangeView,
    access::{self, SECRET},
    certificates, former_pools,
    keys::{self, Keys},
    namespaces,
    options::{Only, Options},
    preview::{Preview, PreviewOptions, preview_rendered},
    reach,
};
use crate::{
    Cloud,
    certificates::pool::Certificate,
    environment::{Auth, Environment, WebAccess},
    manifests::{Extras, Rendered, WEB_NAMESPACE, render_with},
};

/// API of Google's collectors of metrics.
const MONITORING: &str = "monitoring.googleapis.com/v1";

/// Everything that a deploy does.
#[derive(Debug)]
pub struct Plan {
    pub(super) preview: Preview,
    pub(super) certificates: Vec<Certificate>,
    /// Namespaces of businesses that have a pool no longer.
    pub(super) former_pools: Vec<String>,
    pub(super) keys: Keys,
    /// The web apps get a token.
    pub(super) makes_token: bool,
    /// All that is rendered, and the part of it that is deployed.
    pub(super) everything: Rendered,
    pub(super) desired: Rendered,
}

impl Plan {
    /// Every change, with what differs.
    pub fn changes(&self) -> Vec<ChangeView> {
        let token =
            || ChangeView::secret(WEB_NAMESPACE, SECRET, Change::Created, "+a token for the web apps".to_owned());
        let token = self.makes_token.then(token);
        let certificates = self.certificates.iter().filter_map(certificates::change);
        let former_pools = self.former_pools.iter().flat_map(|namespace| former_pools::changes(namespace));
        let objects = self.preview.changes().into_iter().chain(former_pools);
        objects.chain(certificates).chain(self.keys.changes()).chain(token).collect()
    }

    /// Whether a deploy would write nothing at all.
    pub fn is_empty(&self) -> bool {
        self.preview.is_empty()
            && self.certificates.iter().all(|certificate| !certificate.renew)
            && self.former_pools.is_empty()
            && self.keys.changes().is_empty()
            && !self.makes_token
    }

    /// Objects that are deleted, but for what only this deploy itself uses.
    pub fn pruned(&self) -> impl Iterator<Item = &Applied> {
        self.preview.pruned()
    }

    /// Whether it may be carried out.
    ///
    /// # Errors
    /// When somebody else owns fields of it; says who, and which.
    pub fn check(&self) -> anyhow::Result<()> {
        self.preview.check()
    }
}

/// Finds out what a deploy would do, without a write.
///
/// # Errors
/// When something cannot be rendered, is somebody else's, or IAM or the cluster does not answer.
pub async fn plan(environment: &Environment, cloud: &Cloud, options: &Options) -> anyhow::Result<Plan> {
    let client = cloud.cluster()?;
    let certificates = certificates::plan(environment, client, options).await?;
    let everything = rendered(environment, cloud, options, certificates::serials(&certificates)).await?;
    let desired = only(&everything, options);
    // Only a deploy of everything knows what left.
    let present = (options.only == Only::Everything).then(|| present(environment, &everything));
    let how = PreviewOptions { foreign: options.foreign, force_conflicts: options.force_conflicts };
    let preview = preview_rendered(client, &environment.name, &desired, present.as_ref(), how).await?;
    let has_web = namespaces(&desired).contains(WEB_NAMESPACE);
    let withdraws = options.only == Only::Everything && (has_web || !environment.web.enabled);
    let keys = match environment.auth {
        Auth::Key => keys::plan(environment, cloud, client, &desired, withdraws).await?,
        Auth::WorkloadIdentity => Keys::default(),
    };
    let has_token = has_web && environment.web.access != WebAccess::Iap;
    let former_pools = former_pools::plan(environment, client, options).await?;
    let makes_token = has_token && access::is_missing(client).await?;
    Ok(Plan { preview, certificates, former_pools, keys, makes_token, everything, desired })
}

/// Renders what this cluster can have.
async fn rendered(
    environment: &Environment,
    cloud: &Cloud,
    options: &Options,
    pool_certificates: BTreeMap<String, u64>,
) -> anyhow::Result<Rendered> {
    let asked = reach::with_timeout(cloud.cluster()?.list_api_group_resources(MONITORING)).await;
    let pod_monitoring = match asked {
        Ok(resources) => resources.resources.iter().any(|resource| resource.kind == "PodMonitoring"),
        Err(error) if reach::is_missing(&error) => false,
        Err(error) => return Err(error.context("ask the cluster what it has")),
    };
    let extras = Extras { pod_monitoring, pool_certificates, ..options.extras.clone() };
    let mut rendered = render_with(environment, &cloud.endpoints, &options.images, &extras)?;
    rendered.config.cluster = cloud.server.clone();
    Ok(rendered)
}

/// Namespaces that are still wanted. The web apps are while they are switched on, also when nobody knows their images.
fn present(environment: &Environment, everything: &Rendered) -> BTreeSet<String> {
    let mut present = namespaces(everything);
    if environment.web.enabled {
        present.insert(WEB_NAMESPACE.to_owned());
    }
    present
}

/// The objects of the part that is deployed. What no business has alone is the cluster's or the web apps', and those
/// belong to every part: they name the businesses.
fn only(everything: &Rendered, options: &Options) -> Rendered {
    let mut rendered = everything.clone();
    for file in &mut rendered.files {
        file.objects.retain(|object| {
            let business = object["metadata"]["labels"][labels::BUSINESS].as_str();
            business.is_none_or(|business| options.includes(business))
        });
    }
    rendered
}
