//! The certificate of one pool in its cluster.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use contract::{labels, names};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, core::v1::Secret},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Held, RECORD, is_due, read, renew};
use crate::{
    deploy::{
        live::ORCHESTRATOR,
        owned,
        reach::{self, FIELD_MANAGER},
        wait::wait,
    },
    environment::{Business, Environment},
    finding::Finding,
};

/// The ConfigMap of a business, and where the template of an engine in the pool is in it.
pub(crate) const CONFIGURATION: &str = "deskgrid-config";
const TEMPLATE: &str = "/data/pool.json";

/// The certificate of one pool.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) business: String,
    pub(crate) namespace: String,
    /// The name that it is for.
    pub(crate) name: String,
    /// The Secret is there.
    pub(crate) exists: bool,
    /// The serial number that it gets, or has; 0 without any.
    pub(crate) serial: u64,
    /// A new one is made.
    pub(crate) renew: bool,
    held: Option<Held>,
}

/// The certificate of a business, and whether a deploy renews it. Writes nothing.
///
/// # Errors
/// When the cluster refuses.
pub(crate) async fn due(client: &Client, business: &Business) -> anyhow::Result<Certificate> {
    let mut one = observe(client, business).await?;
    if is_due(one.held.as_ref(), today()) {
        let of_pods = one.serial_of_pods(client).await?;
        one.renew(of_pods);
    }
    Ok(one)
}

/// The certificate after the one of this business, if it has one. One that a rotation wrote which was stopped before
/// the pods had it counts: engines might not know the authority of a further one. Writes nothing.
///
/// # Errors
/// When the cluster refuses.
pub(crate) async fn next(client: &Client, business: &Business) -> anyhow::Result<Option<Certificate>> {
    let mut one = observe(client, business).await?;
    if business.pool.is_none() || one.held.is_none() {
        return Ok(None);
    }
    let of_pods = one.serial_of_pods(client).await?;
    if one.serial <= of_pods {
        one.renew(of_pods);
    }
    Ok(Some(one))
}

/// Checks the certificates of all pools that have one; nothing without a pool.
///
/// # Errors
/// When the cluster refuses.
pub async fn check(environment: &Environment, client: &Client) -> anyhow::Result<Option<Finding>> {
    const WHAT: &str = "certificates";
    let (mut seen, mut is_any_due) = (Vec::new(), false);
    for business in environment.businesses.iter().filter(|business| business.pool.is_some()) {
        // Without one the business is not deployed, or not yet as a pool.
        let Some(held) = observe(client, business).await?.held else { continue };
        is_any_due |= is_due(Some(&held), today());
        seen.push(format!("that of {} is valid until {}", held.record.name, held.record.expires));
    }
    let finding = match is_any_due {
        true => Finding::warning(WHAT, seen.join(", "), "cargo xtask deploy"),
        false => Finding::good(WHAT, seen.join(", ")),
    };
    Ok((!seen.is_empty()).then_some(finding))
}

/// Renews the certificate of a business, and starts its orchestrator and its engines anew. Returns its name and serial
/// number; nothing without a certificate.
///
/// # Errors
/// When the cluster refuses, or the rollout fails within `limit`.
pub(crate) async fn rotate(
    client: &Client,
    business: &Business,
    limit: Duration,
) -> anyhow::Result<Option<(String, u64)>> {
    let Some(one) = next(client, business).await? else { return Ok(None) };
    if one.renew {
        one.write(client).await?;
    }
    if one.mark(client).await? {
        wait(client, &one.namespace, ORCHESTRATOR, limit).await?;
    }
    Ok(Some((one.name, one.serial)))
}

/// The certificate as it is.
///
/// # Errors
/// When the cluster refuses.
pub(crate) async fn observe(client: &Client, business: &Business) -> anyhow::Result<Certificate> {
    let namespace = business.namespace.clone();
    let name = names::pool_host(&namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let live = reach::with_timeout(secrets.get_opt(labels::POOL_TLS_SECRET)).await;
    let live = live.with_context(|| format!("read the Secret {namespace}/{}", labels::POOL_TLS_SECRET))?;
    let held = live.as_ref().and_then(|secret| read(secret, &name));
    Ok(Certificate {
        business: business.name.clone(),
        namespace,
        name,
        exists: live.is_some(),
        serial: held.as_ref().map_or(0, |held| held.record.serial),
        renew: false,
        held,
    })
}

impl Certificate {
    /// The serial number with which the pods of the orchestrator start; 0 without any.
    async fn serial_of_pods(&self, client: &Client) -> anyhow::Result<u64> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        let live = reach::with_timeout(deployments.get_opt(ORCHESTRATOR)).await;
        let live = live.with_context(|| format!("read the Deployment {}/{ORCHESTRATOR}", self.namespace))?;
        let annotations = live.and_then(|live| live.spec?.template.metadata?.annotations).unwrap_or_default();
        let serial = annotations.get(labels::ANNOTATION_POOL_CERTIFICATE).and_then(|serial| serial.parse().ok());
        Ok(serial.unwrap_or_default())
    }

    /// Plans a renewal. Its serial number is one that no pod has, also when the Secret was deleted.
    fn renew(&mut self, of_pods: u64) {
        self.serial = self.serial.max(of_pods) + 1;
        self.renew = true;
    }

    /// Makes the certificate and writes the Secret.
    ///
    /// # Errors
    /// When the cluster refuses, or the key in the Secret is damaged.
    pub(crate) async fn write(&self, client: &Client) -> anyhow::Result<()> {
        let context = || format!("write the Secret {}/{}", self.namespace, labels::POOL_TLS_SECRET);
        let renewed = renew(self.held.as_ref(), &self.name, self.serial, today()).with_context(context)?;
        let data = renewed.files.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
        let data: BTreeMap<_, _> = data.collect();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": labels::POOL_TLS_SECRET,
                "namespace": self.namespace,
                "annotations": {RECORD: serde_json::to_string(&renewed.record).with_context(context)?},
                "labels": {
                    labels::APP: ORCHESTRATOR,
                    labels::BUSINESS: self.business,
                    labels::MANAGED_BY: labels::MANAGED_BY_DESKGRID,
                },
            },
            "type": "Opaque",
            "data": data,
        });
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.namespace);
        let (parameters, patch) = (PatchParams::apply(FIELD_MANAGER).force(), Patch::Apply(secret));
        reach::write(|| secrets.patch(labels::POOL_TLS_SECRET, &parameters, &patch)).await.with_context(context)?;
        Ok(())
    }

    /// Writes the serial number where a deploy writes it, as what a deploy applied, so that the next one finds it there:
    /// into the template of the engines, then into the pods of the orchestrator, which start anew and read that. Returns
    /// whether there is one.
    async fn mark(&self, client: &Client) -> anyhow::Result<bool> {
        let serial = json!(self.serial.to_string());
        for (version, kind, name) in [("v1", "ConfigMap", CONFIGURATION), ("apps/v1", "Deployment", ORCHESTRATOR)] {
            let metadata = json!({"namespace": self.namespace, "name": name});
            let named = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            let live = reach::read(client, &named).await?;
            let Some(mut object) = live.as_ref().and_then(owned::applied) else { return Ok(false) };
            if kind == "Deployment" {
                mark_pods(&mut object, &serial);
            } else if let Some(Value::String(text)) = object.pointer_mut(TEMPLATE) {
                let mut template: Value = serde_json::from_str(text).context("parse the template of the engines")?;
                mark_pods(&mut template, &serial);
                *text = serde_json::to_string_pretty(&template).context("encode the template of the engines")? + "\n";
            }
            let applied = reach::apply(client, &object, true, false).await;
            applied.with_context(|| format!("write the {}", reach::title(&object)))?;
        }
        Ok(true)
    }
}

fn mark_pods(workload: &mut Value, serial: &Value) {
    workload["spec"]["template"]["metadata"]["annotations"][labels::ANNOTATION_POOL_CERTIFICATE] = serial.clone();
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}
