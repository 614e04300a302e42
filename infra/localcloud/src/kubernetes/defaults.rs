//! The defaults that the API server fills in.

use base64::Engine as _;
use serde_json::{Value, json};

use super::{
    kinds::{self, Kind},
    value::{self, set, set_default},
};

/// Label of a Job's pods: uid of the Job.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// Label of a Job's pods: name of the Job.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Fills in what an object of this kind leaves out. On creation the uid is already set.
pub fn fill(kind: &Kind, object: &mut Value, creating: bool) {
    if kind == &kinds::POD {
        pod_spec(object, &["spec"]);
        pod_only(object);
    } else if kind == &kinds::JOB {
        job(object, creating);
    } else if kind == &kinds::DEPLOYMENT {
        deployment(object);
    } else if kind == &kinds::REPLICA_SET {
        set_default(object, &["spec", "replicas"], 1);
        pod_spec(object, &["spec", "template", "spec"]);
    } else if kind == &kinds::SERVICE {
        service(object);
    } else if kind == &kinds::SECRET {
        secret(object);
    } else if kind == &kinds::NAMESPACE {
        if creating {
            set(object, &["spec", "finalizers"], json!(["kubernetes"]));
            set(object, &["status"], json!({"phase": "Active"}));
        }
        let name = value::name(object).to_owned();
        set(object, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
    } else if kind == &kinds::ROLE_BINDING || kind == &kinds::CLUSTER_ROLE_BINDING {
        binding(object);
    } else if kind == &kinds::NODE {
        set_default(object, &["spec"], json!({}));
    } else if kind == &kinds::PRIORITY_CLASS {
        set_default(object, &["preemptionPolicy"], "PreemptLowerPriority");
    } else if kind == &kinds::NETWORK_POLICY {
        network_policy(object);
    }
}

fn job(object: &mut Value, creating: bool) {
    let none = |object: &Value, field: &str| object.pointer(&format!("/spec/{field}")).is_none_or(Value::is_null);
    if none(object, "completions") && none(object, "parallelism") {
        set(object, &["spec", "completions"], 1);
    }
    set_default(object, &["spec", "parallelism"], 1);
    let limit = if none(object, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    set_default(object, &["spec", "backoffLimit"], limit);
    set_default(object, &["spec", "completionMode"], "NonIndexed");
    set_default(object, &["spec", "suspend"], false);
    let replacement = if none(object, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    set_default(object, &["spec", "podReplacementPolicy"], replacement);
    if let Some(rules) = object.pointer_mut("/spec/podFailurePolicy/rules").and_then(Value::as_array_mut) {
        for condition in rules.iter_mut().filter_map(|rule| rule.get_mut("onPodConditions")?.as_array_mut()).flatten() {
            set_default(condition, &["status"], "True");
        }
    }
    pod_spec(object, &["spec", "template", "spec"]);
    if !creating {
        return;
    }
    if object.pointer("/metadata/labels").and_then(Value::as_object).is_none_or(|labels| labels.is_empty())
        && let Some(labels) = object.pointer("/spec/template/metadata/labels").cloned()
    {
        set(object, &["metadata", "labels"], labels);
    }
    if value::truth(object, "/spec/manualSelector") {
        return;
    }
    let (uid, name) = (value::uid(object).to_owned(), value::name(object).to_owned());
    let labels = value::map_at(object, &["spec", "template", "metadata", "labels"]);
    for (key, text) in [("controller-uid", &uid), (CONTROLLER_UID, &uid), ("job-name", &name), (JOB_NAME, &name)] {
        labels.insert(key.to_owned(), text.clone().into());
    }
    set(object, &["spec", "selector", "matchLabels", CONTROLLER_UID], uid);
}

fn deployment(object: &mut Value) {
    set_default(object, &["spec", "replicas"], 1);
    set_default(object, &["spec", "revisionHistoryLimit"], 10);
    set_default(object, &["spec", "progressDeadlineSeconds"], 600);
    set_default(object, &["spec", "strategy", "type"], "RollingUpdate");
    if value::text(object, "/spec/strategy/type") == "RollingUpdate" {
        set_default(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], "25%");
        set_default(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], "25%");
    }
    pod_spec(object, &["spec", "template", "spec"]);
}

/// Defaults of a pod's spec, in a pod or in a template.
fn pod_spec(object: &mut Value, path: &[&str]) {
    let mut spec = Value::Object(std::mem::take(value::map_at(object, path)));
    set_default(&mut spec, &["restartPolicy"], "Always");
    set_default(&mut spec, &["dnsPolicy"], "ClusterFirst");
    set_default(&mut spec, &["terminationGracePeriodSeconds"], 30);
    set_default(&mut spec, &["securityContext"], json!({}));
    set_default(&mut spec, &["schedulerName"], "default-scheduler");
    let accounts = ["/serviceAccountName", "/serviceAccount"].map(|field| value::text(&spec, field).to_owned());
    if let Some(account) = accounts.into_iter().find(|account| !account.is_empty()) {
        set(&mut spec, &["serviceAccountName"], account.as_str());
        set(&mut spec, &["serviceAccount"], account);
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            fill_container(container);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            if volume.get(source).is_some_and(Value::is_object) {
                set_default(volume, &[source, "defaultMode"], 420);
            }
        }
        let sources = volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut);
        for source in sources.into_iter().flatten() {
            if source.get("serviceAccountToken").is_some_and(Value::is_object) {
                set_default(source, &["serviceAccountToken", "expirationSeconds"], 3600);
            }
        }
        if volume.as_object().is_some_and(|fields| fields.len() == 1) {
            set(volume, &["emptyDir"], json!({}));
        }
    }
    if let Value::Object(spec) = spec {
        *value::map_at(object, path) = spec;
    }
}

fn fill_container(container: &mut Value) {
    set_default(container, &["terminationMessagePath"], "/dev/termination-log");
    set_default(container, &["terminationMessagePolicy"], "File");
    set_default(container, &["resources"], json!({}));
    let image = value::text(container, "/image").to_owned();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !last.contains('@') && (last.ends_with(":latest") || !last.contains(':'));
    set_default(container, &["imagePullPolicy"], if latest { "Always" } else { "IfNotPresent" });
    if let Some(limits) = container.pointer("/resources/limits").and_then(Value::as_object).cloned() {
        for (resource, quantity) in limits {
            set_default(container, &["resources", "requests", &resource], quantity);
        }
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set_default(port, &["protocol"], "TCP");
    }
    for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if variable.pointer("/valueFrom/fieldRef").is_some() {
            set_default(variable, &["valueFrom", "fieldRef", "apiVersion"], "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if !container.get(probe).is_some_and(Value::is_object) {
            continue;
        }
        for (field, number) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            set_default(container, &[probe, field], number);
        }
        if container.pointer(&format!("/{probe}/httpGet")).is_some() {
            set_default(container, &[probe, "httpGet", "path"], "/");
            set_default(container, &[probe, "httpGet", "scheme"], "HTTP");
        }
    }
}

fn pod_only(object: &mut Value) {
    set_default(object, &["spec", "enableServiceLinks"], true);
    set_default(object, &["spec", "serviceAccountName"], "default");
    set_default(object, &["spec", "serviceAccount"], "default");
    set_default(object, &["spec", "preemptionPolicy"], "PreemptLowerPriority");
    set_default(object, &["spec", "priority"], 0);
    let tolerations = value::list_at(object, &["spec", "tolerations"]);
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|toleration| value::text(toleration, "/key") == key) {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    set_default(object, &["status", "phase"], "Pending");
    if value::text(object, "/status/qosClass").is_empty() {
        let class = qos_class(object);
        set(object, &["status", "qosClass"], class);
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from requests and limits.
fn qos_class(pod: &Value) -> &'static str {
    let containers = || value::items(pod, "/spec/containers").iter().chain(value::items(pod, "/spec/initContainers"));
    let any = containers().any(|container| {
        ["requests", "limits"].iter().any(|part| {
            let fields = container.pointer(&format!("/resources/{part}")).and_then(Value::as_object);
            fields.is_some_and(|fields| fields.contains_key("cpu") || fields.contains_key("memory"))
        })
    });
    let guaranteed = containers().all(|container| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = container.pointer(&format!("/resources/limits/{resource}"));
            limit.is_some() && limit == container.pointer(&format!("/resources/requests/{resource}"))
        })
    });
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn service(object: &mut Value) {
    set_default(object, &["spec", "type"], "ClusterIP");
    set_default(object, &["spec", "sessionAffinity"], "None");
    set_default(object, &["spec", "clusterIP"], "127.0.0.1");
    let address = value::text(object, "/spec/clusterIP").to_owned();
    set_default(object, &["spec", "clusterIPs"], json!([address]));
    set_default(object, &["spec", "internalTrafficPolicy"], "Cluster");
    set_default(object, &["spec", "ipFamilies"], json!(["IPv4"]));
    set_default(object, &["spec", "ipFamilyPolicy"], "SingleStack");
    for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set_default(port, &["protocol"], "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        set_default(port, &["targetPort"], number);
    }
    set_default(object, &["status", "loadBalancer"], json!({}));
}

fn secret(object: &mut Value) {
    set_default(object, &["type"], "Opaque");
    if let Some(Value::Object(plain)) = value::unset(object, &["stringData"]) {
        for (key, text) in plain {
            let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
            set(object, &["data", &key], encoded);
        }
    }
}

fn binding(object: &mut Value) {
    set_default(object, &["roleRef", "apiGroup"], kinds::ROLE.group);
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(value::text(subject, "/kind"), "User" | "Group") {
            set_default(subject, &["apiGroup"], kinds::ROLE.group);
        }
    }
}

fn network_policy(object: &mut Value) {
    if object.pointer("/spec/policyTypes").is_none() {
        let egress = object.pointer("/spec/egress").is_some();
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        set(object, &["spec", "policyTypes"], types);
    }
}
