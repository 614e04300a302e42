//! The dashboard of an environment in Cloud Monitoring. It has a name of our choice (pulumi-google-native #760), which
//! answers show with the number of the project. Google fills in fields of widgets (terraform-provider-google #7242).
//! cloud.google.com/monitoring/api/ref_v3/rest/v1/projects.dashboards

use serde_json::json;

use super::*;
use crate::{change::item_differences, google::Method};

pub(crate) const RULES: Rules = Rules {
    noun: "dashboard",
    title: named,
    api: Api::Monitoring,
    target: None,
    parent: no_parent,
    managed: |_| Managed::Create,
    desired,
    is_first: false,
    mark: Mark::Labels("/labels"),
    immutable: &[],
    list: Some(List {
        request: |environment| {
            let path = format!("v1/projects/{}/dashboards", escape(&environment.project));
            Request::get(Api::Monitoring, path).query("pageSize", "1000")
        },
        key: "dashboards",
        name: |item, project| {
            let id = item["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
            format!("projects/{project}/dashboards/{id}")
        },
    }),
    read: get,
    view: as_read,
    limit: None,
    differences: item_differences,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| {
        let mut body = new.fields.clone();
        body["name"] = json!(new.id.name);
        Request::new(Api::Monitoring, Method::Post, collection(&path(new.id))).body(body)
    }),
    is_created: None,
    // It is replaced as a whole.
    update: |id, desired, live, _| {
        let mut body = desired.clone();
        body["etag"] = live["etag"].clone();
        body["labels"] = merged(&live["labels"], &desired["labels"]);
        vec![Request::new(Api::Monitoring, Method::Patch, path(id)).body(body)]
    },
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["monitoring.projects.dashboards.get", "monitoring.projects.dashboards.list"],
        create: &["monitoring.projects.dashboards.create"],
        update: &["monitoring.projects.dashboards.patch"],
        delete: &["monitoring.projects.dashboards.delete"],
    },
    explain: unchanged_error,
    removal: Removal::Deleted,
    role: "roles/monitoring.dashboardEditor",
    lengths: None,
    on_itself: None,
    checks: &[],
};

fn desired(environment: &Environment) -> Vec<Resource> {
    if environment.alerts.is_none() {
        return Vec::new();
    }
    let one_of = |names: Vec<&String>| {
        // As a string of PromQL, in which the backslash of a regular expression is doubled.
        let names: Vec<String> = names.iter().map(|name| name.replace('.', r"\\.").replace('+', r"\\+")).collect();
        format!("=~\"{}\"", names.join("|"))
    };
    let businesses = || environment.businesses.iter();
    let namespaces = one_of(businesses().map(|business| &business.namespace).collect());
    let of_priority = businesses().filter_map(|business| business.priority_subscription.as_ref());
    let subscriptions = one_of(businesses().map(|business| &business.subscription).chain(of_priority).collect());
    let chart = |title: &str, query: String| {
        json!({
            "title": title,
            "xyChart": {"dataSets": [{"plotType": "LINE", "timeSeriesQuery": {"prometheusQuery": query}}]},
        })
    };
    let cluster = &environment.cluster.name;
    let fields = json!({
        "displayName": format!("Deskgrid {}", environment.name),
        "labels": labels(environment, None),
        "gridLayout": {"columns": "2", "widgets": [
            chart("Oldest message in seconds", format!(
                "max by (subscription_id) (pubsub_googleapis_com:subscription_oldest_unacked_message_age{{\
                 monitored_resource=\"pubsub_subscription\",subscription_id{subscriptions}}})"
            )),
            chart("Failures in the last hour", alert::failures_per_hour(environment, &namespaces)),
            chart("Active Kubernetes Jobs", format!(
                "sum by (namespace) (orchestrator_jobs_active{{cluster={cluster:?},namespace{namespaces}}})"
            )),
            chart("Jobs settled per minute", format!(
                "sum by (namespace, state) (rate(orchestrator_jobs_settled_total{{cluster={cluster:?},\
                 namespace{namespaces}}}[5m])) * 60"
            )),
        ]},
    });
    let id =
        Id::new(Kind::Dashboard, format!("projects/{}/dashboards/deskgrid-{}", environment.project, environment.name));
    vec![resource(environment, id, None, fields, vec![])]
}
