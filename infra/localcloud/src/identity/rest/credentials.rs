//! IAM Credentials: a token for a service account on behalf of another caller.

use axum::response::Response;
use http::Method;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Server, no_route};
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
    },
    identity::{principal::Principal, tokens::LIFETIME_SECS},
};

impl Server {
    pub(super) fn credentials(&self, call: &Call, caller: &Principal, path: &[&str]) -> Result<Response> {
        let (&Method::POST, ["v1", "projects", "-", "serviceAccounts", name], Some("generateAccessToken")) =
            (&call.method, path, call.verb.as_deref())
        else {
            return Err(no_route(call));
        };
        let found = self.identity.read().accounts.get(name).cloned();
        let denied = || {
            Error::forbidden(
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
            )
            .with_info(
                "IAM_PERMISSION_DENIED",
                "iam.googleapis.com",
                vec![("permission".to_owned(), "iam.serviceAccounts.getAccessToken".to_owned())],
            )
        };
        let account = found.map_err(|_| denied())?;
        if !self.identity.allowed(caller, "iam.serviceAccounts.getAccessToken", &account.target()) {
            return Err(denied());
        }
        if account.disabled {
            return Err(Error::failed_precondition("Service account is disabled."));
        }
        let body: Value = call.json()?;
        let lifetime = match body.get("lifetime").and_then(Value::as_str) {
            None => LIFETIME_SECS,
            Some(text) => text
                .strip_suffix('s')
                .and_then(|text| text.parse().ok())
                .filter(|secs| (1..=LIFETIME_SECS).contains(secs))
                .ok_or_else(|| Error::invalid("The access token lifetime cannot exceed 3600 seconds."))?,
        };
        let principal = Principal::ServiceAccount { email: account.email, uid: Some(account.uid) };
        let token = self.identity.token(&principal, lifetime)?;
        let expiry = self.identity.clock.now() + SignedDuration::from_secs(lifetime);
        Ok(ok(&json!({
            "accessToken": token,
            "expireTime": expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })))
    }
}
