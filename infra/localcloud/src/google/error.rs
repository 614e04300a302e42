//! The error every Google-style service here answers with, and its three shapes: REST, Cloud Storage's REST, gRPC.

use axum::response::{IntoResponse as _, Response};
use googleapis_tonic_google_storage_v2::google::rpc;
use http::{StatusCode, header};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

/// What went wrong, in Google's terms.
#[derive(Clone, Debug)]
pub struct Error {
    code: Code,
    http: StatusCode,
    message: String,
    reason: &'static str,
    location: Option<&'static str>,
    info: Option<Box<Info>>,
}

/// A `google.rpc.ErrorInfo`.
#[derive(Clone, Debug)]
struct Info {
    reason: String,
    domain: &'static str,
    metadata: Vec<(String, String)>,
}

/// Result with Google's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `code` with the HTTP status and `errors[].reason` that usually go with it.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (http, reason) = match code {
            Code::InvalidArgument | Code::OutOfRange => (400, "badRequest"),
            Code::FailedPrecondition => (400, "failedPrecondition"),
            Code::Unauthenticated => (401, "authError"),
            Code::PermissionDenied => (403, "forbidden"),
            Code::NotFound => (404, "notFound"),
            Code::AlreadyExists => (409, "alreadyExists"),
            Code::Aborted => (409, "aborted"),
            Code::ResourceExhausted => (429, "rateLimitExceeded"),
            Code::Unimplemented => (501, "notImplemented"),
            Code::Unavailable => (503, "backendError"),
            _ => (500, "backendError"),
        };
        let http = StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { code, http, message: message.into(), reason, location: None, info: None }
    }

    /// 400: the request cannot be understood or breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// 400 with status FAILED_PRECONDITION: the state of the resource forbids it.
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// 409 with status ALREADY_EXISTS.
    pub fn exists(message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// 409 with status ABORTED: somebody else changed it meanwhile.
    pub fn aborted(message: impl Into<String>) -> Self {
        Self::new(Code::Aborted, message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// 412 `conditionNotMet`, as Cloud Storage answers a precondition that does not hold.
    pub fn condition_not_met() -> Self {
        let mut error =
            Self::new(Code::FailedPrecondition, "At least one of the pre-conditions you specified did not hold.");
        error.http = StatusCode::PRECONDITION_FAILED;
        error.reason = "conditionNotMet";
        error.location = Some("If-Match");
        error
    }

    /// 412 `conditionNotMet` with another sentence.
    pub fn condition_not_met_because(message: &str) -> Self {
        let mut error = Self::condition_not_met();
        message.clone_into(&mut error.message);
        error.location = None;
        error
    }

    /// 304, as Cloud Storage answers a read with a `NotMatch` precondition that does not hold.
    pub fn not_modified() -> Self {
        let mut error = Self::condition_not_met();
        error.http = StatusCode::NOT_MODIFIED;
        error.code = Code::Aborted;
        error
    }

    /// 401: the credentials are not valid.
    pub fn unauthenticated() -> Self {
        let mut error = Self::new(
            Code::Unauthenticated,
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
             valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        )
        .with_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", "googleapis.com", Vec::new());
        error.location = Some("Authorization");
        error
    }

    /// The same error with another `errors[].reason`.
    #[must_use]
    pub fn with_reason(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }

    /// The same error with a `google.rpc.ErrorInfo` detail.
    #[must_use]
    pub fn with_info(
        mut self,
        reason: impl Into<String>,
        domain: &'static str,
        metadata: Vec<(String, String)>,
    ) -> Self {
        self.info = Some(Box::new(Info { reason: reason.into(), domain, metadata }));
        self
    }

    /// The same error with the detail that names the permission which the caller lacks.
    #[must_use]
    pub fn without_permission(self, service: &'static str, permission: &str, resource: &str) -> Self {
        let metadata = [("permission", permission), ("resource", resource)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        self.with_info("IAM_PERMISSION_DENIED", service, metadata)
    }

    /// gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// HTTP status.
    pub fn http(&self) -> StatusCode {
        self.http
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer of IAM: as [`Self::to_rest`], with `errors` as well.
    pub fn to_iam(&self) -> Response {
        let mut body = self.to_rest_body();
        body["error"]["errors"] = json!([{ "message": self.message, "domain": "global", "reason": self.reason }]);
        respond(self.http, &body)
    }

    /// The answer of most Google REST APIs: with `status` and `details`.
    pub fn to_rest(&self) -> Response {
        respond(self.http, &self.to_rest_body())
    }

    fn to_rest_body(&self) -> Value {
        let mut error = json!({
            "code": self.http.as_u16(),
            "message": self.message,
            "status": status_name(self.code),
        });
        if let Some(info) = &self.info {
            let metadata: serde_json::Map<String, Value> =
                info.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            error["details"] = json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": info.reason,
                "domain": info.domain,
                "metadata": metadata,
            }]);
        }
        json!({ "error": error })
    }

    /// The answer of Cloud Storage's JSON API: without `status`.
    pub fn to_storage(&self) -> Response {
        if self.http == StatusCode::NOT_MODIFIED {
            return self.http.into_response();
        }
        respond(self.http, &self.to_storage_body())
    }

    /// Body of [`Self::to_storage`].
    pub fn to_storage_body(&self) -> Value {
        let reason = match (self.code, self.reason) {
            (Code::AlreadyExists | Code::Aborted, _) => "conflict",
            (Code::InvalidArgument, "badRequest") => "invalid",
            (_, reason) => reason,
        };
        let message = if self.code == Code::Unauthenticated && reason == "authError" {
            "Invalid Credentials"
        } else {
            &self.message
        };
        let domain = if reason == "rateLimitExceeded" { "usageLimits" } else { "global" };
        let mut item = json!({ "message": message, "domain": domain, "reason": reason });
        if let Some(location) = self.location {
            item["locationType"] = json!("header");
            item["location"] = json!(location);
        }
        json!({ "error": { "code": self.http.as_u16(), "message": message, "errors": [item] } })
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let details = error.info.iter().map(|info| {
            let info = rpc::ErrorInfo {
                reason: info.reason.clone(),
                domain: info.domain.to_owned(),
                metadata: info.metadata.iter().cloned().collect(),
            };
            prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
                value: info.encode_to_vec(),
            }
        });
        let status =
            rpc::Status { code: error.code as i32, message: error.message.clone(), details: details.collect() };
        if status.details.is_empty() {
            return Self::new(error.code, error.message);
        }
        Self::with_details(error.code, error.message, status.encode_to_vec().into())
    }
}

/// A JSON answer.
pub fn respond(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=UTF-8")], body.to_string()).into_response()
}

fn status_name(code: Code) -> &'static str {
    rpc::Code::try_from(code as i32).map_or("UNKNOWN", |code| code.as_str_name())
}
