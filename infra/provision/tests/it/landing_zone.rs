//! What others look after for a project of an organisation: the host project of a Shared VPC, keys, and the cluster.

use std::time::Duration;

use localcloud::{
    google::{Google, Options},
    identity::neighbour::Neighbour,
};
use provision::{
    finding::Finding,
    google::{Api, Method, Request},
    plan::{self, Action, Plan},
    preflight, show,
};
use serde_json::{Value, json};

use crate::fixture::{self, ONE, PROJECT, client, cloud, environment, silent};

const SUBNETWORK: &str = "projects/host/regions/europe-west1/subnetworks/nodes";
const SHARED: &str = r#"[network]
network = "projects/host/global/networks/hpc"
subnetwork = "projects/host/regions/europe-west1/subnetworks/nodes"
pods_range = "pods"
services_range = "services"
"#;
const ROBOT: &str = "serviceAccount:service-123456789012@container-engine-robot.iam.gserviceaccount.com";
const APIS: &str = "serviceAccount:123456789012@cloudservices.gserviceaccount.com";
const LOOK: (&str, &str, &str) = ("projects/host", "roles/owner", "user:operator@example.com");
const HOST: [(&str, &str, &str); 3] = [
    ("projects/host", "roles/container.hostServiceAgentUser", ROBOT),
    (SUBNETWORK, "roles/compute.networkUser", ROBOT),
    (SUBNETWORK, "roles/compute.networkUser", APIS),
];

/// What a cluster needs, seen by its operator.
pub(crate) const GRANTED: [(&str, &str, &str); 4] = [HOST[0], HOST[1], HOST[2], LOOK];

/// The host project with these grants.
pub(crate) fn host(grants: &[(&str, &str, &str)]) -> Neighbour {
    let owned = |(resource, role, member): &(&str, &str, &str)| {
        ((*resource).to_owned(), (*role).to_owned(), (*member).to_owned())
    };
    Neighbour {
        project: "host".to_owned(),
        is_host: true,
        network: "hpc".to_owned(),
        subnetwork: "regions/europe-west1/subnetworks/nodes".to_owned(),
        ranges: vec!["pods".to_owned(), "services".to_owned()],
        grants: grants.iter().map(owned).collect(),
    }
}

async fn start(configure: impl FnOnce(&mut Options)) -> Google {
    fixture::google(|options| {
        options.enforce_apis = false;
        configure(options);
    })
    .await
}

async fn beside(neighbour: Neighbour) -> Google {
    start(|options| options.neighbour = Some(neighbour)).await
}

async fn plan_of(google: &Google, settings: &str) -> Plan {
    let environment = environment(&format!("{settings}{ONE}"));
    provision::make_plan(&environment, &cloud(client(google)), plan::Options::default(), &silent()).await.unwrap()
}

async fn run(google: &Google, settings: &str) -> Result<(), String> {
    let environment = environment(&format!("{settings}{ONE}"));
    let done = provision::run(&environment, &cloud(client(google)), plan::Options::default(), &silent()).await;
    done.map(drop).map_err(|error| format!("{error:#}"))
}

async fn findings(google: &Google, settings: &str) -> Vec<Finding> {
    preflight::check(&environment(&format!("{settings}{ONE}")), &cloud(client(google)), None).await
}

/// Fails unless a check found a problem, saw this and says to do this.
#[track_caller]
fn assert_bad(findings: &[Finding], what: &str, needed: bool, seen: &str, fix: &str) {
    let found = findings.iter().find(|finding| finding.what == what);
    let found = found.unwrap_or_else(|| panic!("no check of {what}: {findings:#?}"));
    assert!(!found.fine && found.needed == needed && found.seen.contains(seen), "{found:#?}");
    assert!(found.fix.as_deref().unwrap_or_default().contains(fix), "{found:#?}");
}

#[tokio::test]
async fn a_cluster_uses_the_named_ranges_of_a_shared_network() {
    let google = beside(host(&GRANTED)).await;
    let bad: Vec<Finding> = findings(&google, SHARED).await.into_iter().filter(|one| !one.fine).collect();
    assert!(bad.iter().all(|one| !one.what.starts_with("network")), "{bad:#?}");
    run(&google, SHARED).await.unwrap();
    let cluster = client(&google)
        .send(&Request::get(
            Api::Container,
            format!("v1/projects/{PROJECT}/locations/europe-west1/clusters/{PROJECT}-cluster"),
        ))
        .await
        .unwrap();
    assert_eq!(cluster["networkConfig"]["subnetwork"], SUBNETWORK);
    let ranges = &cluster["ipAllocationPolicy"];
    assert_eq!(
        (&ranges["clusterSecondaryRangeName"], &ranges["servicesSecondaryRangeName"]),
        (&json!("pods"), &json!("services"))
    );
    let again = plan_of(&google, SHARED).await;
    assert!(again.is_empty(), "{}", show::render(&again));
    google.stop().await;
}

#[tokio::test]
async fn what_a_shared_network_lacks_is_named_with_the_command_before_anything_is_written() {
    let detached = beside(Neighbour { is_host: false, ..host(&GRANTED) }).await;
    let fix = "gcloud compute shared-vpc associated-projects add desk-one --host-project host";
    assert_bad(&findings(&detached, SHARED).await, "network: Shared VPC", true, "not attached to host", fix);
    let refused = run(&detached, SHARED).await.unwrap_err();
    assert!(refused.contains("associated Shared-VPC host project") && refused.contains("xtask doctor"), "{refused}");
    detached.stop().await;

    let narrow = beside(Neighbour { ranges: vec!["pods".to_owned()], ..host(&GRANTED) }).await;
    let fix = "gcloud compute networks subnets update nodes --project host --region europe-west1 \
               --add-secondary-ranges services=";
    assert_bad(&findings(&narrow, SHARED).await, "network: subnetwork", true, "no secondary range services", fix);
    let refused = run(&narrow, SHARED).await.unwrap_err();
    assert!(refused.contains("secondary range") && refused.contains("xtask doctor"), "{refused}");
    narrow.stop().await;

    let absent = beside(Neighbour { network: "other".to_owned(), subnetwork: String::new(), ..host(&GRANTED) }).await;
    let seen = findings(&absent, SHARED).await;
    assert_bad(&seen, "network", true, "project host has no network hpc", "under [network]");
    assert_bad(&seen, "network: subnetwork", true, "has no subnetwork nodes", "under [network]");
    absent.stop().await;

    let commands = [
        format!(
            "gcloud projects add-iam-policy-binding host --member {ROBOT} --role roles/container.hostServiceAgentUser"
        ),
        format!(
            "gcloud compute networks subnets add-iam-policy-binding nodes --project host --region europe-west1 --member \
             {APIS} --role roles/compute.networkUser"
        ),
    ];
    // Who may read the policies gets an answer that is certain; others get the commands to request.
    for (grants, needed, seen) in [(&[LOOK][..], true, "are missing"), (&[], false, "cannot be seen")] {
        let google = beside(host(grants)).await;
        let found = findings(&google, SHARED).await;
        for command in &commands {
            assert_bad(&found, "network: roles", needed, seen, command);
        }
        let refused = run(&google, SHARED).await.unwrap_err();
        assert!(refused.contains("container.hostServiceAgent.use") && refused.contains("xtask doctor"), "{refused}");
        google.stop().await;
    }
}

const CLASSES: [&str; 5] = ["bucket", "pubsub", "cluster", "disks", "registry"];
const ENCRYPTER: &str = "roles/cloudkms.cryptoKeyEncrypterDecrypter";

fn key(project: &str) -> String {
    format!("projects/{project}/locations/europe-west1/keyRings/r/cryptoKeys/k")
}

/// Everything encrypted with a key of this project.
fn encrypted(project: &str) -> String {
    let keys = CLASSES.map(|class| format!("{class} = \"{}\"\n", key(project)));
    format!("[security.kms_keys]\n{}", keys.concat())
}

fn agents() -> [String; 5] {
    ["gs-project-accounts", "gcp-sa-pubsub", "container-engine-robot", "compute-system", "gcp-sa-artifactregistry"]
        .map(|of| format!("serviceAccount:service-123456789012@{of}.iam.gserviceaccount.com"))
}

async fn policy_of_key(google: &Google) -> Value {
    let path = format!("v1/{}:getIamPolicy", key(PROJECT));
    client(google).send(&Request::get(Api::CloudKms, path)).await.unwrap()
}

#[tokio::test]
async fn the_agents_of_services_are_granted_the_keys_that_they_encrypt_with() {
    // Agents that nobody asked for do not exist, and neither they nor grants are known at once.
    let google = fixture::google(|options| {
        options.lags.accounts = Duration::from_millis(100);
        options.lags.grants = Duration::from_millis(300);
    })
    .await;
    let settings = encrypted(PROJECT);
    let plan = plan_of(&google, &settings).await;
    let shown = show::render(&plan);
    for agent in agents() {
        assert!(shown.contains(&format!("{ENCRYPTER}: {agent}")), "{agent} in {shown}");
    }
    run(&google, &settings).await.unwrap();
    assert!(plan_of(&google, &settings).await.is_empty());

    // What stays encrypted can be read after the environment is gone.
    let environment = environment(&format!("{settings}{ONE}"));
    let everything = provision::removal::Options { data: true, identities: true };
    let cloud = cloud(client(&google));
    let removal = provision::plan_removal(&environment, None, &cloud, everything, &silent()).await.unwrap();
    provision::carry_out(removal, &cloud, &silent()).await.unwrap();
    let policy = policy_of_key(&google).await;
    let members = policy["bindings"][0]["members"].as_array().unwrap();
    assert_eq!((members.len(), &policy["bindings"][0]["role"]), (5, &json!(ENCRYPTER)));
    google.stop().await;
}

#[tokio::test]
async fn a_key_of_others_is_used_and_what_it_lacks_is_said_as_commands() {
    let settings = encrypted("host");
    let command = |agent: &str| {
        format!(
            "gcloud kms keys add-iam-policy-binding k --project host --location europe-west1 --keyring r --member \
             {agent} --role {ENCRYPTER}"
        )
    };
    // The policy cannot be read: nothing stops the plan, since somebody may have granted it.
    let unseen = beside(host(&[])).await;
    let plan = plan_of(&unseen, &settings).await;
    assert!(plan.blockers().next().is_none(), "{}", show::render(&plan));
    let found = findings(&unseen, &settings).await;
    for agent in agents() {
        assert_bad(&found, "key k", false, "cannot be seen", &command(&agent));
    }
    assert_bad(&found, "key k", false, "", "gcloud beta services identity create --project desk-one --service pubsub");
    unseen.stop().await;

    let ring = "projects/host/locations/europe-west1/keyRings/r";
    let agents = agents();
    let grants: Vec<(&str, &str, &str)> = agents.iter().map(|agent| (ring, ENCRYPTER, agent.as_str())).collect();
    let granted = beside(host(&grants)).await;
    run(&granted, &settings).await.unwrap();
    granted.stop().await;

    // Somebody else grants: what is missing is certain.
    let google = beside(host(&[])).await;
    let verified = format!("[manage]\niam = \"verify\"\n{}", encrypted(PROJECT));
    let fix = command(&agents[0]).replace("--project host", "--project desk-one");
    assert_bad(&findings(&google, &verified).await, "key k", true, "are missing", &fix);
    google.stop().await;
}

#[tokio::test]
async fn the_nodes_of_a_cluster_of_others_may_read_our_registry() {
    let google = start(|_| {}).await;
    let pool = |name: &str, config: Value| json!({"name": name, "initialNodeCount": 1, "config": config});
    let theirs = json!({"cluster": {
        "name": format!("{PROJECT}-cluster"),
        "workloadIdentityConfig": {"workloadPool": format!("{PROJECT}.svc.id.goog")},
        "nodePools": [
            pool("plain", json!({"serviceAccount": "default", "diskSizeGb": 10})),
            pool("own", json!({"serviceAccount": "gke@other.iam.gserviceaccount.com", "diskSizeGb": 10})),
        ],
    }});
    let path = format!("v1/projects/{PROJECT}/locations/europe-west1/clusters");
    client(&google).send(&Request::new(Api::Container, Method::Post, path).body(theirs)).await.unwrap();
    let settings = "[manage]\ncluster = \"verify\"\n";
    let members = ["123456789012-compute@developer.gserviceaccount.com", "gke@other.iam.gserviceaccount.com"]
        .map(|email| format!("serviceAccount:{email}"));
    let plan = plan_of(&google, settings).await;
    let change = plan.changes.iter().find(|change| change.id.to_string().starts_with("permissions on registry"));
    let granted: Vec<&Value> =
        change.unwrap().differences.iter().filter_map(|difference| difference.desired.as_ref()).collect();
    for member in &members {
        assert!(granted.contains(&&json!(member)), "{granted:?}");
    }
    run(&google, settings).await.unwrap();
    let path = format!("v1/projects/{PROJECT}/locations/europe-west1/repositories/{PROJECT}-images:getIamPolicy");
    let policy = client(&google).send(&Request::get(Api::ArtifactRegistry, path)).await.unwrap();
    let readers =
        policy["bindings"].as_array().unwrap().iter().find(|one| one["role"] == "roles/artifactregistry.reader");
    assert_eq!(readers.unwrap()["members"].as_array().unwrap().len(), members.len(), "{policy}");
    let again = plan_of(&google, settings).await;
    assert!(again.changes.iter().all(|change| change.action == Action::Nothing), "{}", show::render(&again));
    google.stop().await;
}
