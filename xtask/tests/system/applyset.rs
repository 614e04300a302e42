//! What a deployment takes away: what it brought before and no longer has, and nothing else.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Pod},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use localcloud::faults::{Fault, When};
use provision::{
    deploy::{self, Applied, Change, applyset},
    manifests::{Extras, Images, Rendered, WebImages, render_with},
};
use serde_json::json;

use crate::{
    laptop::{Laptop, are_there},
    world::World,
};

fn pruned(applied: &[Applied]) -> Vec<String> {
    let pruned = applied.iter().filter(|applied| applied.change == Change::Pruned);
    pruned.map(|gone| format!("{}/{}", gone.kind, gone.name)).collect()
}

fn without(rendered: &Rendered, unwanted: impl Fn(&serde_json::Value) -> bool) -> Rendered {
    let mut rendered = rendered.clone();
    for file in &mut rendered.files {
        file.objects.retain(|object| !unwanted(object));
    }
    rendered
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_templates_lost_goes_and_what_others_made_stays() {
    let world = World::start(&["bu1", "bu2"], "").await;
    world.apply_without_orchestrators().await;
    let roles: Api<Role> = Api::namespaced(world.kube.clone(), "bu1");
    let maps: Api<ConfigMap> = Api::namespaced(world.kube.clone(), "bu1");
    let theirs = |name: &str, labels: serde_json::Value| {
        serde_json::from_value::<Role>(json!({"metadata": {"name": name, "labels": labels}, "rules": []})).unwrap()
    };
    // Another tool's, with our labels but not of the set.
    let alike = json!({"business": "bu1", "app": "orchestrator", "app.kubernetes.io/managed-by": "deskgrid"});
    roles.create(&PostParams::default(), &theirs("theirs", alike)).await.unwrap();
    // A former release's: of the set, and of no template any more.
    let id = applyset::id("bu1", applyset::PARENT);
    roles.create(&PostParams::default(), &theirs("former", json!({applyset::PART_OF: id}))).await.unwrap();

    // Every Role leaves the templates of bu1, so the kind itself is one that only the parent still knows of.
    let fewer = without(&world.rendered, |object| object["kind"] == "Role" && object["metadata"]["namespace"] == "bu1");
    let fewer =
        without(&fewer, |object| ["Deployment", "PodDisruptionBudget"].map(Into::into).contains(&object["kind"]));
    let applied = deploy::apply(&world.kube, &world.environment.name, &fewer, deploy::Foreign::Refuse).await.unwrap();
    let gone = pruned(&applied);
    assert!(gone.contains(&"Role/former".to_owned()) && gone.len() >= 2, "{gone:?}");
    let left: Vec<_> = roles.list(&Default::default()).await.unwrap().items;
    let left: Vec<_> = left.iter().filter_map(|role| role.metadata.name.as_deref()).collect();
    assert_eq!(left, ["theirs"]);
    let others: Api<Role> = Api::namespaced(world.kube.clone(), "bu2");
    assert!(!others.list(&Default::default()).await.unwrap().items.is_empty(), "bu2 keeps what it has");

    let parent = maps.get(applyset::PARENT).await.unwrap();
    let kinds = &parent.metadata.annotations.as_ref().unwrap()["applyset.kubernetes.io/contains-group-kinds"];
    assert!(!kinds.contains("Role."), "{kinds} names a kind that no member has");
    assert!(kinds.split(',').is_sorted() && kinds.contains("ConfigMap"), "{kinds}");

    let again = deploy::apply(&world.kube, &world.environment.name, &fewer, deploy::Foreign::Refuse).await.unwrap();
    assert!(again.iter().all(|applied| applied.change == Change::Unchanged), "{again:?}");
    let same = maps.get(applyset::PARENT).await.unwrap();
    assert_eq!(same.metadata.resource_version, parent.metadata.resource_version, "the parent is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_outside_of_namespaces_go_with_the_app_that_had_them() {
    let world = World::start(&["bu1"], "").await;
    let web = |monitor: Option<&str>| WebImages { monitor: monitor.map(Into::into), client: Some("r/client".into()) };
    let rendered = |web: WebImages| {
        let images = Images { orchestrator: "r/orchestrator".into(), engine: "r/engine".into() };
        let extras = Extras { web, ..Extras::default() };
        let rendered = render_with(&world.environment, &world.clients.endpoints, &images, &extras).unwrap();
        // There is nothing to run.
        without(&rendered, |object| object["kind"] == "Deployment")
    };
    let environment = world.environment.name.as_str();
    let apply = async |rendered: &Rendered| {
        deploy::apply(&world.kube, environment, rendered, deploy::Foreign::Refuse).await.unwrap()
    };
    let both = rendered(web(Some("r/monitor")));
    apply(&both).await;
    let roles: Api<ClusterRole> = Api::all(world.kube.clone());
    let alike = json!({"metadata": {"name": "theirs",
        "labels": {"app": "monitor", "app.kubernetes.io/managed-by": "deskgrid"}}, "rules": []});
    roles.create(&PostParams::default(), &serde_json::from_value(alike).unwrap()).await.unwrap();
    assert!(apply(&both).await.iter().all(|applied| applied.change == Change::Unchanged));

    // A deploy of one business leaves the web apps as they are.
    let of_business =
        without(&both, |object| object["metadata"]["labels"]["business"] != "bu1" && object["kind"] != "PriorityClass");
    assert_eq!(pruned(&apply(&of_business).await), Vec::<String>::new());
    assert!(roles.get_opt("deskgrid-web-monitor").await.unwrap().is_some());

    let gone = pruned(&apply(&rendered(web(None))).await);
    assert!(gone.contains(&"ClusterRole/deskgrid-web-monitor".to_owned()), "{gone:?}");
    assert!(gone.contains(&"ClusterRoleBinding/deskgrid-web-monitor".to_owned()), "{gone:?}");
    let bindings: Api<ClusterRoleBinding> = Api::all(world.kube.clone());
    assert!(bindings.get_opt("deskgrid-web-monitor").await.unwrap().is_none());
    assert!(roles.get_opt("deskgrid-web-monitor").await.unwrap().is_none());
    assert!(roles.get_opt("theirs").await.unwrap().is_some(), "another tool's stays");
    let classes: Api<PriorityClass> = Api::all(world.kube.clone());
    assert!(classes.get_opt("deskgrid-services").await.unwrap().is_some(), "it is every environment's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_another_tool_is_not_taken_over() {
    let world = World::start(&["bu1"], "").await;
    let namespaces = without(&world.rendered, |object| object["kind"] != "Namespace");
    deploy::apply(&world.kube, &world.environment.name, &namespaces, deploy::Foreign::Refuse).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.kube.clone(), "bu1");
    let parent = json!({"metadata": {"name": applyset::PARENT,
        "annotations": {"applyset.kubernetes.io/tooling": "helm/v3"}}});
    maps.create(&PostParams::default(), &serde_json::from_value(parent).unwrap()).await.unwrap();

    let refused = deploy::apply(&world.kube, &world.environment.name, &world.rendered, deploy::Foreign::Refuse)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("helm/v3 manages"), "{refused:#}");
    let roles: Api<Role> = Api::namespaced(world.kube.clone(), "bu1");
    assert!(roles.list(&Default::default()).await.unwrap().items.is_empty(), "nothing was applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_business_that_left_the_file_loses_its_orchestrator_and_not_its_jobs() {
    let world = World::start(&["bu1", "bu2"], "").await;
    world.deploy().await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), "bu2");
    let job = json!({"metadata": {"name": "held", "labels": {"app": "engine"}, "finalizers": ["deskgrid.dev/outcome"]},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "engine", "image": "none"}]}}}});
    jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();

    let mut one = world.environment.clone();
    one.businesses.retain(|business| business.name == "bu1");
    let deploy_one = async || {
        let live = deploy::live_images(&one, &world.kube).await.unwrap().unwrap();
        let images = Images { orchestrator: live.orchestrator, engine: live.engine };
        let options = deploy::Options::new(images, world.folder().join("generated"));
        deploy::run(&one, &world.clients, &options, &(std::sync::Arc::new(|_| {}) as deploy::Progress)).await
    };
    let refused = deploy_one().await.unwrap_err();
    assert!(format!("{refused:#}").contains("1 of its Jobs in the namespace bu2 have no outcome"), "{refused:#}");
    let deployments: Api<Deployment> = Api::namespaced(world.kube.clone(), "bu2");
    assert!(deployments.get_opt("orchestrator").await.unwrap().is_some());

    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    jobs.patch("held", &PatchParams::default(), &free).await.unwrap();
    let report = deploy_one().await.unwrap();
    let gone = pruned(&report.objects);
    assert!(gone.contains(&"Deployment/orchestrator".to_owned()), "{gone:?}");
    assert!(deployments.get_opt("orchestrator").await.unwrap().is_none());
    let namespaces: Api<Namespace> = Api::all(world.kube.clone());
    assert!(namespaces.get_opt("bu2").await.unwrap().is_some(), "a namespace holds a desk's Jobs and stays");
    assert!(jobs.get_opt("held").await.unwrap().is_some(), "so do the Jobs in it");
    assert!(deploy_one().await.unwrap().changed == 0, "a second deploy finds nothing to take away");
}

/// Deploys bu1 alone; `meanwhile` is done while that is waited for, after everything was looked at.
async fn deploy_one_while<F>(
    world: &World,
    meanwhile: impl Fn() -> F + Send + Sync + 'static,
) -> anyhow::Result<deploy::Report>
where
    F: Future<Output = ()>,
{
    let mut one = world.environment.clone();
    one.businesses.retain(|business| business.name == "bu1");
    let live = deploy::live_images(&one, &world.kube).await.unwrap().unwrap();
    let options = deploy::Options::new(live, world.folder().join("generated"));
    let progress: deploy::Progress = std::sync::Arc::new(move |event| {
        if let deploy::Event::Waiting { .. } = event {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(meanwhile()));
        }
    });
    deploy::run(&one, &world.clients, &options, &progress).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_an_orchestrator_makes_before_it_goes_keeps_what_is_left_of_its_business() {
    let world = World::start(&["bu1", "bu2"], "").await;
    world.deploy().await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), "bu2");
    let made = jobs.clone();
    let refused = deploy_one_while(&world, move || {
        let made = made.clone();
        async move {
            let job = json!({"metadata": {"name": "late", "labels": {"app": "engine"},
                "finalizers": ["deskgrid.dev/outcome"]},
                "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never",
                    "containers": [{"name": "engine", "image": "none"}]}}}});
            made.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
        }
    })
    .await
    .unwrap_err();
    assert!(format!("{refused:#}").contains("1 of its Jobs in the namespace bu2 have no outcome"), "{refused:#}");
    let pods: Api<Pod> = Api::namespaced(world.kube.clone(), "bu2");
    let of = ListParams::default().labels("app=orchestrator");
    assert!(pods.list(&of).await.unwrap().items.is_empty(), "what makes Jobs has ended");
    let maps: Api<ConfigMap> = Api::namespaced(world.kube.clone(), "bu2");
    assert!(maps.get_opt(applyset::PARENT).await.unwrap().is_some(), "the next deploy must look again");
    let roles: Api<Role> = Api::namespaced(world.kube.clone(), "bu2");
    assert!(roles.get_opt("orchestrator").await.unwrap().is_some(), "the rest is as it was");

    // Back in the file it runs again; without the Job it goes.
    world.deploy().await;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    jobs.patch("late", &PatchParams::default(), &free).await.unwrap();
    deploy_one_while(&world, || async {}).await.unwrap();
    assert!(maps.get_opt(applyset::PARENT).await.unwrap().is_none());
    assert!(roles.get_opt("orchestrator").await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_took_the_place_of_what_is_to_go_is_left_to_the_next_deploy() {
    let world = World::start(&["bu1"], "").await;
    world.deploy().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.kube.clone(), "bu1");
    let former =
        json!({"metadata": {"name": "former", "labels": {applyset::PART_OF: applyset::id("bu1", applyset::PARENT)}}});
    let former: ConfigMap = serde_json::from_value(former).unwrap();
    maps.create(&PostParams::default(), &former).await.unwrap();
    let again = maps.clone();
    let report = deploy_one_while(&world, move || {
        let (maps, former) = (again.clone(), former.clone());
        async move {
            maps.delete("former", &DeleteParams::default()).await.unwrap();
            maps.create(&PostParams::default(), &former).await.unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(pruned(&report.objects), Vec::<String>::new());
    assert!(maps.get_opt("former").await.unwrap().is_some());
    let report = deploy_one_while(&world, || async {}).await.unwrap();
    assert_eq!(pruned(&report.objects), ["ConfigMap/former"]);
    world.stop().await;
}

/// What an API server answers while the webhook of Google's collectors is not ready (prometheus-engine #782).
const AWAY: &str = r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500,
    "message": "Internal error occurred: failed calling webhook \"default.podmonitorings.gmp-operator\": no endpoints available"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_away_is_waited_for_with_every_object() {
    let world = World::start(&["bu1"], "").await;
    let environment = world.environment.name.as_str();
    let nothing_runs = |object: &serde_json::Value| object["kind"] == "Deployment";
    let all = without(&world.rendered, nothing_runs);
    let fewer = without(&all, |object| nothing_runs(object) || object["kind"] == "Role");
    // One of two writes meets it, so every object does at its first try or at its second.
    let add = |method, when| world.cloud.faults().add(method, "", when, Fault::Say(500, AWAY));
    let points = [add("PATCH", When::Every(2)), add("DELETE", When::Between(1, 1))];
    for rendered in [&all, &fewer] {
        deploy::apply(&world.kube, environment, rendered, deploy::Foreign::Refuse).await.unwrap();
    }
    assert!(points.iter().all(|point| world.cloud.faults().met(*point) > 0));
    world.cloud.faults().clear();
    let again = deploy::apply(&world.kube, environment, &fewer, deploy::Foreign::Refuse).await.unwrap();
    assert!(again.iter().all(|applied| applied.change == Change::Unchanged), "{again:?}");
    let roles: Api<Role> = Api::namespaced(world.kube.clone(), "bu1");
    assert!(roles.list(&Default::default()).await.unwrap().items.is_empty());
    world.stop().await;
}

#[test]
fn kubectl_makes_ids_as_we_do_and_leaves_our_set_alone() {
    if !are_there(&["kubectl"]) {
        return;
    }
    let laptop = Laptop::start("project = \"test-desk\"\n[businesses.bu1]\n");
    laptop.ok("xtask provision");
    laptop.ok("xtask deploy");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine, namespace: bu1}\ndata: {a: b}\n";
    std::fs::write(laptop.folder().join("mine.yaml"), map).unwrap();
    let apply = |parent: &str| {
        let flags = format!("--server-side --prune --applyset=configmap/{parent} -n bu1 -f mine.yaml");
        laptop.run(&format!("env KUBECTL_APPLYSET=true kubectl apply {flags}"))
    };
    let applied = apply("theirs");
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let label = "kubectl get configmap mine -n bu1 -o jsonpath={.metadata.labels.applyset\\.kubernetes\\.io/part-of}";
    assert_eq!(laptop.ok(label), applyset::id("bu1", "theirs"));

    let refused = apply(applyset::PARENT);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("deskgrid"), "{said}");
    laptop.ok("xtask deploy");
    laptop.shows("kubectl get configmap mine -n bu1", "mine");
}
