//! What a deployment leaves behind, and takes away when the templates or the environment no longer have it.
//!
//! Follows the specification of ApplySets (Kubernetes Enhancement Proposal 3659), so that kubectl and other tools see
//! which objects belong together and by whom they are managed. Every business has one set; its parent is a ConfigMap in
//! the business's namespace. The namespace itself is no member: it holds a desk's Jobs and goes only with
//! `remove-business` and `teardown`. What the web apps may do outside of namespaces is in the set of their own one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use contract::labels;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(super) use self::departed::{Departed, departed, going, remove_departed};
use super::{Applied, Change, ENVIRONMENT, FIELD_MANAGER, reach};
use crate::manifests::WEB_NAMESPACE;

mod departed;

/// Name of the ConfigMap that is the parent of a business's set.
pub const PARENT: &str = "deskgrid-applyset";
/// Label on a parent: the id of its set.
pub const ID: &str = "applyset.kubernetes.io/id";
/// Label on a member: the id of its set.
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";
/// Annotation on a parent: the tool that manages the set, with its version of the format.
const TOOLING: &str = "applyset.kubernetes.io/tooling";
const OUR_TOOLING: &str = "deskgrid/v1";
/// Annotation on a parent: every kind that a member may have, as `Kind.group`, sorted, with commas between.
const KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";

/// Kinds that no deploy ever deletes: what is in them is a desk's.
const NEVER: [&str; 3] = ["Namespace", "PersistentVolumeClaim", "PersistentVolume"];

/// Kinds of members that are in no namespace: a set of a namespace may have such too.
const OUTSIDE: [&str; 2] = ["ClusterRole", "ClusterRoleBinding"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// The namespace whose set an object belongs to; none of what all environments of a cluster share.
pub(super) fn home(object: &Value) -> Option<&str> {
    match object["kind"].as_str() {
        // What the monitor may see of the nodes; no business has such rights.
        Some(kind) if OUTSIDE.contains(&kind) => Some(WEB_NAMESPACE),
        Some("Namespace") => object["metadata"]["name"].as_str(),
        _ => object["metadata"]["namespace"].as_str(),
    }
}

/// The members of one set, as they should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    /// Namespace of the parent and of every member that is in one.
    pub(super) namespace: String,
    /// Business.
    pub(super) business: String,
    /// Id.
    pub(super) id: String,
    /// Kinds of the members, `Kind.group` with the API version to reach it.
    kinds: BTreeMap<String, String>,
    /// `Kind.group/name` of every member.
    members: BTreeSet<String>,
}

/// Id of the set whose parent is the ConfigMap `name` in `namespace`: KEP-3659, "ApplySet identification".
pub fn id(namespace: &str, name: &str) -> String {
    let hash = Sha256::digest(format!("{name}.{namespace}.ConfigMap."));
    format!("applyset-{}-v1", BASE64_URL_SAFE_NO_PAD.encode(hash))
}

/// The sets of these objects; marks each object with the set it is part of.
pub(super) fn assign(objects: &mut [&mut Value]) -> Vec<Set> {
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let name = text(&metadata["name"]);
        let Some(namespace) = home(object).filter(|_| object["kind"] != "Namespace").map(str::to_owned) else {
            continue;
        };
        let business = text(&metadata["labels"][labels::BUSINESS]);
        let kind = group_kind(&text(&object["apiVersion"]), &text(&object["kind"]));
        let set = sets.entry(namespace.clone()).or_insert_with(|| Set {
            id: id(&namespace, PARENT),
            namespace,
            business,
            kinds: BTreeMap::new(),
            members: BTreeSet::new(),
        });
        set.kinds.insert(kind.clone(), text(&object["apiVersion"]));
        set.members.insert(format!("{kind}/{name}"));
        object["metadata"]["labels"][PART_OF] = json!(set.id);
    }
    sets.into_values().collect()
}

/// `Kind.group` as parents list it; the core group is empty.
pub(super) fn group_kind(api_version: &str, kind: &str) -> String {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    format!("{kind}.{group}").trim_end_matches('.').to_owned()
}

/// Kinds that a release had whose API version is not `v1` of their group.
const SHIPPED: [(&str, &str); 1] = [("FrontendConfig.networking.gke.io", "networking.gke.io/v1beta1")];

/// The API version under which to list members of a kind that the templates no longer have.
pub(super) fn api_version(group_kind: &str) -> String {
    if let Some((_, version)) = SHIPPED.iter().find(|(kind, _)| *kind == group_kind) {
        return (*version).to_owned();
    }
    match group_kind.split_once('.') {
        Some((_, group)) => format!("{group}/v1"),
        None => "v1".to_owned(),
    }
}

/// The kinds that a parent's annotation lists, each with its API version.
fn noted(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kinds = annotations.get(KINDS).map(String::as_str).unwrap_or_default().split(',');
    kinds.filter(|kind| !kind.is_empty()).map(|kind| (kind.to_owned(), api_version(kind))).collect()
}

/// A set as it is in the cluster, beside what it should be.
#[derive(Debug)]
pub(super) struct SetState {
    pub(super) set: Set,
    /// Kinds that it has now or had before.
    kinds: BTreeMap<String, String>,
    /// Kinds that its parent lists, if the parent is otherwise as it should be.
    listed: Option<String>,
    /// Members that are no longer wanted.
    pub(super) surplus: Vec<Surplus>,
    /// The parent is there.
    exists: bool,
}

impl SetState {
    /// Whether nothing is to be written or deleted.
    pub(super) fn is_settled(&self) -> bool {
        self.surplus.is_empty() && self.parent_change().is_none()
    }

    /// What happens to the parent, if anything does.
    pub(super) fn parent_change(&self) -> Option<Applied> {
        let is_same = self.listed.as_deref() == Some(&list(self.set.kinds.keys()));
        let change = if self.exists { Change::Changed } else { Change::Created };
        (!is_same).then(|| parent(&self.set.namespace, change))
    }
}

/// The parent of the set of a namespace, and what happens to it.
fn parent(namespace: &str, change: Change) -> Applied {
    let (namespace, name) = (Some(namespace.to_owned()), PARENT.to_owned());
    Applied { kind: "ConfigMap".to_owned(), namespace, name, change }
}

/// Reads the state of a set. In a namespace that does not exist the state is empty.
///
/// # Errors
/// When the parent is another tool's, or the API server refuses.
pub(super) async fn read_set(client: &Client, environment: &str, set: Set, exists: bool) -> anyhow::Result<SetState> {
    let kinds = set.kinds.clone();
    let mut state = SetState { kinds, set, listed: None, surplus: Vec::new(), exists: false };
    if !exists {
        return Ok(state);
    }
    let set = &state.set;
    let parents: Api<ConfigMap> = Api::namespaced(client.clone(), &set.namespace);
    let context = || format!("read the ConfigMap {}/{PARENT}", set.namespace);
    let live = reach::with_timeout(parents.get_opt(PARENT)).await.with_context(context)?;
    let Some(live) = live else { return Ok(state) };
    state.exists = true;
    let annotations = live.metadata.annotations.unwrap_or_default();
    if let Some(other) = annotations.get(TOOLING).filter(|tooling| !tooling.starts_with("deskgrid/")) {
        bail!(
            "the ConfigMap {}/{PARENT} is the parent of a set of objects that {other} manages; delete it there, or give the business another `namespace`",
            set.namespace
        );
    }
    let labelled = live.metadata.labels.unwrap_or_default();
    let is_ours = parent_labels(set, environment).iter().all(|(key, value)| labelled.get(*key) == Some(value));
    if is_ours && annotations.get(TOOLING).is_some_and(|tooling| tooling == OUR_TOOLING) {
        state.listed = annotations.get(KINDS).cloned();
    }
    for (kind, version) in noted(&annotations) {
        state.kinds.entry(kind).or_insert(version);
    }
    let reads = state.kinds.iter().map(|(kind, version)| surplus(client, set, kind, version));
    state.surplus = try_join_all(reads).await?.into_iter().flatten().collect();
    Ok(state)
}

/// Says, before any member is written, which kinds the set has now or had before: so that a deployment that is broken
/// off leaves nothing that a later one would not find. Writes nothing when the parent says so already.
///
/// # Errors
/// When the API server refuses it.
pub(super) async fn open(client: &Client, environment: &str, state: &SetState) -> anyhow::Result<()> {
    if state.listed.as_deref() == Some(&list(state.kinds.keys())) {
        return Ok(());
    }
    write(client, environment, &state.set, state.kinds.keys()).await
}

/// Deletes members that are no longer wanted, and notes which kinds are left.
///
/// # Errors
/// When the API server refuses; what was not deleted is found again the next time.
pub(super) async fn close(client: &Client, environment: &str, state: &SetState) -> anyhow::Result<Vec<Applied>> {
    let pruned = delete(&state.surplus).await?;
    // A kind of which something is left must be listed the next time.
    if state.kinds.len() != state.set.kinds.len() && pruned.len() == state.surplus.len() {
        write(client, environment, &state.set, state.set.kinds.keys()).await?;
    }
    Ok(pruned)
}

/// Deletes what a set has outside of its namespace, before the namespace is deleted; returns them.
///
/// # Errors
/// When the API server refuses.
pub(crate) async fn remove_outside(client: &Client, namespace: &str) -> anyhow::Result<Vec<Applied>> {
    let set = Set {
        id: id(namespace, PARENT),
        namespace: namespace.to_owned(),
        business: String::new(),
        kinds: BTreeMap::new(),
        members: BTreeSet::new(),
    };
    let mut removed = Vec::new();
    for kind in OUTSIDE.map(|kind| format!("{kind}.{RBAC}")) {
        removed.extend(delete(&surplus(client, &set, &kind, &api_version(&kind)).await?).await?);
    }
    Ok(removed)
}

/// An object to delete.
#[derive(Clone, Debug)]
pub(super) struct Surplus {
    /// Where it is reached.
    api: Api<DynamicObject>,
    /// What it is.
    pub(super) gone: Applied,
    /// The uid, since a later object may have the same name.
    uid: Option<String>,
}

/// Members of this kind in the cluster that the set does not want.
async fn surplus(client: &Client, set: &Set, kind: &str, version: &str) -> anyhow::Result<Vec<Surplus>> {
    let name = kind.split('.').next().unwrap_or(kind);
    if NEVER.contains(&name) {
        return Ok(vec![]);
    }
    let namespace = (!OUTSIDE.contains(&name)).then_some(set.namespace.as_str());
    let api = reach::api_of(client, version, name, namespace);
    let members = ListParams::default().labels(&format!("{PART_OF}={}", set.id));
    let found = match reach::with_timeout(api.list(&members)).await {
        Ok(found) => found.items,
        // The kind itself is gone, and everything of it: its custom resource definition was taken away.
        Err(error) if reach::is_missing(&error) => vec![],
        Err(error) => {
            let context = format!("list objects of kind {kind} that the deployment of {} no longer has", set.business);
            return Err(error.context(context));
        }
    };
    let unwanted = found.into_iter().filter_map(|object| {
        let found = object.metadata.name?;
        (!set.members.contains(&format!("{kind}/{found}"))).then(|| Surplus {
            api: api.clone(),
            gone: Applied {
                kind: name.to_owned(),
                namespace: namespace.map(str::to_owned),
                name: found,
                change: Change::Pruned,
            },
            uid: object.metadata.uid,
        })
    });
    Ok(unwanted.collect())
}

/// Deletes these and returns those that are gone. An object that was replaced meanwhile is not deleted.
async fn delete(surplus: &[Surplus]) -> anyhow::Result<Vec<Applied>> {
    let mut pruned = Vec::new();
    for Surplus { api, gone, uid } in surplus {
        let only_this = DeleteParams {
            preconditions: Some(Preconditions { uid: uid.clone(), resource_version: None }),
            ..DeleteParams::background()
        };
        match reach::write(|| api.delete(&gone.name, &only_this)).await {
            Err(error) if reach::is_missing(&error) => {}
            Err(error) if reach::refusal(&error).is_some_and(|status| status.code == 409) => continue,
            deleted => drop(deleted.with_context(|| format!("delete the {} {}", gone.kind, gone.name))?),
        }
        pruned.push(gone.clone());
    }
    Ok(pruned)
}

async fn write(
    client: &Client,
    environment: &str,
    set: &Set,
    kinds: impl Iterator<Item = &String>,
) -> anyhow::Result<()> {
    let parent = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": PARENT,
            "namespace": set.namespace,
            "labels": parent_labels(set, environment),
            "annotations": {TOOLING: OUR_TOOLING, KINDS: list(kinds)},
        },
    });
    let parents: Api<ConfigMap> = Api::namespaced(client.clone(), &set.namespace);
    let parameters = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
    let patch = Patch::Apply(&parent);
    reach::write(|| parents.patch(PARENT, &parameters, &patch))
        .await
        .with_context(|| format!("write the ConfigMap {}/{PARENT}", set.namespace))?;
    Ok(())
}

fn parent_labels(set: &Set, environment: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (ID, set.id.clone()),
        (labels::BUSINESS, set.business.clone()),
        (labels::MANAGED_BY, labels::MANAGED_BY_DESKGRID.to_owned()),
        (ENVIRONMENT, environment.to_owned()),
    ])
}

/// Kinds as a parent lists them.
fn list<'a>(kinds: impl Iterator<Item = &'a String>) -> String {
    kinds.map(String::as_str).collect::<Vec<_>>().join(",")
}
