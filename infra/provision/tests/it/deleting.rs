//! What is in a resource that is being deleted counts as absent: it goes too, although it can still be read.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api as Objects,
    api::{DeleteParams, Patch, PatchParams},
};
use provision::{
    Failure,
    google::{Api, Method, Request},
    plan::{Action, Options},
};
use serde_json::{Value, json};

use crate::{
    desk::{Desk, Verb},
    fixture::{self, ONE, client, cloud, environment, silent},
};

const CLUSTER: &str = "v1/projects/desk-one/locations/europe-west1/clusters/desk-one-cluster";
/// A deletion takes longer than a plan.
const TAKES: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_cluster_or_node_pool_that_is_being_deleted_is_awaited_and_created_again() {
    let google = fixture::google(|options| {
        options.enforce_apis = false;
        options.operations_take = TAKES;
    })
    .await;
    let (environment, cloud, hand) = (environment(ONE), cloud(client(&google)), client(&google));
    provision::run(&environment, &cloud, Options::default(), &silent()).await.unwrap();
    for (path, expected) in [
        (CLUSTER.to_owned(), vec!["desk-one-cluster", "system", "engines"]),
        (format!("{CLUSTER}/nodePools/engines"), vec!["engines"]),
    ] {
        hand.send(&Request::new(Api::Container, Method::Delete, path)).await.unwrap();
        let plan = provision::make_plan(&environment, &cloud, Options::default(), &silent()).await.unwrap();
        let created: Vec<&str> =
            plan.pending().filter(|change| change.action == Action::Create).map(|change| change.id.short()).collect();
        assert_eq!(created, expected);
        provision::carry_out(plan, &cloud, &silent()).await.unwrap();
        let live = hand.send(&Request::get(Api::Container, CLUSTER)).await.unwrap();
        let pools: Vec<&Value> = live["nodePools"].as_array().unwrap().iter().map(|pool| &pool["name"]).collect();
        assert_eq!((&live["status"], pools), (&json!("RUNNING"), vec![&json!("system"), &json!("engines")]));
        let plan = provision::make_plan(&environment, &cloud, Options::default(), &silent()).await.unwrap();
        assert!(plan.is_empty(), "{}", provision::show::render(&plan));
    }
    google.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_being_deleted_stops_a_deploy_before_it_writes() {
    let desk = Desk::start(None).await;
    Verb::AddBusiness.prepare(&desk).await;
    let cloud = desk.cloud().await;
    let kubernetes = cloud.cluster().unwrap();
    let maps: Objects<ConfigMap> = Objects::namespaced(kubernetes.clone(), "bu1");
    let hold = async |finalizers: Value| {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        maps.patch("deskgrid-config", &PatchParams::default(), &patch).await.unwrap();
    };
    hold(json!(["example.com/hold"])).await;
    let namespaces: Objects<Namespace> = Objects::all(kubernetes.clone());
    namespaces.delete("bu1", &DeleteParams::default()).await.unwrap();
    let refused = Verb::Deploy.run(&desk, &cloud).await.unwrap_err();
    let failure: &Failure = refused.downcast_ref().unwrap_or_else(|| panic!("{refused:#}"));
    assert_eq!((failure.code, failure.on.as_str()), ("namespace-ending", "namespace bu1"), "{failure}");
    assert!(failure.next.contains("kubectl describe namespace bu1"), "{failure}");
    hold(json!([])).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while namespaces.get_opt("bu1").await.unwrap().is_some() {
        assert!(tokio::time::Instant::now() < deadline, "the namespace does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Verb::Deploy.run(&desk, &cloud).await.unwrap();
    desk.stop().await;
}
