//! Objects: validation, versions, selectors, pages, patches, namespaces, quotas.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, ResourceQuota},
};
use kube::{
    Api, Error,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use crate::kubernetes::support::{Lab, has, job, until};

fn status(error: &Error) -> (u16, String, String) {
    match error {
        Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("{other}"),
    }
}

fn config(name: &str, data: Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_as_kubernetes_does() {
    let lab = Lab::new().await;
    let jobs = lab.jobs();
    let check = async |spec: Value, code: u16, part: &str| {
        let error = jobs.create(&PostParams::default(), &job("wrong", "true", spec)).await.unwrap_err();
        let (have, _, message) = status(&error);
        assert!(have == code && message.contains(part), "{have} {message}");
    };
    check(json!({"completionMode": "Indexed", "parallelism": 1}), 422, "spec.completions: Required value").await;
    check(json!({"template": {"spec": {"restartPolicy": "Always"}}}), 422, "Unsupported value: \"Always\"").await;
    check(json!({"template": {"spec": {"containers": []}}}), 422, "spec.template.spec.containers: Required value")
        .await;
    check(json!({"backoffLimit": -1}), 422, "must be greater than or equal to 0").await;
    let rules = json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [10]}}]});
    let policy = json!({"podFailurePolicy": rules, "template": {"spec": {"restartPolicy": "OnFailure"}}});
    check(policy, 422, "only \"Never\" is supported").await;
    let error = jobs.create(&PostParams::default(), &job("Wrong_", "true", json!({}))).await.unwrap_err();
    assert_eq!(status(&error).1, "Invalid");
    let nowhere: Api<Job> = Api::namespaced(lab.client.clone(), "nowhere");
    let error = nowhere.create(&PostParams::default(), &job("a", "true", json!({}))).await.unwrap_err();
    assert_eq!(status(&error), (404, "NotFound".into(), "namespaces \"nowhere\" not found".into()));
    lab.job("twice", "true", json!({})).await;
    let error = jobs.create(&PostParams::default(), &job("twice", "true", json!({}))).await.unwrap_err();
    assert_eq!(status(&error), (409, "AlreadyExists".into(), "jobs.batch \"twice\" already exists".into()));
    let patch = Patch::Merge(json!({"spec": {"template": {"spec": {"priority": 5}}}}));
    let error = jobs.patch("twice", &PatchParams::default(), &patch).await.unwrap_err();
    assert!(status(&error).2.contains("field is immutable"), "{error}");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    jobs.create(&dry, &job("dry", "true", json!({}))).await.unwrap();
    assert!(jobs.get_opt("dry").await.unwrap().is_none());
    let strict = PatchParams::default().validation_strict();
    let patch = Patch::Merge(json!({"spec": {"unknown": 1}}));
    let error = jobs.patch("twice", &strict, &patch).await.unwrap_err();
    assert!(status(&error).2.contains("unknown field \"spec.unknown\""), "{error}");
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_uids_guard_writes() {
    let lab = Lab::new().await;
    let api: Api<ConfigMap> = Api::default_namespaced(lab.client.clone());
    let first = api.create(&PostParams::default(), &config("c", json!({"a": "1"}))).await.unwrap();
    let mut second = first.clone();
    second.data.as_mut().unwrap().insert("a".into(), "2".into());
    api.replace("c", &PostParams::default(), &second).await.unwrap();
    let error = api.replace("c", &PostParams::default(), &second).await.unwrap_err();
    assert_eq!(status(&error).1, "Conflict");
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(status(&api.delete("c", &params).await.unwrap_err()).0, 409);
    api.delete("c", &DeleteParams::default()).await.unwrap();
    assert_eq!(status(&api.get("c").await.unwrap_err()).2, "configmaps \"c\" not found");
    let generated: ConfigMap = serde_json::from_value(json!({"metadata": {"generateName": "g-"}})).unwrap();
    let generated = api.create(&PostParams::default(), &generated).await.unwrap().metadata.name.unwrap();
    assert!(generated.starts_with("g-") && generated.len() == 7, "{generated}");
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_pages_and_selectors() {
    let lab = Lab::new().await;
    let api: Api<ConfigMap> = Api::default_namespaced(lab.client.clone());
    for index in 0..5 {
        let mut one = config(&format!("c{index}"), json!({}));
        one.metadata.labels = Some([("odd".to_owned(), (index % 2 == 1).to_string())].into());
        api.create(&PostParams::default(), &one).await.unwrap();
    }
    let mut params = ListParams::default().labels("odd").limit(2);
    let mut names = Vec::new();
    loop {
        let page = api.list(&params).await.unwrap();
        names.extend(page.items.into_iter().filter_map(|one| one.metadata.name));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4"]);
    let odd = api.list(&ListParams::default().labels("odd in (true)")).await.unwrap().items.len();
    let named = api.list(&ListParams::default().fields("metadata.name=c3")).await.unwrap().items.len();
    assert_eq!((odd, named), (2, 1));
    assert!(api.list(&ListParams::default().fields("data.x=1")).await.is_err());
    lab.job("good", "true", json!({})).await;
    lab.job("bad", "false", json!({"backoffLimit": 0})).await;
    lab.until_job("good", |job| has(job, "Complete")).await;
    lab.until_job("bad", |job| has(job, "Failed")).await;
    let good = lab.jobs().list(&ListParams::default().fields("status.successful=1")).await.unwrap().items;
    assert_eq!(good.iter().filter_map(|job| job.metadata.name.as_deref()).collect::<Vec<_>>(), ["good"]);
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("odd=true")).await.unwrap();
    assert_eq!(api.list(&ListParams::default().labels("odd")).await.unwrap().items.len(), 3);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_takes_everything_with_it() {
    let lab = Lab::new().await;
    let running = json!({"parallelism": 2, "completions": 2});
    lab.job("running", "exec sleep 600", running).await;
    lab.until_job("running", |job| job.status.as_ref().is_some_and(|status| status.ready == Some(2))).await;
    let mut held = job("held", "true", json!({}));
    held.metadata.finalizers = Some(vec!["deskgrid.dev/outcome".into()]);
    lab.jobs().create(&PostParams::default(), &held).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(lab.client.clone());
    namespaces.delete("bu1", &DeleteParams::default()).await.unwrap();
    let ending = namespaces.get("bu1").await.unwrap();
    assert_eq!(ending.status.unwrap().phase.as_deref(), Some("Terminating"));
    let error = lab.jobs().create(&PostParams::default(), &job("new", "true", json!({}))).await.unwrap_err();
    assert!(status(&error).2.contains("because it is being terminated"), "{error}");
    until("all but the held job to go", || async {
        let (jobs, pods) =
            (lab.jobs().list(&Default::default()).await.unwrap(), lab.pods().list(&Default::default()).await.unwrap());
        if jobs.items.len() == 1 && pods.items.is_empty() {
            Ok(())
        } else {
            Err(format!("{} {}", jobs.items.len(), pods.items.len()))
        }
    })
    .await;
    assert!(namespaces.get_opt("bu1").await.unwrap().is_some());
    let patch =
        Patch::Json::<()>(serde_json::from_value(json!([{"op": "remove", "path": "/metadata/finalizers"}])).unwrap());
    lab.jobs().patch("held", &PatchParams::default(), &patch).await.unwrap();
    until("the namespace to go", || async {
        match namespaces.get_opt("bu1").await.unwrap() {
            Some(_) => Err("there".to_owned()),
            None => Ok(()),
        }
    })
    .await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_held() {
    let lab = Lab::new().await;
    let quota: ResourceQuota = serde_json::from_value(
        json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "1", "pods": 1}}}),
    )
    .unwrap_or_else(|_| {
        serde_json::from_value(
            json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "1", "pods": "1"}}}),
        )
        .unwrap()
    });
    let quotas: Api<ResourceQuota> = Api::default_namespaced(lab.client.clone());
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    lab.job("first", "exec sleep 600", json!({"parallelism": 2, "completions": 2})).await;
    let error = lab.jobs().create(&PostParams::default(), &job("second", "true", json!({}))).await.unwrap_err();
    let (code, reason, message) = status(&error);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    let expected = "jobs.batch \"second\" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: \
                    count/jobs.batch=1, limited: count/jobs.batch=1";
    assert_eq!(message, expected);
    until("the quota's status", || async {
        let used = quotas.get("few").await.unwrap().status.and_then(|status| status.used).unwrap_or_default();
        let amounts: Vec<_> = used.values().map(|one| one.0.clone()).collect();
        if amounts == ["1", "1"] { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await;
    assert_eq!(lab.job_pods("first").await.len(), 1);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_says_what_there_is() {
    use kube::{
        core::GroupVersionKind,
        discovery::{Discovery, Scope},
    };
    let lab = Lab::new().await;
    let discovery = Discovery::new(lab.client.clone()).run_aggregated().await.unwrap();
    let (resource, capabilities) = discovery.resolve_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment")).unwrap();
    assert_eq!((resource.plural.as_str(), capabilities.scope), ("deployments", Scope::Namespaced));
    assert!(discovery.resolve_gvk(&GroupVersionKind::gvk("", "v1", "Namespace")).is_some());
    lab.kubernetes.stop().await;
}
