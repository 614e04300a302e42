//! The set-up of a business by a plain script of gcloud, gsutil and kubectl, on a laptop cloud.

use crate::laptop::{Laptop, are_there};

#[test]
fn a_plain_script_of_other_tools_sets_a_business_up() {
    if !are_there(&["sh", "gcloud", "gsutil", "kubectl", "gke-gcloud-auth-plugin"]) {
        return;
    }
    let accounts = "[businesses.bu1.accounts]\norchestrator = \"bu1-orchestrator\"\n";
    let laptop = Laptop::start(&format!("project = \"script-desk\"\n[businesses.bu1]\n{accounts}"));
    std::fs::write(laptop.folder().join("setup.sh"), include_str!("setup.sh")).unwrap();
    laptop.ok("env PROJECT=script-desk LOCATION=europe-west1 sh setup.sh");

    assert!(!laptop.folder().join("key.json").exists(), "the key stays in the Secret");
    laptop.shows("kubectl --namespace=bu1 get secret orchestrator-key -o jsonpath={.data}", "key.json");
    laptop.shows("gcloud container clusters list", "script-desk-cluster");
    laptop.shows("gcloud pubsub topics list-subscriptions script-desk-bu1-topic", "script-desk-bu1-subscription");
    let policy = laptop.ok("gcloud storage buckets get-iam-policy gs://script-desk-bucket");
    assert!(policy.contains("title: bu1") && policy.contains("bu1-orchestrator@"), "{policy}");

    // What the script made is nobody's, so the plan stops at it and says how to go on.
    let refused = laptop.run("xtask plan");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--adopt"), "{said}");
    let before = laptop.ok("gcloud pubsub topics describe script-desk-bu1-topic");

    let taken = laptop.run("xtask plan --adopt");
    let shown = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert_eq!(taken.status.code(), Some(2), "{shown}");
    for name in ["script-desk-bucket", "script-desk-bu1-topic", "script-desk-bu1-subscription", "bu1-orchestrator"] {
        assert!(shown.contains(name), "the plan does not show that it would take {name} over:\n{shown}");
    }
    assert_eq!(laptop.ok("gcloud pubsub topics describe script-desk-bu1-topic"), before, "a plan changes nothing");

    laptop.ok("xtask provision --adopt --yes");
    laptop.ok("xtask plan");
    let policy = laptop.ok("gcloud storage buckets get-iam-policy gs://script-desk-bucket");
    assert!(policy.lines().any(|line| line.trim() == "title: bu1"), "the script's own grant stays: {policy}");

    // The namespace is somebody else's too.
    let refused = laptop.run("xtask deploy");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("deploy --adopt"), "{said}");
    laptop.ok("xtask deploy --adopt");
    laptop.shows("kubectl --namespace=bu1 get secret orchestrator-key -o jsonpath={.data}", "key.json");

    let book = include_str!("../../../examples/pricing/01-index-calls.json");
    std::fs::write(laptop.folder().join("book.json"), book).unwrap();
    laptop.ok("xtask submit --wait book.json --business bu1 --session adopted");
    laptop.shows("gsutil ls -r gs://script-desk-bucket/bu1/output/adopted/", "book.json");
}
