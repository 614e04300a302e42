//! What an API server's refusal of an object means, and what to do about it: pure.

use kube::core::Status;
use serde::Serialize;

use super::FIELD_MANAGER;
use crate::failure::Failure;

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// Path of the field.
    pub field: String,
    /// Who owns it.
    pub manager: String,
}

/// The conflicts that a refused apply names; `conflict with "MANAGER" using VERSION` each. One with ourselves (what a
/// verb of ours changed by an update) is none.
pub(super) fn conflicts(status: &Status) -> Vec<Conflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict").map(|cause| {
        let manager = cause.message.split('"').nth(1).unwrap_or(&cause.message);
        Conflict { field: cause.field.clone(), manager: manager.to_owned() }
    });
    conflicts.filter(|conflict| conflict.manager != FIELD_MANAGER).collect()
}

/// Whether an apply was refused for nothing but conflicts.
pub(super) fn is_conflict(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    status.code == 409 && !causes.is_empty() && causes.iter().all(|cause| cause.reason == "FieldManagerConflict")
}

/// The failure for objects whose fields others own.
pub(super) fn disputed(objects: &[(String, Vec<Conflict>)]) -> Failure {
    let mut lines = Vec::new();
    for (title, conflicts) in objects {
        for conflict in conflicts {
            lines.push(format!("{title}: {} is owned by {:?}", conflict.field, conflict.manager));
        }
    }
    Failure {
        code: "field-conflict",
        what: "somebody else owns fields that this deploy would change; nothing was changed".to_owned(),
        on: objects.iter().map(|(title, _)| title.as_str()).collect::<Vec<_>>().join(", "),
        why: lines.join("\n"),
        next: "see the difference with --dry-run; take the fields over with --force-conflicts, or have the other \
               tool give them up"
            .to_owned(),
    }
}

/// The failure for a namespace that is being deleted, in which nothing can be created. Its unsettled Jobs hold the
/// deletion up, and their orchestrator is deleted.
pub(super) fn ending(namespace: &str, unsettled: usize) -> Failure {
    let wait = match unsettled {
        0 => format!("`kubectl describe namespace {namespace}` shows what it waits for"),
        _ => format!("it waits for {unsettled} Jobs without an outcome, which `cargo xtask clean --all` releases"),
    };
    Failure {
        code: "namespace-ending",
        what: "a namespace of this deploy is being deleted; nothing was changed".to_owned(),
        on: format!("namespace {namespace}"),
        why: "Kubernetes creates nothing in it, and deletes what it has".to_owned(),
        next: format!("{wait}; run it again when it is deleted"),
    }
}

/// The failure for an object that the API server refuses.
pub(super) fn refused(title: &str, status: &Status) -> Failure {
    let message = status.message.clone();
    let (code, next) = match cause(&message) {
        Some(Cause::Quota) => ("quota", QUOTA),
        Some(Cause::Admission) => ("admission", ADMISSION),
        None if status.code == 403 || status.code == 401 => {
            ("cluster-denied", "`kubectl auth can-i --list` shows what you may; ask for the role that is missing")
        }
        None => ("cluster-refused", "see the message; another version of the cluster may not know a field"),
    };
    Failure {
        code,
        what: "the API server refuses an object".to_owned(),
        on: title.to_owned(),
        why: message,
        next: next.to_owned(),
    }
}

/// What to do about a quota that is used up.
pub(super) const QUOTA: &str = "`kubectl describe quota -n NAMESPACE` shows what is used of one of the namespace, \
                                `cargo xtask doctor` of one of the project; raise it, or let work end or delete what \
                                uses it";
/// What to do about a policy that refuses.
pub(super) const ADMISSION: &str = "ask the owner of the policy that is named, or change the manifest so that \
                                    the policy accepts it; `cargo xtask deploy` goes on from there";

/// Why the API server refuses something that is well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A quota is used up.
    Quota,
    /// A policy, a webhook or a limit refuses it.
    Admission,
}

/// The cause behind a message of the API server; nothing when it is another one.
pub(super) fn cause(message: &str) -> Option<Cause> {
    if message.contains("exceeded quota") || message.contains("status unknown for quota") {
        return Some(Cause::Quota);
    }
    let policies = [
        "violates PodSecurity",
        "admission webhook",
        "failed calling webhook",
        "denied the request",
        "ValidatingAdmissionPolicy",
        "is forbidden: maximum",
        "is forbidden: minimum",
        "no PriorityClass with name",
        "error looking up service account",
        "GKE Warden",
        "must specify",
    ];
    policies.iter().any(|policy| message.contains(policy)).then_some(Cause::Admission)
}

/// Whether a refusal may be over at the next try: a webhook that does not answer, or something new of which another API
/// server has not heard yet.
pub(super) fn may_pass(message: &str) -> bool {
    ["failed calling webhook", "no PriorityClass with name", "error looking up service account"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_field_and_owner_and_never_ourselves() {
        let cause = |manager: &str, field: &str| {
            serde_json::json!({"reason": "FieldManagerConflict", "field": field,
                "message": format!("conflict with {manager:?} using apps/v1")})
        };
        let status: Status = serde_json::from_value(serde_json::json!({"status": "Failure", "code": 409,
            "message": "", "reason": "Conflict", "metadata": {}, "details": {"causes": [
                cause("kubectl-edit", ".spec.replicas"), cause("deskgrid", ".spec.template")]}}))
        .unwrap();
        assert!(is_conflict(&status));
        let found = conflicts(&status);
        let desired = Conflict { field: ".spec.replicas".to_owned(), manager: "kubectl-edit".to_owned() };
        assert_eq!(found, [desired]);
        let failure = disputed(&[("Deployment bu1/orchestrator".to_owned(), found)]);
        assert!(failure.why.contains(".spec.replicas is owned by \"kubectl-edit\""), "{failure:?}");
    }

    #[test]
    fn quotas_and_policies_are_told_apart() {
        let quota = "pods \"x\" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1";
        assert_eq!(cause(quota), Some(Cause::Quota));
        for policy in [
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
            "admission webhook \"gate.example.com\" denied the request: no",
            "pods \"x\" is forbidden: error looking up service account bu1/orchestrator: serviceaccount not found",
        ] {
            assert_eq!(cause(policy), Some(Cause::Admission), "{policy}");
        }
        assert_eq!(cause("deployments.apps is forbidden: User \"x\" cannot patch resource"), None);
    }
}
