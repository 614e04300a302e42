//! The tokens with which people come into the web apps: a Secret that the first deploy makes and every later one keeps.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use contract::labels;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::{FIELD_MANAGER, reach};
use crate::manifests::WEB_NAMESPACE;

/// Name of the Secret.
pub const SECRET: &str = "web-access";
/// Its key: one token a line, alone or followed by the businesses that it may see.
const TOKENS: &str = "tokens";
/// Bytes of a token, before they are written in hexadecimal.
const TOKEN_BYTES: usize = 24;

/// Whether there is no such Secret yet.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn is_missing(client: &Client) -> anyhow::Result<bool> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), WEB_NAMESPACE);
    let live = reach::with_timeout(secrets.get_opt(SECRET)).await;
    Ok(live.with_context(|| format!("read the Secret {WEB_NAMESPACE}/{SECRET}"))?.is_none())
}

/// Makes the Secret with one token that may see every business.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn make(client: &Client) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), WEB_NAMESPACE);
    let context = || format!("make the Secret {WEB_NAMESPACE}/{SECRET}");
    let token: String = rand::random::<[u8; TOKEN_BYTES]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": SECRET, "labels": {labels::MANAGED_BY: labels::MANAGED_BY_DESKGRID}},
        "stringData": {TOKENS: format!("{token}\n")},
    }))
    .with_context(context)?;
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match reach::write(|| secrets.create(&parameters, &secret)).await {
        Ok(_) => Ok(()),
        // Somebody made it by hand meanwhile; theirs counts.
        Err(error) if reach::refusal(&error).is_some_and(|status| status.code == 409) => Ok(()),
        Err(error) => Err(error).with_context(context),
    }
}

/// The first token of the Secret.
///
/// # Errors
/// When there is none, or you may not read it.
pub async fn token(client: &Client) -> anyhow::Result<String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), WEB_NAMESPACE);
    let context = || format!("read the Secret {WEB_NAMESPACE}/{SECRET}");
    let secret = reach::with_timeout(secrets.get(SECRET)).await.with_context(context)?;
    first(&secret.data.unwrap_or_default()).with_context(context)
}

fn first(data: &BTreeMap<String, k8s_openapi::ByteString>) -> anyhow::Result<String> {
    let text = data.get(TOKENS).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.next().and_then(|line| line.split_whitespace().next()) {
        Some(token) if !token.starts_with('{') => Ok(token.to_owned()),
        Some(_) => bail!("its tokens are written as JSON; take one of them from it"),
        None => bail!("there is no token in it; delete it and deploy again"),
    }
}
