//! Server-side apply: ownership, conflicts, removal.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, Error,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::kubernetes::support::Lab;

fn web(replicas: Option<i32>, env: Value) -> Value {
    let mut web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "nothing", "env": env}]},
        }},
    });
    if let Some(replicas) = replicas {
        web["spec"]["replicas"] = replicas.into();
    }
    web
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_own_what_they_apply() {
    let lab = Lab::new().await;
    let api: Api<Deployment> = Api::default_namespaced(lab.client.clone());
    let apply = async |manager: &str, force: bool, object: Value| {
        let params = PatchParams::apply(manager);
        let params = if force { params.force() } else { params };
        api.patch("web", &params, &Patch::Apply(&object)).await
    };
    let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]);
    let first = apply("deskgrid", false, web(Some(0), env.clone())).await.unwrap();
    let again = apply("deskgrid", false, web(Some(0), env.clone())).await.unwrap();
    assert_eq!(first.metadata.managed_fields, again.metadata.managed_fields);
    let part = |replicas: i32| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas}});
    let Err(Error::Api(conflict)) = apply("scaler", false, part(3)).await else { panic!("a conflict") };
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        conflict.message,
        "Apply failed with 1 conflict: conflict with \"deskgrid\" using apps/v1: .spec.replicas"
    );
    apply("scaler", true, part(3)).await.unwrap();
    // What the first manager leaves out goes, but not what another has taken over.
    let third = apply("deskgrid", false, web(None, json!([{"name": "B", "value": "2"}]))).await.unwrap();
    let spec = third.spec.unwrap();
    assert_eq!(spec.replicas, Some(3));
    let env = spec.template.spec.unwrap().containers.remove(0).env.unwrap();
    assert_eq!(env.iter().map(|one| (one.name.as_str(), one.value.as_deref())).collect::<Vec<_>>(), [("B", Some("2"))]);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_or_updated_has_an_owner_too() {
    let lab = Lab::new().await;
    let api: Api<ConfigMap> = Api::default_namespaced(lab.client.clone());
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "1"}});
    let params = PostParams { field_manager: Some("creator".into()), ..PostParams::default() };
    api.create(&params, &serde_json::from_value(object.clone()).unwrap()).await.unwrap();
    api.patch("c", &PatchParams::apply("applier"), &Patch::Apply(&object)).await.unwrap();
    let mut other = object.clone();
    other["data"]["a"] = "2".into();
    let error = api.patch("c", &PatchParams::apply("applier"), &Patch::Apply(&other)).await.unwrap_err();
    assert!(error.to_string().contains("conflict with \"creator\" using v1: .data.a"), "{error}");
    let editor = PatchParams { field_manager: Some("editor".into()), ..PatchParams::default() };
    api.patch("c", &editor, &Patch::Merge(json!({"data": {"b": "9"}}))).await.unwrap();
    let error = api.patch("c", &PatchParams::apply("applier"), &Patch::Apply(&object)).await.unwrap_err();
    assert!(error.to_string().contains("conflict with \"editor\" using v1: .data.b"), "{error}");
    lab.kubernetes.stop().await;
}
