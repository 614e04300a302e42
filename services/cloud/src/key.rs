//! The key of a service account, exchanged for access tokens.
//!
//! Google's library sends a JWT that it signs with the key. Google's APIs take that; GKE documents OAuth access tokens
//! only (cloud.google.com/kubernetes-engine/docs/how-to/api-server-authentication), and every tool of Google's sends it
//! one. So a key is exchanged (developers.google.com/identity/protocols/oauth2/service-account), and one token serves
//! all.

use std::{sync::Arc, time::Duration};

use google_cloud_auth::{credentials::Credentials, errors::CredentialsError};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::credentials::{SCOPES, TOKEN_LIFETIME, cached};

const ANSWER_LIMIT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Key {
    client_email: String,
    private_key_id: String,
    private_key: String,
    token_uri: String,
}

struct Login {
    key: Key,
    signing: EncodingKey,
    http: reqwest::Client,
}

/// Credentials for the content of a key file.
///
/// # Errors
/// When it is not the key of a service account.
pub fn credentials(json: Value) -> Result<Credentials, CredentialsError> {
    let broken = |error: &dyn std::fmt::Display| {
        CredentialsError::from_msg(false, format!("the key of the service account cannot be used: {error}"))
    };
    let key: Key = serde_json::from_value(json).map_err(|error| broken(&error))?;
    let signing = EncodingKey::from_rsa_pem(key.private_key.as_bytes()).map_err(|error| broken(&error))?;
    let http = reqwest::Client::builder().timeout(ANSWER_LIMIT).build().map_err(|error| broken(&error))?;
    let login = Arc::new(Login { key, signing, http });
    Ok(cached(Box::new(move || {
        let login = login.clone();
        Box::pin(async move { login.token().await })
    })))
}

impl Login {
    async fn token(&self) -> Result<String, CredentialsError> {
        let Key { client_email: email, private_key_id: id, token_uri: uri, .. } = &self.key;
        let failed = |is_transient: bool, why: &dyn std::fmt::Display| {
            CredentialsError::from_msg(is_transient, format!("exchange the key of {email} at {uri}: {why}"))
        };
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "iss": email, "scope": SCOPES.join(" "), "aud": uri, "iat": now, "exp": now + TOKEN_LIFETIME.as_secs() as i64,
        });
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::RS256) };
        let assertion = jsonwebtoken::encode(&header, &claims, &self.signing).map_err(|error| failed(false, &error))?;
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
        let answer = self.http.post(uri).form(&form).send().await.map_err(|error| failed(true, &error))?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| failed(status.is_server_error(), &error))?;
        match body["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => {
                let why = body["error_description"].as_str().or(body["error"].as_str()).unwrap_or(status.as_str());
                Err(failed(status.is_server_error() || status.as_u16() == 429, &why))
            }
        }
    }
}
