//! The metadata server a pod sees: GCE's protocol under GKE's Workload Identity rules.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{Request, StatusCode, header};
use serde_json::json;

use super::{Identity, principal::Principal, tokens::LIFETIME_SECS};
use crate::{google::call::Call, serve::Server};

/// The service account of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Kubernetes service account.
    pub account: String,
    /// Google service account it is annotated with.
    pub google_account: Option<String>,
}

/// Starts a metadata server for the pods of one Kubernetes service account.
///
/// # Errors
/// When no port can be bound.
pub async fn serve(identity: Arc<Identity>, pod: Pod, location: String, listen: IpAddr) -> anyhow::Result<Server> {
    let metadata = Arc::new(Metadata { identity, pod, location });
    let router = Router::new().fallback(move |request: Request<Body>| {
        let metadata = metadata.clone();
        async move {
            let (parts, _) = request.into_parts();
            let call = Call::new(&parts.method, &parts.uri, parts.headers, bytes::Bytes::new());
            let mut response = metadata.answer(&call);
            let headers = response.headers_mut();
            headers.insert("metadata-flavor", http::HeaderValue::from_static("Google"));
            headers.insert(header::SERVER, http::HeaderValue::from_static("GKE Metadata Server"));
            response
        }
    });
    Server::start(router, SocketAddr::new(listen, 0), None).await
}

struct Metadata {
    identity: Arc<Identity>,
    pod: Pod,
    location: String,
}

impl Metadata {
    fn answer(&self, call: &Call) -> Response {
        let path: Vec<&str> = call.segments.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        if path.is_empty() {
            return text("computeMetadata/\n");
        }
        if call.header("metadata-flavor") != Some("Google") {
            return (StatusCode::FORBIDDEN, "Missing required header \"Metadata-Flavor\": \"Google\"\n")
                .into_response();
        }
        let ["computeMetadata", "v1", rest @ ..] = path.as_slice() else {
            return text("v1/\n");
        };
        let email = self.email();
        match rest {
            [] => text("instance/\nproject/\n"),
            ["project"] => text("numeric-project-id\nproject-id\n"),
            ["project", "project-id"] => text(self.identity.project()),
            ["project", "numeric-project-id"] => text(&self.identity.number().to_string()),
            ["instance"] => text("attributes/\nid\nservice-accounts/\nzone\n"),
            ["instance", "id"] => text("4520031799277581759"),
            ["instance", "zone"] => text(&format!("projects/{}/zones/{}-a", self.identity.number(), self.location)),
            ["instance", "attributes", "cluster-location"] => text(&self.location),
            ["universe", "universe-domain" | "universe_domain"] => text("googleapis.com"),
            ["instance", "service-accounts"] if call.flag("recursive") => {
                let entry = self.entry();
                json_text(&json!({ "default": entry.clone(), email: entry }))
            }
            ["instance", "service-accounts"] => text(&format!("default/\n{email}/\n")),
            ["instance", "service-accounts", name, rest @ ..] if *name == "default" || *name == email => {
                self.account(call, rest, &email)
            }
            _ => (StatusCode::NOT_FOUND, "Not Found\n").into_response(),
        }
    }

    fn account(&self, call: &Call, rest: &[&str], email: &str) -> Response {
        match rest {
            [] if call.flag("recursive") => json_text(&self.entry()),
            [] => text("aliases\nemail\nscopes\ntoken\n"),
            ["email"] => text(email),
            ["aliases"] => text("default\n"),
            ["scopes"] => {
                text("https://www.googleapis.com/auth/cloud-platform\nhttps://www.googleapis.com/auth/userinfo.email\n")
            }
            ["token"] => self.token(),
            _ => (StatusCode::NOT_FOUND, "Not Found\n").into_response(),
        }
    }

    fn entry(&self) -> serde_json::Value {
        json!({
            "aliases": ["default"],
            "email": self.email(),
            "scopes": [
                "https://www.googleapis.com/auth/cloud-platform",
                "https://www.googleapis.com/auth/userinfo.email"
            ],
        })
    }

    /// Without an annotation GKE shows the name of the pool here.
    fn email(&self) -> String {
        self.pod.google_account.clone().unwrap_or_else(|| self.identity.pool().name())
    }

    /// Who the pod is: itself, or the account it is annotated with if that lets it; none if it does not.
    fn principal(&self) -> Option<Principal> {
        let pod = Principal::Kubernetes { namespace: self.pod.namespace.clone(), account: self.pod.account.clone() };
        let Some(email) = &self.pod.google_account else { return Some(pod) };
        let account = self.identity.read().accounts.get(email).cloned().ok()?;
        let allowed =
            !account.disabled && self.identity.allowed(&pod, "iam.serviceAccounts.getAccessToken", &account.target());
        allowed.then_some(Principal::ServiceAccount { email: account.email, uid: Some(account.uid) })
    }

    fn token(&self) -> Response {
        let Some(principal) = self.principal() else { return forbidden() };
        match self.identity.token(&principal, LIFETIME_SECS) {
            Ok(token) => {
                json_text(&json!({ "access_token": token, "expires_in": LIFETIME_SECS - 1, "token_type": "Bearer" }))
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.message().to_owned()).into_response(),
        }
    }
}

fn forbidden() -> Response {
    let message = "Unable to generate access token; IAM returned 403 Forbidden: Permission \
        'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).\nThis error could be caused by \
        a missing IAM policy binding on the target IAM service account.\nFor more information, refer to the Workload \
        Identity documentation:\n\thttps://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to\n";
    (StatusCode::FORBIDDEN, message).into_response()
}

fn text(body: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/text")], body.to_owned()).into_response()
}

fn json_text(body: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
