//! Who may do what, tried out: every identity does everything to everything, with a token of its own, and must succeed
//! exactly where the table of `provision::desired::access` says so.

use std::{collections::BTreeSet, fmt::Write as _};

use google_cloud_auth::credentials::{CacheableResource, CredentialsProvider, EntityTag};
use http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION};
use provision::{
    Environment,
    desired::access::{BUSINESS, ENVIRONMENT, LISTER_ROLE, MARKER_ROLE, On, Row, Who},
    google::{Api, Client, Error, Method, Request, escape},
};
use serde_json::{Value, json};

use crate::world::{Setup, World};

const PARTS: [&str; 7] = ["input", "common", "output", "outcome", "control", "parked", "other"];
const BUILD: [&str; 3] = ["deskgrid/build/source/", "deskgrid/build/log/", "deskgrid/other/"];
/// What nobody of ours but the nodes has anything of on the whole project.
const ON_PROJECT: [&str; 8] = [
    "logging.logEntries.create",
    "monitoring.timeSeries.create",
    "storage.objects.get",
    "storage.objects.list",
    "pubsub.topics.publish",
    "pubsub.subscriptions.consume",
    "container.clusters.get",
    "resourcemanager.projects.setIamPolicy",
];

/// An identity with a client that acts as it.
struct Identity {
    who: Who,
    /// Of a business's own: which.
    business: Option<String>,
    email: String,
    client: Client,
}

/// Something that is tried, and what must be held for it.
struct Trial {
    what: String,
    request: Request,
    allowed: bool,
}

/// A token that is never refreshed.
#[derive(Debug)]
struct Token(HeaderValue, EntityTag);

impl CredentialsProvider for Token {
    async fn headers(
        &self,
        _: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, google_cloud_auth::errors::CredentialsError> {
        let data = HeaderMap::from_iter([(AUTHORIZATION, self.0.clone())]);
        Ok(CacheableResource::New { entity_tag: self.1.clone(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

/// What a role holds, in the words of this test.
fn actions(role: &str) -> &'static [&'static str] {
    match role {
        "roles/storage.objectCreator" => &["create"],
        // Listing is asked of the bucket, which no condition on objects fits.
        "roles/storage.objectViewer" => &["get"],
        "roles/storage.objectUser" => &["create", "delete", "get", "update"],
        LISTER_ROLE => &["list"],
        "roles/storage.legacyBucketReader" => &["list", "read bucket"],
        MARKER_ROLE => &["update"],
        "roles/pubsub.publisher" => &["publish"],
        "roles/pubsub.subscriber" => &["consume"],
        "roles/pubsub.viewer" => &["view"],
        "roles/artifactregistry.reader" => &["pull"],
        "roles/artifactregistry.writer" => &["pull", "push"],
        "roles/container.defaultNodeServiceAccount" => &["write logs"],
        other => panic!("a role that this test does not know: {other}"),
    }
}

impl Identity {
    /// Whether the table gives it this, for resources of `business` or of the environment.
    fn may(&self, action: &str, business: Option<&str>, fits: impl Fn(&On) -> bool) -> bool {
        let concerns = match (&self.business, business) {
            (Some(own), Some(business)) => own == business,
            (None, Some(business)) => business == "bu1",
            _ => true,
        };
        let rows: &[Row] = if business.is_some() { BUSINESS } else { ENVIRONMENT };
        concerns && rows.iter().any(|row| row.who == self.who && fits(&row.on) && actions(row.role).contains(&action))
    }

    /// Whether it may list the names in the bucket, which the two businesses share.
    fn lists(&self) -> bool {
        let business = self.business.as_deref().unwrap_or("bu1");
        [Some(business), None].into_iter().any(|of| self.may("list", of, |on| *on == On::Names))
    }
}

async fn identity(world: &World, who: Who, business: Option<&str>, email: &str) -> Identity {
    let google = &world.clients.google;
    let account = format!("v1/projects/test-desk/serviceAccounts/{email}");
    let read = Request::new(Api::Iam, Method::Post, format!("{account}:getIamPolicy"))
        .query("options.requestedPolicyVersion", "3");
    let mut policy = google.send(&read).await.unwrap();
    let binding = json!({
        "role": "roles/iam.serviceAccountTokenCreator",
        "members": [format!("user:{}", localcloud::cloud::OPERATOR)],
    });
    match policy["bindings"].as_array_mut() {
        Some(bindings) => bindings.push(binding),
        None => policy["bindings"] = json!([binding]),
    }
    let write = Request::new(Api::Iam, Method::Post, format!("{account}:setIamPolicy"));
    google.send(&write.body(json!({"policy": policy}))).await.unwrap();
    let answer = google.send(&impersonate(email)).await.unwrap();
    let header = HeaderValue::from_str(&format!("Bearer {}", answer["accessToken"].as_str().unwrap())).unwrap();
    let endpoints = serde_json::to_value(world.cloud.google.endpoints()).unwrap();
    // A workload names no project in which its calls count.
    let client =
        Client::new(serde_json::from_value(endpoints).unwrap(), Token(header, EntityTag::new()).into()).unwrap();
    Identity { who, business: business.map(str::to_owned), email: email.to_owned(), client }
}

fn impersonate(email: &str) -> Request {
    let path = format!("v1/projects/-/serviceAccounts/{email}:generateAccessToken");
    Request::new(Api::IamCredentials, Method::Post, path)
        .body(json!({"scope": ["https://www.googleapis.com/auth/cloud-platform"]}))
}

async fn identities(world: &World) -> Vec<Identity> {
    let Environment { accounts, businesses, .. } = &world.environment;
    let mut all = Vec::new();
    for business in businesses {
        let own = &business.accounts;
        for (who, email) in
            [(Who::Client, &own.client), (Who::Orchestrator, &own.orchestrator), (Who::Engine, &own.engine)]
        {
            all.push(identity(world, who, Some(&business.name), email).await);
        }
    }
    for (who, email) in [
        (Who::WebClient, &accounts.web_client),
        (Who::WebMonitor, &accounts.web_monitor),
        (Who::Nodes, &accounts.nodes),
        (Who::Builder, &accounts.builder),
    ] {
        all.push(identity(world, who, None, email).await);
    }
    all
}

fn object(name: &str) -> String {
    format!("storage/v1/b/test-desk-bucket/o/{}", escape(name))
}

fn upload(name: &str) -> Request {
    Request::new(Api::Storage, Method::Post, "upload/storage/v1/b/test-desk-bucket/o")
        .query("uploadType", "media")
        .query("name", name)
        .body(json!({}))
}

/// Everything about the object `name`, of which one more of the same prefix does not exist.
fn with_object(name: &str, may: impl Fn(&str) -> bool, trials: &mut Vec<Trial>) {
    let absent = format!("{name}-absent");
    let read = |name: &str| Request::get(Api::Storage, object(name)).query("alt", "media");
    let delete = |name: &str| Request::new(Api::Storage, Method::Delete, object(name));
    let mut add = |what: String, request: Request, allowed: bool| trials.push(Trial { what, request, allowed });
    add(format!("read {name}"), read(name), may("get"));
    add(format!("read {absent}"), read(&absent), may("get"));
    let mark = Request::new(Api::Storage, Method::Patch, object(name)).body(json!({"metadata": {"mark": "1"}}));
    add(format!("mark {name}"), mark, may("update"));
    add(format!("overwrite {name}"), upload(name), may("create") && may("delete"));
    add(format!("delete {absent}"), delete(&absent), may("delete"));
    add(format!("create {name}-new"), upload(&format!("{name}-new")), may("create"));
    add(format!("delete {name}"), delete(name), may("delete"));
}

/// Everything that is tried as one identity.
fn trials(identity: &Identity, environment: &Environment) -> Vec<Trial> {
    let mut trials = Vec::new();
    for business in &environment.businesses {
        let name = business.name.as_str();
        for part in PARTS {
            let fits = |on: &On| matches!(on, On::Objects(parts) if parts.is_empty() || parts.contains(&part));
            let may = |action: &str| identity.may(action, Some(name), fits);
            with_object(&format!("{name}/{part}/s/j"), may, &mut trials);
        }
        let topics = [(&business.topic, On::Topic), (&business.events_topic, On::Events)];
        for (topic, on) in topics {
            let path = format!("v1/projects/test-desk/topics/{topic}");
            let publish = |path: &str| {
                Request::new(Api::Pubsub, Method::Post, format!("{path}:publish"))
                    .body(json!({"messages": [{"data": "eA=="}]}))
            };
            let may = |action: &str| identity.may(action, Some(name), |other| *other == on);
            trials.push(Trial { what: format!("publish {topic}"), request: publish(&path), allowed: may("publish") });
            let absent = publish(&format!("{path}-absent"));
            trials.push(Trial { what: format!("publish {topic}-absent"), request: absent, allowed: false });
            let view = Request::get(Api::Pubsub, &path);
            trials.push(Trial { what: format!("view {topic}"), request: view, allowed: may("view") });
        }
        let subscription = &business.subscription;
        let path = format!("v1/projects/test-desk/subscriptions/{subscription}");
        let may = |action: &str| identity.may(action, Some(name), |on| *on == On::Subscriptions);
        let pull = |path: &str| {
            Request::new(Api::Pubsub, Method::Post, format!("{path}:pull"))
                .body(json!({"maxMessages": 1, "returnImmediately": true}))
        };
        trials.push(Trial { what: format!("pull {subscription}"), request: pull(&path), allowed: may("consume") });
        let absent = pull(&format!("{path}-absent"));
        trials.push(Trial { what: format!("pull {subscription}-absent"), request: absent, allowed: false });
        let view = Request::get(Api::Pubsub, &path);
        trials.push(Trial { what: format!("view {subscription}"), request: view, allowed: may("view") });
    }
    for prefix in BUILD {
        let may = |action: &str| identity.may(action, None, |on| *on == On::Prefix(prefix));
        with_object(&format!("{prefix}a"), may, &mut trials);
    }
    let list = Request::get(Api::Storage, "storage/v1/b/test-desk-bucket/o").query("prefix", "bu2/");
    trials.push(Trial { what: "list bu2/".to_owned(), request: list, allowed: identity.lists() });
    let bucket = Request::get(Api::Storage, "storage/v1/b/test-desk-bucket");
    let reads = identity.may("read bucket", None, |on| *on == On::Names);
    trials.push(Trial { what: "read the bucket".to_owned(), request: bucket, allowed: reads });
    let pull = Request::get(Api::ArtifactRegistry, registry());
    let pulls = identity.may("pull", None, |on| *on == On::Registry);
    trials.push(Trial { what: "read the registry".to_owned(), request: pull, allowed: pulls });
    let never = [
        ("list the topics", Request::get(Api::Pubsub, "v1/projects/test-desk/topics")),
        ("list the accounts", Request::get(Api::Iam, "v1/projects/test-desk/serviceAccounts")),
        ("list the clusters", Request::get(Api::Container, "v1/projects/test-desk/locations/-/clusters")),
        ("read the bucket's policy", Request::get(Api::Storage, "storage/v1/b/test-desk-bucket/iam")),
    ];
    for (what, request) in never {
        trials.push(Trial { what: what.to_owned(), request, allowed: false });
    }
    for business in &environment.businesses {
        for email in [&business.accounts.client, &business.accounts.orchestrator, &business.accounts.engine] {
            if *email != identity.email {
                trials.push(Trial { what: format!("act as {email}"), request: impersonate(email), allowed: false });
            }
        }
    }
    trials
}

fn registry() -> String {
    "v1/projects/test-desk/locations/europe-west1/repositories/test-desk-images".to_owned()
}

/// Which of these permissions on something an identity has.
async fn held(client: &Client, api: Api, path: &str, permissions: &[&str]) -> BTreeSet<String> {
    let request =
        Request::new(api, Method::Post, format!("{path}:testIamPermissions")).body(json!({"permissions": permissions}));
    let answer = client.send(&request).await.unwrap();
    let held = answer["permissions"].as_array().into_iter().flatten();
    held.map(|permission| permission.as_str().unwrap().to_owned()).collect()
}

/// Everything exists again as it did.
async fn restore(world: &World) {
    let mut wanted = BTreeSet::new();
    for business in &world.environment.businesses {
        wanted.extend(PARTS.map(|part| format!("{}/{part}/s/j", business.name)));
    }
    wanted.extend(BUILD.map(|prefix| format!("{prefix}a")));
    let there: BTreeSet<String> =
        world.store.list("test-desk-bucket", "").await.unwrap().into_iter().map(|object| object.name).collect();
    for name in wanted.difference(&there) {
        world.clients.google.send(&upload(name)).await.unwrap();
    }
    for name in there.difference(&wanted) {
        let delete = Request::new(Api::Storage, Method::Delete, object(name));
        world.clients.google.send(&delete).await.unwrap();
    }
}

/// Whether something was allowed. What does not exist, and may be known not to, is "not found" to who is allowed; to
/// everybody else it is "denied", as if it was there.
fn verdict(trial: &Trial, lists: bool, result: Result<Value, Error>) -> Result<(), String> {
    let is_object = trial.request.api == Api::Storage && trial.request.path.contains("/o/");
    let absent = trial.what.ends_with("-absent");
    let expected: &[u16] = match (trial.allowed, absent) {
        (true, false) => &[200],
        // Without the right to list, it is denied to them too.
        (true, true) if is_object && !lists => &[403],
        (true, true) => &[404],
        (false, true) if !is_object => &[403, 404],
        (false, _) => &[403],
    };
    let code = result.as_ref().map_or_else(|error| error.code, |_| 200);
    match expected.contains(&code) {
        true => Ok(()),
        false => Err(format!("{}: {code} instead of {expected:?}", trial.what)),
    }
}

#[tokio::test]
async fn every_identity_may_do_what_the_table_says_and_nothing_else() {
    let world =
        World::start_as(&["bu1", "bu2"], Setup { more: "[web]\nbusinesses = [\"bu1\"]\n", ..Setup::default() }, |_| {})
            .await;
    let mut wrong = String::new();
    let (mut allowed, mut refused) = (0, 0);
    for identity in identities(&world).await {
        for trial in trials(&identity, &world.environment) {
            restore_if_changed(&world, &trial).await;
            let result = identity.client.send(&trial.request).await;
            if let Err(problem) = verdict(&trial, identity.lists(), result) {
                let _ = writeln!(wrong, "{}: {problem}", identity.email);
            }
            if trial.allowed { allowed += 1 } else { refused += 1 }
        }
        let project = held(&identity.client, Api::CloudResourceManager, "v1/projects/test-desk", &ON_PROJECT).await;
        let nodes = identity.may("write logs", None, |on| *on == On::Project);
        let expected =
            if nodes { BTreeSet::from_iter(ON_PROJECT[..2].iter().map(ToString::to_string)) } else { BTreeSet::new() };
        assert_eq!(project, expected, "{} on the project", identity.email);
        let push = ["artifactregistry.repositories.uploadArtifacts"];
        let pushes = held(&identity.client, Api::ArtifactRegistry, &registry(), &push).await;
        let may = identity.may("push", None, |on| *on == On::Registry);
        assert_eq!(!pushes.is_empty(), may, "{} pushes images", identity.email);
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{allowed} trials allowed and {refused} refused, each as the table says");
    assert!(allowed > 80 && refused > 600, "{allowed} {refused}");
}

/// Whoever deletes or makes something leaves the bucket as it was to the next.
async fn restore_if_changed(world: &World, trial: &Trial) {
    if trial.request.api == Api::Storage && trial.what.starts_with("read ") && !trial.what.ends_with("-absent") {
        restore(world).await;
    }
}
