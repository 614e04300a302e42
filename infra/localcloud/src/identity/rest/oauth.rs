//! OAuth: the token endpoint.

use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::Server;
use crate::{
    google::{
        call::{Call, ok},
        error::respond,
    },
    identity::tokens::{LIFETIME_SECS, OPERATOR_REFRESH},
};

const SCOPES: &str =
    "openid https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/cloud-platform";

impl Server {
    /// Exchanges the token of a provider for one of a principal of the pool (Security Token Service, `v1/token`).
    pub(super) fn exchange(&self, call: &Call) -> Response {
        let form = call.form();
        let field =
            |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default();
        let refuse = |error: &str, text: &str| {
            respond(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": text }))
        };
        if field("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" {
            return refuse("unsupported_grant_type", "Invalid grant_type.");
        }
        if !field("audience").starts_with(&format!("//{}/providers/", self.identity.pool().path())) {
            return refuse("invalid_target", "The target service indicated by the \"audience\" parameters is invalid.");
        }
        match self.identity.exchange(field("subject_token")) {
            Ok(token) => ok(&json!({
                "access_token": token,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "expires_in": LIFETIME_SECS,
                "token_type": "Bearer",
            })),
            Err(error) => refuse("invalid_grant", error.message()),
        }
    }

    /// Trades a refresh token or a signed assertion for an access token.
    pub(super) fn trade(&self, call: &Call) -> Response {
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
}
