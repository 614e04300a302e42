//! The pods of engines on an Autopilot cluster: they start on Spot machines, and have the disk that their work may fill.

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::{Api, Resource, api::PostParams};
use localcloud::kubernetes::{Kubernetes, Options, quantity};
use provision::{
    environment::{Overrides, parse},
    manifests::{Images, render},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::desk::client_of;

/// The pod of an engine, as the orchestrator of this environment would have it.
fn engine(name: &str, text: &str) -> Value {
    let environment = parse("e", "e.toml", text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let images = Images { orchestrator: "r/o@sha256:1".into(), engine: "r/e@sha256:2".into() };
    let rendered = render(&environment, &contract::config::Endpoints::default(), &images).unwrap();
    let map = rendered.objects().find(|object| object["kind"] == "ConfigMap").unwrap();
    let job: Value = serde_json::from_str(map["data"]["job.json"].as_str().unwrap()).unwrap();
    let mut pod = job["spec"]["template"].clone();
    pod["metadata"]["name"] = json!(name);
    pod
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// The pod when a node took it, or none would.
async fn decided(pods: &Api<Pod>, name: &str) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let pod = serde_json::to_value(pods.get(name).await.unwrap()).unwrap();
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|condition| condition["type"] == "PodScheduled") {
            return pod;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing became of {name}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_starts_on_a_spot_machine_and_has_the_disk_of_its_work_folder() {
    let _ = cloud::clients::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    let options = Options { is_autopilot: Arc::new(|| true), ..Options::new(folder.path().join("cluster")) };
    let kubernetes = Kubernetes::start(options).await.unwrap();
    let client = client_of(&kubernetes).await;
    create(&Api::<Namespace>::all(client.clone()), json!({"metadata": {"name": "bu1"}})).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "bu1");
    create(&accounts, json!({"metadata": {"name": "engine"}})).await;
    let pods: Api<Pod> = Api::namespaced(client, "bu1");

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/autopilot-spot/environment.toml");
    let text = std::fs::read_to_string(golden).unwrap() + "disk = \"4Gi\"\n";
    let resources = "/spec/containers/0/resources";
    let granted = |pod: &Value, part: &str| {
        let granted = pod.pointer(&format!("{resources}/{part}/ephemeral-storage"));
        quantity::parse(granted.and_then(Value::as_str).unwrap()).unwrap()
    };
    create(&pods, engine("fits", &text)).await;
    let pod = decided(&pods, "fits").await;
    assert!(pod["spec"]["nodeName"].is_string(), "{pod:#}");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let work = volumes.iter().find_map(|volume| volume["emptyDir"]["sizeLimit"].as_str()).unwrap();
    for part in ["requests", "limits"] {
        assert!(
            granted(&pod, part) >= quantity::parse(work).unwrap(),
            "{part} hold the work folder of {work}: {pod:#}"
        );
    }

    // The pod of a standard cluster would never start, and would be evicted when its work filled 1 GiB.
    create(&pods, engine("standard", &text.replace("mode = \"autopilot\"", ""))).await;
    let pod = decided(&pods, "standard").await;
    assert!(pod["spec"]["nodeName"].is_null(), "{pod:#}");
    assert_eq!(granted(&pod, "limits"), quantity::parse("1Gi").unwrap());
    kubernetes.stop().await;
}
