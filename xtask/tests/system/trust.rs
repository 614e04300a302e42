//! What a platform engineer asks of the set-up verbs: plans in files, manifests without a cloud, acting as a service
//! account, and a look at everything before the first write.

use std::{path::Path, time::Duration};

use provision::{
    google::{Api, Method, Request},
    lock::{Acquired, Holder, Lock, Settings},
};
use serde_json::{Value, json};

use crate::{
    setup_verbs::Desk,
    world::{Setup, World},
};

const FILE: &str = "project = \"verb-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n[businesses.bu1]\n";
const TOPIC: &str = "v1/projects/verb-desk/topics/verb-desk-bu1-topic";

#[tokio::test]
async fn a_saved_plan_is_carried_out_as_it_is_or_not_at_all() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    let cloud = desk.cloud().await;
    let file = desk.folder().join("plan.json");
    let path = file.to_str().unwrap();
    desk.run(&["plan", "--out", path], 2);
    let saved: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&saved["schema"], &saved["environment"], &saved["project"]),
        (&json!(1), &json!("verbs"), &json!("verb-desk"))
    );
    assert!(saved["changes"].as_array().unwrap().len() > 10);

    // Somebody makes a topic of ours before it is carried out.
    let body = json!({"labels": {"managed-by": "deskgrid", "deskgrid-env": "verbs", "business": "bu1"}});
    cloud.google.send(&Request::new(Api::Pubsub, Method::Put, TOPIC).body(body)).await.unwrap();
    let said = desk.run(&["provision", "--plan", path], 1);
    assert!(said.contains("error[plan-moved]"), "{said}");
    assert!(said.contains("topics/verb-desk-bu1-topic: planned was `create`, now nothing is to be done"), "{said}");
    let list = Request::get(Api::Pubsub, "v1/projects/verb-desk/subscriptions");
    assert!(cloud.google.list(&list, "subscriptions").await.unwrap().is_empty(), "nothing was changed");

    desk.run(&["plan", "--out", path], 2);
    desk.run(&["provision", "--plan", path], 0);
    desk.run(&["plan"], 0);
    // It is done: there is nothing of it left to do.
    let said = desk.run(&["provision", "--plan", path], 1);
    assert!(said.contains("now nothing is to be done"), "{said}");
    std::fs::write(&file, "{\"schema\": 9}").unwrap();
    let said = desk.run(&["provision", "--plan", path], 1);
    assert!(said.contains("error[plan-file]") && said.contains("its schema is 9"), "{said}");

    // A verb that finds the lock held by somebody elsewhere says so, and changes nothing.
    let body = json!({"topic": {"labels": {}}, "updateMask": "labels"});
    cloud.google.send(&Request::new(Api::Pubsub, Method::Patch, TOPIC).body(body)).await.unwrap();
    let holder = Holder { who: "ann".to_owned(), host: "elsewhere".to_owned(), process: 7, space: None };
    let settings = Settings::new(holder, "teardown", Duration::ZERO, std::sync::Arc::new(|_| {}));
    let Acquired::Held(lock) = Lock::acquire(&cloud.google, "verb-desk-bucket", "verbs", &settings).await.unwrap()
    else {
        panic!("there is a bucket")
    };
    for verb in [&["provision", "--adopt"] as &[&str], &["add-business", "bu2"], &["teardown"], &["deploy"]] {
        let said = desk.run(&[verb, &["--lock-wait", "0"]].concat(), 1);
        assert!(said.contains("error[locked]") && said.contains("ann on elsewhere (process 7)"), "{verb:?}: {said}");
    }
    assert_eq!(cloud.google.send(&Request::get(Api::Pubsub, TOPIC)).await.unwrap()["labels"], Value::Null);
    lock.release().await;
    desk.run(&["provision", "--adopt"], 0);

    // Whoever was killed on this very machine is in nobody's way.
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let space = boot
        .ok()
        .and_then(|boot| Some(format!("{} {}", boot.trim(), std::fs::read_link("/proc/self/ns/pid").ok()?.display())));
    if space.is_some() {
        let holder = Holder { who: "eve".to_owned(), host: "here".to_owned(), process: dead.id(), space };
        let settings = Settings { holder, ..settings };
        let _left = Lock::acquire(&cloud.google, "verb-desk-bucket", "verbs", &settings).await.unwrap();
        let said = desk.run(&["teardown", "--delete-data", "--yes-delete", "verb-desk-bucket", "--lock-wait", "0"], 0);
        assert!(said.contains("took the lock over, since its process is gone: eve on here"), "{said}");
        let bucket = Request::get(Api::Storage, "storage/v1/b/verb-desk-bucket");
        assert!(cloud.google.send_optional(&bucket).await.unwrap().is_none(), "the bucket went after the lock");
    }
}

#[test]
fn manifests_are_rendered_without_credentials_and_without_a_cloud() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("real.toml");
    std::fs::write(&file, FILE.replace("cloud = \"local\"\n", "")).unwrap();
    let out = folder.path().join("out");
    let render = |more: &[&str]| {
        std::process::Command::new(&crate::world::programs()["xtask"])
            .args(["--env", file.to_str().unwrap(), "render", "--out", out.to_str().unwrap()])
            .args(more)
            // Nothing that could be a credential or a cluster.
            .env_clear()
            .env("HOME", folder.path())
            .output()
            .unwrap()
    };
    let digest = "0".repeat(64);
    let (orchestrator, engine) = (format!("r/orchestrator@sha256:{digest}"), format!("r/engine@sha256:{digest}"));
    let refused = render(&["--orchestrator-image", "r/o:latest", "--engine-image", &engine]);
    assert_eq!(refused.status.code(), Some(64));
    assert_eq!(render(&[]).status.code(), Some(1), "no image was built");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let done = render(&["--orchestrator-image", &orchestrator, "--engine-image", &engine]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let listed = String::from_utf8(done.stdout).unwrap();
    assert_eq!(listed.lines().count(), 8);
    assert!(listed.lines().all(|line| Path::new(line).is_file()));
    let deployment = out.join("manifests/bu1/orchestrator.yaml");
    assert!(read(&deployment).contains(&orchestrator));
    let first = read(&deployment);
    render(&["--orchestrator-image", &orchestrator, "--engine-image", &engine]);
    assert_eq!(read(&deployment), first, "the same every time");
    let others = folder.path().join("out/config.json");
    std::fs::remove_file(others).unwrap();
    let refused = render(&["--orchestrator-image", &orchestrator, "--engine-image", &engine]);
    assert_eq!(refused.status.code(), Some(64), "manifests of others are not removed");
}

#[tokio::test]
async fn a_verb_acts_as_a_service_account_and_says_what_that_may_not() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    let cloud = desk.cloud().await;
    let email = "deployer@verb-desk.iam.gserviceaccount.com";
    let accounts = "v1/projects/verb-desk/serviceAccounts";
    let create = json!({"accountId": "deployer", "serviceAccount": {"displayName": "deployer"}});
    let send = async |request: Request| cloud.google.send(&request).await.unwrap();
    send(Request::new(Api::Iam, Method::Post, accounts).body(create)).await;
    let acting = |verb: &[&str], code| desk.run(&[&["--impersonate-service-account", email], verb].concat(), code);
    let said = acting(&["plan"], 1);
    assert!(said.contains("roles/iam.serviceAccountTokenCreator"), "{said}");
    let me = format!("user:{}", localcloud::cloud::OPERATOR);
    let grant = json!({"policy": {"version": 3, "bindings": [
        {"role": "roles/iam.serviceAccountTokenCreator", "members": [me]},
    ]}});
    send(Request::new(Api::Iam, Method::Post, format!("{accounts}/{email}:setIamPolicy")).body(grant)).await;

    // It may look, and not change: that is found before anything is written.
    let project = "v1/projects/verb-desk";
    let add = async |role: &str| {
        let read = Request::new(Api::CloudResourceManager, Method::Post, format!("{project}:getIamPolicy"));
        let mut policy = send(read).await;
        let binding = json!({"role": role, "members": [format!("serviceAccount:{email}")]});
        policy["bindings"].as_array_mut().unwrap().push(binding);
        let write = Request::new(Api::CloudResourceManager, Method::Post, format!("{project}:setIamPolicy"));
        send(write.body(json!({"policy": policy}))).await;
    };
    add("roles/editor").await;
    let said = acting(&["provision"], 1);
    assert!(said.contains("error[denied]"), "{said}");
    assert!(said.contains("add-iam-policy-binding verb-desk --member YOU --role roles/resourcemanager"), "{said}");
    let bucket = Request::get(Api::Storage, "storage/v1/b/verb-desk-bucket");
    assert!(cloud.google.send_optional(&bucket).await.unwrap().is_none(), "nothing was changed");
    add("roles/owner").await;
    acting(&["provision"], 0);
    acting(&["plan"], 0);
    let said = desk.run(&["--impersonate-service-account", "a-person@bank.example", "plan"], 64);
    assert!(said.contains("is not the email of a service account"), "{said}");
}

/// An environment that breaks every constraint, in a project that enforces them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_organisation_forbids_is_named_with_the_setting_that_avoids_it() {
    let forbidden = [
        "iam.disableServiceAccountKeyCreation",
        "iam.disableServiceAccountCreation",
        "container.managed.enableControlPlaneDNSOnlyAccess",
    ];
    // What is there was made by somebody who may; from here on it is looked at as another environment.
    let world = World::start_as(
        &["bu1"],
        Setup { more: "[manage]\niam = \"off\"\ncluster = \"off\"\n", ..Setup::default() },
        |told| {
            told.constraints = forbidden.iter().map(|name| (*name).to_owned()).collect();
        },
    )
    .await;
    let parse = |more: &str| {
        let text = format!(
            "project = \"test-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\nbucket = \"locked-bucket\"\n{more}"
        );
        provision::environment::parse("locked", "locked.toml", &text, &Default::default()).unwrap()
    };
    let silent: provision::apply::Progress = std::sync::Arc::new(|_| {});
    let options = provision::plan::Options::default();
    let open = parse(
        "auth = \"key\"\n[cluster]\nname = \"locked\"\n[network]\nendpoint = \"public\"\n[businesses.bu1]\n[businesses.bu9]\n",
    );
    let plan = provision::make_plan(&open, &world.clients, options, &silent).await.unwrap();
    let findings = provision::preflight::check(&open, &world.clients, Some(&plan)).await;
    let failure = provision::preflight::pass(&open, &findings).unwrap_err();
    assert_eq!(failure.code, "org-policy");
    let fixes =
        ["auth = \"workload-identity\"", "iam = \"verify\" under [manage]", "endpoint = \"dns\" under [network]"];
    for (name, fix) in forbidden.iter().zip(fixes) {
        let (_, after) =
            failure.why.split_once(&format!("constraints/{name}: ")).unwrap_or_else(|| panic!("{failure}"));
        let advice = after.lines().nth(1).unwrap();
        assert!(advice.contains(fix), "{name}: {advice}");
    }
    let bad: Vec<&str> = findings.iter().filter(|one| one.needed && !one.fine).map(|one| one.what.as_str()).collect();
    assert_eq!(bad.len(), forbidden.len(), "{bad:?}");

    // Each such finding comes with its fix, and what could not be looked at says so.
    assert!(findings.iter().any(|one| one.what == "billing" && one.fine), "{findings:?}");

    // With those settings the rest is provisioned.
    let closed = parse(
        "[manage]\niam = \"off\"\ncluster = \"off\"\n[network]\nendpoint = \"dns\"\n[build]\nregistry = \"locked\"\n[businesses.bu9]\n",
    );
    let plan = provision::make_plan(&closed, &world.clients, options, &silent).await.unwrap();
    let findings = provision::preflight::check(&closed, &world.clients, Some(&plan)).await;
    provision::preflight::pass(&closed, &findings).unwrap();
    let report = provision::carry_out(plan, &world.clients, &silent).await.unwrap();
    assert!(report.applied.done > 3);
    assert!(provision::make_plan(&closed, &world.clients, options, &silent).await.unwrap().is_empty());
    world.cloud.stop().await;
}

/// A project that nobody pays for, in an organisation that keeps to places of its own, and with few processors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_cannot_take_it_is_found_out_before_anything_is_written() {
    use localcloud::google::{Google, Options};

    let _ = cloud::clients::install_tls_provider();
    let constraints = [
        "gcp.resourceLocations=in:us-locations,europe-west4",
        "gcp.restrictServiceUsage=storage.googleapis.com",
        "compute.vmExternalIpAccess=none",
    ];
    let google = Google::start(Options {
        allow_anonymous: true,
        unbilled: true,
        quotas: [("CPUS".to_owned(), 4)].into(),
        constraints: constraints.iter().map(|text| (*text).to_owned()).collect(),
        ..Options::new("poor-desk")
    })
    .await
    .unwrap();
    let endpoints = serde_json::from_value(serde_json::to_value(google.endpoints()).unwrap()).unwrap();
    let anonymous = google_cloud_auth::credentials::anonymous::Builder::new().build();
    let client = provision::google::Client::new(endpoints, anonymous).unwrap().counted_in("poor-desk").unwrap();
    let cloud = provision::Cloud {
        google: client,
        kubernetes: Err("only Google's half is here".to_owned()),
        server: None,
        endpoints: contract::config::Endpoints::default(),
    };
    let text = "project = \"poor-desk\"\nlocation = \"europe-west1\"\n[cluster]\nnodes = 2\n[businesses.bu1]\n";
    let environment = provision::environment::parse("poor", "poor.toml", text, &Default::default()).unwrap();
    let silent: provision::apply::Progress = std::sync::Arc::new(|_| {});
    let plan = provision::make_plan(&environment, &cloud, provision::plan::Options::default(), &silent).await.unwrap();
    let findings = provision::preflight::check(&environment, &cloud, Some(&plan)).await;
    let failure = provision::preflight::pass(&environment, &findings).unwrap_err();
    for (what, seen, fix) in [
        ("billing", "no billing account pays for the project", "gcloud billing projects link poor-desk"),
        ("constraints/gcp.resourceLocations", "nothing may be made in europe-west1", "set `location`"),
        ("constraints/gcp.restrictServiceUsage", "pubsub.googleapis.com", "have them allowed"),
        ("constraints/compute.vmExternalIpAccess", "no public address", "private_nodes = true"),
        // Two nodes of two processors in each of three zones.
        ("quota: system nodes", "12 CPUS in europe-west1; 4 are free", "iam-admin/quotas"),
    ] {
        let found = findings.iter().find(|one| one.what == what).unwrap_or_else(|| panic!("{what}: {findings:#?}"));
        assert!(!found.fine && found.needed && found.seen.contains(seen), "{found:?}");
        assert!(found.fix.as_ref().is_some_and(|text| text.contains(fix)), "{found:?}");
        assert!(failure.why.contains(what), "{failure}");
    }
    google.stop().await;
}
