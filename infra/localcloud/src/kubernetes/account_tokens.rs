//! Tokens of service accounts: bound to a pod, meant for an audience, and checked as the API server does
//! (kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin, "Bound service account tokens").

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    kinds, names,
    signer::ISSUER,
    users::User,
    value::{self, text},
};

/// Lifetime of the token in a pod's kubeconfig: API servers extend those that a node mounts by itself to a year
/// (`--service-account-extend-token-expiration`).
pub const MOUNTED_SECS: i64 = 365 * 86_400;

impl Cluster {
    /// A token of a service account for `audience`, bound to a pod if there is one.
    ///
    /// Its times are those of this machine, not of the cluster's clock: other processes check them too.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn account_token(
        &self,
        account: &Value,
        pod: Option<&Value>,
        audiences: &Value,
        seconds: i64,
    ) -> anyhow::Result<String> {
        let named = |object: &Value| json!({"name": value::name(object), "uid": value::uid(object)});
        let (namespace, name) = (value::namespace(account), value::name(account));
        let mut bound = json!({"namespace": namespace, "serviceaccount": named(account)});
        if let Some(pod) = pod {
            bound["pod"] = named(pod);
            if let Some(node) = self.store.get(&kinds::NODE, "", text(pod, "/spec/nodeName")) {
                bound["node"] = named(&node);
            }
        }
        let now = Timestamp::now().as_second();
        self.signer.sign(&json!({
            "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": audiences,
            "iat": now, "nbf": now, "exp": now + seconds, "jti": names::uid(), "kubernetes.io": bound,
        }))
    }

    /// The service account of a token for the API server; none if it, or the pod that the token is bound to, is gone.
    pub(super) fn account_user(&self, token: &str) -> Option<User> {
        let claims = self.signer.read(token)?;
        let bound = claims.get("kubernetes.io")?;
        let namespace = text(bound, "/namespace");
        for (kind, field) in [(&kinds::SERVICE_ACCOUNT, "serviceaccount"), (&kinds::POD, "pod")] {
            let Some(named) = bound.get(field) else { continue };
            let found = self.store.get(kind, namespace, text(named, "/name"))?;
            if value::uid(&found) != text(named, "/uid") {
                return None;
            }
        }
        Some(User::service_account(namespace, text(bound, "/serviceaccount/name")))
    }
}
