//! Errors for people and programs: what happened, why, what to do next, and a stable code.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cloud::queue::Intake;
use contract::config::Business;
use schemars::JsonSchema;
use serde::Serialize;

/// An error as the answer to a request. A program gets it as JSON; for a person the router renders it as a page.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Problem {
    /// HTTP status.
    #[serde(skip)]
    pub status: StatusCode,
    /// Stable code, lower-case with dashes.
    pub code: &'static str,
    /// What happened, without a full stop.
    pub what: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Seconds after which to try again.
    #[serde(skip)]
    pub retry_after_secs: Option<u64>,
}

impl Problem {
    /// A problem of this status and code.
    pub fn new(status: StatusCode, code: &'static str, what: impl Into<String>) -> Self {
        Self { status, code, what: what.into(), why: None, next: None, retry_after_secs: None }
    }

    /// Why it happened.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Seconds after which to try again.
    #[must_use]
    pub fn retry_after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// Something does not exist, or not for this visitor: the answer is the same.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", what)
    }

    /// The request is malformed.
    pub fn bad_request(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", what)
    }

    /// A service that is needed does not answer. This logs the details.
    pub fn unavailable(what: impl Into<String>, error: &anyhow::Error) -> Self {
        let what = what.into();
        tracing::warn!("{what}: {error:#}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", what)
            .why(format!("{error:#}"))
            .next("This page recovers by itself; reload it in a moment.")
            .retry_after(5)
    }

    /// An error of this program. This logs the details and does not show them.
    #[allow(clippy::needless_pass_by_value, reason = "it is used with map_err")]
    pub fn internal(error: anyhow::Error) -> Self {
        tracing::error!("failed to {error:#}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong in this program")
            .next("Try again, or see its log.")
    }
}

/// Checks that messages to a business reach its orchestrator, before anything is uploaded or published for them.
///
/// # Errors
/// When its topic or its subscription is missing, or Pub/Sub does not answer.
pub async fn check_intake(intake: &Intake, business: &Business) -> Result<(), Problem> {
    let missing = intake.missing(business).await;
    let missing = missing.map_err(|error| Problem::unavailable("Pub/Sub does not answer", &error))?;
    if missing.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let what = format!("{} cannot receive Jobs; nothing was sent", business.name);
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-found", what)
        .why(why.join("; "))
        .next("Ask the operator of Deskgrid to run `cargo xtask provision`."))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self)).into_response();
        if let Some(secs) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response.extensions_mut().insert(self);
        response
    }
}
