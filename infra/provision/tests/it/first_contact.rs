//! What a new project on Google Cloud refuses and an older one accepts: the provisioner reports it before it writes
//! anything, or waits until it is accepted.

use std::time::Duration;

use localcloud::{
    clock::Clock,
    faults::{Fault, Faults, When},
    google::Options,
};
use provision::{
    Failure,
    build::{self, Image, Order},
    finding::Finding,
    google::{Api, Method, Request},
    lock::Lock,
    plan, preflight,
};
use serde_json::json;

use crate::fixture::{self, ONE, Verb, client, cloud, environment};

/// What one check finds for an environment with these settings, on a cloud with these options.
async fn found(settings: &str, configure: impl FnOnce(&mut Options), what: &str) -> Finding {
    let google = fixture::google(|options| {
        options.enforce_apis = false;
        configure(options);
    })
    .await;
    let findings = preflight::check(&environment(&format!("{settings}{ONE}")), &cloud(client(&google)), None).await;
    google.stop().await;
    let finding = findings.iter().find(|finding| finding.what == what);
    finding.cloned().unwrap_or_else(|| panic!("no check of {what}: {findings:#?}"))
}

/// Whether a check stops a plan, having seen this, with this to do.
fn stops(finding: &Finding, seen: &str, fix: &str) -> bool {
    let has_fix = finding.fix.as_deref().unwrap_or_default().contains(fix);
    !finding.fine && finding.needed && finding.seen.contains(seen) && has_fix
}

fn quotas(of: &[(&str, u32)]) -> impl FnOnce(&mut Options) {
    let quotas = of.iter().map(|(metric, limit)| ((*metric).to_owned(), *limit)).collect();
    move |options| options.quotas = quotas
}

#[tokio::test]
async fn disks_that_exceed_the_quota_of_a_new_project_are_named_before_anything_is_written() {
    let what = "quota: disks of system nodes";
    // terraform-google-kubernetes-engine #1795.
    let small = || quotas(&[("SSD_TOTAL_GB", 250)]);
    let usual = found("", small(), what).await;
    assert!(usual.fine && usual.seen.contains("150 SSD_TOTAL_GB"), "{usual:?}");
    let large = found("[cluster]\ndisk_size_gb = 100\n", small(), what).await;
    assert!(stops(&large, "300 SSD_TOTAL_GB in europe-west1; 250 are free", "smaller disks"), "{large:?}");
    let addresses = found("[cluster]\nnodes = 3\n", |_| {}, "quota: addresses of system nodes").await;
    assert!(stops(&addresses, "9 IN_USE_ADDRESSES", "fewer nodes"), "{addresses:?}");

    // Kubernetes Engine refuses what was not checked.
    let google = fixture::google(small()).await;
    let large = environment(&format!("[cluster]\ndisk_size_gb = 100\n{ONE}"));
    let refused = provision::run(&large, &cloud(client(&google)), plan::Options::default(), &fixture::silent()).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("is short '50.0'"));
    google.stop().await;
}

#[tokio::test]
async fn processors_count_against_the_quota_of_their_family_and_of_all_regions() {
    let machines = "[cluster]\nmachine_type = \"n2-standard-2\"\n";
    let what = "quota: system nodes";
    let other = found(machines, quotas(&[("CPUS", 0)]), what).await;
    assert!(other.fine && other.seen.contains("6 N2_CPUS"), "{other:?}");
    let own = found(machines, quotas(&[("N2_CPUS", 4)]), what).await;
    assert!(stops(&own, "6 N2_CPUS in europe-west1; 4 are free", "iam-admin/quotas"), "{own:?}");
    let all = found(machines, quotas(&[("CPUS_ALL_REGIONS", 4)]), "quota: system nodes in all regions").await;
    assert!(stops(&all, "; 4 are free", "iam-admin/quotas"), "{all:?}");
}

#[tokio::test]
async fn a_network_that_does_not_exist_is_named_and_one_that_is_being_created_is_awaited() {
    let missing = found("", |options| options.no_default_network = true, "network").await;
    assert!(stops(&missing, "no network default", "gcloud compute networks create default"), "{missing:?}");

    // The default network follows a moment after Compute Engine is enabled.
    let google = fixture::google(|options| options.lags.services = Duration::from_millis(300)).await;
    let provisioned = Verb::Provision.run(&cloud(client(&google))).await;
    assert!(provisioned.is_ok(), "{provisioned:?}");
    google.stop().await;
}

#[tokio::test]
async fn a_build_waits_until_the_builder_may_read_the_bucket_of_its_log() {
    let clock = Clock::default();
    let shared = clock.clone();
    let google = fixture::google(move |options| {
        options.clock = shared;
        options.lags.grants = Duration::from_millis(700);
    })
    .await;
    let (client, writes) = fixture::recording(client(&google));
    let environment = environment(ONE);
    Verb::Provision.run(&cloud(client.clone())).await.unwrap();
    // The grant of the builder is revoked and granted again, so that it has no effect for a while.
    let path = format!("storage/v1/b/{}/iam", environment.bucket);
    let get = Request::get(Api::Storage, path.clone()).query("optionsRequestedPolicyVersion", "3");
    let policy = client.send(&get).await.unwrap();
    let mut without = policy.clone();
    for binding in without["bindings"].as_array_mut().unwrap() {
        if binding["role"] == "roles/storage.legacyBucketReader" {
            let members = binding["members"].as_array_mut().unwrap();
            members.retain(|member| *member != format!("serviceAccount:{}", environment.accounts.builder));
        }
    }
    client.send(&Request::new(Api::Storage, Method::Put, path.clone()).body(without)).await.unwrap();
    clock.advance(Duration::from_secs(1));
    let mut policy = policy;
    policy["etag"] = client.send(&get).await.unwrap()["etag"].clone();
    client.send(&Request::new(Api::Storage, Method::Put, path).body(policy)).await.unwrap();

    writes.take();
    let images = [Image { name: "engine", tag: "src-1" }];
    let order = Order { environment: &environment, object: "source", generation: 1, place: "h/p/r", images: &images };
    let begun = build::begin(&client, &order, false).await.unwrap();
    assert!(begun.is_some_and(|(_, found)| !found));
    assert!(writes.take().len() > 1, "it was refused first");
    google.stop().await;
}

#[tokio::test]
async fn a_lock_that_the_organisation_forbids_is_an_error_and_no_endless_loop() {
    let faults = Faults::default();
    let shared = faults.clone();
    let google = fixture::google(move |options| options.faults = shared).await;
    Verb::Provision.run(&cloud(client(&google))).await.unwrap();
    let said = r#"{"error": {"code": 412, "message": "Request violates constraint 'constraints/storage.retentionPolicySeconds'"}}"#;
    let refused = faults.add("POST", "upload/storage/v1/b/", When::Always, Fault::Say(412, said));
    let bucket = environment(ONE).bucket;
    let taken = Lock::acquire(&client(&google), &bucket, "e", &fixture::lock("provision")).await;
    let failure: Failure = taken.err().unwrap().downcast().unwrap();
    assert_eq!(failure.code, "lock-denied");
    assert!(failure.why.contains("constraints/storage.retentionPolicySeconds"), "{failure}");
    assert!(faults.met(refused) < 10, "{} requests", faults.met(refused));
    google.stop().await;
}

#[tokio::test]
async fn permissions_are_asked_for_by_their_own_names() {
    let google = fixture::google(|_| {}).await;
    let asked = std::sync::Arc::new(std::sync::Mutex::new(json!(null)));
    let seen = asked.clone();
    let client = client(&google).observed(std::sync::Arc::new(move |call| {
        let body = call.request.body.clone().unwrap_or_default();
        let is_of_nodes = body["permissions"] == json!(["iam.serviceAccounts.actAs"]);
        if call.request.path.ends_with("projects/desk-one:testIamPermissions") && !is_of_nodes {
            *seen.lock().unwrap() = body;
        }
    }));
    let plan_of = async |cloud: &provision::Cloud, environment: &provision::Environment| {
        provision::make_plan(environment, cloud, plan::Options::default(), &fixture::silent()).await.unwrap()
    };
    let cloud = cloud(client);
    let plan = plan_of(&cloud, &environment(ONE)).await;
    preflight::check(&environment(ONE), &cloud, Some(&plan)).await;
    let permissions = asked.lock().unwrap()["permissions"].clone();
    let has = |name: &str| permissions.as_array().is_some_and(|all| all.contains(&json!(name)));
    assert!(has("pubsub.subscriptions.setIamPolicy") && has("pubsub.topics.setIamPolicy"), "{permissions}");

    // A change of a node pool alone is a change of its cluster.
    Verb::Provision.run(&cloud).await.unwrap();
    let grown = environment(&format!("[cluster.engine_pool]\nmax = 9\n{ONE}"));
    let plan = plan_of(&cloud, &grown).await;
    preflight::check(&grown, &cloud, Some(&plan)).await;
    let permissions = asked.lock().unwrap()["permissions"].clone();
    assert!(
        permissions.as_array().is_some_and(|all| all.contains(&json!("container.clusters.update"))),
        "{permissions}"
    );
    google.stop().await;
}

#[tokio::test]
async fn a_second_environment_of_the_project_has_accounts_of_its_own_and_may_not_act_as_the_first() {
    let google = fixture::google(|_| {}).await;
    let cloud = cloud(client(&google));
    Verb::Provision.run(&cloud).await.unwrap();
    let second = |more: &str| {
        let text = format!(
            "project = \"{}\"\nlocation = \"europe-west1\"\nbucket = \"second-bucket\"\ncluster.name = \"second\"\n\
             build.registry = \"second\"\n{more}",
            fixture::PROJECT
        );
        let overrides = provision::environment::Overrides::new();
        provision::environment::parse("f", "f.toml", &text, &overrides).unwrap_or_else(|problems| panic!("{problems}"))
    };
    let plan_of = async |environment: &provision::Environment| {
        provision::make_plan(environment, &cloud, plan::Options::default(), &fixture::silent()).await.unwrap()
    };
    let same = plan_of(&second("[businesses.bu2]\nnamespace = \"bu1\"\n")).await;
    let blocked: Vec<String> = same.blockers().map(|change| change.id.to_string()).collect();
    for account in ["f-bu2-engine", "f-bu2-orchestrator", "f-web-client", "f-web-monitor"] {
        let policy = format!("permissions on service account {account}@desk-one.iam.gserviceaccount.com");
        assert!(blocked.contains(&policy), "{blocked:?}");
    }
    assert_eq!(blocked.len(), 4, "{blocked:?}");
    let shown = provision::show::render(&same);
    assert!(shown.contains("the environment e of this project has a namespace bu1 too"), "{shown}");

    let own = second("web.enabled = false\n[businesses.bu2]\n");
    provision::run(&own, &cloud, plan::Options::default(), &fixture::silent()).await.unwrap();
    assert!(plan_of(&environment(ONE)).await.is_empty(), "nothing of the first one changed");
    let everything = provision::removal::Options { data: true, identities: true };
    let removal = provision::plan_removal(&own, None, &cloud, everything, &fixture::silent()).await.unwrap();
    provision::carry_out(removal, &cloud, &fixture::silent()).await.unwrap();
    assert!(plan_of(&environment(ONE)).await.is_empty(), "the first one is as it was");
    google.stop().await;
}

#[tokio::test]
async fn calls_are_counted_in_the_project_and_what_is_disabled_elsewhere_is_not_absent() {
    let google = fixture::google(|options| options.enforce_apis = false).await;
    let endpoints = serde_json::from_value(serde_json::to_value(google.endpoints()).unwrap()).unwrap();
    let anonymous = google_cloud_auth::credentials::anonymous::Builder::new().build();
    let uncounted = provision::google::Client::new(endpoints, anonymous).unwrap();
    let billing = Request::get(Api::CloudBilling, format!("v1/projects/{}/billingInfo", fixture::PROJECT));
    let refused = uncounted.send(&billing).await.unwrap_err();
    assert!(refused.is_forbidden() && !refused.is_service_disabled(), "{refused}");
    assert!(refused.to_string().contains("SERVICE_DISABLED in projects/764086051850"), "{refused}");
    uncounted.clone().counted_in(fixture::PROJECT).unwrap().send(&billing).await.unwrap();
    let denied = uncounted.counted_in("another-project").unwrap().send(&billing).await.unwrap_err();
    assert_eq!(denied.reason.as_deref(), Some("USER_PROJECT_DENIED"));
    google.stop().await;
}
