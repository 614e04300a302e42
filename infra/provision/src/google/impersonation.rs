//! Impersonation of a service account: tokens from IAM Credentials.

use cloud::credentials::{SCOPES, TOKEN_LIFETIME, cached};
use google_cloud_auth::credentials::Credentials;
use google_cloud_gax::error::CredentialsError;
use serde_json::json;

use super::{Api, Client, Method, Request, escape};
use crate::failure::Failure;

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
    let (source, email) = (source.clone(), email.to_owned());
    Ok(cached(Box::new(move || {
        let (source, email) = (source.clone(), email.clone());
        Box::pin(async move { token(&source, &email).await })
    })))
}

async fn token(source: &Client, email: &str) -> Result<String, CredentialsError> {
    let path = format!("v1/projects/-/serviceAccounts/{}:generateAccessToken", escape(email));
    let body = json!({"scope": SCOPES, "lifetime": format!("{}s", TOKEN_LIFETIME.as_secs())});
    let request = Request::new(Api::IamCredentials, Method::Post, path).body(body);
    let answer = source.send(&request).await.map_err(|error| {
        let advice = match error.is_forbidden() {
            true => format!(
                "; to act as it you need: gcloud iam service-accounts add-iam-policy-binding {email} --member user:YOU \
                 --role roles/iam.serviceAccountTokenCreator, and the service iamcredentials.googleapis.com"
            ),
            false => String::new(),
        };
        CredentialsError::from_msg(error.is_transient(), format!("cannot act as {email}: {error}{advice}"))
    })?;
    Ok(answer["accessToken"].as_str().unwrap_or_default().to_owned())
}
