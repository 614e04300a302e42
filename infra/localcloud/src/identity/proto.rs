//! Policies as protobuf has them, for the services that speak gRPC.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use googleapis_tonic_google_storage_v2::google::{iam::v1 as proto, r#type::Expr};

use super::policy::{Binding, Condition, Policy};

impl From<Policy> for proto::Policy {
    fn from(policy: Policy) -> Self {
        let bindings = policy.bindings.into_iter().map(|binding| proto::Binding {
            role: binding.role,
            members: binding.members,
            condition: binding.condition.map(|condition| Expr {
                expression: condition.expression,
                title: condition.title,
                description: condition.description,
                location: String::new(),
            }),
        });
        Self {
            version: policy.version,
            bindings: bindings.collect(),
            audit_configs: Vec::new(),
            etag: BASE64_STANDARD.decode(&policy.etag).unwrap_or_default(),
        }
    }
}

impl From<proto::Policy> for Policy {
    fn from(policy: proto::Policy) -> Self {
        let bindings = policy.bindings.into_iter().map(|binding| Binding {
            role: binding.role,
            members: binding.members,
            condition: binding.condition.map(|condition| Condition {
                title: condition.title,
                description: condition.description,
                expression: condition.expression,
            }),
        });
        Self {
            version: policy.version,
            bindings: bindings.collect(),
            etag: BASE64_STANDARD.encode(&policy.etag),
            audit_configs: Vec::new(),
        }
    }
}

/// Version asked for by a `GetIamPolicyRequest`.
pub fn requested_version(request: &proto::GetIamPolicyRequest) -> i32 {
    request.options.as_ref().map_or(1, |options| options.requested_policy_version)
}
