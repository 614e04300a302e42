//! OAuth: the token endpoint, and what a token says about itself.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::Server;
use crate::{
    google::{
        call::{Call, ok},
        error::{Result, respond},
    },
    identity::{
        principal::Principal,
        tokens::{LIFETIME_SECS, OPERATOR_REFRESH},
    },
};

const SCOPES: &str =
    "openid https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/cloud-platform";

impl Server {
    /// Answers the paths that need no caller; none when the path is another's.
    pub(super) fn oauth(&self, call: &Call, path: &[&str]) -> Option<Result<Response>> {
        Some(match path {
            ["token"] | ["oauth2", "v4", "token"] | ["o", "oauth2", "token"] => Ok(self.trade(call)),
            ["revoke"] => Ok(ok(&json!({}))),
            ["tokeninfo"] | ["oauth2", _, "tokeninfo"] => Ok(self.token_info(call)),
            ["userinfo"] | ["oauth2", _, "userinfo"] | [_, "userinfo"] => self.user_info(call),
            _ => return None,
        })
    }

    fn trade(&self, call: &Call) -> Response {
        let form = call.form();
        let field =
            |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default();
        let traded = match field("grant_type") {
            "refresh_token" if field("refresh_token") == OPERATOR_REFRESH => self
                .identity
                .token(&self.identity.operator(), LIFETIME_SECS)
                .map_err(|error| error.message().to_owned()),
            "refresh_token" => Err("invalid_grant: Bad Request".to_owned()),
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                self.identity.trade_assertion(field("assertion")).map_err(|error| error.message().to_owned())
            }
            other => Err(format!("unsupported_grant_type: Invalid grant_type: {other}")),
        };
        match traded {
            Ok(token) => ok(&json!({
                "access_token": token,
                "expires_in": LIFETIME_SECS - 1,
                "scope": SCOPES,
                "token_type": "Bearer",
            })),
            Err(text) => {
                let (error, description) = text.split_once(": ").unwrap_or(("invalid_grant", &text));
                respond(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": description }))
            }
        }
    }

    fn token_info(&self, call: &Call) -> Response {
        let form = call.form();
        let in_form = form.iter().find(|(key, _)| key == "access_token").map(|(_, value)| value.as_str());
        let token = call.query("access_token").or(in_form).unwrap_or_default();
        match self.identity.principal_of(token) {
            Ok((principal, left)) => {
                let mut info = json!({
                    "azp": "local", "aud": "local", "scope": SCOPES,
                    "exp": (self.identity.token_time() + left).to_string(),
                    "expires_in": left.to_string(), "access_type": "offline",
                });
                merge(&mut info, &who(&principal));
                ok(&info)
            }
            Err(_) => respond(
                StatusCode::BAD_REQUEST,
                &json!({ "error": "invalid_token", "error_description": "Invalid Value" }),
            ),
        }
    }

    fn user_info(&self, call: &Call) -> Result<Response> {
        let caller = self.identity.caller(&call.headers)?;
        Ok(ok(&who(&caller)))
    }
}

fn who(principal: &Principal) -> Value {
    match principal {
        Principal::User { email } => {
            json!({ "sub": email, "id": email, "email": email, "email_verified": true, "verified_email": true })
        }
        Principal::ServiceAccount { email, uid } => {
            json!({ "sub": uid, "id": uid, "email": email, "email_verified": true, "verified_email": true })
        }
        other => json!({ "sub": other.to_string() }),
    }
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}
