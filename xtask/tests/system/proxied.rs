//! Google's real names behind a proxy: set-up, deploy and a submission go through it, and so do the services.

use std::collections::BTreeSet;

use localcloud::{
    clock::Clock,
    cloud::{LocalCloud, Options},
};

use crate::{
    proxy::{CLUSTER, Proxy, run},
    world::programs,
};

const PROJECT: &str = "proxied-desk";

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_a_proxy_with_one_login() {
    let _ = cloud::clients::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let shown = |name: &str| path(name).display().to_string();
    let proxy = Proxy::start().await;
    std::fs::write(path("corporate.pem"), &proxy.authority).unwrap();
    let bundle = shown("corporate.pem");
    let direct = "localhost,127.0.0.1,::1";
    let variables = [("HTTPS_PROXY", &*proxy.address), ("NO_PROXY", direct), ("SSL_CERT_FILE", &*bundle)];
    let options = Options {
        folder: path("cloud"),
        project: PROJECT.to_owned(),
        location: "europe-west1".to_owned(),
        data: None,
        reaper: None,
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        clock: Clock::default(),
    };
    let cloud = LocalCloud::start_with(options, |google| google.operations_take = std::time::Duration::ZERO).await;
    let cloud = cloud.unwrap();
    proxy.route(&cloud);
    // As `gcloud auth application-default login` writes it: the token endpoint is Google's.
    let mut login = cloud.google.operator_credentials();
    login.as_object_mut().unwrap().remove("token_uri");
    std::fs::write(path("login.json"), login.to_string()).unwrap();
    let text = format!(
        "project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n[network]\nproxy = \"{}\"\nca_bundle = \"{bundle}\"\n\
         [web]\nenabled = false\n[businesses.bu1]\n[businesses.bu1.engine]\ncpu = \"100m\"\n",
        proxy.address
    );
    std::fs::write(path("desk.toml"), text).unwrap();
    let image = |name: &str| {
        let place = format!("europe-west1-docker.pkg.dev/{PROJECT}/desk/{name}");
        cloud.kubernetes.images().register(&place, &programs()[name]).unwrap()
    };
    let (orchestrator, engine) = (image("orchestrator"), image("engine"));
    std::fs::write(path("book.json"), include_str!("../../../examples/pricing/01-index-calls.json")).unwrap();

    let xtask = async |arguments: &[&str]| {
        run(folder.path(), "xtask", &[&["--env", "desk.toml"], arguments].concat(), &[], 0).await
    };
    xtask(&["provision", "--yes"]).await;
    xtask(&["deploy", "--orchestrator-image", &orchestrator, "--engine-image", &engine]).await;
    xtask(&["submit", "--wait", "book.json"]).await;
    let status = xtask(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["businesses"][0]["orchestrator"]["ready"], 1, "{status}");
    // The daily program needs the generated configuration and the variables, and nothing of gcloud.
    let config = shown("generated/desk/config.json");
    let status = run(folder.path(), "deskgrid", &["--config", &config, "status", "--json"], &variables, 0).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["businesses"][0]["orchestrator"]["ready"], 1, "{status}");
    run(folder.path(), "deskgrid", &["--config", &config, "submit", "--wait", "book.json"], &variables, 0).await;

    let seen: Vec<String> = proxy.seen.lock().unwrap().iter().cloned().collect();
    let google = ["artifactregistry", "cloudbilling", "cloudresourcemanager", "compute", "container"];
    let expected: BTreeSet<String> = google
        .into_iter()
        .chain(["iam", "monitoring", "oauth2", "orgpolicy", "pubsub", "serviceusage", "storage"])
        .map(|api| format!("{api}.googleapis.com"))
        .chain([CLUSTER.to_owned()])
        .collect();
    assert_eq!(seen, Vec::from_iter(expected), "no host but those of the allow-list");
    cloud.stop().await;
}
