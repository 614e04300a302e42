//! What a hand changed: one thing of every kind that can be changed back, so that a run that repairs it sends every
//! kind of change.

use std::collections::BTreeSet;

use localcloud::google::Google;
use provision::{
    desired::desired,
    google::{Api, Method, Request},
    resource::{Desired, Kind},
};
use serde_json::{Value, json};

use crate::fixture::{ONE, PROJECT, client, environment};

/// A field of each kind, and what it is changed to.
fn alteration(kind: Kind) -> Option<(&'static str, Value)> {
    Some(match kind {
        Kind::Cluster => ("releaseChannel", json!({"channel": "RAPID"})),
        Kind::NodePool => ("autoscaling", json!({"enabled": true, "minNodeCount": 0, "maxNodeCount": 99})),
        Kind::Registry => ("cleanupPolicyDryRun", json!(true)),
        Kind::Bucket => ("lifecycle", json!({"rule": []})),
        Kind::Role => ("title", json!("Another title")),
        Kind::ServiceAccount => ("description", json!("managed-by=deskgrid deskgrid-env=e: something else")),
        Kind::Topic => ("labels", json!({"managed-by": "deskgrid", "deskgrid-env": "e", "business": "somebody-else"})),
        Kind::Subscription => ("ackDeadlineSeconds", json!(30)),
        Kind::Notification => ("object_name_prefix", json!("elsewhere/")),
        Kind::Alert => (
            "conditions",
            json!([{"displayName": "Another threshold", "conditionThreshold": {
                "filter": "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\"",
                "comparison": "COMPARISON_GT",
                "thresholdValue": 1,
                "duration": "120s",
            }}]),
        ),
        Kind::Dashboard => ("gridLayout", json!({"columns": "1", "widgets": []})),
        _ => return None,
    })
}

/// Changes one thing of every kind in what [`ONE`] provisioned; takes a grant out of a policy of every kind; deletes a
/// subscription and a role; disables a service.
pub(crate) async fn drift(google: &Google) {
    let (client, environment) = (client(google), environment(ONE));
    let send = async |request: Request| client.send(&request).await.unwrap_or_else(|error| panic!("{error}"));
    let (mut seen, mut last) = (BTreeSet::new(), Vec::new());
    for resource in desired(&environment) {
        let id = &resource.id;
        match &resource.desired {
            // Somebody else's first, such as the owner's on the project.
            Desired::Grants(_) if seen.insert(id.kind) => {
                let mut policy = send(id.read(&Value::Null)).await;
                let bindings = policy["bindings"].as_array_mut().unwrap();
                let is_account =
                    |member: &Value| member.as_str().is_some_and(|name| name.starts_with("serviceAccount:"));
                let ours =
                    |binding: &Value| binding["members"].as_array().is_some_and(|all| all.iter().all(is_account));
                let at = bindings.iter().position(ours).unwrap_or_else(|| panic!("no grant of ours on {id}"));
                bindings.remove(at);
                for request in id.updates(&policy, &Value::Null, &[]) {
                    send(request).await;
                }
            }
            // The second role: policies that are written still name it.
            Desired::Fields(_) if id.kind == Kind::Role && seen.contains(&id.kind) => {
                last.extend(id.deletes(&Value::Null));
            }
            Desired::Fields(_) if id.short().ends_with("priority-subscription") => {
                last.extend(id.deletes(&Value::Null));
            }
            Desired::Fields(_) if id.kind == Kind::Services => {}
            Desired::Fields(fields) => {
                let Some((field, value)) = alteration(id.kind).filter(|_| seen.insert(id.kind)) else {
                    continue;
                };
                let live = id.view(fields, send(id.read(fields)).await).unwrap();
                let mut altered = fields.clone();
                altered[field] = value;
                let field = if id.kind == Kind::NodePool { "autoscaling.maxNodeCount" } else { field };
                for request in id.updates(&altered, &live, &[field.to_owned()]) {
                    send(request).await;
                }
            }
            Desired::Grants(_) => {}
        }
    }
    for request in last {
        send(request).await;
    }
    let disable = format!("v1/projects/{PROJECT}/services/cloudbuild.googleapis.com:disable");
    send(Request::new(Api::ServiceUsage, Method::Post, disable).body(json!({}))).await;
    let changed = [Kind::Cluster, Kind::NodePool, Kind::Registry, Kind::Bucket, Kind::Role, Kind::ServiceAccount];
    let changed =
        changed.iter().chain(&[Kind::Topic, Kind::Subscription, Kind::Notification, Kind::Alert, Kind::Dashboard]);
    assert!(changed.clone().all(|kind| seen.contains(kind)), "{seen:?}");
}
