//! Resource quotas: what a namespace uses, and whether one more object fits.

use serde_json::{Map, Value};

use super::{
    failure::{Answer, Failure},
    kinds::{self, KINDS, Kind},
    quantity,
    store::Transaction,
    value::{self, items, text},
};

/// Refuses an object that a quota of its namespace has no room for.
///
/// # Errors
/// 403 with the quota named.
pub fn admit(transaction: &Transaction<'_>, kind: &Kind, object: &Value) -> Answer<()> {
    let namespace = value::namespace(object);
    if namespace.is_empty() || transaction.count(&kinds::RESOURCE_QUOTA, namespace) == 0 {
        return Ok(());
    }
    for quota in transaction.each(&kinds::RESOURCE_QUOTA, Some(namespace)) {
        let missing = unspecified(kind, object, quota);
        if !missing.is_empty() {
            let why = format!("failed quota: {}: must specify {}", value::name(quota), missing.join("; "));
            return Err(Failure::forbidden(kind, value::name(object), &why));
        }
        let hard = value::entries(quota, "/spec/hard");
        let mut over = Vec::new();
        for (resource, limit) in hard {
            let desired = cost(kind, object, resource);
            let Some(limit_amount) = quantity::parse(limit).filter(|_| desired > 0) else { continue };
            let used = used(transaction, namespace, resource);
            if used + desired > limit_amount {
                let binary = resource.contains("memory") || resource.contains("storage");
                over.push([
                    format!("{resource}={}", quantity::format(desired, binary)),
                    format!("{resource}={}", quantity::format(used, binary)),
                    format!("{resource}={limit}"),
                ]);
            }
        }
        if !over.is_empty() {
            let column = |at: usize| over.iter().map(|row| row[at].clone()).collect::<Vec<_>>().join(",");
            let why = format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                value::name(quota),
                column(0),
                column(1),
                column(2)
            );
            return Err(Failure::forbidden(kind, value::name(object), &why));
        }
    }
    Ok(())
}

/// What a quota limits and containers of the pod do not say, with the containers' names.
fn unspecified(kind: &Kind, object: &Value, quota: &Value) -> Vec<String> {
    if kind != &kinds::POD {
        return Vec::new();
    }
    let mut missing = Vec::new();
    for (resource, _) in value::entries(quota, "/spec/hard") {
        let (part, name) = match resource.split_once('.') {
            Some((part @ ("requests" | "limits"), name)) => (part, name),
            _ => ("requests", resource),
        };
        if !matches!(name, "cpu" | "memory") {
            continue;
        }
        let silent = |one: &&Value| text(one, &format!("/resources/{part}/{name}")).is_empty();
        let names: Vec<_> =
            items(object, "/spec/containers").iter().filter(silent).map(|one| text(one, "/name")).collect();
        if !names.is_empty() {
            missing.push(format!("{resource} for: {}", names.join(",")));
        }
    }
    missing
}

/// `status.used` of a quota.
pub fn usage(transaction: &Transaction<'_>, quota: &Value) -> Value {
    let mut amounts = Map::new();
    for (resource, _) in value::entries(quota, "/spec/hard") {
        let binary = resource.contains("memory") || resource.contains("storage");
        let used = used(transaction, value::namespace(quota), resource);
        amounts.insert(resource.to_owned(), quantity::format(used, binary).into());
    }
    Value::Object(amounts)
}

fn used(transaction: &Transaction<'_>, namespace: &str, resource: &str) -> i128 {
    if let Some(desired) = resource.strip_prefix("services.") {
        let services = transaction.each(&kinds::SERVICE, Some(namespace));
        return services.filter(|service| is_service_of(service, desired)).count() as i128 * 1_000;
    }
    match counted(resource) {
        Some(kind) if kind != &kinds::POD || resource.starts_with("count/") => {
            transaction.count(kind, namespace) as i128 * 1_000
        }
        _ => transaction
            .each(&kinds::POD, Some(namespace))
            .filter(|pod| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"))
            .map(|pod| cost(&kinds::POD, pod, resource))
            .sum(),
    }
}

/// What an object costs of a resource, in thousandths.
fn cost(kind: &Kind, object: &Value, resource: &str) -> i128 {
    if let Some(desired) = resource.strip_prefix("services.") {
        return if kind == &kinds::SERVICE && is_service_of(object, desired) { 1_000 } else { 0 };
    }
    if let Some(counted) = counted(resource) {
        return if counted == kind { 1_000 } else { 0 };
    }
    if kind != &kinds::POD {
        return 0;
    }
    let (part, resource) = match resource.split_once('.') {
        Some((part @ ("requests" | "limits"), resource)) => (part, resource),
        _ => ("requests", resource),
    };
    pod_amount(object, part, resource)
}

/// Whether a service opens such a way in: `loadbalancers` or `nodeports`, which those have too.
fn is_service_of(service: &Value, desired: &str) -> bool {
    match text(service, "/spec/type") {
        "LoadBalancer" => matches!(desired, "loadbalancers" | "nodeports"),
        "NodePort" => desired == "nodeports",
        _ => false,
    }
}

/// Whether an init container runs beside the containers instead of before them.
pub fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

/// What a pod requests (or is limited to), in thousandths: its containers and sidecars together, or an init container
/// with the sidecars before it (kubernetes.io/docs/concepts/workloads/pods/sidecar-containers, "Resource sharing").
pub fn pod_amount(pod: &Value, part: &str, resource: &str) -> i128 {
    let pointer = format!("/resources/{part}/{}", resource.replace('/', "~1"));
    let amount = |container: &Value| quantity::parse(text(container, &pointer)).unwrap_or_default();
    let together: i128 = items(pod, "/spec/containers").iter().map(amount).sum();
    let (mut sidecars, mut peak) = (0, 0);
    for container in items(pod, "/spec/initContainers") {
        let needs = sidecars + amount(container);
        peak = peak.max(needs);
        if is_sidecar(container) {
            sidecars = needs;
        }
    }
    peak.max(sidecars + together)
}

/// The kind that a resource name counts.
fn counted(resource: &str) -> Option<&'static Kind> {
    let name = resource.strip_prefix("count/").unwrap_or(resource);
    let short = !resource.starts_with("count/");
    KINDS.iter().copied().find(|kind| kind.namespaced && kind.resource() == name && (!short || kind.group.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_needs_its_containers_and_sidecars_or_an_init_container() {
        let check = |init: Value, cpu: i128| {
            let container = |one: &Value| json!({"restartPolicy": one[0], "resources": {"requests": {"cpu": one[1]}}});
            let init: Vec<_> = items(&init, "").iter().map(container).collect();
            let main = json!([{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "2"}}}]);
            let pod = json!({"spec": {"initContainers": init, "containers": main}});
            assert_eq!(pod_amount(&pod, "requests", "cpu"), cpu * 1_000, "{pod}");
        };
        check(json!([]), 3);
        check(json!([[null, "2"]]), 3);
        check(json!([[null, "5"], [null, "4"]]), 5);
        check(json!([["Always", "2"]]), 5);
        check(json!([[null, "6"], ["Always", "2"]]), 6);
        check(json!([["Always", "2"], [null, "6"], ["Always", "1"]]), 8);
    }
}
