//! Tests of the rendered objects, against golden copies that `UPDATE_GOLDEN=1` refreshes.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::environment::tests::environment;

fn images() -> Images {
    Images {
        orchestrator: "r.example.com/orchestrator@sha256:1".into(),
        engine: "r.example.com/engine@sha256:2".into(),
    }
}

/// Renders `text` and compares every file with the golden copies below `tests/golden/NAME`.
fn check_golden(name: &str, text: &str, endpoints: &config::Endpoints, extras: &Extras) -> Rendered {
    check_rendered(name, render_with(&environment(text), endpoints, &images(), extras).unwrap())
}

/// The folder of the golden copies of an environment.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn check_rendered(name: &str, rendered: Rendered) -> Rendered {
    let golden = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        rendered.write(&golden).unwrap();
    }
    let fresh = tempfile::tempdir().unwrap();
    rendered.write(fresh.path()).unwrap();
    let (mut expected, found) = (files(&golden), files(fresh.path()));
    // Those of `tests/it/environments.rs`.
    expected.retain(|(path, _)| !["environment.toml", "requests.txt"].iter().any(|other| path.ends_with(other)));
    for (path, text) in &found {
        let known = expected.iter().find(|(other, _)| other == path).map(|(_, text)| text);
        assert_eq!(known, Some(text), "{} differs from its golden copy; UPDATE_GOLDEN=1 refreshes it", path.display());
    }
    assert_eq!(expected.len(), found.len(), "there are golden copies of files that are no longer made");
    rendered
}

fn files(folder: &Path) -> BTreeSet<(PathBuf, String)> {
    let mut files = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                files.insert((path.strip_prefix(folder).unwrap().to_owned(), text));
            }
        }
    }
    files
}

#[test]
fn the_smallest_environment() {
    let text = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n[businesses.bu2]\n";
    let endpoints = config::Endpoints {
        pubsub: Some("http://127.0.0.1:8085".to_owned()),
        storage: Some("http://127.0.0.1:8086".to_owned()),
    };
    let rendered = check_golden("smallest", text, &endpoints, &Extras::default());
    let of_bu1: Vec<&File> = rendered.files.iter().filter(|file| file.path.starts_with("manifests/bu1")).collect();
    assert!(of_bu1.iter().all(|file| !file.text.contains("bu2")), "a business sees nothing of another one");
    let configuration = rendered.objects().find(|object| object["kind"] == "ConfigMap").unwrap();
    let config = config::Config::parse(configuration["data"]["config.json"].as_str().unwrap()).unwrap();
    assert_eq!(config, rendered.config.only("bu1"));
    let job: Value = serde_json::from_str(configuration["data"]["job.json"].as_str().unwrap()).unwrap();
    validate(&job).unwrap();
    let apart = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0";
    assert_eq!(
        job["spec"]["template"]["spec"].pointer(apart).unwrap()["matchExpressions"],
        json!([{"key": "cloud.google.com/gke-spot", "operator": "DoesNotExist"}]),
        "an engine that wants no spot machine is put on none"
    );
    assert_eq!(job["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
}

#[test]
fn the_environments_of_the_golden_copies() {
    let web = WebImages { monitor: Some("r/monitor@sha256:4".into()), client: Some("r/client@sha256:5".into()) };
    for name in ["standard", "autopilot", "autopilot-spot", "shared-vpc", "kms", "verify", "second"] {
        let text = std::fs::read_to_string(golden(name).join("environment.toml")).unwrap();
        let environment = crate::environment::parse(name, name, &text, &Default::default());
        let environment = environment.unwrap_or_else(|problems| panic!("{problems}"));
        let extras = Extras { web: web.clone(), ..Extras::default() };
        check_rendered(name, render_with(&environment, &config::Endpoints::default(), &images(), &extras).unwrap());
    }
}

#[test]
fn the_configuration_does_not_depend_on_images() {
    let environment = environment("project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n");
    let other = Images { orchestrator: "r/orchestrator@sha256:8".into(), engine: "r/engine@sha256:9".into() };
    let [one, other] =
        [images(), other].map(|images| render(&environment, &config::Endpoints::default(), &images).unwrap());
    assert_eq!(one.config, other.config);
    let map = |rendered: &Rendered| rendered.objects().find(|object| object["kind"] == "ConfigMap").unwrap().clone();
    let (one, other) = (map(&one), map(&other));
    assert_eq!(one["data"]["config.json"], other["data"]["config.json"]);
    assert_ne!(one["data"]["job.json"], other["data"]["job.json"], "the Job has the image");
}

#[test]
fn everything_switched_on() {
    let web = WebImages {
        monitor: Some("r.example.com/monitor@sha256:4".into()),
        client: Some("r.example.com/client@sha256:5".into()),
    };
    let extras = Extras { web, pod_monitoring: true, pool_certificates: [("risk".to_owned(), 3)].into() };
    let rendered = check_golden("full", FULL, &config::Endpoints::default(), &extras);
    let parts: BTreeSet<_> = rendered.files.iter().filter_map(|file| file.path.components().nth(1)).collect();
    assert_eq!(parts.len(), 3, "the cluster's, the business's and the web apps': {parts:?}");
    let configuration = rendered.objects().find(|object| object["kind"] == "ConfigMap").unwrap();
    let job: Value = serde_json::from_str(configuration["data"]["job.json"].as_str().unwrap()).unwrap();
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["args"],
        json!(["/app/price", "--name", "a \"quoted\" 'word': {{ x }} $$(y) # z", "$$$$"])
    );
    assert_eq!(pod["initContainers"][0]["image"], "r.example.com/engine@sha256:2");
    assert_eq!(pod["nodeSelector"], json!({"cloud.google.com/gke-spot": "true"}));
    assert_eq!(pod.get("affinity"), None);
    let autopilot = FULL
        .replace("disk = \"10Gi\"", "disk = \"9Gi\"")
        .replace("spot = true", "")
        .replace("[businesses.risk]", "cluster.mode = \"autopilot\"\n[businesses.risk]");
    let rendered = render(&environment(&autopilot), &config::Endpoints::default(), &images()).unwrap();
    let configuration = rendered.objects().find(|object| object["kind"] == "ConfigMap").unwrap();
    let job = configuration["data"]["job.json"].as_str().unwrap();
    assert!(!job.contains("gke-spot"), "Google itself keeps spot machines apart there");
    assert!(!job.contains("safe-to-evict"), "an extended-duration Pod starts on no spot machine");
    let job: Value = serde_json::from_str(job).unwrap();
    let resources = &job["spec"]["template"]["spec"]["containers"][0]["resources"];
    let work_and_logs = json!(((9u64 + 1) << 30).to_string());
    for part in ["requests", "limits"] {
        assert_eq!(resources[part]["ephemeral-storage"], work_and_logs, "a Pod gets what it requests there");
    }
}

/// The template of an engine in a pool, as the orchestrator reads it.
fn pool_template(text: &str) -> Value {
    let rendered = render(&environment(text), &config::Endpoints::default(), &images()).unwrap();
    let configuration = rendered.objects().find(|object| object["kind"] == "ConfigMap").unwrap();
    serde_json::from_str(configuration["data"]["pool.json"].as_str().unwrap()).unwrap()
}

#[test]
fn an_engine_of_a_pool_shares_nothing_but_its_work_folder_with_the_program_of_a_desk() {
    let template = pool_template(FULL);
    let pod = &template["spec"]["template"]["spec"];
    let mounts = |container: &Value| -> Vec<String> {
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        mounts.map(|mount| mount["name"].as_str().unwrap().to_owned()).collect()
    };
    let [install, program] = pod["initContainers"].as_array().unwrap().as_slice() else { panic!("{pod}") };
    assert_eq!((mounts(install), mounts(program)), (vec!["work".to_owned()], vec!["work".to_owned()]));
    assert_eq!(mounts(&pod["containers"][0]), ["work", "config", "pool-ca", "pool-token", "google-key"]);
    assert_eq!(
        (&program["restartPolicy"], &program["image"], &program["command"]),
        (&json!("Always"), &json!("r.example.com/desk@sha256:3"), &json!(["/scratch/bin/engine", "program", "--"]))
    );
    assert_eq!(pod["containers"][0]["image"], "r.example.com/engine@sha256:2");
    let keys_of_the_secret = &pod["volumes"][2]["secret"]["items"];
    assert_eq!(*keys_of_the_secret, json!([{"key": "ca.crt", "path": "ca.crt"}]), "no engine has the private key");
    assert_eq!(template["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "hpc");
    assert!(template["metadata"].get("finalizers").is_none() && pod.get("activeDeadlineSeconds").is_none());
}

#[test]
fn on_autopilot_the_containers_of_an_engine_share_the_storage_of_a_pod() {
    let text = FULL
        .replace("disk = \"10Gi\"", "disk = \"9Gi\"")
        .replace("[businesses.risk]", "cluster.mode = \"autopilot\"\n[businesses.risk]");
    let template = pool_template(&text);
    assert!(!template.to_string().contains("safe-to-evict"), "an extended-duration Pod starts on no spot machine");
    let pod = &template["spec"]["template"]["spec"];
    for part in ["requests", "limits"] {
        let of =
            |container: &Value| quantity::bytes(container["resources"][part]["ephemeral-storage"].as_str().unwrap());
        let both = of(&pod["initContainers"][1]).unwrap() + of(&pod["containers"][0]).unwrap();
        assert_eq!(both, 10 << 30, "a Pod has at most 10 GiB there");
    }
    let resources = &pod["containers"][0]["resources"];
    assert_eq!(resources["requests"]["memory"], resources["limits"]["memory"], "a Pod gets what it requests there");
}

#[test]
fn a_business_without_a_pool_has_nothing_of_one() {
    let text = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n";
    let rendered = render(&environment(text), &config::Endpoints::default(), &images()).unwrap();
    for file in rendered.files.iter().filter(|file| !file.path.ends_with("quota.yaml")) {
        assert!(!file.text.contains("pool"), "{}", file.text);
    }
}

#[test]
fn behind_a_reverse_proxy_each_app_has_its_path() {
    let text =
        "project = \"desk-one\"\nlocation = \"europe-west1\"\n[web]\nbase_path = \"/deskgrid\"\n[businesses.bu1]\n";
    let web = WebImages { monitor: Some("r/monitor@sha256:4".into()), client: Some("r/client@sha256:5".into()) };
    let extras = Extras { web, ..Extras::default() };
    let rendered = render_with(&environment(text), &config::Endpoints::default(), &images(), &extras).unwrap();
    for app in ["monitor", "client"] {
        let is_it = |file: &&File| file.path.ends_with(format!("deskgrid/{app}.yaml"));
        let file = rendered.files.iter().find(is_it).unwrap();
        assert!(file.text.contains(&format!("value: \"/deskgrid/{app}\"")), "{}", file.text);
    }
}

const IAP: &str = r#"
project = "desk-one"
location = "europe-west1"
[web]
access = "iap"
[web.iap]
monitor_host = "monitor.example.com"
client_host = "submit.example.com"
monitor_audience = "/projects/123/global/backendServices/456"
address = "desk-web"
oauth_secret = "iap-oauth"
[web.iap.people]
"Alice@example.com" = ["bu1"]
"*@ops.example.com" = ["*"]
[businesses.bu1]
"#;

#[test]
fn behind_identity_aware_proxy() {
    let web = WebImages { monitor: Some("r/monitor@sha256:4".into()), client: Some("r/client@sha256:5".into()) };
    let extras = Extras { web, ..Extras::default() };
    let rendered = check_golden("iap", IAP, &config::Endpoints::default(), &extras);
    let all: Vec<&Value> = rendered.objects().collect();
    let named = |kind: &str, name: &str| {
        let is_it = |object: &&&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        *all.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    };
    for (app, audience) in [("monitor", "/projects/123/global/backendServices/456"), ("client", "")] {
        let pod = &named("Deployment", app)["spec"]["template"]["spec"];
        let variables: std::collections::BTreeMap<&str, &str> = pod["containers"][0]["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap()))
            .collect();
        assert_eq!((variables["DESKGRID_ACCESS"], variables["DESKGRID_IAP_AUDIENCE"]), ("iap", audience));
        assert!(!variables.contains_key("DESKGRID_ACCESS_TOKEN_FILE") && !pod.to_string().contains("web-access"));
        // The Service, its BackendConfig and the rule of the Ingress belong together.
        let service = named("Service", app);
        let of_service = service["metadata"]["annotations"]["cloud.google.com/backend-config"].as_str().unwrap();
        let default: Value = serde_json::from_str(of_service).unwrap();
        assert_eq!(named("BackendConfig", default["default"].as_str().unwrap())["spec"]["iap"]["enabled"], true);
        assert_eq!(service["spec"]["type"], "ClusterIP", "there is no other way in");
        let from: Vec<&str> = named("NetworkPolicy", app)["spec"]["ingress"][0]["from"]
            .as_array()
            .unwrap()
            .iter()
            .map(|from| from["ipBlock"]["cidr"].as_str().unwrap())
            .collect();
        assert_eq!(from, ["35.191.0.0/16", "130.211.0.0/22"], "only Google's load balancers");
    }
    let rules = named("Ingress", "web")["spec"]["rules"].as_array().unwrap();
    let hosts: Vec<&Value> = rules.iter().map(|rule| &rule["host"]).collect();
    assert_eq!(hosts, ["monitor.example.com", "submit.example.com"]);
    assert_eq!(named("ManagedCertificate", "web")["spec"]["domains"], json!(hosts));
    let is_web = |object: &&&Value| object["kind"] == "ConfigMap" && object["metadata"]["namespace"] == "deskgrid";
    let people = all.iter().find(is_web).unwrap()["data"]["people.json"].as_str().unwrap();
    let people: Value = serde_json::from_str(people).unwrap();
    assert_eq!(people, json!({"alice@example.com": ["bu1"], "*@ops.example.com": ["*"]}));
    // The names are part of the configuration of the pods, so that a change restarts them.
    let hash = |text: &str| {
        let rendered = render_with(&environment(text), &config::Endpoints::default(), &images(), &extras).unwrap();
        let monitor = rendered.objects().find(|o| o["kind"] == "Deployment" && o["metadata"]["name"] == "monitor");
        monitor.unwrap()["spec"]["template"]["metadata"]["annotations"]["deskgrid.dev/config-hash"].clone()
    };
    assert_ne!(hash(IAP), hash(&IAP.replace("Alice@", "bob@")));
}

const FULL: &str = r#"
project = "desk-one"
location = "europe-west1"
auth = "key"
[businesses.risk]
namespace = "risk-desk"
priority = true
submit_on_upload = true
dispatch = "pool"
results = "objects"
queue = "hpc"
[businesses.risk.engine]
image = "r.example.com/desk@sha256:3"
command = ["/app/price", "--name", "a \"quoted\" 'word': {{ x }} $(y) # z", "$$"]
cpu = "1500m"
memory = "2Gi"
disk = "10Gi"
timeout = "20m"
retries = 0
spot = true
[businesses.risk.pool]
min = 2
slots = 8
"#;

#[test]
fn a_changed_configuration_changes_the_pod_template() {
    let hash = |text: &str| {
        let rendered = render(&environment(text), &config::Endpoints::default(), &images()).unwrap();
        let deployment = rendered.objects().find(|object| object["kind"] == "Deployment").unwrap().clone();
        deployment["spec"]["template"]["metadata"]["annotations"]["deskgrid.dev/config-hash"].clone()
    };
    assert_eq!(hash(FULL), hash(FULL));
    assert_ne!(hash(FULL), hash(&FULL.replace("disk = \"10Gi\"", "disk = \"11Gi\"")));
    assert_ne!(hash(FULL), hash(&FULL.replace("queue = \"hpc\"", "queue = \"other\"")));
    assert_ne!(hash(FULL), hash(&FULL.replace("min = 2", "spot = false")));
}

#[test]
fn every_object_says_whose_it_is() {
    let rendered = render(&environment(FULL), &config::Endpoints::default(), &images()).unwrap();
    for object in rendered.objects() {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/managed-by"], "deskgrid", "{object}");
        // Shared by all environments of a cluster.
        if object["kind"] == "PriorityClass" {
            continue;
        }
        assert_eq!(labels["business"], "risk", "{object}");
        if object["kind"] != "Namespace" {
            assert_eq!(object["metadata"]["namespace"], "risk-desk", "{object}");
        }
    }
}

#[test]
fn unknown_fields_and_wrong_types_are_named() {
    let unknown = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {
        "selector": {}, "template": {"spec": {"containers": [{"name": "c", "imagee": "i"}]}}}});
    let error = validate(&unknown).unwrap_err().to_string();
    assert!(
        error
            .contains("Deployment x has fields that Kubernetes does not know: spec.template.spec.containers[0].imagee"),
        "{error}"
    );
    let wrong = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": 1}});
    assert!(format!("{:#}", validate(&wrong).unwrap_err()).contains("read the ConfigMap x"));
    assert!(validate(&json!({"apiVersion": "v1", "kind": "Pod"})).is_err());
}

#[test]
fn the_kubelet_expands_nothing_that_a_template_inserts() {
    for (name, text) in TEMPLATES {
        for line in text.lines().map(str::trim_start) {
            let is_expanded = ["value:", "command:", "args:"].iter().any(|key| line.starts_with(key));
            let is_safe = !line.contains("{{") || line.contains("| literal }}");
            assert!(!is_expanded || is_safe, "{name}: {line}");
        }
    }
}

#[test]
fn a_template_that_uses_what_does_not_exist_is_an_error() {
    let mut tera = templates().unwrap();
    tera.add_raw_template("x.yaml", "a: {{ business.nmae | json }}").unwrap();
    let context = tera::Context::from_serialize(&json!({"business": {"name": "bu1"}})).unwrap();
    let error = tera.render("x.yaml", &context).unwrap_err().to_string();
    assert!(error.contains("the value does not exist") && error.contains("x.yaml"), "{error}");
}
