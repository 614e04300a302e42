//! Checks the tokens of engines: the API server signs them for the pods of one service account, with an audience that
//! only this service accepts (<https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use contract::labels;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{Jwk, JwkSet},
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::cluster::Cluster;

/// Least time between two reads of the cluster's keys.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// The keys of the cluster, and what a token of an engine says.
pub(crate) struct Tokens {
    cluster: Cluster,
    subject: String,
    keys: Mutex<(Option<Instant>, JwkSet)>,
}

/// The pod of a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Pod,
}

impl Tokens {
    /// Accepts the tokens of the engines in a namespace.
    pub(crate) fn new(cluster: Cluster, namespace: &str) -> Arc<Self> {
        let subject = format!("system:serviceaccount:{namespace}:{}", labels::APP_ENGINE);
        Arc::new(Self { cluster, subject, keys: Mutex::new((None, JwkSet { keys: Vec::new() })) })
    }

    /// The pod of a token that is valid now.
    ///
    /// # Errors
    /// When it is not signed by the cluster, has expired, is for something else, or its pod is gone.
    pub(crate) async fn check(&self, token: &str) -> anyhow::Result<Pod> {
        let header = jsonwebtoken::decode_header(token).context("read the token")?;
        let id = header.kid.context("the token names no key")?;
        let key = self.key(&id).await?;
        let pod = read(token, &key, &self.subject)?;
        if self.cluster.pod_uid(&pod.name).await?.as_deref() != Some(&pod.uid) {
            bail!("the pod {} of the token does not exist", pod.name);
        }
        Ok(pod)
    }

    async fn key(&self, id: &str) -> anyhow::Result<Jwk> {
        let is_due = {
            let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = keys.1.find(id) {
                return Ok(key.clone());
            }
            keys.0.is_none_or(|read| read.elapsed() >= REFRESH_INTERVAL)
        };
        if is_due {
            let text = self.cluster.token_keys().await?;
            let set: JwkSet = serde_json::from_str(&text).context("parse the cluster's keys")?;
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            *keys = (Some(Instant::now()), set);
            if let Some(key) = keys.1.find(id) {
                return Ok(key.clone());
            }
        }
        bail!("the cluster has no key {id:?}")
    }
}

/// The pod of a token that this key signed for this subject.
fn read(token: &str, key: &Jwk, subject: &str) -> anyhow::Result<Pod> {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.algorithms = vec![Algorithm::RS256, Algorithm::ES256];
    // All algorithms have to be of the key's family.
    validation.algorithms.retain(|algorithm| {
        let is_rsa = matches!(key.algorithm, jsonwebtoken::jwk::AlgorithmParameters::RSA(_));
        is_rsa == (*algorithm == Algorithm::RS256)
    });
    validation.set_audience(&[labels::POOL_AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    validation.validate_nbf = true;
    let decoding = DecodingKey::from_jwk(key).context("use the cluster's key")?;
    let claims = jsonwebtoken::decode::<Claims>(token, &decoding, &validation).context("check the token")?.claims;
    if claims.sub != subject {
        bail!("the token is of {}, not of {subject}", claims.sub);
    }
    Ok(claims.kubernetes.pod)
}
