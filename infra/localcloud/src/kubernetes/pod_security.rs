//! Pod Security Admission: what a namespace that enforces the `restricted` profile refuses, in the API server's words
//! (Kubernetes, "Pod Security Standards"). It checks the fields that our kinds of pods have.

use serde_json::Value;

use super::{
    failure::{Answer, Failure},
    kinds,
    store::Transaction,
    value::{self, items, text},
};

/// Label of a namespace: the profile it enforces.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// Label of a namespace: the release whose profile that is.
const VERSION: &str = "pod-security.kubernetes.io/enforce-version";

/// Refuses a pod that its namespace's profile does not allow.
///
/// # Errors
/// 403 with everything that is wrong with it.
pub(super) fn admit(transaction: &Transaction<'_>, pod: &Value) -> Answer<()> {
    let Some(namespace) = transaction.get(&kinds::NAMESPACE, "", value::namespace(pod)) else { return Ok(()) };
    if value::label(&namespace, ENFORCE) != "restricted" {
        return Ok(());
    }
    let wrong = violations(pod);
    if wrong.is_empty() {
        return Ok(());
    }
    let version = match value::label(&namespace, VERSION) {
        "" => "latest",
        version => version,
    };
    let why = format!("violates PodSecurity \"restricted:{version}\": {}", wrong.join(", "));
    Err(Failure::forbidden(&kinds::POD, value::name(pod), &why))
}

fn violations(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let containers: Vec<&Value> = items(spec, "/initContainers").iter().chain(items(spec, "/containers")).collect();
    let mut wrong = Vec::new();
    let mut check = |what: &str, fix: &str, bad: Vec<&str>| match bad.as_slice() {
        [] => {}
        [one] => wrong.push(format!("{what} (container {one:?} must set {fix})")),
        several => wrong.push(format!("{what} (containers {} must set {fix})", quoted(several))),
    };
    let names = |bad: &dyn Fn(&Value) -> bool| -> Vec<&str> {
        containers.iter().filter(|one| bad(one)).map(|one| text(one, "/name")).collect()
    };
    let privileged = |one: &Value| one["securityContext"]["privileged"] == true;
    check("privileged", "securityContext.privileged=false", names(&privileged));
    let escalates = |one: &Value| one["securityContext"]["allowPrivilegeEscalation"] != false;
    check("allowPrivilegeEscalation != false", "securityContext.allowPrivilegeEscalation=false", names(&escalates));
    let capable = |one: &Value| {
        let added = items(one, "/securityContext/capabilities/add").iter();
        !items(one, "/securityContext/capabilities/drop").iter().any(|dropped| dropped == "ALL")
            || added.clone().any(|added| added != "NET_BIND_SERVICE")
    };
    check("unrestricted capabilities", "securityContext.capabilities.drop=[\"ALL\"]", names(&capable));
    let of_pod = &spec["securityContext"];
    let may_be_root = |one: &Value| {
        let own = &one["securityContext"]["runAsNonRoot"];
        if own.is_null() { of_pod["runAsNonRoot"] != true } else { own != true }
    };
    check("runAsNonRoot != true", "securityContext.runAsNonRoot=true", names(&may_be_root));
    let is_root = |one: &Value| one["securityContext"]["runAsUser"] == 0;
    check("runAsUser=0", "no securityContext.runAsUser=0", names(&is_root));
    let sealed = |kind: &Value| ["RuntimeDefault", "Localhost"].iter().any(|good| *kind == **good);
    let unsealed = |one: &Value| {
        let own = &one["securityContext"]["seccompProfile"]["type"];
        !sealed(if own.is_null() { &of_pod["seccompProfile"]["type"] } else { own })
    };
    check(
        "seccompProfile",
        "securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        names(&unsealed),
    );
    if of_pod["runAsUser"] == 0 {
        wrong.push("runAsUser=0 (pod must not set runAsUser=0)".to_owned());
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[field] == true {
            wrong.push(format!("host namespaces ({field}=true)"));
        }
    }
    let allowed =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    let is_bad = |volume: &&Value| !allowed.iter().any(|kind| volume.get(kind).is_some());
    let volumes: Vec<&str> = items(spec, "/volumes").iter().filter(is_bad).map(|one| text(one, "/name")).collect();
    if !volumes.is_empty() {
        wrong.push(format!("restricted volume types (volumes {})", quoted(&volumes)));
    }
    wrong
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }})
    }

    fn check(pointer: &str, bad: Value, expected: &str) {
        let mut pod = good();
        *pod.pointer_mut(pointer).unwrap() = bad;
        assert_eq!(violations(&pod), [expected], "{pointer}");
    }

    #[test]
    fn each_rule_of_the_profile() {
        assert!(violations(&good()).is_empty());
        let context = "/spec/containers/0/securityContext";
        check(
            &format!("{context}/allowPrivilegeEscalation"),
            json!(true),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
        );
        check(
            &format!("{context}/capabilities/drop"),
            json!(["NET_RAW"]),
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])",
        );
        check(
            "/spec/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (container \"c\" must set securityContext.runAsNonRoot=true)",
        );
        check("/spec/volumes/0", json!({"name": "v", "hostPath": {}}), "restricted volume types (volumes \"v\")");
        let mut bare = good();
        bare["spec"]["securityContext"] = json!({});
        assert_eq!(violations(&bare).len(), 2);
    }
}
