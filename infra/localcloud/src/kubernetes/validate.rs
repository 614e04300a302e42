//! What makes an object invalid beyond its types: required fields, rules between fields, fields that never change.

use serde_json::{Value, json};

use super::{
    failure::Cause,
    kinds::{self, Kind},
    names, select, validate_pod,
    value::{items, number, text},
};

/// What is wrong with a new object.
pub fn create(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = names::check(kind, object);
    if kind == &kinds::POD {
        validate_pod::spec(object.pointer("/spec").unwrap_or(&Value::Null), "spec", &mut causes);
    } else if kind == &kinds::JOB {
        job(object, &mut causes);
    } else if kind == &kinds::DEPLOYMENT || kind == &kinds::REPLICA_SET {
        workload(object, &mut causes);
    } else if kind == &kinds::SERVICE {
        service(object, &mut causes);
    } else if kind == &kinds::CONFIG_MAP || kind == &kinds::SECRET {
        data(object, &mut causes);
    } else if kind == &kinds::ROLE_BINDING || kind == &kinds::CLUSTER_ROLE_BINDING {
        binding(object, &mut causes);
    } else if kind == &kinds::ROLE || kind == &kinds::CLUSTER_ROLE {
        rules(object, &mut causes);
    }
    causes
}

/// What is wrong with a change of an object.
pub fn update(kind: &Kind, old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = create(kind, new);
    let immutable: &[&str] = if kind == &kinds::JOB {
        &["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    } else if kind == &kinds::DEPLOYMENT || kind == &kinds::REPLICA_SET {
        &["selector"]
    } else {
        &[]
    };
    for field in immutable {
        unchanged(old, new, &format!("/spec/{field}"), &mut causes);
    }
    if kind == &kinds::JOB {
        unchanged_template(old, new, &mut causes);
        let elastic = text(new, "/spec/completionMode") == "Indexed"
            && new.pointer("/spec/completions") == new.pointer("/spec/parallelism");
        if !elastic {
            unchanged(old, new, "/spec/completions", &mut causes);
        }
    } else if kind == &kinds::POD {
        validate_pod::unchanged(old, new, &mut causes);
    } else if kind == &kinds::ROLE_BINDING || kind == &kinds::CLUSTER_ROLE_BINDING {
        if old.get("roleRef") != new.get("roleRef") {
            let value = new.get("roleRef").cloned().unwrap_or_default();
            causes.push(Cause::invalid("roleRef", &value, "cannot change roleRef"));
        }
    } else if kind == &kinds::SECRET {
        unchanged(old, new, "/type", &mut causes);
    }
    if (kind == &kinds::SECRET || kind == &kinds::CONFIG_MAP)
        && old.get("immutable") == Some(&Value::Bool(true))
        && (old.get("data") != new.get("data") || new.get("immutable") != Some(&Value::Bool(true)))
    {
        causes.push(Cause::forbidden("data", "field is immutable when `immutable` is set"));
    }
    causes
}

fn unchanged(old: &Value, new: &Value, pointer: &str, causes: &mut Vec<Cause>) {
    if old.pointer(pointer) != new.pointer(pointer) {
        let value = new.pointer(pointer).cloned().unwrap_or_default();
        causes.push(Cause::invalid(pointer[1..].replace('/', "."), &value, "field is immutable"));
    }
}

/// A Job's template never changes, but for the scheduling of one that is suspended.
fn unchanged_template(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let strip = |object: &Value| {
        let mut template = object.pointer("/spec/template").cloned().unwrap_or_default();
        if old.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
            for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
                super::value::unset(&mut template, &["spec", field]);
            }
            super::value::unset(&mut template, &["metadata", "labels"]);
            super::value::unset(&mut template, &["metadata", "annotations"]);
        }
        template
    };
    let template = strip(new);
    if strip(old) != template {
        causes.push(Cause::invalid("spec.template", &template, "field is immutable"));
    }
}

fn job(object: &Value, causes: &mut Vec<Cause>) {
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        if let Some(given) = number(object, &format!("/spec/{field}")).filter(|given| *given < 0) {
            let why = "must be greater than or equal to 0";
            causes.push(Cause::invalid(format!("spec.{field}"), &json!(given), why));
        }
    }
    let indexed = text(object, "/spec/completionMode") == "Indexed";
    match text(object, "/spec/completionMode") {
        "Indexed" | "NonIndexed" => {}
        other => causes.push(Cause::unsupported("spec.completionMode", &json!(other), &["NonIndexed", "Indexed"])),
    }
    if indexed {
        if object.pointer("/spec/completions").is_none_or(Value::is_null) {
            causes.push(Cause::required("spec.completions", "when completion mode is Indexed"));
        }
        let completions = number(object, "/spec/completions").unwrap_or_default();
        if completions > 1_000_000_000 {
            causes.push(Cause::invalid(
                "spec.completions",
                &json!(completions),
                "must be less than or equal to 1000000000",
            ));
        }
        if let Some(pods) = number(object, "/spec/parallelism").filter(|pods| *pods > 100_000) {
            let why = "must be less than or equal to 100000 when completion mode is Indexed";
            causes.push(Cause::invalid("spec.parallelism", &json!(pods), why));
        }
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(given) = object.pointer(&format!("/spec/{field}")) {
                let why = "requires indexed completion mode";
                causes.push(Cause::invalid(format!("spec.{field}"), given, why));
            }
        }
    }
    let restart = text(object, "/spec/template/spec/restartPolicy");
    if restart == "Always" || restart.is_empty() {
        let field = "spec.template.spec.restartPolicy";
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            field: field.to_owned(),
            message: r#"Unsupported value: "Always": supported values: "OnFailure", "Never""#.to_owned(),
        });
    }
    template(object, causes);
    failure_policy(object, restart, causes);
}

fn failure_policy(object: &Value, restart: &str, causes: &mut Vec<Cause>) {
    if object.pointer("/spec/podFailurePolicy").is_none() {
        return;
    }
    if restart != "Never" {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        causes.push(Cause::invalid("spec.template.spec.restartPolicy", &json!(restart), why));
    }
    for (index, rule) in items(object, "/spec/podFailurePolicy/rules").iter().enumerate() {
        let path = format!("spec.podFailurePolicy.rules[{index}]");
        let action = text(rule, "/action");
        if !matches!(action, "FailJob" | "Ignore" | "Count" | "FailIndex") {
            let known = ["Count", "FailIndex", "FailJob", "Ignore"];
            causes.push(Cause::unsupported(format!("{path}.action"), &json!(action), &known));
        }
        if action == "FailIndex" && object.pointer("/spec/backoffLimitPerIndex").is_none() {
            let why = "requires the backoffLimitPerIndex to be set";
            causes.push(Cause::invalid(format!("{path}.action"), &json!(action), why));
        }
        let codes = rule.get("onExitCodes").filter(|codes| !codes.is_null());
        let conditions = !items(rule, "/onPodConditions").is_empty();
        if codes.is_some() == conditions {
            let why = "specifying one of OnExitCodes and OnPodConditions is required";
            causes.push(Cause::invalid(path.clone(), rule, why));
        }
        if let Some(codes) = codes {
            let values = items(codes, "/values");
            if values.is_empty() {
                causes.push(Cause::invalid(
                    format!("{path}.onExitCodes.values"),
                    &json!(values),
                    "at least one value is required",
                ));
            }
            let operator = text(codes, "/operator");
            if !matches!(operator, "In" | "NotIn") {
                let field = format!("{path}.onExitCodes.operator");
                causes.push(Cause::unsupported(field, &json!(operator), &["In", "NotIn"]));
            }
            if operator == "In" && values.iter().any(|code| code.as_i64() == Some(0)) {
                let field = format!("{path}.onExitCodes.values");
                causes.push(Cause::invalid(field, &json!(0), "must not be 0 for the In operator"));
            }
        }
    }
}

fn template(object: &Value, causes: &mut Vec<Cause>) {
    let template = object.pointer("/spec/template").unwrap_or(&Value::Null);
    names::check_labels(template.pointer("/metadata/labels"), "spec.template.labels", causes);
    validate_pod::spec(template.get("spec").unwrap_or(&Value::Null), "spec.template.spec", causes);
}

fn workload(object: &Value, causes: &mut Vec<Cause>) {
    if let Some(replicas) = number(object, "/spec/replicas").filter(|replicas| *replicas < 0) {
        causes.push(Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0"));
    }
    let selector = object.pointer("/spec/selector").unwrap_or(&Value::Null);
    let labels = object.pointer("/spec/template/metadata/labels");
    let empty = |part: &str| selector.get(part).is_none_or(|part| part.as_object().is_none_or(|part| part.is_empty()));
    if empty("matchLabels") && items(selector, "/matchExpressions").is_empty() {
        causes.push(Cause::required("spec.selector", ""));
    } else if !select::matches(selector, labels) {
        let field = "spec.template.metadata.labels";
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid(field, labels.unwrap_or(&Value::Null), why));
    }
    let restart = text(object, "/spec/template/spec/restartPolicy");
    if !matches!(restart, "" | "Always") {
        let field = "spec.template.spec.restartPolicy";
        causes.push(Cause::unsupported(field, &json!(restart), &["Always"]));
    }
    template(object, causes);
}

fn service(object: &Value, causes: &mut Vec<Cause>) {
    let ports = items(object, "/spec/ports");
    if ports.is_empty() && text(object, "/spec/type") != "ExternalName" && text(object, "/spec/clusterIP") != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        let given = number(port, "/port").unwrap_or_default();
        if !(1..=65535).contains(&given) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("spec.ports[{index}].port"), &json!(given), why));
        }
        if ports.len() > 1 && text(port, "/name").is_empty() {
            causes.push(Cause::required(format!("spec.ports[{index}].name"), ""));
        }
    }
}

fn data(object: &Value, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for part in ["data", "binaryData"] {
        for (key, value) in object.get(part).and_then(Value::as_object).into_iter().flatten() {
            bytes += value.as_str().map_or(0, str::len);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if key.is_empty() || key.len() > 253 || !key.bytes().all(plain) || key == "." || key.starts_with("..") {
                let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
                           'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                causes.push(Cause::invalid(format!("{part}[{key}]"), &json!(key), why));
            }
        }
    }
    const MAX_BYTES: usize = 1024 * 1024;
    if bytes > MAX_BYTES {
        let message = format!("Too long: may not be more than {MAX_BYTES} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: "data".to_owned(), message });
    }
}

fn binding(object: &Value, causes: &mut Vec<Cause>) {
    if text(object, "/roleRef/name").is_empty() {
        causes.push(Cause::required("roleRef.name", ""));
    }
    if !matches!(text(object, "/roleRef/kind"), "Role" | "ClusterRole") {
        let given = object.pointer("/roleRef/kind").cloned().unwrap_or_else(|| json!(""));
        causes.push(Cause::unsupported("roleRef.kind", &given, &["Role", "ClusterRole"]));
    }
    for (index, subject) in items(object, "/subjects").iter().enumerate() {
        let path = format!("subjects[{index}]");
        if text(subject, "/name").is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        match text(subject, "/kind") {
            "ServiceAccount" if text(subject, "/namespace").is_empty() => {
                causes.push(Cause::required(format!("{path}.namespace"), ""));
            }
            "ServiceAccount" | "User" | "Group" => {}
            other => {
                let known = ["Group", "ServiceAccount", "User"];
                causes.push(Cause::unsupported(format!("{path}.kind"), &json!(other), &known));
            }
        }
    }
}

fn rules(object: &Value, causes: &mut Vec<Cause>) {
    for (index, rule) in items(object, "/rules").iter().enumerate() {
        if items(rule, "/verbs").is_empty() {
            causes.push(Cause::required(format!("rules[{index}].verbs"), "verbs must contain at least one value"));
        }
    }
}
