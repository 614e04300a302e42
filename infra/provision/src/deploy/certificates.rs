//! Certificates of the pools: written before what mounts them. The pods of orchestrators start anew with them, and the
//! orchestrators replace the engines one after another, since the template of those names the certificate too.

use std::collections::BTreeMap;

use contract::labels;
use kube::Client;

use super::{
    Applied, Change, ChangeView, ORCHESTRATOR,
    event::{Event, Progress},
    options::Options,
};
use crate::{
    certificates::pool::{self, CONFIGURATION, Certificate},
    environment::{Business, Environment},
};

/// Finds out which pools need a certificate. Writes nothing.
///
/// # Errors
/// When the cluster refuses.
pub(super) async fn plan(
    environment: &Environment,
    client: &Client,
    options: &Options,
) -> anyhow::Result<Vec<Certificate>> {
    let mut all = Vec::new();
    for business in environment.businesses.iter().filter(|business| business.pool.is_some()) {
        all.push(match options.includes(&business.name) {
            true => pool::due(client, business).await?,
            false => pool::observe(client, business).await?,
        });
    }
    Ok(all)
}

/// Serial numbers by business, for the pods.
pub(super) fn serials(all: &[Certificate]) -> BTreeMap<String, u64> {
    all.iter().filter(|one| one.serial > 0).map(|one| (one.business.clone(), one.serial)).collect()
}

/// The Secret that is written, with what is done about it.
pub(super) fn change(one: &Certificate) -> Option<ChangeView> {
    let change = if one.exists { Change::Changed } else { Change::Created };
    let line = format!("+certificate {} of {}", one.serial, one.name);
    one.renew.then(|| ChangeView::secret(&one.namespace, labels::POOL_TLS_SECRET, change, line))
}

/// Writes the certificates that [`plan`] found to be due.
///
/// # Errors
/// When the cluster refuses, or a key in a Secret is damaged.
pub(super) async fn provide(client: &Client, planned: &[Certificate], progress: &Progress) -> anyhow::Result<()> {
    for one in planned.iter().filter(|one| one.renew) {
        one.write(client).await?;
        progress(Event::Certificate { name: one.name.clone() });
    }
    Ok(())
}

/// What a rotation of the certificate of a business changes; nothing without a certificate. Writes nothing.
///
/// # Errors
/// When the cluster refuses.
pub(super) async fn rotation(business: &Business, client: &Client) -> anyhow::Result<Vec<ChangeView>> {
    let Some(one) = pool::next(client, business).await? else { return Ok(Vec::new()) };
    let others = [("ConfigMap", CONFIGURATION), ("Deployment", ORCHESTRATOR)].map(|(kind, name)| {
        let (kind, namespace) = (kind.to_owned(), Some(one.namespace.clone()));
        ChangeView::from(Applied { kind, namespace, name: name.to_owned(), change: Change::Changed })
    });
    Ok(change(&one).into_iter().chain(others).collect())
}
