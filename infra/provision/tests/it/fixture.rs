//! What the tests share: a laptop cloud, clients of it, the verbs as far as they concern Google, and the state of the
//! world as they leave it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cloud::storage::Store;
use localcloud::google::{Google, Options};
use provision::{
    Cloud, Environment, apply,
    environment::{Overrides, parse},
    google::{Api, Client, Endpoints, Method, Request, Retry},
    lock, locked, plan, removal,
    teardown::{self, Teardown},
};
use serde_json::{Value, json};

use crate::drift;

pub(crate) const PROJECT: &str = "desk-one";
/// One business with everything that a business can have, and alerts.
pub(crate) const ONE: &str = "[alerts]\nnotification_channels = [\"projects/desk-one/notificationChannels/1\"]\n\
                              [businesses.bu1]\npriority = true\nsubmit_on_upload = true\n";
/// A second one beside it.
pub(crate) const TWO: &str = "[businesses.bu2]\nsubmit_on_upload = true\n";

/// The environment with these businesses.
pub(crate) fn environment(businesses: &str) -> Environment {
    let text = format!("project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n{businesses}");
    parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A cloud that refuses what is not enabled, and whose operations end after `operations_take`.
pub(crate) async fn google(tell: impl FnOnce(&mut Options)) -> Google {
    let _ = cloud::clients::install_tls_provider();
    let mut options =
        Options { allow_anonymous: true, enforce_apis: true, operations_take: Duration::ZERO, ..Options::new(PROJECT) };
    tell(&mut options);
    Google::start(options).await.unwrap()
}

/// A client of its own, as each run of the program has.
pub(crate) fn client(google: &Google) -> Client {
    let endpoints: Endpoints = serde_json::from_value(serde_json::to_value(google.endpoints()).unwrap()).unwrap();
    let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
    // Where every other request fails, one of hundreds would have used up fewer.
    let retry = Retry { attempts: 20, first: Duration::from_millis(1), longest: Duration::from_millis(10) };
    Client::new(endpoints, credentials).unwrap().retrying(retry).counted_in(PROJECT).unwrap()
}

/// The requests of a client that change something.
#[derive(Clone, Default)]
pub(crate) struct Writes(Arc<Mutex<Vec<String>>>);

impl Writes {
    /// `METHOD path` of each since the last call, in their order.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A client that records its writes.
pub(crate) fn recording(client: Client) -> (Client, Writes) {
    let writes = Writes::default();
    let seen = writes.clone();
    let client = client.observed(Arc::new(move |call| {
        if call.request.is_write() {
            seen.0.lock().unwrap().push(call.request.to_string());
        }
    }));
    (client, writes)
}

pub(crate) fn cloud(google: Client) -> Cloud {
    let kubernetes = Err("only Google's half is here".to_owned());
    let endpoints = contract::config::Endpoints {
        pubsub: Some(google.endpoints().pubsub.clone()),
        storage: Some(google.endpoints().storage.clone()),
    };
    Cloud { google, kubernetes, server: None, endpoints }
}

/// How each run takes the lock: as a process of this machine that is gone when somebody looks, so that a run that was
/// stopped is found dead.
pub(crate) fn lock(verb: &str) -> lock::Settings {
    /// No system gives a process such a number.
    static NEXT: AtomicU32 = AtomicU32::new(1_000_000_000);
    let holder = lock::Holder {
        who: "somebody".to_owned(),
        host: "here".to_owned(),
        process: NEXT.fetch_add(1, Ordering::Relaxed),
        space: Some("this test".to_owned()),
    };
    lock::Settings {
        poll_every: Duration::from_millis(20),
        ..lock::Settings::new(holder, verb, Duration::from_secs(30), Arc::new(|_| {}))
    }
}

/// Leaves the lock of somebody who died.
pub(crate) async fn leave_a_lock(google: &Google) {
    let environment = environment(ONE);
    let client = client(google);
    let taken = lock::Lock::acquire(&client, &environment.bucket, &environment.name, &lock("died")).await.unwrap();
    assert!(matches!(taken, lock::Acquired::Held(_)));
}

/// Puts an object of a business into the bucket.
pub(crate) async fn put(google: &Google, object: &str) {
    let bucket = environment(ONE).bucket;
    let request = Request::new(Api::Storage, Method::Post, format!("upload/storage/v1/b/{bucket}/o"))
        .query("uploadType", "media")
        .query("name", object)
        .body(json!({"value": 1}));
    client(google).send(&request).await.unwrap();
}

pub(crate) fn silent() -> apply::Progress {
    Arc::new(|_| {})
}

/// A verb, as far as it concerns Google.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Provision,
    /// A provision that finds one thing of every kind changed by hand.
    Repair,
    AddBusiness,
    RemoveBusiness,
    Teardown,
}

impl Verb {
    pub(crate) const ALL: [Self; 5] =
        [Self::Provision, Self::Repair, Self::AddBusiness, Self::RemoveBusiness, Self::Teardown];

    /// Runs it as the command line does, under the lock.
    pub(crate) async fn run(self, cloud: &Cloud) -> anyhow::Result<()> {
        let (one, both) = (environment(ONE), environment(&[ONE, TWO].concat()));
        match self {
            Self::Provision | Self::Repair => {
                make(&one, cloud, async || provision::make_plan(&one, cloud, plan::Options::default(), &silent()).await)
                    .await
            }
            Self::AddBusiness => {
                make(&both, cloud, async || {
                    provision::plan_addition(&one, &both, cloud, plan::Options::default(), &silent()).await
                })
                .await
            }
            Self::RemoveBusiness => remove(&both, Some(&one), cloud, false).await,
            Self::Teardown => remove(&one, None, cloud, false).await,
        }
    }

    /// Brings about what has to be there before.
    pub(crate) async fn prepare(self, google: &Google) {
        let verbs: &[Self] = match self {
            Self::Provision => &[],
            Self::Repair | Self::AddBusiness | Self::Teardown => &[Self::Provision],
            Self::RemoveBusiness => &[Self::Provision, Self::AddBusiness],
        };
        for verb in verbs {
            verb.run(&cloud(client(google))).await.unwrap();
        }
        if verbs.is_empty() {
            return;
        }
        put(google, "bu1/output/s/j/1-0").await;
        if self == Self::Repair {
            drift::drift(google).await;
        }
        if self == Self::RemoveBusiness {
            put(google, "bu2/output/s/j/1-0").await;
        }
        // Whoever had the lock last is dead, and the verb takes it over.
        if self == Self::AddBusiness {
            leave_a_lock(google).await;
        }
    }
}

/// Looks, preflights, and carries out under the lock what a second look still wants.
pub(crate) async fn make(
    environment: &Environment,
    cloud: &Cloud,
    look: impl AsyncFn() -> anyhow::Result<plan::Plan>,
) -> anyhow::Result<()> {
    let agreed = look().await?;
    if agreed.pending().next().is_some() {
        let findings = provision::preflight::check(environment, cloud, Some(&agreed)).await;
        provision::preflight::pass(environment, &findings)?;
    }
    locked::carry_out_locked(environment, cloud, agreed, &lock("provision"), &silent(), async || look().await).await?;
    Ok(())
}

/// Takes away everything that can be taken away.
pub(crate) async fn remove(
    before: &Environment,
    after: Option<&Environment>,
    cloud: &Cloud,
    has_cluster: bool,
) -> anyhow::Result<()> {
    let there = provision::presence::has_cluster(before, cloud).await?;
    let store = Store::connect_for(&cloud.connection(), Duration::from_secs(30)).await?;
    let teardown = Teardown {
        before,
        after,
        cloud,
        store: &store,
        has_cluster: has_cluster && there,
        options: teardown::Options {
            removal: removal::Options { data: true, identities: true },
            cancel: false,
            settle: Duration::from_secs(30),
            rollout: Duration::from_secs(30),
        },
        report: &|_| {},
    };
    let agreed = teardown.plan(&silent()).await?;
    let gone = teardown.carry_out(&agreed, &lock("teardown"), &silent()).await?;
    anyhow::ensure!(gone.left.is_empty(), "left: {:?}", gone.left);
    Ok(())
}

/// What a cloud held at one moment: the files that it saved, to begin from again.
pub(crate) struct Saved(Vec<(PathBuf, Vec<u8>)>);

impl Saved {
    pub(crate) fn of(google: &Google) -> Self {
        let folder = tempfile::tempdir().unwrap();
        google.save_to(folder.path()).unwrap();
        let mut saved = Self(Vec::new());
        saved.read(folder.path(), Path::new(""));
        saved
    }

    fn read(&mut self, root: &Path, inside: &Path) {
        for entry in std::fs::read_dir(root.join(inside)).unwrap() {
            let entry = entry.unwrap();
            let path = inside.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => self.read(root, &path),
                false => self.0.push((path, std::fs::read(entry.path()).unwrap())),
            }
        }
    }

    /// Puts it into a cloud that holds nothing yet.
    pub(crate) fn load_into(&self, google: &Google) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in &self.0 {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        google.load_from(folder.path()).unwrap();
    }
}

/// Everything that the cloud holds, without what differs from run to run: times, numbers, etags.
pub(crate) fn world(google: &Google) -> Value {
    let folder = tempfile::tempdir().unwrap();
    google.save_to(folder.path()).unwrap();
    let mut state = read(folder.path());
    let accounts = state["identity"]["accounts"]["by_uid"].as_object().unwrap().clone();
    let emails: BTreeMap<String, String> =
        accounts.iter().map(|(uid, account)| (uid.clone(), account["email"].as_str().unwrap().to_owned())).collect();
    settle(&mut state, &emails);
    // Of a run that was stopped when all was done but that; it ends by itself.
    if let Some(objects) = state["storage"]["objects"].as_array_mut() {
        objects.retain(|object| object["name"] != lock::OBJECT);
    }
    // Whoever reads their emails makes them.
    state["identity"]["accounts"]["agents"] = Value::Null;
    state["container"]["operations"] = Value::Null;
    state["registry"]["operations"] = Value::Null;
    state
}

/// What a cloud saved.
pub(crate) fn read(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("google.json")).unwrap()).unwrap()
}

const FLEETING: [&str; 13] = [
    "etag",
    "revision",
    "secret",
    "created",
    "updated",
    "deleted",
    "generation",
    "metageneration",
    "labelFingerprint",
    "effective",
    "last_notification",
    "public_pem",
    "id",
];

/// Numbers of accounts become their addresses, fleeting values what they are at most: there or not; and lists without
/// an order get one.
fn settle(value: &mut Value, emails: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            if fields.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with("deskgrid/keys/")) {
                // It holds ids that are drawn anew each time.
                fields.retain(|key, _| !["crc32c", "md5"].contains(&key.as_str()));
            }
            for (key, field) in fields.iter_mut() {
                if FLEETING.contains(&key.as_str()) || key.ends_with("Time") {
                    *field = json!(!field.is_null());
                } else if ["notifications", "keys", "alertPolicies"].contains(&key.as_str())
                    && let Some(configurations) = field.as_object()
                {
                    *field = configurations.values().cloned().collect();
                }
                settle(field, emails);
            }
            let named: Vec<String> =
                fields.keys().filter(|key| emails.keys().any(|uid| key.contains(uid.as_str()))).cloned().collect();
            for key in named {
                let inner = fields.remove(&key).unwrap_or_default();
                fields.insert(with_emails(&key, emails), inner);
            }
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                settle(item, emails);
            }
            items.sort_by_cached_key(Value::to_string);
        }
        Value::String(text) => *text = with_emails(text, emails),
        _ => {}
    }
}

fn with_emails(text: &str, emails: &BTreeMap<String, String>) -> String {
    let found = emails.iter().find(|(uid, _)| text.contains(uid.as_str()));
    found.map_or_else(|| text.to_owned(), |(uid, email)| text.replace(uid.as_str(), email))
}

/// Fails with the first places at which two worlds differ.
pub(crate) fn assert_same(found: &Value, desired: &Value, when: &str) {
    let mut differences = Vec::new();
    compare("", found, desired, &mut differences);
    assert!(differences.is_empty(), "{when}\n{}", differences.join("\n"));
}

fn compare(path: &str, found: &Value, desired: &Value, differences: &mut Vec<String>) {
    match (found, desired) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                compare(&format!("{path}/{key}"), &found[key], &desired[key], differences);
            }
        }
        _ if found != desired => differences.push(format!("{path}: found {found}, wanted {desired}")),
        _ => {}
    }
}
