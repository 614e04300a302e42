//! Exchanges with Google Cloud that were recorded, sent again to the laptop cloud: its answers have the same status and
//! the same shape.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use localcloud::container::Access;
use serde_json::{Value, json};

use crate::fixture::{self, PROJECT};

/// Logs that are not replayed at all, with the reason. They are not among the files.
const LOGS_LEFT_OUT: [(&str, &str); 12] = [
    ("artifactregistryrepository", "it writes enum values as numbers; other logs do the same with words"),
    ("pubsubtopic", "its topic has a schema of messages; topics without are in other logs"),
    ("storagemanagedfolder-maximal", "managed folders over gRPC: no verb uses managed folders"),
    ("storagemanagedfolder-minimal", "managed folders over gRPC: no verb uses managed folders"),
    ("mockstorage managedfolder", "no verb uses managed folders"),
    ("mockstorage folder", "folders of buckets with a hierarchical namespace, which ours have not"),
    ("mockiam policy", "deny policies of IAM v2, which no verb writes"),
    ("mockpubsub snapshot", "no verb uses snapshots"),
    ("basicsecretmanagersecret", "no verb uses Secret Manager"),
    ("storagebucketautoclass (4 logs)", "the storage class of our buckets is set, not chosen by Google"),
    ("storagebucketipfilter", "an alpha feature that no verb sets"),
    ("containercluster-dnsendpoint-ipendpoint", "the same calls as dnsendpoint-noipendpoint, with another setting"),
];

/// Exchanges that are not replayed, by what their method and path contain, with the reason.
const LEFT_OUT: [(&str, &str, &str); 5] = [
    ("POST", "/v1/projects?", "a project is given; nobody makes one here"),
    ("DELETE", "/v1/projects/project-${uniqueId}?", "a project is given; nobody deletes one here"),
    ("DELETE", "/v1/projects/test-${uniqueId}?", "a project is given; nobody deletes one here"),
    ("GET", "cloudresourcemanager/v1/operations/", "the operation of making a project"),
    ("POST", ":queryTestablePermissions", "a catalogue that no verb reads"),
];

/// Single exchanges that are not replayed: log, number, reason.
const ONES_LEFT_OUT: [(&str, usize, &str); 4] = [
    ("iam-iampartialpolicy-artifactregistryrepository", 7, "it grants a role that does not exist"),
    ("iam-iampartialpolicy-artifactregistryrepository", 8, "it reads what the exchange before it granted"),
    ("pubsub-pubsubsubscription-basicpubsubsubscription", 5, "a 404 after the creation: Google's lag at that moment"),
    ("iam-iampartialpolicy-pubsubsubscription", 5, "a 404 after the creation: Google's lag at that moment"),
];

/// Fields of answers that the laptop cloud does not have, by the last parts of their path, with the reason.
const FIELDS_LEFT_OUT: [(&str, &str); 17] = [
    (".clientCertificateConfig", "nobody comes with a client certificate"),
    (".gcpPublicCidrsAccessEnabled", "which networks may come is not modelled: a laptop has one"),
    (".parent.id", "a laptop cloud has no organization"),
    (".parent.type", "a laptop cloud has no organization"),
    (".rpo", "only of buckets in several regions"),
    (".acl", "access lists of single objects; our buckets have uniform access"),
    (".defaultObjectAcl", "access lists of single objects; our buckets have uniform access"),
    (".owner", "access lists of single objects; our buckets have uniform access"),
    (".prefixes", "the recorded list shows folders that the log did not make"),
    (".metadata.value", "an empty message in the words of the recording's library"),
    (".totalSize", "a count beside the list of alert policies, which no verb reads"),
    (".vulnerabilityScanningConfig", "nobody scans a laptop's images"),
    (".satisfiesPzi", "a promise about Google's data centres"),
    (".satisfiesPzs", "a promise about Google's data centres"),
    (".pushConfig.attributes", "our subscriptions are pulled"),
    ("project.labels", "labels that the log gave its own project"),
    ("project.parent", "a laptop cloud has no organization"),
];

/// What of a cluster is compared: what the verbs write or read. Google shows some sixty fields more.
const OF_CLUSTERS: [&str; 22] = [
    "addonsConfig",
    "autopilot",
    "controlPlaneEndpointsConfig",
    "createTime",
    "currentMasterVersion",
    "endpoint",
    "etag",
    "id",
    "labelFingerprint",
    "location",
    "locations",
    "masterAuth",
    "name",
    "network",
    "nodePools",
    "releaseChannel",
    "resourceLabels",
    "selfLink",
    "status",
    "subnetwork",
    "workloadIdentityConfig",
    "zone",
];

/// As [`OF_CLUSTERS`], of a node pool.
const OF_POOLS: [&str; 9] =
    ["autoscaling", "config", "etag", "initialNodeCount", "locations", "management", "name", "status", "version"];

/// As [`OF_CLUSTERS`], of how a node is.
const OF_NODES: [&str; 7] =
    ["diskSizeGb", "diskType", "imageType", "machineType", "oauthScopes", "serviceAccount", "shieldedInstanceConfig"];

/// The recorded cluster without what is not compared.
fn cluster(recorded: &Value) -> Value {
    let only = |value: &Value, keys: &[&str]| -> Value {
        let fields = value.as_object().into_iter().flatten();
        fields
            .filter(|(key, _)| keys.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut cluster = only(recorded, &OF_CLUSTERS);
    for pool in cluster["nodePools"].as_array_mut().into_iter().flatten() {
        *pool = only(pool, &OF_POOLS);
        pool["config"] = only(&pool["config"], &OF_NODES);
    }
    // Which add-ons there are differs by version; that there is such a field does not.
    cluster["addonsConfig"] = json!({});
    cluster
}

/// The project's policy must keep an owner here, and knows no roles that do not exist: the recording does both.
fn project_policy(mut body: Value) -> Value {
    for binding in body["policy"]["bindings"].as_array_mut().into_iter().flatten() {
        let role = match binding["role"].as_str() {
            Some("roles/resourcemanager.projectEditor") => "roles/editor",
            _ => "roles/viewer",
        };
        binding["role"] = json!(role);
    }
    if !body["policy"]["bindings"].is_array() {
        body["policy"]["bindings"] = json!([]);
    }
    let owner = json!({"role": "roles/owner", "members": ["user:operator@example.com"]});
    body["policy"]["bindings"].as_array_mut().unwrap().push(owner);
    body
}

/// Logs in which somebody made a project first; ours is there already.
const OF_A_NEW_PROJECT: &str = "project-${uniqueId}";

struct Replay {
    log: String,
    endpoints: Value,
    http: reqwest::Client,
    operation: String,
    key: String,
    notification: String,
    alert_policy: String,
    /// The last etag of each resource; those of the recording are placeholders.
    etags: BTreeMap<String, Value>,
    problems: Vec<String>,
    replayed: usize,
}

impl Replay {
    fn placed(&self, text: &str) -> String {
        text.replace(OF_A_NEW_PROJECT, PROJECT)
            .replace("/projects/test-${uniqueId}", &format!("/projects/{PROJECT}"))
            .replace("${projectId}", PROJECT)
            .replace("${projectNumber}", "123456789012")
            .replace("${uniqueId}", "abcdef1")
            .replace("${operationID}", &self.operation)
            .replace("${serviceAccountKeyID}", &self.key)
            .replace("${alertPolicyID}", &self.alert_policy)
            .replace("${dashboardID}", "dashboard")
            .replace("notificationConfigs/1", &format!("notificationConfigs/{}", self.notification))
    }

    async fn exchange(&mut self, number: usize, exchange: &Value) {
        let text = |key: &str| exchange[key].as_str().unwrap_or_default();
        let url = format!("{}/{}", self.endpoints[text("api")].as_str().unwrap(), self.placed(text("path")));
        let method = reqwest::Method::from_bytes(text("method").as_bytes()).unwrap();
        let mut request = self.http.request(method, &url);
        if !exchange["body"].is_null() {
            let mut body: Value = serde_json::from_str(&self.placed(&exchange["body"].to_string())).unwrap();
            let etag = self.etags.get(&resource(&url)).cloned();
            for place in ["/etag", "/role/etag", "/policy/etag"] {
                if let (Some(place), Some(etag)) = (body.pointer_mut(place), &etag) {
                    place.clone_from(etag);
                }
            }
            if url.contains(&format!("/projects/{PROJECT}:setIamPolicy")) {
                body = project_policy(body);
            }
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = u64::from(answer.status().as_u16());
        let body = answer.text().await.unwrap();
        let body: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
        self.replayed += 1;
        let named = format!("{} {number} {} {}", self.log, text("method"), text("path").split('?').next().unwrap());
        if exchange["status"] != status {
            self.problems.push(format!("{named}: answered {status}, not {}: {body}", exchange["status"]));
            return;
        }
        if !body["etag"].is_null() {
            self.etags.insert(resource(&url), body["etag"].clone());
        }
        let mut differences = BTreeSet::new();
        let desired = match &exchange["answer"]["nodePools"] {
            Value::Array(_) => cluster(&exchange["answer"]),
            _ => exchange["answer"].clone(),
        };
        let top = if desired["projectId"].is_string() { "project" } else { "" };
        let as_numbers = text("path").contains("enum-encoding");
        shape(top, &desired, &body, as_numbers, &mut differences);
        self.problems.extend(differences.into_iter().map(|difference| format!("{named}: {difference}")));
        let name = body["name"].as_str().unwrap_or_default();
        if name.contains("operation") {
            self.operation = name.rsplit('/').next().unwrap_or_default().to_owned();
        }
        if let Some((_, key)) = name.rsplit_once("/keys/") {
            self.key = key.to_owned();
        }
        if let Some((_, policy)) = name.rsplit_once("/alertPolicies/") {
            self.alert_policy = policy.to_owned();
        }
        if body["kind"] == "storage#notification" {
            self.notification = body["id"].as_str().unwrap_or_default().to_owned();
        }
    }
}

/// What a URL is about: without its verb and query.
fn resource(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let after = url.rfind('/').unwrap_or_default();
    match url[after..].find(':') {
        Some(colon) => url[..after + colon].to_owned(),
        None => url.to_owned(),
    }
}

/// What of the recorded answer is missing in ours, or of another type. More is fine: APIs grow.
fn shape(path: &str, desired: &Value, found: &Value, as_numbers: bool, differences: &mut BTreeSet<String>) {
    if FIELDS_LEFT_OUT.iter().any(|(end, _)| path.ends_with(end)) {
        return;
    }
    match (desired, found) {
        (Value::Object(desired), Value::Object(found)) => {
            for (key, inner) in desired {
                let path = format!("{path}.{key}");
                match found.get(key) {
                    Some(found) => shape(&path, inner, found, as_numbers, differences),
                    None if FIELDS_LEFT_OUT.iter().any(|(end, _)| path.ends_with(end)) => {}
                    None => {
                        differences.insert(format!("{path} is missing"));
                    }
                }
            }
        }
        (Value::Array(desired), Value::Array(found)) => {
            for (desired, found) in desired.iter().zip(found) {
                shape(&format!("{path}[]"), desired, found, as_numbers, differences);
            }
            if desired.len() > found.len() {
                differences.insert(format!("{path} has {} items, not {}", found.len(), desired.len()));
            }
        }
        (Value::Number(_), Value::String(_)) if as_numbers => {}
        // What an error says of itself is words; what kind of error it is is not.
        (Value::String(desired), Value::String(found))
            if path.ends_with(".status") || path.ends_with(".reason") || path.ends_with(".kind") =>
        {
            if desired != found {
                differences.insert(format!("{path} is {found:?}, not {desired:?}"));
            }
        }
        (desired, found) => {
            if std::mem::discriminant(desired) != std::mem::discriminant(found) {
                differences.insert(format!("{path} is {found}, and was {desired}"));
            }
        }
    }
}

#[tokio::test]
async fn recorded_exchanges_get_answers_of_the_same_status_and_shape() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden");
    let mut problems = Vec::new();
    let (mut logs, mut replayed, mut left) = (0, 0, 0);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let exchanges: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let google = fixture::google(|options| options.enforce_apis = false).await;
        google.identity().open_pool();
        // The project of the recordings had it already.
        google.identity().storage_agent();
        let access = Access { endpoint: "127.0.0.1:1".to_owned(), ca_pem: "a certificate".to_owned() };
        google.container().attach(access);
        let mut replay = Replay {
            log: path.file_stem().unwrap().to_string_lossy().into_owned(),
            endpoints: serde_json::to_value(google.endpoints()).unwrap(),
            http: reqwest::Client::new(),
            operation: String::new(),
            key: String::new(),
            notification: "1".to_owned(),
            alert_policy: String::new(),
            etags: BTreeMap::new(),
            problems: vec![],
            replayed: 0,
        };
        for (number, exchange) in exchanges.iter().enumerate() {
            let path = format!("{}/{}", exchange["api"].as_str().unwrap(), exchange["path"].as_str().unwrap());
            let is_of = |(method, part, _): &(&str, &str, &str)| {
                (method.is_empty() || exchange["method"] == *method) && path.contains(part)
            };
            let one = |(log, other, _): &(&str, usize, &str)| *log == replay.log && *other == number;
            // A project that is not there yet is somebody else's to make.
            let before = path.contains(OF_A_NEW_PROJECT) && exchange["status"] == 403;
            if before || LEFT_OUT.iter().any(is_of) || ONES_LEFT_OUT.iter().any(one) {
                left += 1;
                continue;
            }
            replay.exchange(number, exchange).await;
        }
        assert!(replay.replayed > 0, "nothing of {} is replayed: leave the log out", replay.log);
        logs += 1;
        replayed += replay.replayed;
        problems.extend(replay.problems);
        google.stop().await;
    }
    println!(
        "{replayed} exchanges of {logs} logs replayed, {left} left out, and {} logs as a whole",
        LOGS_LEFT_OUT.len()
    );
    assert!(replayed > 200, "{replayed}");
    assert!(problems.is_empty(), "{} differences\n{}", problems.len(), problems.join("\n"));
    assert_eq!(logs, 31, "a log was added or lost");
}
