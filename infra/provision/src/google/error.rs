//! What a REST call can fail with, and the questions our code asks about it.

use std::fmt;

use serde_json::Value;

use crate::calls::{self, Answer};

/// How the message of an operation that failed begins.
pub(crate) const OPERATION_FAILED: &str = "the operation failed: ";

/// The projects of Google's own tools, in which calls of a user count that name no project.
const TOOLS: [&str; 2] = ["projects/764086051850", "projects/32555940559"];

/// A failed REST call.
#[derive(Debug)]
pub struct Error {
    /// Method and path, for people.
    pub request: String,
    /// HTTP status code; 0 when there was no answer.
    pub code: u16,
    /// Canonical code such as `NOT_FOUND`; Cloud Storage has none.
    pub status: Option<String>,
    /// `errors[0].reason`, or the reason of a `google.rpc.ErrorInfo`.
    pub reason: Option<String>,
    /// Google's message.
    pub message: String,
    /// Seconds after which the server would like to be asked again.
    pub retry_after_secs: Option<u64>,
}

impl Error {
    /// From an answer that is not a success.
    pub(super) fn from_answer(request: String, code: u16, body: &str, retry_after_secs: Option<u64>) -> Self {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        let error = &json["error"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let info = error["details"].as_array().into_iter().flatten().find_map(|detail| {
            let reason = text(&detail["reason"])?;
            let consumer = detail["metadata"]["consumer"].as_str().unwrap_or_default();
            // What is disabled in the project of Google's own tools says nothing of ours (golang/oauth2 #702).
            Some(if TOOLS.contains(&consumer) { format!("{reason} in {consumer}") } else { reason })
        });
        let brief = || {
            let line: String = body.trim().chars().take(200).collect();
            if line.is_empty() { format!("HTTP {code} without a message") } else { line }
        };
        Self {
            request,
            code,
            status: text(&error["status"]),
            reason: info.or_else(|| text(&error["errors"][0]["reason"])),
            message: text(&error["message"]).unwrap_or_else(brief),
            retry_after_secs,
        }
    }

    /// No answer came.
    pub(super) fn from_transport(request: String, error: &reqwest::Error) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            message.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        Self { request, code: 0, status: None, reason: None, message, retry_after_secs: None }
    }

    /// There is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// Not allowed.
    pub fn is_forbidden(&self) -> bool {
        self.code == 403
    }

    /// This server does not have that method: Google's Pub/Sub emulator has no IAM.
    pub fn is_unimplemented(&self) -> bool {
        self.code == 501
    }

    /// A 403 with which IAM also answers for what does not exist.
    pub fn may_not_exist(&self) -> bool {
        calls::is("hidden", self.answer())
    }

    /// Something of that name exists.
    pub fn is_already_exists(&self) -> bool {
        self.code == 409 && !self.is_policy_conflict() && !self.is_in_progress()
    }

    /// Another operation on the same thing has to end first; who says so names none.
    fn is_in_progress(&self) -> bool {
        self.code == 409 && self.reason.as_deref() == Some("operationInProgress")
    }

    /// A quota of calls, or of operations at once, is used up for the moment; those of calls are for each minute.
    pub fn is_over_quota(&self) -> bool {
        const REASONS: [&str; 4] = [
            "rateLimitExceeded",
            "userRateLimitExceeded",
            "RATE_LIMIT_EXCEEDED",
            "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED",
        ];
        let named = self.reason.as_deref().is_some_and(|reason| REASONS.contains(&reason));
        let quotas = ["per minute", "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED"];
        self.code == 429 || (self.code == 403 && (named || quotas.iter().any(|text| self.message.contains(text))))
    }

    /// Somebody else changed the policy between our read and our write.
    pub fn is_policy_conflict(&self) -> bool {
        (self.code == 409
            && (self.status.as_deref() == Some("ABORTED") || self.message.contains("concurrent policy changes")))
            || self.code == 412
    }

    /// The resource changed since it was read.
    pub fn is_stale(&self) -> bool {
        self.is_policy_conflict() || (self.code == 400 && self.message.contains("fingerprint"))
    }

    /// The error as the table of calls knows it.
    pub(crate) fn answer(&self) -> Answer<'_> {
        Answer { code: self.code, reason: self.reason.as_deref(), message: &self.message }
    }

    /// A principal that a policy or a cluster names is not known (yet).
    pub fn is_unknown_principal(&self) -> bool {
        calls::is("unknown-principal", self.answer())
    }

    /// The network does not exist (yet): a project gets its `default` one a moment after Compute Engine is enabled,
    /// unless the organisation forbids it.
    pub fn is_network_missing(&self) -> bool {
        calls::is("network-missing", self.answer())
    }

    /// A service agent may not use a key (yet), in the words of Cloud Storage, of Pub/Sub, and of Key Management, which
    /// others repeat.
    pub fn is_key_denied(&self) -> bool {
        calls::is("key-denied", self.answer())
    }

    /// A Shared VPC lacks something: its host project is not attached, a service agent has no role there, or the
    /// subnetwork has no such range (terraform-google-kubernetes-engine #302 and #616, gke-enterprise-mt #20,
    /// fabianlee/gcp-gke-clusters-ingress #2).
    pub fn is_shared_network_refused(&self) -> bool {
        let said = [
            "container.hostServiceAgent.use",
            "Shared-VPC host project",
            "'compute.subnetworks.",
            "'compute.networks.",
            "secondary range",
        ];
        matches!(self.code, 400 | 403 | 500) && said.iter().any(|text| self.message.contains(text))
    }

    /// The account of a build may not read the bucket of its logs (yet).
    pub fn is_logs_bucket_denied(&self) -> bool {
        calls::is("logs-bucket-denied", self.answer())
    }

    /// The service is not enabled in the project, or not yet everywhere.
    pub fn is_service_disabled(&self) -> bool {
        calls::is("service-disabled", self.answer())
    }

    /// A custom role has the id and was deleted so long ago that it cannot come back, but not long enough for another
    /// one of the id.
    pub fn is_role_buried(&self) -> bool {
        let said = ["marked for deletion", "in a deleted state", "can't be undeleted"];
        self.code == 400 && said.iter().any(|text| self.message.contains(text))
    }

    /// The project's Workload Identity pool is not there (yet): it comes with the first cluster that uses it.
    pub fn is_pool_missing(&self) -> bool {
        calls::is("pool-missing", self.answer())
    }

    /// The operation on a cluster that has to end first: Kubernetes Engine refuses a second one and names the first.
    pub fn blocking_operation(&self) -> Option<&str> {
        if !matches!(self.code, 400 | 409 | 412) {
            return None;
        }
        let start = self.message.find("operation-")?;
        let name = &self.message[start..];
        let end = name.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').unwrap_or(name.len());
        Some(name[..end].trim_end_matches('-')).filter(|name| name.len() > "operation-".len())
    }

    /// Worth sending again as it is.
    pub fn is_transient(&self) -> bool {
        matches!(self.code, 0 | 408 | 429 | 500 | 502 | 503 | 504)
            || self.is_over_quota()
            || self.is_in_progress()
            // What Pub/Sub says in a project that is brand-new.
            || (self.code == 400 && self.message.contains("retry this operation"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, code, status, reason, message, .. } = self;
        if *code == 0 {
            return write!(f, "{request}: {message}");
        }
        write!(f, "{request}: {code}")?;
        for word in [status, reason].into_iter().flatten() {
            write!(f, " {word}")?;
        }
        write!(f, ": {message}")
    }
}

impl std::error::Error for Error {}
