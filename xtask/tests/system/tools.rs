//! The tools people already have, against a laptop cloud that this program set up: each where it is on PATH.

use crate::laptop::{Laptop, are_there};

const ENVIRONMENT: &str = "project = \"test-desk\"\n[businesses.bu1]\n";

/// A portfolio that keeps an engine busy for longer than any test runs.
const LONG: &str = r#"{"schema":1,"seed":1,"paths":1000000000,"measures":["price"],
    "underlyings":{"A":{"spot":100,"volatility":0.2,"rate":0.01,"dividend_yield":0.0}},
    "trades":[{"id":"t","kind":"asian","option":"call","underlying":"A","strike":100,"maturity":1.0,
    "quantity":1,"averaging":"arithmetic","observations":250}]}"#;

fn read_json(laptop: &Laptop, line: &str) -> serde_json::Value {
    serde_json::from_str(&laptop.ok(line)).unwrap()
}

/// One with a business that is deployed.
fn deployed() -> Laptop {
    let laptop = Laptop::start(ENVIRONMENT);
    laptop.ok("xtask provision");
    laptop.ok("xtask deploy");
    laptop
}

#[test]
fn kubectl_shows_and_ends_the_jobs_of_a_business() {
    if !are_there(&["kubectl"]) {
        return;
    }
    let laptop = deployed();
    std::fs::write(laptop.folder().join("book.json"), include_str!("../../../examples/pricing/01-index-calls.json"))
        .unwrap();
    laptop.ok("xtask submit --wait book.json --business bu1");

    let job = laptop.ok("kubectl get jobs -l business=bu1 -o jsonpath={.items[0].metadata.name}");
    for line in [
        "kubectl get jobs -l business=bu1",
        "kubectl get jobs -l business=bu1 --field-selector status.successful=1",
        "kubectl get jobs -A",
        "kubectl get jobs -o wide",
        "kubectl get jobs -o yaml",
        "kubectl get jobs -o json",
        "kubectl get jobs -o name",
        "kubectl get pods,deployments,events",
        "kubectl describe jobs",
    ] {
        laptop.shows(line, &job);
    }
    let none = laptop.ok("kubectl get jobs -l business=bu1 --field-selector status.successful=0");
    assert!(!none.contains(&job), "{none}");
    let described = laptop.shows(&format!("kubectl describe job {job}"), "1 Succeeded");
    assert!(described.contains("business=bu1") && described.contains("deskgrid.dev/work"), "{described}");
    laptop.shows(&format!("kubectl wait --for=condition=complete job/{job} --timeout=60s"), "condition met");
    laptop.shows("kubectl logs --selector=app=orchestrator --tail 100", "settled");
    laptop.shows("kubectl rollout status deployment/orchestrator --timeout=60s", "successfully rolled out");
    laptop.shows("kubectl get pods,deployments,events", "deployment.apps/orchestrator");
    laptop.shows("kubectl get jobs --watch --request-timeout=1s", &job);

    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\ndata: {a: b}\n";
    std::fs::write(laptop.folder().join("mine.yaml"), manifest).unwrap();
    laptop.shows("kubectl apply --server-side -f mine.yaml", "serverside-applied");
    laptop.shows("kubectl get configmap mine -o jsonpath={.data.a}", "b");
    laptop.ok("kubectl delete configmap mine");
}

#[test]
fn what_kubectl_deletes_is_cancelled_and_nothing_is_lost() {
    if !are_there(&["kubectl"]) {
        return;
    }
    let laptop = deployed();
    std::fs::write(laptop.folder().join("long.json"), LONG).unwrap();
    laptop.ok("xtask submit long.json --business bu1 --session night");
    laptop.comes_to_show("kubectl get jobs --field-selector status.successful=0", "job-");
    laptop.comes_to_show("kubectl get pods -l session=night", "Running");
    laptop.shows("kubectl delete jobs --all", "deleted");
    laptop.comes_to_show("xtask jobs --business bu1 --json", "\"cancelled\"");
    let left = laptop.ok("kubectl get jobs");
    assert!(!left.contains("job-"), "{left}");
    if are_there(&["gcloud"]) {
        // What did not succeed keeps its input.
        laptop.shows("gcloud storage ls gs://test-desk-bucket/bu1/input/night/", "long.json");
    }
}

#[test]
fn gcloud_and_gsutil_find_everything_where_they_expect_it() {
    if !are_there(&["gcloud", "gsutil"]) {
        return;
    }
    let laptop = deployed();
    laptop.shows("gcloud pubsub topics publish test-desk-bu1-topic '--message=engine payload 1'", "messageIds");
    std::fs::write(laptop.folder().join("market.json"), "{}").unwrap();
    laptop.ok("gcloud storage cp market.json gs://test-desk-bucket/bu1/common/s/market.json");
    // Asked with our own program, which starts in a tenth of gcloud's time.
    laptop.comes_to_show("xtask jobs --business bu1 --json", "\"succeeded\"");
    laptop.shows("gcloud storage ls gs://test-desk-bucket/bu1/outcome/inline/**", ".json");
    let both = "gs://test-desk-bucket/bu1/output/inline/** gs://test-desk-bucket/bu1/common/s/market.json";
    let read = laptop.shows(&format!("gcloud storage cat {both}"), "\"payload\":\"engine payload 1\"");
    assert!(read.trim_end().ends_with("{}"), "{read}");
    laptop.shows("gsutil ls -r gs://test-desk-bucket/bu1", "gs://test-desk-bucket/bu1/outcome/inline/");

    laptop.shows("gcloud pubsub topics list", "projects/test-desk/topics/test-desk-bu1-topic");
    laptop.shows("gcloud pubsub topics describe test-desk-bu1-topic", "managed-by: deskgrid");
    laptop.shows("gcloud pubsub subscriptions list", "projects/test-desk/subscriptions/test-desk-bu1-subscription");
    laptop.shows("gcloud pubsub subscriptions describe test-desk-bu1-subscription", "state: ACTIVE");

    laptop.shows("gcloud storage ls -r gs://test-desk-bucket/bu1/common", "bu1/common/s/market.json");

    let client = "desk-bu1-client@test-desk.iam.gserviceaccount.com";
    laptop.shows("gcloud iam service-accounts list", client);
    laptop.ok(&format!("gcloud iam service-accounts keys create key.json --iam-account={client}"));
    laptop.shows(&format!("gcloud iam service-accounts keys list --iam-account={client}"), "9999-12-31");
    let policy = laptop.shows(
        "gcloud projects get-iam-policy test-desk --flatten=bindings[].members \
         --format=table(bindings.role,bindings.members) --filter=bindings.members:operator",
        "roles/owner",
    );
    assert!(policy.contains("operator@deskgrid.example"), "{policy}");
    laptop.ok("gcloud services enable container.googleapis.com pubsub.googleapis.com");
    laptop.shows("gcloud services list", "container.googleapis.com");
}

#[test]
fn gcloud_makes_a_cluster_and_kubectl_uses_what_it_wrote() {
    if !are_there(&["gcloud", "kubectl", "gke-gcloud-auth-plugin"]) {
        return;
    }
    let laptop = deployed();
    let at = "--location=europe-west1";
    laptop.ok(&format!("gcloud container clusters create desk {at} --num-nodes=1 --enable-dns-access"));
    laptop.shows("gcloud container clusters list", "RUNNING");
    laptop.shows(&format!("gcloud container clusters describe desk {at}"), "clusterCaCertificate");
    laptop.shows("gcloud container operations list", "CREATE_CLUSTER");
    laptop.ok(&format!("gcloud container clusters get-credentials desk {at}"));
    laptop.shows("kubectl config current-context", "gke_test-desk_europe-west1_desk");
    laptop.shows("kubectl --namespace=bu1 get deployments", "orchestrator");
    // Another terminal has no credentials for that context; this program uses its own.
    let status: serde_json::Value =
        serde_json::from_str(&laptop.ok_in_another_terminal("status --json")).expect("status prints JSON");
    assert_eq!(status["businesses"][0]["orchestrator"]["ready"], 1, "{status}");
    // What `provision` writes on Google Cloud is what gcloud wrote, in the namespace of the business, beside the rest.
    let before = read_json(&laptop, "kubectl config view --raw -o json");
    let live = read_json(&laptop, &format!("gcloud container clusters describe desk {at} --format=json"));
    let text = "project = \"test-desk\"\nlocation = \"europe-west1\"\n[cluster]\nname = \"desk\"\n\
                [network]\nendpoint = \"public\"\n[businesses.bu1]\n";
    let environment = provision::environment::parse("e", "e.toml", text, &Default::default()).unwrap();
    let server = provision::kubeconfig::server(&environment, &live).unwrap();
    let entry = provision::kubeconfig::Entry::of(&environment, &server, Some("bu1"));
    let mut wanted = before.clone();
    let ours = wanted["contexts"].as_array_mut().unwrap().iter_mut().find(|one| one["name"] == entry.name.as_str());
    ours.unwrap()["context"]["namespace"] = "bu1".into();
    let mut other = before.clone();
    other["users"].as_array_mut().unwrap().retain(|one| one["name"] != entry.name.as_str());
    std::fs::write(laptop.folder().join("merged.json"), entry.merged(&other).unwrap().to_string()).unwrap();
    // As kubectl sees both, which fills in what neither says.
    let mut found = read_json(&laptop, "kubectl --kubeconfig merged.json config view --raw -o json");
    for config in [&mut found, &mut wanted] {
        config["users"].as_array_mut().unwrap().sort_by_key(|one| one["name"].to_string());
    }
    assert_eq!(found, wanted);
    let bare = entry.merged(&serde_json::Value::Null).unwrap();
    std::fs::write(laptop.folder().join("ours.json"), bare.to_string()).unwrap();
    laptop.shows("kubectl --kubeconfig ours.json get deployments", "orchestrator");
    laptop.shows("kubectl --kubeconfig ours.json config get-contexts", "gke_test-desk_europe-west1_desk");
    // This program goes on with its own way to the same cluster.
    laptop.shows("xtask status", "bu1");

    laptop.ok(&format!("gcloud artifacts repositories create images {at} --repository-format=docker"));
    laptop.shows("gcloud artifacts repositories list", "images");
    laptop.ok("gcloud builds list");
}

#[test]
fn what_gsutil_and_gcloud_upload_compressed_is_computed_as_the_file() {
    if !are_there(&["gcloud", "gsutil"]) {
        return;
    }
    let laptop = Laptop::start("project = \"test-desk\"\n[businesses.bu1]\nsubmit_on_upload = true\n");
    laptop.ok("xtask provision");
    laptop.ok("xtask deploy");
    let table: Vec<&str> = include_str!("../../../examples/trades.csv").lines().take(4).collect();
    for (name, text) in [
        ("trades.csv", table.join("\n").as_str()),
        ("market.json", include_str!("../../../examples/market.json")),
        ("malformed.json", include_str!("../../../examples/malformed.json")),
    ] {
        std::fs::write(laptop.folder().join(name), text).unwrap();
    }
    laptop.ok("xtask submit --wait trades.csv --common market.json --session plain");
    let bucket = "gs://test-desk-bucket/bu1";
    laptop.ok(&format!("gcloud storage cp --gzip-local-all market.json {bucket}/common/packed/market.json"));
    let common = "-h x-goog-meta-deskgrid-common:market.json";
    laptop.ok(&format!("gsutil {common} cp -Z trades.csv {bucket}/input/packed/trades.csv"));
    laptop.ok(&format!("gsutil cp -Z malformed.json {bucket}/input/again/malformed.json"));
    laptop.comes_to_show("xtask jobs --session packed --json", "\"succeeded\"");
    let results = |session: &str| laptop.ok(&format!("xtask results --session {session} --format csv"));
    assert_eq!(results("packed").replace("packed", "plain"), results("plain"));
    // What failed keeps its input, which is the same as the file.
    laptop.comes_to_show("xtask jobs --session again --json", "\"failed\"");
    laptop.ok("xtask submit malformed.json --session again");
}
