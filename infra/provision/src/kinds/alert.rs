//! Alert policies of Cloud Monitoring: each business has one for messages that wait too long and one for failures.
//!
//! They are two policies, since one with a PromQL condition has just that (superplane #5476). Failures are counted by the
//! orchestrator; its metrics come over a `PodMonitoring`, which `deploy` writes where the cluster has managed collection.
//! Such a metric exists only after the first deploy, and a threshold on an unknown one is refused
//! (terraform-provider-google #10325), so its condition is PromQL without that check.
//! cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies

use contract::labels as names;
use serde_json::{Value, json};

use super::*;
use crate::{change::item_differences, environment::Alerts, google::Method};

pub(crate) const RULES: Rules = Rules {
    noun: "alert",
    title: named,
    api: Api::Monitoring,
    target: None,
    parent: no_parent,
    managed: |_| Managed::Create,
    desired,
    is_first: false,
    mark: Mark::Labels("/userLabels"),
    immutable: &[],
    list: Some(List { request: all, key: "alertPolicies", name: |item, project| name(&item["userLabels"], project) }),
    read: |id, _| read(collection(&id.name)),
    view,
    limit: None,
    differences: item_differences,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| {
        let path = format!("v3/{}", escaped(collection(&new.id.name)));
        Request::new(Api::Monitoring, Method::Post, path).body(assigned::body(new.fields))
    }),
    is_created: Some(assigned::differs_only_in_others),
    update,
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["monitoring.projects.alertPolicies.list"],
        create: &["monitoring.projects.alertPolicies.create"],
        update: &["monitoring.projects.alertPolicies.patch"],
        delete: &["monitoring.projects.alertPolicies.delete"],
    },
    explain: unchanged_error,
    removal: Removal::Deleted,
    role: "roles/monitoring.alertPolicyEditor",
    lengths: None,
    on_itself: None,
    checks: &[],
};

/// The metric of the age of the oldest message.
const AGE: &str = "pubsub.googleapis.com/subscription/oldest_unacked_message_age";
/// Labels that say which policy one is.
const MARKS: [&str; 4] = [names::GOOGLE_MANAGED_BY, names::GOOGLE_ENVIRONMENT, names::BUSINESS, names::GOOGLE_ALERT];

fn desired(environment: &Environment) -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    let alerts = environment.alerts.iter();
    for (alerts, business) in alerts.flat_map(|alerts| environment.businesses.iter().map(move |one| (alerts, one))) {
        for (alert, condition, help) in [waiting(alerts, business), failures(alerts, business, environment)] {
            let mut labels = labels(environment, Some(business));
            labels[names::GOOGLE_ALERT] = json!(alert);
            let title =
                format!("Deskgrid {}, {}: {}", environment.name, business.name, text(&condition["displayName"]));
            let fields = json!({
                "displayName": title,
                "documentation": {"content": help, "mimeType": "text/markdown"},
                "userLabels": labels,
                "combiner": "OR",
                "conditions": [condition],
                "notificationChannels": alerts.notification_channels,
                "enabled": true,
                "others": [],
            });
            let id = Id::new(Kind::Alert, name(&labels, &environment.project));
            // Monitoring asks for one write of policies at a time.
            let after = resources.last().map(|before| before.id.clone()).into_iter().collect();
            resources.push(resource(environment, id, Some(business), fields, after));
        }
    }
    resources
}

/// The label, the condition and the help of the alert for messages that wait.
fn waiting(alerts: &Alerts, business: &Business) -> (&'static str, Value, String) {
    let subscriptions = [Some(&business.subscription), business.priority_subscription.as_ref()];
    let quoted: Vec<String> = subscriptions.into_iter().flatten().map(|name| format!("{name:?}")).collect();
    let condition = json!({
        "displayName": format!("the oldest message waits longer than {} s", alerts.oldest_message_secs),
        "conditionThreshold": {
            "filter": format!(
                "resource.type=\"pubsub_subscription\" AND metric.type=\"{AGE}\" AND \
                 resource.labels.subscription_id=one_of({})",
                quoted.join(",")
            ),
            "aggregations": [{"alignmentPeriod": "60s", "perSeriesAligner": "ALIGN_MAX"}],
            "comparison": "COMPARISON_GT",
            "thresholdValue": alerts.oldest_message_secs,
            "duration": "60s",
        },
    });
    let help =
        format!("`cargo xtask status` shows whether the orchestrator of {} runs, and what waits.", business.name);
    ("oldest-message", condition, help)
}

/// The same for failures.
fn failures(alerts: &Alerts, business: &Business, environment: &Environment) -> (&'static str, Value, String) {
    let condition = json!({
        "displayName": format!("more than {} failures in an hour", alerts.failures_per_hour),
        "conditionPrometheusQueryLanguage": {
            "query": format!(
                "{} > {}",
                failures_per_hour(environment, &format!("={:?}", business.namespace)),
                alerts.failures_per_hour
            ),
            "evaluationInterval": "60s",
            "disableMetricValidation": true,
        },
    });
    let help =
        format!("`cargo xtask session failures SESSION` explains the failures of a session of {}.", business.name);
    ("failures", condition, help)
}

/// The PromQL of the failures of an hour, by business; `matcher` selects namespaces.
pub(super) fn failures_per_hour(environment: &Environment, matcher: &str) -> String {
    format!(
        "sum by (namespace) (increase(orchestrator_jobs_settled_total{{cluster={:?},namespace{matcher},\
         state=\"failed\"}}[1h]))",
        environment.cluster.name
    )
}

/// The name by which we know the policy with these labels; its own is a number.
fn name(labels: &Value, project: &str) -> String {
    let parts = [names::GOOGLE_ENVIRONMENT, names::BUSINESS, names::GOOGLE_ALERT].map(|key| text(&labels[key]));
    format!("projects/{project}/alertPolicies/{}", parts.join("-"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn all(environment: &Environment) -> Request {
    read(&format!("projects/{}/alertPolicies", environment.project))
}

fn read(collection: &str) -> Request {
    Request::get(Api::Monitoring, format!("v3/{}", escaped(collection))).query("pageSize", "1000")
}

fn view(desired: &Value, answer: Value) -> Option<Value> {
    let is_ours = |item: &&Value| MARKS.iter().all(|key| item["userLabels"][key] == desired["userLabels"][key]);
    assigned::shown(desired, answer["alertPolicies"].as_array().into_iter().flatten().filter(is_ours).collect(), "name")
}

/// Changes the policy, whose condition keeps its name and with it its incidents; deletes its duplicates.
fn update(_: &Id, desired: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
    let changed: Vec<String> = changed.iter().filter(|field| *field != "others").cloned().collect();
    let (mut body, mask) = changed_fields(desired, live, &changed);
    if let Some(condition) = body.get_mut("conditions").map(|conditions| &mut conditions[0]) {
        condition["name"] = live["conditions"][0]["name"].clone();
    }
    let patch = (!changed.is_empty()).then(|| {
        let path = format!("v3/{}", escaped(text(&live["name"])));
        Request::new(Api::Monitoring, Method::Patch, path).query("updateMask", mask).body(body.into())
    });
    patch.into_iter().chain(assigned::others(live).map(delete_one)).collect()
}

fn delete(_: &Id, live: &Value) -> Vec<Request> {
    live["name"].as_str().into_iter().chain(assigned::others(live)).map(delete_one).collect()
}

fn delete_one(name: &str) -> Request {
    Request::new(Api::Monitoring, Method::Delete, format!("v3/{}", escaped(name)))
}
