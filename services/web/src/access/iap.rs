//! Identity-Aware Proxy: Google's proxy logs people in, and says who they are in a signed header.
//!
//! Whoever reaches the app without the proxy has no such header, so the signature is checked on every request: ES256,
//! with Google's published keys, for our audience, by Google's issuer (its page "Securing your app with signed headers").

use std::{
    collections::BTreeMap,
    path::PathBuf,
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

use super::{Businesses, Visitor};
use crate::settings::IapSettings;

/// The header of the assertion.
pub const HEADER: &str = "x-goog-iap-jwt-assertion";
/// Seconds by which clocks may differ.
const LEEWAY_SECS: u64 = 30;
/// How long keys are believed to be all there are.
const FRESH: Duration = Duration::from_secs(3600);
/// How often keys are asked for because of an assertion of an unknown key.
const ASK_AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(default)]
    email: String,
    sub: String,
    iat: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    answered: bool,
}

/// Verifies assertions.
#[derive(Debug)]
pub struct Iap {
    settings: IapSettings,
    people: Option<PathBuf>,
    http: reqwest::Client,
    keys: RwLock<Option<Arc<JwkSet>>>,
    /// When the keys were asked for last, whatever came of it; held while they are.
    asked: Mutex<Option<Asked>>,
    /// Signs what proves that a request comes from a page of ours.
    secret: hmac::Key,
}

impl Iap {
    /// As it was told.
    ///
    /// # Errors
    /// When the client for the keys cannot be built.
    pub fn new(settings: &IapSettings) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
        Ok(Self {
            settings: settings.clone(),
            people: settings.people.clone(),
            http: http.context("build the client for the keys of Identity-Aware Proxy")?,
            keys: RwLock::default(),
            asked: Mutex::default(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
        })
    }

    /// Who the assertion in these headers speaks of; `None` when there is none, or it is not good.
    ///
    /// # Errors
    /// When the keys or the people cannot be read.
    pub async fn identify(&self, headers: &HeaderMap) -> anyhow::Result<Option<Visitor>> {
        let Some(assertion) = headers.get(HEADER).and_then(|value| value.to_str().ok()) else { return Ok(None) };
        if self.settings.audience.is_empty() {
            anyhow::bail!(
                "tell whom an assertion is for: no audience is named yet. Name it as web.iap.APP_audience in the \
                 environment file and deploy; Identity-Aware Proxy shows it as \"signed header JWT audience\""
            );
        }
        let Some(claims) = self.verified(assertion).await? else { return Ok(None) };
        let name = if claims.email.is_empty() { claims.sub } else { claims.email };
        let businesses = match &self.people {
            None => Businesses::All,
            Some(file) => {
                let text = tokio::fs::read(file).await.with_context(|| format!("read {}", file.display()))?;
                let people: BTreeMap<String, Vec<String>> = serde_json::from_slice(&text)
                    .with_context(|| format!("read {} as {{\"EMAIL\": [\"BUSINESS\"]}}", file.display()))?;
                let Some(names) = of_person(&people, &name) else {
                    tracing::warn!(person = name, "somebody whom the file of people does not name asks for access");
                    return Ok(None);
                };
                Businesses::of(names)
            }
        };
        let csrf = BASE64.encode(hmac::sign(&self.secret, format!("deskgrid csrf v1\n{name}").as_bytes()));
        Ok(Some(Visitor { name, businesses, csrf, is_program: false }))
    }

    async fn verified(&self, assertion: &str) -> anyhow::Result<Option<Claims>> {
        let Ok(header) = jsonwebtoken::decode_header(assertion) else { return Ok(None) };
        let (Algorithm::ES256, Some(kid)) = (header.alg, header.kid) else { return Ok(None) };
        let Some(key) = self.key(&kid).await? else {
            tracing::warn!(kid, "an assertion is signed with a key that is not among Google's");
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
                tracing::warn!(%error, "an assertion is not good");
                Ok(None)
            }
        }
    }

    /// The key of this id. The keys are read again when they are old, and when an unknown one is used. Whoever uses a
    /// known one waits for nobody: only one request reads the keys, and those beside it go on with what is known.
    async fn key(&self, kid: &str) -> anyhow::Result<Option<DecodingKey>> {
        let find = || {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()?;
            keys.find(kid).and_then(|key| DecodingKey::from_jwk(key).ok())
        };
        if find().is_some() {
            if let Ok(mut asked) = self.asked.try_lock()
                && asked.is_none_or(|asked| asked.at.elapsed() > if asked.answered { FRESH } else { ASK_AGAIN })
                // Keys that were good an hour ago still are.
                && let Err(error) = self.ask(&mut asked).await
            {
                tracing::warn!("failed to {error:#}");
            }
            return Ok(find());
        }
        let mut asked = self.asked.lock().await;
        let is_due = asked.is_none_or(|asked| asked.at.elapsed() > ASK_AGAIN);
        // Somebody else may have read them meanwhile.
        if find().is_none() && is_due {
            self.ask(&mut asked).await?;
        }
        match *asked {
            // Without any, nobody can be told from anybody.
            Some(Asked { answered: false, .. }) if find().is_none() => anyhow::bail!(
                "read the keys of Identity-Aware Proxy at {}: they could not be read moments ago",
                self.settings.keys
            ),
            _ => Ok(find()),
        }
    }

    /// Reads the keys, and notes that it was tried.
    async fn ask(&self, asked: &mut Option<Asked>) -> anyhow::Result<()> {
        // Noted first: whoever asked may go away before the answer comes.
        *asked = Some(Asked { at: Instant::now(), answered: false });
        let keys = self.read_keys().await?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
        *asked = Some(Asked { at: Instant::now(), answered: true });
        Ok(())
    }

    async fn read_keys(&self) -> anyhow::Result<JwkSet> {
        let url = &self.settings.keys;
        let answer = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.with_context(|| format!("read the keys of Identity-Aware Proxy at {url}"))?;
        answer.json().await.with_context(|| format!("read the keys of Identity-Aware Proxy at {url}"))
    }
}

/// The businesses of a person: all that is said of the email, of everybody of its domain, and of everybody; `None` when
/// nothing is.
fn of_person(people: &BTreeMap<String, Vec<String>>, name: &str) -> Option<Vec<String>> {
    let name = name.to_lowercase();
    let domain = name.rsplit_once('@').map(|(_, domain)| format!("*@{domain}"));
    let means = |key: &str| key == "*" || key == name || Some(key) == domain.as_deref();
    let mut entries = people.iter().filter(|(key, _)| means(&key.to_lowercase())).peekable();
    entries.peek()?;
    Some(entries.flat_map(|(_, names)| names.clone()).collect())
}

#[cfg(test)]
mod tests;
