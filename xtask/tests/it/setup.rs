//! The set-up of a business by a plain script of gcloud, gsutil and kubectl, on a laptop cloud.

use crate::laptop::{Laptop, are_there};

#[test]
fn a_plain_script_of_other_tools_sets_a_business_up() {
    if !are_there(&["sh", "gcloud", "gsutil", "kubectl", "gke-gcloud-auth-plugin"]) {
        return;
    }
    let laptop = Laptop::start("project = \"script-desk\"\n[businesses.bu1]\n");
    std::fs::write(laptop.folder().join("setup.sh"), include_str!("setup.sh")).unwrap();
    laptop.ok("env PROJECT=script-desk LOCATION=europe-west1 sh setup.sh");

    assert!(!laptop.folder().join("key.json").exists(), "the key stays in the Secret");
    laptop.shows("kubectl --namespace=bu1 get secret orchestrator-key -o jsonpath={.data}", "key.json");
    laptop.shows("gcloud container clusters list", "script-desk-cluster");
    laptop.shows("gcloud pubsub topics list-subscriptions script-desk-bu1-topic", "script-desk-bu1-subscription");
    let policy = laptop.ok("gcloud storage buckets get-iam-policy gs://script-desk-bucket");
    assert!(policy.contains("title: bu1") && policy.contains("bu1-orchestrator@"), "{policy}");
}
