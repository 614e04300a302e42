//! The way to the cluster in the kubeconfig that `kubectl` reads, as `gcloud container clusters get-credentials` writes
//! it, and in the namespace of a business. Everything else in the file stays as it is.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use contract::config::Cluster;
use serde_json::{Map, Value, json};

use crate::environment::{Endpoint, Environment};

/// Documentation of the plugin through which `kubectl` gets Google's tokens.
const INSTALL_HINT: &str = "Install gke-gcloud-auth-plugin for use with kubectl by following \
                            https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-access-for-kubectl#install_plugin";

/// The way to one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of context, cluster and user: `gke_PROJECT_LOCATION_CLUSTER`.
    pub name: String,
    /// Address and authority.
    pub server: Cluster,
    /// Namespace that commands mean when they name none.
    pub namespace: Option<String>,
}

impl Entry {
    /// The way to the environment's cluster, in a namespace.
    pub fn of(environment: &Environment, server: &Cluster, namespace: Option<&str>) -> Self {
        let namespace = namespace.map(str::to_owned);
        Self { name: context_name(environment), server: server.clone(), namespace }
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
        let mut cluster = json!({"server": self.server.server});
        if let Some(authority) = &self.server.authority {
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

/// The context that Google's tools name after a cluster.
fn context_name(environment: &Environment) -> String {
    format!("gke_{}_{}_{}", environment.project, environment.cluster_location(), environment.cluster.name)
}

/// The API server of the environment's cluster, as the live `cluster` of the container API says; nothing while it has no
/// address.
pub fn server(environment: &Environment, cluster: &Value) -> Option<Cluster> {
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
    Some(Cluster { server: format!("https://{address}"), authority })
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

/// Writes a cluster into the kubeconfig files `paths`; returns the file of the context, and whether anything changed.
/// Nothing when there is no place for one.
///
/// As `kubectl config` does (client-go, `ModifyConfig`): a context that exists is changed where it is, a new one goes
/// into the first file that exists or else into the last, and the current context is set where it counts.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(entry: &Entry, paths: &[PathBuf]) -> anyhow::Result<Option<(PathBuf, bool)>> {
    let mut exist = Vec::new();
    for path in paths.iter().filter(|path| path.exists()) {
        exist.push((path, read(path).with_context(|| format!("read the kubeconfig {}", path.display()))?));
    }
    let Some(usual) = exist.first().map(|(path, _)| *path).or(paths.last()) else { return Ok(None) };
    let first = |has: &dyn Fn(&Value) -> bool| exist.iter().find(|(_, file)| has(file)).map(|(path, _)| *path);
    let place = first(&|file| found(file, "contexts", &entry.name).is_some()).unwrap_or(usual);
    let current = first(&|file| file["current-context"].as_str().is_some_and(|name| !name.is_empty())).unwrap_or(place);
    let put = |path: &Path, change: &dyn Fn(&Value) -> anyhow::Result<Value>| {
        put(path, change).with_context(|| format!("put the cluster into {}", path.display()))
    };
    let mut changed = put(place, &|file| entry.merged(file))?;
    if current != place {
        changed |= put(current, &|file| {
            let mut file = file.clone();
            file["current-context"] = json!(entry.name);
            Ok(file)
        })?;
    }
    Ok(Some((place.clone(), changed)))
}

fn read(path: &Path) -> anyhow::Result<Value> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(Value::Null),
        Ok(text) => serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{error}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(error.into()),
    }
}

/// Writes the file if it would be another one: all of it at once, readable for its owner only.
fn put(path: &Path, change: &dyn Fn(&Value) -> anyhow::Result<Value>) -> anyhow::Result<bool> {
    let existing = read(path)?;
    let merged = change(&existing)?;
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
        let at = |more: &str| server(&environment(more), &cluster()).unwrap();
        let dns = at("");
        assert_eq!((dns.server.as_str(), dns.authority), ("https://gke-1.europe-west1.gke.goog", None));
        let public = at("[network]\nendpoint = \"public\"");
        assert_eq!((public.server.as_str(), public.authority.as_deref()), ("https://34.1.2.3", Some("Q0E=")));
        assert_eq!(at("[network]\nendpoint = \"private\"").server, "https://10.0.0.2");
        assert_eq!(server(&environment(""), &json!({"status": "PROVISIONING"})), None);
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
        let entry = entry();
        let paths = [path.clone()];
        assert_eq!(write(&entry, &paths).unwrap(), Some((path.clone(), true)));
        assert_eq!(write(&entry, &paths).unwrap(), Some((path.clone(), false)), "a second time nothing is written");
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
        assert!(write(&entry, &paths).is_err(), "what is no kubeconfig is left alone");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[1, 2]");
        fs::write(&path, "kind: Config\nclusters: [\n").unwrap();
        let error = format!("{:#}", write(&entry, &paths).unwrap_err());
        assert!(error.contains(path.to_str().unwrap()) && error.contains("line "), "{error}");
    }

    #[test]
    fn of_several_files_each_part_goes_where_kubectl_puts_it() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry();
        let ours = format!("contexts: [{{name: {}, context: {{user: mine}}}}]\n", entry.name);
        let other = "current-context: other\n";
        // Files, the one of the context, the one of the current context.
        let check = |files: [Option<&str>; 3], context: usize, current: usize| {
            let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
            for (path, text) in paths.iter().zip(files) {
                let _ = fs::remove_file(path);
                text.iter().for_each(|text| fs::write(path, text).unwrap());
            }
            assert_eq!(write(&entry, &paths).unwrap(), Some((paths[context].clone(), true)));
            assert!(found(&read(&paths[context]).unwrap(), "contexts", &entry.name).is_some());
            assert_eq!(read(&paths[current]).unwrap()["current-context"], entry.name.as_str());
        };
        check([None, None, None], 2, 2);
        check([None, Some(""), Some(other)], 1, 2);
        check([Some(other), None, Some(&ours)], 2, 0);
        assert_eq!(write(&entry, &[]).unwrap(), None);
    }

    fn entry() -> Entry {
        let server = server(&environment(""), &cluster()).unwrap();
        let entry = Entry::of(&environment(""), &server, Some("bu1"));
        assert_eq!(entry.name, "gke_desk-one_europe-west1_desk-one-cluster");
        entry
    }
}
