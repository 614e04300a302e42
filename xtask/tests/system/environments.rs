//! The environments of the golden copies (`infra/provision/tests/golden`) from the first command to the last one, on a
//! project that is as strict as a new one of Google's: the real program calls Google's names, and nobody is asked.

use std::{path::Path, sync::Arc, time::Duration};

use cloud::storage::Store;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::Api;
use localcloud::{
    clock::Clock,
    cloud::{LocalCloud, Options},
    cloudbuild::Pushed,
    google,
    identity::{lags::Lags, neighbour::Neighbour},
    storage::WriteRates,
};
use provision::{
    Cloud, Environment, apply, build,
    environment::{CloudKind, Overrides, parse},
    google::{Api as GoogleApi, Request},
    plan,
};
use serde_json::{Value, json};

use crate::{
    proxy::{Proxy, run},
    world::{eventually, image},
};

const PROJECT: &str = "desk-one";
const NUMBER: u64 = localcloud::cloud::PROJECT_NUMBER;

/// A project in which everything is refused or late that Google refuses or has late.
struct Strict {
    folder: tempfile::TempDir,
    proxy: Proxy,
    cloud: LocalCloud,
}

impl Strict {
    /// Starts one with the files of these environments; `configure` says what else its organisation enforces.
    async fn start(names: &[&str], configure: impl FnOnce(&mut google::Options)) -> Self {
        let _ = cloud::clients::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let proxy = Proxy::start().await;
        std::fs::write(folder.path().join("proxy.pem"), &proxy.authority).unwrap();
        std::fs::write(folder.path().join("book.json"), include_str!("../../../examples/pricing/01-index-calls.json"))
            .unwrap();
        for name in names {
            std::fs::write(folder.path().join(format!("{name}.toml")), text(name)).unwrap();
        }
        let variables = variables(&proxy, folder.path());
        let options = Options {
            folder: folder.path().join("cloud"),
            project: PROJECT.to_owned(),
            location: "europe-west1".to_owned(),
            data: None,
            reaper: None,
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            clock: Clock::default(),
        };
        let late = Duration::from_millis(300);
        let cloud = LocalCloud::start_with(options, |options| {
            options.enforce_apis = true;
            options.strict_token_expiry = true;
            options.operations_take = late;
            options.lags = Lags { accounts: late, grants: late, services: late, keys: late };
            options.write_rates = Some(WriteRates { per_bucket: 1000 });
            options.constraints = ["iam.disableServiceAccountKeyCreation", "gcp.resourceLocations=in:eu-locations"]
                .map(str::to_owned)
                .into();
            configure(options);
        })
        .await
        .unwrap();
        proxy.route(&cloud);
        let mut login = cloud.google.operator_credentials();
        login.as_object_mut().unwrap().remove("token_uri");
        std::fs::write(folder.path().join("login.json"), login.to_string()).unwrap();
        let images = folder.path().join("cloud");
        let push = move |place: &str, tagged: &str| {
            let (name, tag) = tagged.split_once(':')?;
            let digest = image(&images, name).split_once('@')?.1.to_owned();
            Some(Pushed { repository: format!("{place}/{name}"), tag: tag.to_owned(), digest })
        };
        cloud.google.builds().set_steps(Arc::new(move |command| {
            let place = command.iter().skip_while(|word| **word != "--registry").nth(1);
            Ok(command.iter().filter_map(|word| push(place?, word)).collect())
        }));
        Self { folder, proxy, cloud }
    }

    /// Runs the program on an environment until it ends with this code; what it printed.
    async fn xtask(&self, name: &str, line: &str, code: i32) -> String {
        let file = format!("{name}.toml");
        let arguments: Vec<&str> = ["--env", &file].into_iter().chain(line.split(' ')).collect();
        let mut variables = variables(&self.proxy, self.folder.path());
        // A build asks git and cargo for the source.
        let own = contract::config::variables();
        variables.extend(["PATH", "HOME"].map(|name| (name, own[name].clone())));
        variables.push(("KUBECONFIG", self.folder.path().join("kubeconfig").display().to_string()));
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let ended = run(self.folder.path(), "xtask", &arguments, &variables, code).await;
        [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    /// An environment with a client of this project.
    async fn life(&self, name: &'static str) -> Life<'_> {
        let environment = read(name, &text(name));
        // The same names; the endpoints are known.
        let local = Environment { cloud: CloudKind::Local, ..environment.clone() };
        let state = serde_json::from_value(self.cloud.describe(name, "default").unwrap()).unwrap();
        let clients = Cloud::connect(&local, Some(state)).await.unwrap();
        let store = Store::connect(&clients.connection()).await.unwrap();
        Life { strict: self, name, environment, clients, store }
    }
}

/// Variables of a program that goes to Google through the proxy.
fn variables(proxy: &Proxy, folder: &Path) -> Vec<(&'static str, String)> {
    let bundle = folder.join("proxy.pem").display().to_string();
    let direct = "localhost,127.0.0.1,::1".to_owned();
    vec![("HTTPS_PROXY", proxy.address.clone()), ("NO_PROXY", direct), ("SSL_CERT_FILE", bundle)]
}

fn text(name: &str) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/provision/tests/golden");
    std::fs::read_to_string(golden.join(name).join("environment.toml")).unwrap()
}

fn read(name: &str, text: &str) -> Environment {
    parse(name, name, text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// One environment of a project.
struct Life<'a> {
    strict: &'a Strict,
    name: &'static str,
    environment: Environment,
    clients: Cloud,
    store: Store,
}

impl Life<'_> {
    async fn xtask(&self, line: &str) -> String {
        self.strict.xtask(self.name, line, 0).await
    }

    async fn get(&self, api: GoogleApi, path: &str) -> Option<Value> {
        self.clients.google.send_optional(&Request::get(api, path)).await.unwrap()
    }

    async fn cluster(&self) -> Option<Value> {
        let (location, name) = (self.environment.cluster_location(), &self.environment.cluster.name);
        self.get(GoogleApi::Container, &format!("v1/projects/{PROJECT}/locations/{location}/clusters/{name}")).await
    }

    /// Names of its topics, and of its service accounts.
    async fn resources(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (api, kind, field) in [(GoogleApi::Pubsub, "topics", "name"), (GoogleApi::Iam, "serviceAccounts", "email")]
        {
            let list = Request::get(api, format!("v1/projects/{PROJECT}/{kind}"));
            let key = if kind == "topics" { "topics" } else { "accounts" };
            let found = self.clients.google.list(&list, key).await.unwrap();
            names.extend(found.iter().filter_map(|one| one[field].as_str()).map(str::to_owned));
        }
        names
    }

    /// Whether the project is as a file with this text says.
    async fn assert_as(&self, text: &str) {
        let silent: apply::Progress = Arc::new(|_| {});
        let environment = read(self.name, text);
        let plan = provision::make_plan(&environment, &self.clients, plan::Options::default(), &silent).await.unwrap();
        assert!(plan.is_empty(), "{}", provision::show::render(&plan));
    }

    async fn provision(&self) -> Value {
        self.xtask("provision --yes").await;
        self.assert_as(&text(self.name)).await;
        self.cluster().await.unwrap()
    }

    /// Builds, deploys, and computes.
    async fn work(&self) {
        self.xtask("build").await;
        let listed = self.clients.google.list(&build::images(&self.environment), "dockerImages").await.unwrap();
        let uris: Vec<&str> = listed.iter().filter_map(|image| image["uri"].as_str()).collect();
        let built = uris.iter().find(|uri| uri.contains("/orchestrator@sha256:")).unwrap();
        self.xtask("deploy").await;
        let business = &self.environment.businesses[0];
        let (image, ready) = self.orchestrator(&business.namespace).await;
        assert_eq!((image.as_str(), ready), (*built, 1));
        self.compute().await;
    }

    async fn compute(&self) {
        let business = &self.environment.businesses[0];
        let list = async |part: &str| self.store.list(&business.bucket, &format!("{}/{part}/", business.name)).await;
        // A pool has a small result in the outcome.
        let before = list("outcome").await.unwrap().len();
        self.xtask(&format!("submit --business {} --wait book.json", business.name)).await;
        assert_eq!(list("outcome").await.unwrap().len(), before + 1);
        eventually("the input is deleted", async || list("input").await.unwrap().is_empty()).await;
    }

    /// Image and ready pods of the orchestrator of a namespace.
    async fn orchestrator(&self, namespace: &str) -> (String, i32) {
        let deployments: Api<Deployment> = Api::namespaced(self.clients.cluster().unwrap().clone(), namespace);
        let found = deployments.get("orchestrator").await.unwrap();
        let image = found.spec.unwrap().template.spec.unwrap().containers.remove(0).image.unwrap();
        (image, found.status.and_then(|status| status.ready_replicas).unwrap_or(0))
    }

    async fn add_business(&self) {
        // It shows everything, asks, and nobody answers.
        let asked = self.strict.xtask(self.name, "add-business bu2", 64).await;
        let shown = ["+ create Deployment bu2/orchestrator", "nobody can confirm"];
        assert!(shown.iter().all(|part| asked.contains(part)), "{asked}");
        self.xtask("add-business bu2 --yes").await;
        let written = std::fs::read_to_string(self.strict.folder.path().join(format!("{}.toml", self.name))).unwrap();
        assert!(written.contains("[businesses.bu2]"));
        self.assert_as(&written).await;
        assert_eq!(self.orchestrator("bu2").await.1, 1);
    }

    /// Removes everything, also the data.
    async fn teardown(&self) {
        let bucket = &self.environment.bucket;
        self.xtask(&format!("teardown --yes --identities --delete-data --yes-delete {bucket}")).await;
        assert_eq!(self.cluster().await, None);
        assert_eq!(self.get(GoogleApi::Storage, &format!("storage/v1/b/{bucket}")).await, None);
        self.assert_no_namespace().await;
    }

    async fn assert_no_namespace(&self) {
        let namespaces: Api<Namespace> = Api::all(self.clients.cluster().unwrap().clone());
        for business in &self.environment.businesses {
            assert!(namespaces.get_opt(&business.namespace).await.unwrap().is_none(), "{}", business.namespace);
        }
    }

    /// The whole life of an environment that is alone in its project.
    async fn alone(&self, check: impl FnOnce(&Value)) {
        check(&self.provision().await);
        self.work().await;
        self.add_business().await;
        self.teardown().await;
        assert_eq!(self.resources().await, Vec::<String>::new());
    }
}

/// Role and member of what others grant for the shared network.
fn host() -> Neighbour {
    let robot = format!("serviceAccount:service-{NUMBER}@container-engine-robot.iam.gserviceaccount.com");
    let apis = format!("serviceAccount:{NUMBER}@cloudservices.gserviceaccount.com");
    let subnetwork = "projects/host/regions/europe-west1/subnetworks/nodes";
    let grants = [
        ("projects/host", "roles/container.hostServiceAgentUser", robot.clone()),
        (subnetwork, "roles/compute.networkUser", robot),
        (subnetwork, "roles/compute.networkUser", apis),
    ];
    Neighbour {
        project: "host".to_owned(),
        is_host: true,
        network: "hpc".to_owned(),
        subnetwork: "regions/europe-west1/subnetworks/nodes".to_owned(),
        ranges: vec!["pods".to_owned(), "services".to_owned()],
        grants: grants.map(|(on, role, member)| (on.to_owned(), role.to_owned(), member)).into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_cluster() {
    let strict = Strict::start(&["standard"], |_| {}).await;
    let check = |cluster: &Value| {
        let pools = cluster["nodePools"].as_array().unwrap();
        let spot: Vec<(&Value, bool)> =
            pools.iter().map(|pool| (&pool["name"], pool["config"]["spot"] == true)).collect();
        assert_eq!(spot, [(&json!("system"), false), (&json!("engines"), true)]);
    };
    strict.life("standard").await.alone(check).await;
    strict.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autopilot_cluster() {
    let strict = Strict::start(&["autopilot"], |_| {}).await;
    let check = |cluster: &Value| assert_eq!(cluster["autopilot"]["enabled"], true);
    strict.life("autopilot").await.alone(check).await;
    strict.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autopilot_cluster_with_engines_on_spot_machines() {
    let strict = Strict::start(&["autopilot-spot"], |_| {}).await;
    let check = |cluster: &Value| assert_eq!(cluster["autopilot"]["enabled"], true);
    strict.life("autopilot-spot").await.alone(check).await;
    strict.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_nodes_in_a_shared_vpc() {
    let strict = Strict::start(&["shared-vpc"], |options| {
        options.no_default_network = true;
        options.neighbour = Some(host());
        let enforced = [
            "container.managed.enableControlPlaneDNSOnlyAccess",
            "container.managed.enablePrivateNodes",
            "compute.vmExternalIpAccess=none",
        ];
        options.constraints.extend(enforced.map(str::to_owned));
    })
    .await;
    let check = |cluster: &Value| {
        assert_eq!(cluster["networkConfig"]["network"], "projects/host/global/networks/hpc");
        assert_eq!(cluster["networkConfig"]["defaultEnablePrivateNodes"], true);
    };
    strict.life("shared-vpc").await.alone(check).await;
    strict.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_encrypted_with_keys_of_our_own() {
    let strict = Strict::start(&["kms"], |options| {
        options.constraints.insert("gcp.restrictNonCmekServices=run.googleapis.com".to_owned());
    })
    .await;
    let life = strict.life("kms").await;
    let key = &life.environment.security.kms_keys["bucket"];
    let check = |cluster: &Value| assert_eq!(cluster["databaseEncryption"]["keyName"], **key);
    life.alone(check).await;
    // What was encrypted can still be read: the key and its grants are not ours to remove.
    let policy = life.get(GoogleApi::CloudKms, &format!("v1/{key}:getIamPolicy")).await.unwrap();
    assert_eq!(policy["bindings"][0]["members"].as_array().unwrap().len(), 5);
    strict.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_made_by_somebody_else() {
    let strict = Strict::start(&["verify"], |_| {}).await;
    let life = strict.life("verify").await;
    let refused = strict.xtask("verify", "provision --yes", 1).await;
    assert!(refused.contains("error[missing]"), "{refused}");
    let make = async |text: &str| {
        let environment = read("verify", &text.replace("\"verify\"", "\"create\""));
        let silent: apply::Progress = Arc::new(|_| {});
        provision::run(&environment, &life.clients, plan::Options::default(), &silent).await.unwrap();
    };
    make(&text("verify")).await;
    life.provision().await;
    life.work().await;
    let refused = strict.xtask("verify", "add-business bu2 --yes", 1).await;
    assert!(refused.contains("error[missing]"), "{refused}");
    let both = format!("{}[businesses.bu2]\n", text("verify"));
    make(&both).await;
    life.add_business().await;
    life.xtask("teardown --yes --identities").await;
    life.assert_no_namespace().await;
    life.assert_as(&both.replace("\"verify\"", "\"create\"")).await;
    strict.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_in_one_project() {
    let strict = Strict::start(&["standard", "second"], |_| {}).await;
    let (first, second) = (strict.life("standard").await, strict.life("second").await);
    for life in [&first, &second] {
        life.provision().await;
        life.work().await;
    }
    first.assert_as(&text("standard")).await;
    second.teardown().await;
    assert!(second.resources().await.iter().all(|name| !name.contains("fx")), "{:?}", second.resources().await);
    first.assert_as(&text("standard")).await;
    first.compute().await;
    first.teardown().await;
    assert_eq!(first.resources().await, Vec::<String>::new());
    strict.cloud.stop().await;
}
