//! Tests of the shapes on the wire, as Google documents them.

use serde_json::json;

use super::*;

/// One request in one line.
fn line(request: &Request) -> String {
    let query: Vec<String> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let body = request.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
    format!("{} {}{query}{body}", request.method.as_str(), request.path)
}

fn create(id: &Id, fields: &Value) -> Request {
    create_with(id, fields, &[])
}

fn create_with(id: &Id, fields: &Value, parts: &[(&Id, &Value)]) -> Request {
    (id.rules().create.unwrap())(&Creation { id, fields, project: "p", parts })
}

fn update(id: &Id, fields: &Value, live: &Value, changed: &str) -> Request {
    id.updates(fields, live, &[changed.to_owned()]).remove(0)
}

#[test]
fn every_kind_has_its_own_shape() {
    let account = Id::new(Kind::ServiceAccount, "projects/p/serviceAccounts/a-b@p.iam.gserviceaccount.com");
    let bucket = Id::new(Kind::Bucket, "b");
    let role = Id::new(Kind::Role, "projects/p/roles/r");
    let topic = Id::new(Kind::Topic, "projects/p/topics/t");
    let subscription = Id::new(Kind::Subscription, "projects/p/subscriptions/s");
    let fields = json!({"labels": {"k": "v"}, "displayName": "d"});
    let live = json!({"metageneration": "3", "etag": "e", "labels": {"theirs": "1"}});
    for (request, expected) in [
        (bucket.read(&Value::Null), "GET storage/v1/b/b"),
        (bucket.policy().read(&Value::Null), "GET storage/v1/b/b/iam?optionsRequestedPolicyVersion=3"),
        (topic.policy().read(&Value::Null), "GET v1/projects/p/topics/t:getIamPolicy?options.requestedPolicyVersion=3"),
        (
            account.policy().read(&Value::Null),
            "POST v1/projects/p/serviceAccounts/a-b@p.iam.gserviceaccount.com:getIamPolicy?options.requestedPolicyVersion=3",
        ),
        (create(&bucket, &json!({"name": "b"})), r#"POST storage/v1/b?project=p {"name":"b"}"#),
        (create(&topic, &json!({})), "PUT v1/projects/p/topics/t {}"),
        (
            create(&account, &json!({"displayName": "d"})),
            r#"POST v1/projects/p/serviceAccounts {"accountId":"a-b","serviceAccount":{"displayName":"d"}}"#,
        ),
        (create(&role, &json!({"title": "t"})), r#"POST v1/projects/p/roles {"role":{"title":"t"},"roleId":"r"}"#),
        (
            update(&bucket, &fields, &live, "labels"),
            r#"PATCH storage/v1/b/b?ifMetagenerationMatch=3 {"labels":{"k":"v"}}"#,
        ),
        (
            update(&subscription, &fields, &live, "labels"),
            r#"PATCH v1/projects/p/subscriptions/s {"subscription":{"labels":{"k":"v","theirs":"1"},"name":"projects/p/subscriptions/s"},"updateMask":"labels"}"#,
        ),
        (
            update(&account, &fields, &live, "displayName"),
            r#"PATCH v1/projects/p/serviceAccounts/a-b@p.iam.gserviceaccount.com {"serviceAccount":{"displayName":"d"},"updateMask":"display_name"}"#,
        ),
        (
            update(&role, &json!({"title": "t"}), &live, "title"),
            r#"PATCH v1/projects/p/roles/r?updateMask=title {"etag":"e","title":"t"}"#,
        ),
        ((role.rules().undelete.unwrap())(&role), "POST v1/projects/p/roles/r:undelete {}"),
        (subscription.deletes(&live).remove(0), "DELETE v1/projects/p/subscriptions/s"),
        (update(&bucket.policy(), &json!({"version": 3}), &Value::Null, ""), r#"PUT storage/v1/b/b/iam {"version":3}"#),
        (
            update(&topic.policy(), &json!({"version": 3}), &Value::Null, ""),
            r#"POST v1/projects/p/topics/t:setIamPolicy {"policy":{"version":3}}"#,
        ),
    ] {
        assert_eq!(line(&request), expected);
    }
}

#[test]
fn clusters_pools_services_and_registries_have_theirs() {
    let cluster = Id::new(Kind::Cluster, "projects/p/locations/l/clusters/c");
    let pool = Id::new(Kind::NodePool, "projects/p/locations/l/clusters/c/nodePools/n");
    let registry = Id::new(Kind::Registry, "projects/p/locations/l/repositories/r");
    let services = Id::new(Kind::Services, "projects/p/services");
    let project = Id::new(Kind::Project, "projects/p");
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let lines = |requests: Vec<Request>| requests.iter().map(line).collect::<Vec<_>>();
    assert_eq!(
        line(&create_with(&cluster, &json!({"name": "c"}), &[(&pool, &json!({"initialNodeCount": 1}))])),
        r#"POST v1/projects/p/locations/l/clusters {"cluster":{"name":"c","nodePools":[{"initialNodeCount":1,"name":"n"}]}}"#
    );
    let live = json!({"resourceLabels": {"theirs": "1"}, "labelFingerprint": "f"});
    let fields = json!({
        "resourceLabels": {"k": "v"},
        "networkConfig": {"datapathProvider": "ADVANCED_DATAPATH", "defaultEnablePrivateNodes": true},
        "releaseChannel": {"channel": "REGULAR"},
    });
    let changed = paths(&["resourceLabels.k", "networkConfig.defaultEnablePrivateNodes", "releaseChannel.channel"]);
    assert_eq!(
        lines(cluster.updates(&fields, &live, &changed)),
        [
            r#"POST v1/projects/p/locations/l/clusters/c:setResourceLabels {"labelFingerprint":"f","resourceLabels":{"k":"v","theirs":"1"}}"#,
            r#"PUT v1/projects/p/locations/l/clusters/c {"name":"projects/p/locations/l/clusters/c","update":{"desiredDefaultEnablePrivateNodes":true}}"#,
            r#"PUT v1/projects/p/locations/l/clusters/c {"name":"projects/p/locations/l/clusters/c","update":{"desiredReleaseChannel":{"channel":"REGULAR"}}}"#,
        ]
    );
    let fields =
        json!({"autoscaling": {"enabled": true}, "config": {"machineType": "m", "resourceLabels": {"k": "v"}}});
    let changed = paths(&["autoscaling.enabled", "config.machineType", "config.resourceLabels.k"]);
    assert_eq!(
        lines(pool.updates(&fields, &json!({}), &changed)),
        [
            r#"POST v1/projects/p/locations/l/clusters/c/nodePools/n:setAutoscaling {"autoscaling":{"enabled":true}}"#,
            r#"PUT v1/projects/p/locations/l/clusters/c/nodePools/n {"machineType":"m"}"#,
            r#"PUT v1/projects/p/locations/l/clusters/c/nodePools/n {"resourceLabels":{"labels":{"k":"v"}}}"#,
        ]
    );
    assert_eq!(
        line(&services.read(&json!({"a.googleapis.com": "ENABLED"}))),
        "GET v1/projects/p/services:batchGet?names=projects/p/services/a.googleapis.com"
    );
    let enable = |names: &[&str]| lines(services.updates(&json!({}), &json!({}), &paths(names)));
    assert_eq!(enable(&["a.googleapis.com"]), ["POST v1/projects/p/services/a.googleapis.com:enable {}"]);
    assert_eq!(enable(&["a", "b"]), [r#"POST v1/projects/p/services:batchEnable {"serviceIds":["a","b"]}"#]);
    assert_eq!(
        line(&create(&registry, &json!({"format": "DOCKER"}))),
        r#"POST v1/projects/p/locations/l/repositories?repositoryId=r {"format":"DOCKER"}"#
    );
    assert_eq!(
        lines(registry.updates(&json!({"labels": {"k": "v"}}), &json!({}), &paths(&["labels.k"]))),
        [r#"PATCH v1/projects/p/locations/l/repositories/r?updateMask=labels {"labels":{"k":"v"}}"#]
    );
    assert_eq!(
        line(&project.policy().read(&Value::Null)),
        r#"POST v1/projects/p:getIamPolicy {"options":{"requestedPolicyVersion":3}}"#
    );
    assert_eq!(
        line(&update(&project.policy(), &json!({"version": 3}), &Value::Null, "")),
        r#"POST v1/projects/p:setIamPolicy {"policy":{"version":3}}"#
    );
}

#[test]
fn alerts_are_known_by_their_labels_and_dashboards_by_their_name() {
    let alert = Id::new(Kind::Alert, "projects/p/alertPolicies/e-bu1-failures");
    let dashboard = Id::new(Kind::Dashboard, "projects/p/dashboards/deskgrid-e");
    let lines = |requests: Vec<Request>| requests.iter().map(line).collect::<Vec<_>>();
    let marks = json!({"managed-by": "deskgrid", "deskgrid-env": "e", "business": "bu1", "deskgrid-alert": "failures"});
    let fields = json!({"userLabels": marks, "conditions": [{"displayName": "c"}], "others": []});
    let mut other = marks.clone();
    other["business"] = json!("bu2");
    let policy = |number: u32, labels: &Value| {
        let name = format!("projects/p/alertPolicies/{number}");
        json!({"name": name, "userLabels": labels, "conditions": [{"displayName": "c", "name": "n"}]})
    };
    let seen = |items: &[Value]| alert.view(&fields, json!({"alertPolicies": items}));
    assert_eq!(seen(&[policy(1, &other), policy(2, &json!(null))]), None);
    let live = seen(&[policy(1, &other), policy(2, &marks), policy(3, &marks)]).unwrap();
    assert_eq!(line(&alert.read(&fields)), "GET v3/projects/p/alertPolicies?pageSize=1000");
    assert_eq!(
        line(&create(&alert, &json!({"combiner": "OR", "others": []}))),
        r#"POST v3/projects/p/alertPolicies {"combiner":"OR"}"#
    );
    assert_eq!(
        lines(alert.updates(&fields, &live, &["conditions.0.displayName".to_owned(), "others".to_owned()])),
        [
            r#"PATCH v3/projects/p/alertPolicies/2?updateMask=conditions {"conditions":[{"displayName":"c","name":"n"}]}"#,
            "DELETE v3/projects/p/alertPolicies/3",
        ]
    );
    assert_eq!(
        line(&create(&dashboard, &json!({"displayName": "d"}))),
        r#"POST v1/projects/p/dashboards {"displayName":"d","name":"projects/p/dashboards/deskgrid-e"}"#
    );
    let live = json!({"etag": "x", "labels": {"theirs": "1"}});
    assert_eq!(
        line(&update(&dashboard, &json!({"displayName": "d", "labels": {"k": "v"}}), &live, "displayName")),
        r#"PATCH v1/projects/p/dashboards/deskgrid-e {"displayName":"d","etag":"x","labels":{"k":"v","theirs":"1"}}"#
    );
    let name = dashboard.rules().list.as_ref().unwrap().name;
    assert_eq!(name(&json!({"name": "projects/123/dashboards/deskgrid-e"}), "p"), dashboard.name);
}

#[test]
fn the_mark_of_another_environment_is_not_ours() {
    let described = |environment: &str| json!({"description": description(environment, "x")});
    assert_eq!(Mark::Description.owner(&described("hpc"), "hpc"), Owner::Ours);
    assert!(matches!(Mark::Description.owner(&described("hpc-poc"), "hpc"), Owner::Other(_)));
    assert_eq!(
        Mark::Labels("/labels").owner(&json!({}), "hpc"),
        Owner::Other("it has no label or description that says whose".to_owned())
    );
}
