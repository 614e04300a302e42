//! What is made beside buckets, topics and accounts: services, the cluster, the registry, notifications.

use std::sync::{Arc, Mutex};

use cloud::storage::Properties;
use contract::object;
use provision::{
    Cloud, Environment, LocalState, apply,
    environment::{self, Overrides},
    google::{Api, Method, Request},
    plan, show,
};
use serde_json::{Value, json};

use crate::world::{World, eventually};

const TEXT: &str = "project = \"raw-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n[businesses.bu1]\n";
const CLUSTER: &str = "v1/projects/raw-desk/locations/europe-west1/clusters/raw-desk-cluster";

/// A laptop cloud with nothing in it, which is as strict as it can be.
struct Raw {
    laptop: localcloud::cloud::LocalCloud,
    cloud: Cloud,
    environment: Environment,
    folder: tempfile::TempDir,
}

impl Raw {
    async fn start(operations_take: std::time::Duration) -> Self {
        let _ = cloud::clients::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let options = localcloud::cloud::Options {
            folder: folder.path().join("cloud"),
            project: "raw-desk".to_owned(),
            location: "europe-west1".to_owned(),
            data: None,
            reaper: None,
            variables: Vec::new(),
            clock: localcloud::clock::Clock::default(),
        };
        let tell = |told: &mut localcloud::google::Options| {
            told.enforce_apis = true;
            told.operations_take = operations_take;
        };
        let laptop = localcloud::cloud::LocalCloud::start_with(options, tell).await.unwrap();
        let environment = Self::environment(folder.path(), TEXT);
        let state: LocalState = serde_json::from_value(laptop.describe("raw", "bu1").unwrap()).unwrap();
        let cloud = Cloud::connect(&environment, Some(state)).await.unwrap();
        Self { laptop, cloud, environment, folder }
    }

    fn environment(folder: &std::path::Path, text: &str) -> Environment {
        let file = folder.join("raw.toml");
        std::fs::write(&file, text).unwrap();
        environment::load(&file, &Overrides::new()).unwrap()
    }

    async fn provision(&self, progress: &apply::Progress) -> anyhow::Result<provision::Report> {
        provision::run(&self.environment, &self.cloud, plan::Options::default(), progress).await
    }

    async fn plan(&self) -> plan::Plan {
        provision::make_plan(&self.environment, &self.cloud, plan::Options::default(), &silent()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.cloud.google.send(&Request::get(Api::Container, path)).await.unwrap()
    }
}

fn silent() -> apply::Progress {
    Arc::new(|_| {})
}

#[tokio::test]
async fn a_project_with_no_service_enabled_comes_to_have_everything() {
    let raw = Raw::start(std::time::Duration::from_millis(50)).await;
    let text = show::render(&raw.plan().await);
    assert!(text.contains("container.googleapis.com: DISABLED -> ENABLED"), "{text}");
    assert!(text.contains("+ create cluster raw-desk-cluster"), "{text}");
    raw.provision(&silent()).await.unwrap();
    let again = raw.plan().await;
    assert!(again.is_empty(), "{}", show::render(&again));
    let cluster = raw.get(CLUSTER).await;
    assert_eq!(cluster["status"], "RUNNING");
    let pools: Vec<&Value> = cluster["nodePools"].as_array().unwrap().iter().map(|pool| &pool["name"]).collect();
    assert_eq!(pools, ["system", "engines"]);
    assert_eq!(cluster["nodePools"][1]["config"]["workloadMetadataConfig"]["mode"], "GKE_METADATA");

    // A hand changes the cluster and a pool: shown exactly, and put right.
    let put = async |path: String, method: Method, body: Value| {
        let changed = raw.cloud.google.send(&Request::new(Api::Container, method, path).body(body)).await.unwrap();
        let operation =
            format!("v1/projects/raw-desk/locations/europe-west1/operations/{}", changed["name"].as_str().unwrap());
        eventually("the change is made", async || raw.get(&operation).await["status"] == "DONE").await;
    };
    let limits = json!({"autoscaling": {"enabled": true, "totalMaxNodeCount": 3, "locationPolicy": "ANY"}});
    put(format!("{CLUSTER}/nodePools/engines:setAutoscaling"), Method::Post, limits).await;
    put(CLUSTER.to_owned(), Method::Put, json!({"update": {"desiredReleaseChannel": {"channel": "RAPID"}}})).await;
    let text = show::render(&raw.plan().await);
    assert_eq!(
        text.rsplit_once('\n').unwrap().0,
        "~ change cluster raw-desk-cluster\n    ~ releaseChannel.channel: RAPID -> REGULAR\n\
         ~ change node pool engines\n    ~ autoscaling.totalMaxNodeCount: 3 -> 8"
    );
    raw.provision(&silent()).await.unwrap();
    assert!(raw.plan().await.is_empty());

    // And all of it goes, but for the services.
    let options = provision::removal::Options { data: true, identities: true };
    let removal = provision::plan_removal(&raw.environment, None, &raw.cloud, options, &silent()).await.unwrap();
    provision::carry_out(removal, &raw.cloud, &silent()).await.unwrap();
    assert_eq!(provision::leftovers(&raw.environment, &raw.cloud, options).await.unwrap(), []);
    assert!(!provision::presence::has_cluster(&raw.environment, &raw.cloud).await.unwrap());
    raw.laptop.stop().await;
    drop(raw.folder);
}

#[tokio::test]
async fn an_operation_of_a_run_that_was_killed_is_found_and_waited_for() {
    let raw = Raw::start(std::time::Duration::from_secs(3)).await;
    let seen: Arc<Mutex<Vec<(String, u8)>>> = Arc::default();
    let told = seen.clone();
    let progress: apply::Progress = Arc::new(move |event| {
        if let apply::Event::Advanced { id, what, percent: Some(percent) } = event {
            told.lock().unwrap().push((format!("{id}: {what}"), percent));
        }
    });
    {
        // Dropped in the middle, which is what a kill leaves of it.
        let run = raw.provision(&progress);
        tokio::pin!(run);
        let begun = eventually("the cluster is being made", async || !seen.lock().unwrap().is_empty());
        tokio::select! {
            ended = &mut run => panic!("it ended too soon: {ended:?}"),
            () = begun => {}
        }
    }
    let (first, _) = seen.lock().unwrap()[0].clone();
    assert!(first.starts_with("cluster raw-desk-cluster: cluster configuring "), "{first}");
    let text = show::render(&raw.plan().await);
    assert!(text.contains("~ wait for cluster raw-desk-cluster"), "{text}");
    seen.lock().unwrap().clear();
    raw.provision(&progress).await.unwrap();
    let percents: Vec<u8> = seen.lock().unwrap().iter().map(|(_, percent)| *percent).collect();
    assert!(percents.is_sorted() && percents.last().is_some_and(|last| *last > 50), "{percents:?}");
    assert!(raw.plan().await.is_empty());
    let operations = raw.get("v1/projects/raw-desk/locations/europe-west1/operations").await;
    let creations = operations["operations"].as_array().unwrap().iter();
    assert_eq!(creations.filter(|operation| operation["operationType"] == "CREATE_CLUSTER").count(), 1);

    // Somebody else is at work on the cluster when we want to change it.
    let labels = raw.get(CLUSTER).await["labelFingerprint"].clone();
    let body = json!({"resourceLabels": {"managed-by": "deskgrid", "deskgrid-env": "raw"}, "labelFingerprint": labels});
    let larger = Raw::environment(
        raw.folder.path(),
        &TEXT.replace("[businesses", "[cluster.engine_pool]\nmax = 9\n[businesses"),
    );
    let theirs = Request::new(Api::Container, Method::Post, format!("{CLUSTER}:setResourceLabels")).body(body);
    raw.cloud.google.send(&theirs).await.unwrap();
    provision::run(&larger, &raw.cloud, plan::Options::default(), &silent()).await.unwrap();
    let pool = raw.get(&format!("{CLUSTER}/nodePools/engines")).await;
    assert_eq!(pool["autoscaling"]["totalMaxNodeCount"], 9);
    raw.laptop.stop().await;
}

#[tokio::test]
async fn a_pool_of_kubernetes_accounts_comes_with_the_first_cluster() {
    let raw = Raw::start(std::time::Duration::from_millis(50)).await;
    let google = &raw.cloud.google;
    let enable =
        Request::new(Api::ServiceUsage, Method::Post, "v1/projects/raw-desk/services/iam.googleapis.com:enable");
    google.send(&enable.body(json!({}))).await.unwrap();
    let create = Request::new(Api::Iam, Method::Post, "v1/projects/raw-desk/serviceAccounts");
    google.send(&create.body(json!({"accountId": "somebody", "serviceAccount": {}}))).await.unwrap();
    let bind = Request::new(
        Api::Iam,
        Method::Post,
        "v1/projects/raw-desk/serviceAccounts/somebody@raw-desk.iam.gserviceaccount.com:setIamPolicy",
    )
    .body(json!({"policy": {"bindings": [{
        "role": "roles/iam.workloadIdentityUser",
        "members": ["serviceAccount:raw-desk.svc.id.goog[bu1/engine]"],
    }]}}));
    let refused = google.send(&bind).await.unwrap_err();
    assert!(refused.is_pool_missing(), "{refused}");
    raw.provision(&silent()).await.unwrap();
    google.send(&bind).await.unwrap();
    raw.laptop.stop().await;
}

#[tokio::test]
async fn what_others_make_is_named_exactly_and_never_written() {
    let raw = Raw::start(std::time::Duration::from_millis(50)).await;
    let classes = ["apis", "cluster", "bucket", "pubsub", "iam", "registry"];
    let managed = |how: &str| {
        let lines: String = classes.iter().map(|class| format!("{class} = \"{how}\"\n")).collect();
        Raw::environment(raw.folder.path(), &TEXT.replace("[businesses", &format!("[manage]\n{lines}[businesses")))
    };
    let verified = managed("verify");
    let writes: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = writes.clone();
    let google = raw.cloud.google.clone().observed(Arc::new(move |call| {
        if call.request.is_write() {
            seen.lock().unwrap().push(call.request.to_string());
        }
    }));
    let watched = Cloud { google, ..raw.cloud.clone() };
    let options = plan::Options::default();
    // Nothing else can be seen while the services are off.
    let refused = provision::run(&verified, &watched, options, &silent()).await.unwrap_err();
    let text = format!("{refused:#}");
    assert!(text.contains("! missing: services of the project"), "{text}");
    assert!(text.contains("container.googleapis.com: DISABLED -> ENABLED"), "{text}");

    raw.provision(&silent()).await.unwrap();
    provision::run(&verified, &watched, options, &silent()).await.unwrap();
    let bucket =
        Request::get(Api::Storage, "storage/v1/b/raw-desk-bucket/iam").query("optionsRequestedPolicyVersion", "3");
    let mut policy = raw.cloud.google.send(&bucket).await.unwrap();
    policy["bindings"].as_array_mut().unwrap().retain(|binding| {
        !binding["members"].as_array().unwrap().iter().any(|member| member.as_str().unwrap().contains("bu1-engine"))
    });
    let write = Request::new(Api::Storage, Method::Put, "storage/v1/b/raw-desk-bucket/iam").body(policy);
    raw.cloud.google.send(&write).await.unwrap();
    let delete = Request::new(Api::Container, Method::Delete, format!("{CLUSTER}/nodePools/engines"));
    raw.cloud.google.send(&delete).await.unwrap();
    let refused = provision::run(&verified, &watched, options, &silent()).await.unwrap_err();
    let text = format!("{refused:#}");
    let missing: Vec<&str> = text.lines().filter(|line| line.starts_with("! ")).collect();
    assert_eq!(missing, ["! missing: permissions on bucket raw-desk-bucket"], "their node pools are theirs: {text}");
    assert!(text.contains("+ roles/storage.objectCreator if bu1 output: serviceAccount:raw-bu1-engine@"), "{text}");
    assert_eq!(*writes.lock().unwrap(), Vec::<String>::new());

    let off = managed("off");
    let report = provision::run(&off, &watched, options, &silent()).await.unwrap();
    assert_eq!(
        report.plan.changes.len(),
        report.plan.changes.iter().filter(|it| it.action == plan::Action::Extra).count()
    );
    raw.laptop.stop().await;
}

#[tokio::test]
async fn an_upload_is_a_submission_where_it_is_asked_for() {
    let world = World::start_with(&["bu1"], "submit_on_upload = true", "").await;
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", orchestrator::Hooks::none()).await;
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricing/01-index-calls.json");
    let body = std::fs::read_to_string(examples).unwrap();
    let name = format!("{}by-hand.json", object::input_prefix("bu1"));
    world.store.write_once(&world.business("bu1").bucket, &name, body, Properties::default()).await.unwrap();
    let outcomes = world.settled("bu1", 1).await;
    assert_eq!(outcomes[0].state, contract::outcome::State::Succeeded, "{outcomes:#?}");
    assert_eq!(outcomes[0].work.as_ref().unwrap().session, object::UPLOADS_SESSION);
    orchestrator.stop().await;
}
