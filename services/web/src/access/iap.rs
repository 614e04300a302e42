//! Identity-Aware Proxy: Google's proxy logs people in, and names them in a signed header.
//!
//! A request that does not come through the proxy has no such header, so the signature is checked on every request:
//! ES256, with Google's published keys, for our audience, by Google's issuer (see Google's page "Securing your app with
//! signed headers").

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use axum::http::HeaderMap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::visitor::{Businesses, Visitor};
use crate::settings::IapSettings;

/// The header of the assertion.
pub const HEADER: &str = "x-goog-iap-jwt-assertion";
/// Seconds by which clocks may differ.
const LEEWAY_SECS: u64 = 30;
/// How long the keys that were read are used before they are read again.
const FRESH: Duration = Duration::from_secs(3600);
/// Shortest time between two reads because of an unknown key or a failure.
const REREAD_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(default)]
    email: String,
    sub: String,
    iat: u64,
}

#[derive(Clone, Copy, Debug)]
struct LastRead {
    at: Instant,
    succeeded: bool,
}

/// Verifies assertions.
#[derive(Debug)]
pub struct Iap {
    settings: IapSettings,
    http: reqwest::Client,
    keys: RwLock<Option<Arc<JwkSet>>>,
    /// The last attempt to read the keys; locked during one.
    last_read: Mutex<Option<LastRead>>,
    /// Signs the proof that a request comes from a page of this app.
    secret: hmac::Key,
}

impl Iap {
    /// A verifier with these settings.
    ///
    /// # Errors
    /// When the client for the keys cannot be built.
    pub fn new(settings: &IapSettings) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
        Ok(Self {
            settings: settings.clone(),
            http: http.context("build the client for the keys of Identity-Aware Proxy")?,
            keys: RwLock::default(),
            last_read: Mutex::default(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
        })
    }

    /// The visitor whom the assertion in these headers names; `None` when there is no assertion, or it is not valid.
    ///
    /// # Errors
    /// When the keys or the people cannot be read.
    pub async fn identify(&self, headers: &HeaderMap) -> anyhow::Result<Option<Visitor>> {
        let Some(assertion) = headers.get(HEADER).and_then(|value| value.to_str().ok()) else { return Ok(None) };
        if self.settings.audience.is_empty() {
            anyhow::bail!(
                "check the audience of an assertion: no audience is configured. Set web.iap.APP_audience in the \
                 environment file and deploy; Identity-Aware Proxy shows it as \"signed header JWT audience\""
            );
        }
        let Some(claims) = self.verified(assertion).await? else { return Ok(None) };
        let name = if claims.email.is_empty() { claims.sub } else { claims.email };
        let businesses = match &self.settings.people {
            None => Businesses::All,
            Some(file) => {
                let text = tokio::fs::read(file).await.with_context(|| format!("read {}", file.display()))?;
                let people: BTreeMap<String, Vec<String>> = serde_json::from_slice(&text)
                    .with_context(|| format!("read {} as {{\"EMAIL\": [\"BUSINESS\"]}}", file.display()))?;
                let Some(names) = businesses_of_person(&people, &name) else {
                    tracing::warn!(person = name, "denied access: the file of people does not name this person");
                    return Ok(None);
                };
                Businesses::from_names(names)
            }
        };
        let csrf = BASE64.encode(hmac::sign(&self.secret, format!("deskgrid csrf v1\n{name}").as_bytes()));
        Ok(Some(Visitor { name, businesses, csrf, is_program: false }))
    }

    async fn verified(&self, assertion: &str) -> anyhow::Result<Option<Claims>> {
        let Ok(header) = jsonwebtoken::decode_header(assertion) else { return Ok(None) };
        let (Algorithm::ES256, Some(kid)) = (header.alg, header.kid) else { return Ok(None) };
        let Some(key) = self.key(&kid).await? else {
            tracing::warn!(kid, "denied access: the assertion is signed with an unknown key");
            return Ok(None);
        };
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.leeway = LEEWAY_SECS;
        match jsonwebtoken::decode::<Claims>(assertion, &key, &validation) {
            Ok(token) if token.claims.iat > jsonwebtoken::get_current_timestamp() + LEEWAY_SECS => Ok(None),
            Ok(token) => Ok(Some(token.claims)),
            Err(error) => {
                tracing::warn!(%error, "denied access: the assertion is not valid");
                Ok(None)
            }
        }
    }

    /// The key of this id. The keys are read again when they are old, and when a key is unknown. A request with a known
    /// key never waits for another: one request reads the keys, and the others use those that were read before.
    async fn key(&self, kid: &str) -> anyhow::Result<Option<DecodingKey>> {
        let find = || {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()?;
            keys.find(kid).and_then(|key| DecodingKey::from_jwk(key).ok())
        };
        if find().is_some() {
            if let Ok(mut last) = self.last_read.try_lock()
                && last.is_none_or(|last| last.at.elapsed() > if last.succeeded { FRESH } else { REREAD_AFTER })
                // Keys that were valid an hour ago still are.
                && let Err(error) = self.refresh(&mut last).await
            {
                tracing::warn!("failed to {error:#}");
            }
            return Ok(find());
        }
        let mut last = self.last_read.lock().await;
        let is_due = last.is_none_or(|last| last.at.elapsed() > REREAD_AFTER);
        // Another request may have read them meanwhile.
        if find().is_none() && is_due {
            self.refresh(&mut last).await?;
        }
        match *last {
            // Without keys no assertion can be checked.
            Some(LastRead { succeeded: false, .. }) if find().is_none() => anyhow::bail!(
                "read the keys of Identity-Aware Proxy at {}: they could not be read moments ago",
                self.settings.keys
            ),
            _ => Ok(find()),
        }
    }

    /// Reads the keys, and records the attempt.
    async fn refresh(&self, last: &mut Option<LastRead>) -> anyhow::Result<()> {
        // Recorded first: the request may be dropped before the reply arrives.
        *last = Some(LastRead { at: Instant::now(), succeeded: false });
        let keys = self.read_keys().await?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
        *last = Some(LastRead { at: Instant::now(), succeeded: true });
        Ok(())
    }

    async fn read_keys(&self) -> anyhow::Result<JwkSet> {
        let url = &self.settings.keys;
        let reply = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let reply = reply.with_context(|| format!("read the keys of Identity-Aware Proxy at {url}"))?;
        reply.json().await.with_context(|| format!("read the keys of Identity-Aware Proxy at {url}"))
    }
}

/// The businesses of a person: those of the email, of its domain, and of everybody; `None` when the file names none of
/// the three.
fn businesses_of_person(people: &BTreeMap<String, Vec<String>>, name: &str) -> Option<Vec<String>> {
    let name = name.to_lowercase();
    let domain = name.rsplit_once('@').map(|(_, domain)| format!("*@{domain}"));
    let means = |key: &str| key == "*" || key == name || Some(key) == domain.as_deref();
    let mut entries = people.iter().filter(|(key, _)| means(&key.to_lowercase())).peekable();
    entries.peek()?;
    Some(entries.flat_map(|(_, names)| names.clone()).collect())
}

#[cfg(test)]
mod tests;
