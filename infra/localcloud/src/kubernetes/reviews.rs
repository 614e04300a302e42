//! Reviews: what the user may do, and tokens for service accounts.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    failure::{Answer, Failure},
    kinds,
    rbac::{self, Access},
    signer::ISSUER,
    users::User,
    validate_pod,
    value::{self, items, number, text},
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
///
/// # Errors
/// 422 for a lifetime that the API server does not give; 400, 404 or 409 for an object that the token cannot be bound
/// to.
pub fn token(cluster: &Cluster, account: &Value, body: &Value) -> Answer<Value> {
    let seconds = number(body, "/spec/expirationSeconds").unwrap_or(3_600);
    let mut causes = Vec::new();
    validate_pod::check_lifetime(seconds, "spec.expirationSeconds", &mut causes);
    if let [cause] = causes.as_slice() {
        let message =
            format!("TokenRequest.authentication.k8s.io {:?} is invalid: {}: {}", "", cause.field, cause.message);
        return Err(Failure::new(422, "Invalid", message));
    }
    let audiences = match items(body, "/spec/audiences") {
        [] => json!([ISSUER]),
        given => json!(given),
    };
    let reference = body.pointer("/spec/boundObjectRef").filter(|reference| !reference.is_null());
    let pod = reference.map(|reference| bound_pod(cluster, account, reference)).transpose()?;
    let token = cluster
        .account_token(account, pod.as_deref(), &audiences, seconds)
        .map_err(|error| Failure::new(500, "InternalError", format!("{error:#}")))?;
    let end = Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    Ok(json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {"name": value::name(account), "namespace": value::namespace(account)},
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference},
        "status": {"token": token, "expirationTimestamp": value::seconds(end)},
    }))
}

/// The pod that a token is to be bound to (`pkg/registry/core/serviceaccount/storage/token.go`).
fn bound_pod(cluster: &Cluster, account: &Value, reference: &Value) -> Answer<Arc<Value>> {
    let (kind, name, uid) = (text(reference, "/kind"), text(reference, "/name"), text(reference, "/uid"));
    if kind != kinds::POD.kind {
        return Err(Failure::bad_request(format!("cannot bind token to object of type {kind:?}")));
    }
    let pod = cluster.store.get(&kinds::POD, value::namespace(account), name);
    let pod = pod.ok_or_else(|| Failure::not_found(&kinds::POD, name))?;
    if text(&pod, "/spec/serviceAccountName") != value::name(account) {
        let why = "to pod running with different serviceaccount name";
        return Err(Failure::bad_request(format!(
            "cannot bind token for serviceaccount {:?} {why}.",
            value::name(account)
        )));
    }
    if !uid.is_empty() && uid != value::uid(&pod) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(Failure::conflict(&kinds::POD, name, &why));
    }
    Ok(pod)
}
