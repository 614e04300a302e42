//! Reviews: what the user may do, and tokens for service accounts.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    failure::{Answer, Failure},
    rbac::{self, Access},
    users::User,
    value::{self, number, text},
};

/// Answers a review of this plural name.
///
/// # Errors
/// 404 for a review that the server does not have.
pub fn answer(cluster: &Cluster, user: &User, plural: &str, mut body: Value) -> Answer<Value> {
    match plural {
        "selfsubjectaccessreviews" => {
            let field = |name: &str| text(&body, &format!("/spec/resourceAttributes/{name}")).to_owned();
            let (verb, group, namespace, name) = (field("verb"), field("group"), field("namespace"), field("name"));
            let resource = match field("subresource") {
                sub if sub.is_empty() => field("resource"),
                sub => format!("{}/{sub}", field("resource")),
            };
            let access = Access { verb: &verb, group: &group, resource: &resource, namespace: &namespace, name: &name };
            let allowed = rbac::allows(&cluster.store, user, &access);
            value::set(&mut body, &["apiVersion"], "authorization.k8s.io/v1");
            value::set(&mut body, &["kind"], "SelfSubjectAccessReview");
            value::set(&mut body, &["status"], json!({"allowed": allowed}));
            Ok(body)
        }
        "selfsubjectrulesreviews" => Ok(json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "metadata": {}, "spec": {},
            "status": {"resourceRules": [], "nonResourceRules": [], "incomplete": true},
        })),
        _ => Err(Failure::no_such_path()),
    }
}

/// Answers a `TokenRequest` for a service account.
pub fn token(cluster: &Cluster, account: &Value, body: Value) -> Value {
    let seconds = number(&body, "/spec/expirationSeconds").unwrap_or(3_600);
    let now = cluster.clock.now();
    let end = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    let token = cluster.tokens.mint(value::namespace(account), value::name(account));
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {"name": value::name(account), "namespace": value::namespace(account)},
        "spec": {"expirationSeconds": seconds, "audiences": []},
        "status": {"token": token, "expirationTimestamp": value::seconds(end)},
    })
}
