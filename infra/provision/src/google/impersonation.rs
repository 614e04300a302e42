//! Impersonation of a service account: tokens from IAM Credentials.

use std::time::{Duration, Instant};

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use google_cloud_gax::error::CredentialsError;
use http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::json;
use tokio::sync::Mutex;

use super::{Api, Client, Method, Request, escape, rest::SCOPES};
use crate::failure::Failure;

/// How long a token lasts; an hour is the most that every organisation allows.
const LIFETIME: Duration = Duration::from_secs(3600);
/// A token is replaced this long before it ends.
const EARLY: Duration = Duration::from_secs(300);

struct Impersonation {
    source: Client,
    email: String,
    /// The token of now, and when it was made.
    held: Mutex<Option<(HeaderValue, EntityTag, Instant)>>,
}

impl std::fmt::Debug for Impersonation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "credentials of {}", self.email)
    }
}

/// Credentials of the service account `email`, made by whom `source` acts as.
///
/// # Errors
/// When the email is none of a service account.
pub fn impersonated(source: &Client, email: &str) -> anyhow::Result<Credentials> {
    if !email.ends_with(".gserviceaccount.com") || !email.contains('@') {
        return Err(Failure {
            code: "usage",
            what: format!("{email:?} is not the email of a service account"),
            on: "--impersonate-service-account".to_owned(),
            why: "it would end in .iam.gserviceaccount.com".to_owned(),
            next: "gcloud iam service-accounts list".to_owned(),
        }
        .into());
    }
    let held = Mutex::new(None);
    Ok(Credentials::from(Impersonation { source: source.clone(), email: email.to_owned(), held }))
}

impl CredentialsProvider for Impersonation {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let mut held = self.held.lock().await;
        if held.as_ref().is_none_or(|(_, _, made)| made.elapsed() >= LIFETIME - EARLY) {
            *held = Some((self.token().await?, EntityTag::new(), Instant::now()));
        }
        let Some((token, tag, _)) = held.as_ref() else {
            return Err(CredentialsError::from_msg(true, "there is no token"));
        };
        if extensions.get::<EntityTag>() == Some(tag) {
            return Ok(CacheableResource::NotModified);
        }
        let data = HeaderMap::from_iter([(AUTHORIZATION, token.clone())]);
        Ok(CacheableResource::New { entity_tag: tag.clone(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        self.source.credentials().universe_domain().await
    }
}

impl Impersonation {
    async fn token(&self) -> Result<HeaderValue, CredentialsError> {
        let path = format!("v1/projects/-/serviceAccounts/{}:generateAccessToken", escape(&self.email));
        let body = json!({"scope": SCOPES, "lifetime": format!("{}s", LIFETIME.as_secs())});
        let request = Request::new(Api::IamCredentials, Method::Post, path).body(body);
        let answer = self.source.send(&request).await.map_err(|error| {
            let advice = match error.is_forbidden() {
                true => format!(
                    "; to act as it you need: gcloud iam service-accounts add-iam-policy-binding {0} --member user:YOU \
                     --role roles/iam.serviceAccountTokenCreator, and the service iamcredentials.googleapis.com",
                    self.email
                ),
                false => String::new(),
            };
            CredentialsError::from_msg(error.is_transient(), format!("cannot act as {}: {error}{advice}", self.email))
        })?;
        let token = answer["accessToken"].as_str().unwrap_or_default();
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| CredentialsError::from_msg(false, "the token that was made is not one"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
