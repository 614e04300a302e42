//! Every request that a verb sends is one that Google describes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use localcloud::{
    clock::Clock,
    cloud::{LocalCloud, Options},
    faults::{Fault, When},
    identity::{asked::Asked, neighbour::Neighbour},
};
use provision::{
    Cloud, Environment, LocalState, build,
    environment::{Overrides, parse},
    google::{Api, Call, Client, Request},
    keys, plan,
    resource::Kind,
};
use serde_json::json;

use crate::{
    calls,
    discovery::{Discovery, Tally},
    drift,
    fixture::{self, ONE, PROJECT, TWO, Verb, silent},
};

/// What a locked-down project asks for, all of it.
const LOCKED: &str = r#"zone = "europe-west1-b"
[network]
network = "projects/host-project/global/networks/hpc"
subnetwork = "projects/host-project/regions/europe-west1/subnetworks/nodes"
pods_range = "pods"
services_range = "services"
private_nodes = true
endpoint = "private"
[security]
allowed_locations = ["europe-west1"]
soft_delete = "7d"
role_prefix = "desk.two_"
[security.kms_keys]
bucket = "projects/desk-one/locations/europe-west1/keyRings/r/cryptoKeys/k"
pubsub = "projects/desk-one/locations/europe-west1/keyRings/r/cryptoKeys/k"
cluster = "projects/desk-one/locations/europe-west1/keyRings/r/cryptoKeys/k"
disks = "projects/desk-one/locations/europe-west1/keyRings/r/cryptoKeys/k"
registry = "projects/desk-one/locations/europe-west1/keyRings/r/cryptoKeys/k"
"#;

/// The host project of that network.
fn host() -> Neighbour {
    let member = |account: &str| format!("serviceAccount:{account}.gserviceaccount.com");
    let robot = member("service-123456789012@container-engine-robot.iam");
    let subnetwork = "regions/europe-west1/subnetworks/nodes";
    let grant = |on: &str, role: &str, member: &str| (on.to_owned(), role.to_owned(), member.to_owned());
    Neighbour {
        project: "host-project".to_owned(),
        is_host: true,
        network: "hpc".to_owned(),
        subnetwork: subnetwork.to_owned(),
        ranges: vec!["pods".to_owned(), "services".to_owned()],
        grants: vec![
            grant("projects/host-project", "roles/container.hostServiceAgentUser", &robot),
            grant("projects/host-project", "roles/compute.networkUser", &robot),
            grant("projects/host-project", "roles/compute.networkUser", &member("123456789012@cloudservices")),
        ],
    }
}

/// Everything that went through a client.
#[derive(Clone, Default)]
pub(crate) struct Record {
    requests: Arc<Mutex<Vec<Request>>>,
    pub(crate) asked: Asked,
}

impl Record {
    pub(crate) fn of(&self, client: Client) -> Client {
        let seen = self.requests.clone();
        client.observed(Arc::new(move |call: &Call<'_>| seen.lock().unwrap().push(call.request.clone())))
    }

    /// The method of each `METHOD /path`.
    pub(crate) fn methods(&self, discovery: &Discovery) -> BTreeMap<String, String> {
        let requests = self.requests.lock().unwrap();
        let method = |request: &Request| {
            Some((format!("{} /{}", request.method.as_str(), request.path), discovery.check(request)?.method))
        };
        requests.iter().filter_map(method).collect()
    }

    /// Checks all of it; gives what was used how often.
    fn check(&self) -> Tally {
        let discovery = Discovery::read();
        let mut tally = Tally::new();
        let mut problems = BTreeSet::new();
        for request in self.requests.lock().unwrap().iter() {
            assert!(discovery.has(request.api), "there is no document of {:?}: list it, or add it", request.api);
            match discovery.check(request) {
                None => {
                    problems.insert(format!("{request}: there is no such method"));
                }
                Some(fit) => {
                    problems.extend(fit.problems.iter().map(|problem| format!("{request}: {problem}")));
                    *tally.entry(fit.method).or_default() += 1;
                }
            }
        }
        let problems: Vec<String> = problems.into_iter().collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        tally
    }
}

/// Runs every verb on environments of this kind, with drift in between.
async fn record(record: &Record, more: &str) {
    let google = fixture::google(|options| options.asked = record.asked.clone()).await;
    let cloud = fixture::cloud(record.of(fixture::client(&google)));
    Verb::Provision.run(&cloud).await.unwrap();
    calls::a_build(&cloud.google).await;
    calls::delete(&cloud.google, &environment(ONE), Kind::NodePool).await;
    Verb::Provision.run(&cloud).await.unwrap();
    drift::drift(&google).await;
    Verb::Provision.run(&cloud).await.unwrap();
    // A lock that somebody left is read and taken over.
    fixture::leave_a_lock(&google).await;
    Verb::AddBusiness.run(&cloud).await.unwrap();
    // A message that waits is read and released.
    calls::publish(&fixture::client(&google)).await;
    Verb::RemoveBusiness.run(&cloud).await.unwrap();
    // The same businesses with other settings: every kind of change.
    let changed = ONE.replace("submit_on_upload = true", "").replace("[alerts]", "[alerts]\nfailures_per_hour = 3");
    let changed = format!("{more}\n{changed}");
    let environment = environment(&changed);
    provision::run(&environment, &cloud, plan::Options { adopt: true, prune: true }, &silent()).await.unwrap();
    Verb::Provision.run(&cloud).await.unwrap();
    Verb::Teardown.run(&cloud).await.unwrap();
    // The role is only half gone, and comes back.
    Verb::Provision.run(&cloud).await.unwrap();
    google.stop().await;
}

pub(crate) fn environment(text: &str) -> Environment {
    let text = format!("project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n{text}");
    parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[tokio::test]
async fn every_request_of_every_verb_is_as_google_describes_it() {
    let all = Record::default();
    all.asked.record();
    for more in ["[cluster.engine_pool]\nmax = 7\nmachine_type = \"e2-standard-4\"\n", "[labels]\nteam = \"pricing\"\n"]
    {
        record(&all, more).await;
    }
    // What can only be said when something is made.
    for (name, text) in [
        ("autopilot", format!("[cluster]\nmode = \"autopilot\"\n{ONE}{TWO}")),
        ("key", format!("auth = \"key\"\n{ONE}")),
        ("locked", format!("{LOCKED}{ONE}")),
    ] {
        let google = fixture::google(|options| {
            options.neighbour = Some(host());
            options.asked = all.asked.clone();
            options.operations_take = Duration::from_millis(50);
        })
        .await;
        let cloud = fixture::cloud(all.of(fixture::client(&google)));
        let environment = environment(&text);
        // Before anything exists, and below with everything. Only services that are enabled check permissions.
        calls::enable(&cloud.google).await;
        let plan = provision::make_plan(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
        provision::preflight::check(&environment, &cloud, Some(&plan)).await;
        let made = provision::run(&environment, &cloud, plan::Options::default(), &silent()).await;
        assert!(made.is_ok(), "{name}: {:#}", made.unwrap_err());
        google.options().faults.add("POST", ":getAncestry", When::Always, Fault::Say(200, calls::ANCESTRY));
        provision::preflight::check(&environment, &cloud, None).await;
        if name == "autopilot" {
            // A cluster that is being deleted is waited for, then created again.
            calls::delete(&cloud.google, &environment, Kind::Cluster).await;
            provision::run(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
        }
        google.stop().await;
    }
    calls::in_the_cluster(&all).await;
    calls::assert_whole(&all);
    // The keys of a cloud of its own, which records no permissions.
    keys_of(&all).await;
    let tally = all.check();
    println!("{} requests of {} methods", tally.values().sum::<usize>(), tally.len());
    for method in [
        "serviceusage.services.batchEnable",
        "serviceusage.services.generateServiceIdentity",
        "container.projects.locations.clusters.create",
        "container.projects.locations.clusters.delete",
        "storage.buckets.insert",
        "storage.buckets.setIamPolicy",
        "storage.notifications.insert",
        "pubsub.projects.subscriptions.create",
        "pubsub.projects.subscriptions.pull",
        "pubsub.projects.topics.delete",
        "iam.projects.roles.undelete",
        "iam.projects.serviceAccounts.keys.create",
        "iam.projects.serviceAccounts.keys.delete",
        "artifactregistry.projects.locations.repositories.create",
        "monitoring.projects.alertPolicies.create",
        "monitoring.projects.alertPolicies.delete",
        "monitoring.projects.alertPolicies.patch",
        "monitoring.projects.dashboards.create",
        "monitoring.projects.dashboards.delete",
        "monitoring.projects.dashboards.patch",
        "cloudresourcemanager.projects.setIamPolicy",
        // The lock.
        "storage.objects.insert",
        "storage.objects.get",
        "storage.objects.delete",
        // What is looked at before the first write.
        "cloudresourcemanager.projects.testIamPermissions",
        "storage.buckets.testIamPermissions",
        "serviceusage.services.list",
        "orgpolicy.projects.policies.getEffectivePolicy",
        "cloudbilling.projects.getBillingInfo",
    ] {
        assert!(tally.contains_key(method), "no verb used {method}, so nothing was checked of it");
    }
}

#[test]
fn every_request_of_a_build_is_as_google_describes_it() {
    let environment = environment(ONE);
    let order = build::Order {
        environment: &environment,
        object: "deskgrid/build/source/src-1.tar.gz",
        generation: 7,
        place: "europe-west1-docker.pkg.dev/desk-one/desk-one-images",
        images: &[("engine", "src-1"), ("orchestrator", "src-2")].map(|(name, tag)| build::Image { name, tag }),
    };
    let record = Record::default();
    record.requests.lock().unwrap().extend([
        build::create(&order),
        build::get(&environment, "b-1"),
        build::list(&environment, &order.images[0]),
        build::cancel(&environment, "b-1"),
        build::images(&environment),
    ]);
    let methods: Vec<String> = record.check().into_keys().collect();
    assert_eq!(
        methods,
        [
            "artifactregistry.projects.locations.repositories.dockerImages.list",
            "cloudbuild.projects.locations.builds.cancel",
            "cloudbuild.projects.locations.builds.create",
            "cloudbuild.projects.locations.builds.get",
            "cloudbuild.projects.locations.builds.list",
        ]
    );
}

/// Key mode's calls, for which a cluster has to take the keys.
async fn keys_of(record: &Record) {
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(&format!("cloud = \"local\"\nauth = \"key\"\n{ONE}"));
    let options = Options {
        folder: folder.path().to_owned(),
        project: PROJECT.to_owned(),
        location: "europe-west1".to_owned(),
        data: None,
        reaper: None,
        variables: Vec::new(),
        clock: Clock::default(),
    };
    let local = LocalCloud::start(options).await.unwrap();
    let state: LocalState = serde_json::from_value(local.describe("e", "bu1").unwrap()).unwrap();
    let clients = Cloud::connect(&environment, Some(state)).await.unwrap();
    let cloud = Cloud { google: record.of(clients.google.clone()), ..clients };
    provision::run(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
    let business = &environment.businesses[0];
    let cluster = cloud.cluster().unwrap();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": business.namespace}})).unwrap();
    kube::Api::<Namespace>::all(cluster.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let user = keys::KeyUser::business(business);
    let provide = async || {
        let changes = keys::plan(&environment, &user, &cloud, cluster).await.unwrap();
        keys::carry_out(&environment, &user, &cloud, cluster, &changes).await.unwrap().len()
    };
    assert_eq!(provide().await, 2);
    assert_eq!(provide().await, 0);
    let limits = (Duration::from_secs(60), Duration::from_secs(60));
    assert_eq!(keys::rotate(&environment, &user, &cloud, limits, &|_| {}).await.unwrap().len(), 2);
    keys::revoke(&environment, &user, &cloud, true).await.unwrap();
    // The cluster and its Secrets may be gone before the keys are.
    assert_eq!(provide().await, 2);
    keys::revoke(&environment, &user, &cloud, false).await.unwrap();
    for account in [&business.accounts.orchestrator, &business.accounts.engine] {
        let path = format!("v1/projects/{PROJECT}/serviceAccounts/{account}/keys");
        let left = cloud.google.send(&Request::get(Api::Iam, path).query("keyTypes", "USER_MANAGED")).await.unwrap();
        assert_eq!(left["keys"].as_array().map_or(0, Vec::len), 0, "{left}");
    }
    local.stop().await;
}
