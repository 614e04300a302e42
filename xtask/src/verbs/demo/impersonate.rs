//! Acting as a service account, to see what it may and may not do.

use anyhow::Context as _;
use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION};
use provision::{
    Cloud,
    google::{Api, Method, Request},
};
use serde_json::{Value, json};

const TOKEN_CREATOR: &str = "roles/iam.serviceAccountTokenCreator";

/// A fixed token; never refreshed.
#[derive(Debug)]
struct Token {
    value: HeaderValue,
    tag: EntityTag,
}

impl CredentialsProvider for Token {
    async fn headers(
        &self,
        _extensions: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, google_cloud_gax::error::CredentialsError> {
        let data = HeaderMap::from_iter([(AUTHORIZATION, self.value.clone())]);
        Ok(CacheableResource::New { entity_tag: self.tag.clone(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

/// Credentials of a service account. Who asks is first allowed to make tokens for it, which owning the project does
/// not include.
pub(super) async fn credentials(cloud: &Cloud, project: &str, email: &str) -> anyhow::Result<Credentials> {
    let context = || format!("act as {email}");
    let account = format!("v1/projects/{project}/serviceAccounts/{email}");
    let read = Request::new(Api::Iam, Method::Post, format!("{account}:getIamPolicy"))
        .query("options.requestedPolicyVersion", "3");
    let mut policy = cloud.google.send(&read).await.with_context(context)?;
    let who = json!(format!("user:{}", localcloud::cloud::OPERATOR));
    if policy["bindings"].is_null() {
        policy["bindings"] = json!([]);
    }
    if let Value::Array(bindings) = &mut policy["bindings"]
        && !bindings.iter().any(|binding| binding["role"] == TOKEN_CREATOR)
    {
        bindings.push(json!({"role": TOKEN_CREATOR, "members": [who]}));
        let write =
            Request::new(Api::Iam, Method::Post, format!("{account}:setIamPolicy")).body(json!({"policy": policy}));
        cloud.google.send(&write).await.with_context(context)?;
    }
    let generate = Request::new(
        Api::IamCredentials,
        Method::Post,
        format!("v1/projects/-/serviceAccounts/{email}:generateAccessToken"),
    )
    .body(json!({"scope": ["https://www.googleapis.com/auth/cloud-platform"]}));
    let answer = cloud.google.send(&generate).await.with_context(context)?;
    let token = answer["accessToken"].as_str().context("find the token in the answer")?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).context("use the token as a header")?;
    value.set_sensitive(true);
    Ok(Credentials::from(Token { value, tag: EntityTag::new() }))
}
