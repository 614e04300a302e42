//! The way to the cluster in the kubeconfig that `kubectl` reads, as `gcloud container clusters get-credentials` writes
//! it, and in the namespace of a business. Everything else in the file stays as it is.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::{
    cloud::context_name,
    environment::{Endpoint, Environment},
    google::Client,
    kinds::cluster,
};

/// Documentation of the plugin through which `kubectl` gets Google's tokens.
const INSTALL_HINT: &str = "Install gke-gcloud-auth-plugin for use with kubectl by following \
                            https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-access-for-kubectl#install_plugin";

/// The way to one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of context, cluster and user: `gke_PROJECT_LOCATION_CLUSTER`.
    pub name: String,
    /// Address, `https://…`.
    pub server: String,
    /// Certificate authority in base64, of an address that no public one vouches for.
    pub authority: Option<String>,
    /// Namespace that commands mean when they name none.
    pub namespace: Option<String>,
}

impl Entry {
    /// The way to the environment's cluster, as the live `cluster` of the container API says; nothing while it has no
    /// address.
    pub fn of(environment: &Environment, cluster: &Value, namespace: Option<&str>) -> Option<Self> {
        let text = |pointer: &str| cluster.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let endpoints = "/controlPlaneEndpointsConfig";
        let dns = text(&format!("{endpoints}/dnsEndpointConfig/endpoint")).filter(|_| {
            cluster.pointer(&format!("{endpoints}/dnsEndpointConfig/allowExternalTraffic")) == Some(&json!(true))
        });
        let public = text("/endpoint");
        let private = text(&format!("{endpoints}/ipEndpointsConfig/privateEndpoint"))
            .or_else(|| text("/privateClusterConfig/privateEndpoint"));
        // Of somebody else's cluster the one that is there.
        let (address, by_name) = match environment.network.endpoint {
            Endpoint::Dns => dns.map(|name| (name, true)).or(public.map(|address| (address, false))),
            Endpoint::Public => public.map(|address| (address, false)).or(dns.map(|name| (name, true))),
            Endpoint::Private => private.or(public).map(|address| (address, false)),
        }?;
        let authority = text("/masterAuth/clusterCaCertificate").filter(|_| !by_name).map(str::to_owned);
        Some(Self {
            name: context_name(environment),
            server: format!("https://{address}"),
            authority,
            namespace: namespace.map(str::to_owned),
        })
    }

    /// A kubeconfig with this entry in it, its context the current one. All else stays, also what somebody put into
    /// our context.
    ///
    /// # Errors
    /// When `existing` is no kubeconfig.
    pub fn merged(&self, existing: &Value) -> anyhow::Result<Value> {
        let mut config = match existing {
            Value::Null => json!({"apiVersion": "v1", "kind": "Config", "preferences": {}}),
            Value::Object(_) if existing["kind"] == "Config" || existing["kind"].is_null() => existing.clone(),
            _ => bail!("it is no kubeconfig"),
        };
        let mut cluster = json!({"server": self.server});
        if let Some(authority) = &self.authority {
            cluster["certificate-authority-data"] = json!(authority);
        }
        let user = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "gke-gcloud-auth-plugin",
            "installHint": INSTALL_HINT,
            "provideClusterInfo": true,
        }});
        replace(&mut config, "clusters", "cluster", &self.name, cluster)?;
        replace(&mut config, "users", "user", &self.name, user)?;
        let mut context =
            found(&config, "contexts", &self.name).map_or_else(|| json!({}), |one| one["context"].clone());
        context["cluster"] = json!(self.name);
        context["user"] = json!(self.name);
        if let Some(namespace) = &self.namespace {
            context["namespace"] = json!(namespace);
        }
        replace(&mut config, "contexts", "context", &self.name, context)?;
        config["current-context"] = json!(self.name);
        Ok(config)
    }
}

fn found<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|item| item["name"] == name)
}

/// Puts the item called `name` into a list, in the place of one that is there.
fn replace(config: &mut Value, list: &str, key: &str, name: &str, value: Value) -> anyhow::Result<()> {
    let mut item = Map::new();
    item.insert(key.to_owned(), value);
    item.insert("name".to_owned(), json!(name));
    let item = Value::Object(item);
    if config[list].is_null() {
        config[list] = json!([]);
    }
    let Some(items) = config[list].as_array_mut() else { bail!("its {list} are no list") };
    match items.iter_mut().find(|item| item["name"] == name) {
        Some(old) => *old = item,
        None => items.push(item),
    }
    Ok(())
}

/// The file that `kubectl` writes to: the first that `KUBECONFIG` names and that is there, or else the last of them, or
/// the usual one of the person.
pub fn path(kubeconfig: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
    let named: Vec<PathBuf> =
        std::env::split_paths(kubeconfig.unwrap_or_default()).filter(|path| !path.as_os_str().is_empty()).collect();
    let there = named.iter().find(|path| path.is_file()).or(named.last()).cloned();
    there.or_else(|| Some(Path::new(home.filter(|home| !home.is_empty())?).join(".kube/config")))
}

/// Writes the environment's cluster into a kubeconfig; returns its context, and whether the file changed.
/// Nothing when there is no cluster.
///
/// # Errors
/// When the cluster does not answer about, or the file not be read or written.
pub async fn write(
    environment: &Environment,
    client: &Client,
    path: &Path,
    namespace: Option<&str>,
) -> anyhow::Result<Option<(Entry, bool)>> {
    let id = cluster::id(environment);
    let cluster = client.send_optional(&id.read(&Value::Null)).await.with_context(|| format!("read the {id}"))?;
    let Some(entry) = cluster.and_then(|cluster| Entry::of(environment, &cluster, namespace)) else { return Ok(None) };
    let changed = put(&entry, path).with_context(|| format!("put the cluster into {}", path.display()))?;
    Ok(Some((entry, changed)))
}

/// Writes the file if it would be another one: all of it at once, readable for its owner only.
fn put(entry: &Entry, path: &Path) -> anyhow::Result<bool> {
    let existing = match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Value::Null,
        Ok(text) => serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{error}"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(error.into()),
    };
    let merged = entry.merged(&existing)?;
    if merged == existing {
        return Ok(false);
    }
    let text = serde_saphyr::to_string(&merged).map_err(|error| anyhow::anyhow!("{error}"))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A link stays one: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&draft, &path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(more: &str) -> Environment {
        crate::environment::tests::environment(&format!(
            "project = \"desk-one\"\nlocation = \"europe-west1\"\n{more}\n[businesses.bu1]\n"
        ))
    }

    fn cluster() -> Value {
        json!({
            "endpoint": "34.1.2.3",
            "masterAuth": {"clusterCaCertificate": "Q0E="},
            "controlPlaneEndpointsConfig": {
                "dnsEndpointConfig": {"endpoint": "gke-1.europe-west1.gke.goog", "allowExternalTraffic": true},
                "ipEndpointsConfig": {"privateEndpoint": "10.0.0.2"},
            },
        })
    }

    #[test]
    fn the_address_is_the_one_that_the_environment_wants() {
        let entry = |more: &str| Entry::of(&environment(more), &cluster(), Some("bu1")).unwrap();
        let dns = entry("");
        assert_eq!(dns.name, "gke_desk-one_europe-west1_desk-one-cluster");
        assert_eq!((dns.server.as_str(), dns.authority), ("https://gke-1.europe-west1.gke.goog", None));
        let public = entry("[network]\nendpoint = \"public\"");
        assert_eq!((public.server.as_str(), public.authority.as_deref()), ("https://34.1.2.3", Some("Q0E=")));
        assert_eq!(entry("[network]\nendpoint = \"private\"").server, "https://10.0.0.2");
        assert_eq!(Entry::of(&environment(""), &json!({"status": "PROVISIONING"}), None), None);
    }

    #[test]
    fn what_is_of_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let others = "apiVersion: v1\nkind: Config\ncurrent-context: mine\nextensions: [{name: x, extension: {a: 1}}]\n\
                      clusters: [{name: mine, cluster: {server: 'https://1.2.3.4', insecure-skip-tls-verify: true}}]\n\
                      users: [{name: mine, user: {token: 'no'}}]\n\
                      contexts: [{name: mine, context: {cluster: mine, user: mine, namespace: 'on'}}]\n";
        fs::write(&path, others).unwrap();
        let entry = Entry::of(&environment(""), &cluster(), Some("bu1")).unwrap();
        assert!(put(&entry, &path).unwrap());
        assert!(!put(&entry, &path).unwrap(), "a second time nothing is written");
        let read: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let before: Value = serde_saphyr::from_str(others).unwrap();
        for list in ["clusters", "users", "contexts"] {
            assert_eq!(read[list][0], before[list][0]);
            assert_eq!(read[list].as_array().unwrap().len(), 2);
        }
        assert_eq!(read["extensions"], before["extensions"]);
        assert_eq!(read["current-context"], entry.name.as_str());
        assert_eq!(read["contexts"][1]["context"]["namespace"], "bu1");

        fs::write(&path, "[1, 2]").unwrap();
        assert!(put(&entry, &path).is_err(), "what is no kubeconfig is left alone");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[1, 2]");
    }
}
