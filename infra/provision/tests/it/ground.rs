//! What the tests share: a laptop cloud, clients of it, the verbs as far as they concern Google, and the state of the
//! world as they leave it.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use localcloud::google::{Google, Options};
use provision::{
    Cloud, Environment, apply,
    environment::{Overrides, parse},
    google::{Client, Endpoints, Retry},
    plan, removal,
};
use serde_json::{Value, json};

pub(crate) const PROJECT: &str = "desk-one";
/// One business with everything that a business can have.
pub(crate) const ONE: &str = "[businesses.bu1]\npriority = true\nsubmit_on_upload = true\n";
/// A second one beside it.
pub(crate) const TWO: &str = "[businesses.bu2]\nsubmit_on_upload = true\n";

/// The environment with these businesses.
pub(crate) fn environment(businesses: &str) -> Environment {
    let text = format!("project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n{businesses}");
    parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A cloud that refuses what is not enabled, and whose operations end after `operations_take`.
pub(crate) async fn google(tell: impl FnOnce(&mut Options)) -> Google {
    let _ = common::clients::install_tls_provider();
    let mut options =
        Options { allow_anonymous: true, enforce_apis: true, operations_take: Duration::ZERO, ..Options::new(PROJECT) };
    tell(&mut options);
    Google::start(options).await.unwrap()
}

/// A client of its own, as each run of the program has.
pub(crate) fn client(google: &Google) -> Client {
    let endpoints: Endpoints = serde_json::from_value(serde_json::to_value(google.endpoints()).unwrap()).unwrap();
    let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
    let retry = Retry { attempts: 8, first: Duration::from_millis(1), longest: Duration::from_millis(10) };
    Client::new(endpoints, credentials).unwrap().retrying(retry)
}

pub(crate) fn cloud(google: Client) -> Cloud {
    let kubernetes = Err("only Google's half is here".to_owned());
    Cloud { google, kubernetes, endpoints: common::config::Endpoints::default() }
}

pub(crate) fn silent() -> apply::Progress {
    Arc::new(|_| {})
}

/// A verb, as far as it concerns Google.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Provision,
    AddBusiness,
    RemoveBusiness,
    Teardown,
}

impl Verb {
    pub(crate) const ALL: [Self; 4] = [Self::Provision, Self::AddBusiness, Self::RemoveBusiness, Self::Teardown];

    /// Runs it as the command line does.
    pub(crate) async fn run(self, cloud: &Cloud) -> anyhow::Result<()> {
        let (one, both) = (environment(ONE), environment(&[ONE, TWO].concat()));
        match self {
            Self::Provision => {
                provision::run(&one, cloud, plan::Options::default(), &silent()).await?;
            }
            Self::AddBusiness => {
                let plan = provision::look_to_add(&one, &both, cloud, plan::Options::default(), &silent()).await?;
                provision::carry_out(plan, cloud, &silent()).await?;
            }
            Self::RemoveBusiness => remove(&both, Some(&one), cloud).await?,
            Self::Teardown => remove(&one, None, cloud).await?,
        }
        Ok(())
    }

    /// What has to be there before.
    pub(crate) fn before(self) -> &'static [Self] {
        match self {
            Self::Provision => &[],
            Self::AddBusiness | Self::Teardown => &[Self::Provision],
            Self::RemoveBusiness => &[Self::Provision, Self::AddBusiness],
        }
    }
}

/// Takes away with everything that can be taken away.
async fn remove(before: &Environment, after: Option<&Environment>, cloud: &Cloud) -> anyhow::Result<()> {
    let options = removal::Options { data: true, identities: true };
    provision::presence::has_cluster(before, cloud).await?;
    provision::look_to_remove(before, after, cloud, options, &silent()).await?;
    for business in &before.businesses {
        if after.is_none_or(|after| after.business(&business.name).is_none()) {
            provision::data::held_messages(cloud, &before.project, business).await?;
        }
    }
    let plan = provision::look_to_remove(before, after, cloud, options, &silent()).await?;
    provision::carry_out(plan, cloud, &silent()).await?;
    if after.is_none() {
        let left = provision::left(before, cloud, options).await?;
        anyhow::ensure!(left.is_empty(), "left: {left:?}");
    }
    Ok(())
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
    state["container"]["operations"] = Value::Null;
    state["registry"]["operations"] = Value::Null;
    state
}

/// What a cloud saved.
pub(crate) fn read(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("google.json")).unwrap()).unwrap()
}

const FLEETING: [&str; 12] = [
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
    "id",
];

/// Numbers of accounts become their addresses, fleeting values what they are at most: there or not; and lists without
/// an order get one.
fn settle(value: &mut Value, emails: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                if FLEETING.contains(&key.as_str()) || key.ends_with("Time") {
                    *field = json!(!field.is_null());
                } else if key == "notifications"
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
pub(crate) fn assert_same(found: &Value, wanted: &Value, when: &str) {
    let mut differences = Vec::new();
    compare("", found, wanted, &mut differences);
    assert!(differences.is_empty(), "{when}\n{}", differences.join("\n"));
}

fn compare(path: &str, found: &Value, wanted: &Value, differences: &mut Vec<String>) {
    match (found, wanted) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                compare(&format!("{path}/{key}"), &found[key], &wanted[key], differences);
            }
        }
        _ if found != wanted => differences.push(format!("{path}: found {found}, wanted {wanted}")),
        _ => {}
    }
}
