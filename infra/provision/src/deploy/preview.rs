//! What a deploy would do, found out without a write: every object is read, and its apply is tried out by the API
//! server (dry run), which says whether anything would change and who owns what would.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use contract::labels;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use serde::Serialize;
use serde_json::Value;

use super::{
    Applied, Change, ENVIRONMENT, Foreign,
    applyset::{self, Departed, SetState},
    compare, reach,
    refusal::{self, Conflict},
};
use crate::{manifests::Rendered, unsettled::unsettled};

/// Objects asked for at a time.
const AT_ONCE: usize = 12;

/// One object with what would become of it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The object to apply.
    pub object: Value,
    /// What happens to it.
    pub change: Change,
    /// As it is; nothing when it is new.
    pub live: Option<Value>,
    /// As it would be; nothing when the API server cannot try it out yet, since its namespace is new too.
    pub after: Option<Value>,
    /// Fields of it that others own.
    pub conflicts: Vec<Conflict>,
    /// Whether the apply must take fields over.
    pub(super) force: bool,
}

impl Planned {
    /// `Kind namespace/name`.
    pub fn title(&self) -> String {
        reach::title(&self.object)
    }

    /// The entry in the report.
    pub(super) fn applied(&self) -> Applied {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metadata = &self.object["metadata"];
        Applied {
            kind: text(&self.object["kind"]).unwrap_or_default(),
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]).unwrap_or_default(),
            change: self.change,
        }
    }
}

/// What belongs together and is done in order: the objects of one namespace, or those outside of all.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) objects: Vec<Planned>,
    pub(super) set: Option<SetState>,
}

impl ChangeView {
    /// A change of a Secret, whose content is not shown.
    pub(super) fn secret(namespace: &str, name: &str, change: Change, difference: String) -> Self {
        let (namespace, name) = (Some(namespace.to_owned()), name.to_owned());
        let applied = Applied { kind: "Secret".to_owned(), namespace, name, change };
        Self { applied, difference, conflicts: Vec::new() }
    }
}

impl From<Applied> for ChangeView {
    fn from(applied: Applied) -> Self {
        Self { applied, difference: String::new(), conflicts: Vec::new() }
    }
}

/// What a deploy would do.
#[derive(Debug)]
pub struct Preview {
    pub(super) environment: String,
    /// What is outside of namespaces, then each namespace.
    pub(super) groups: Vec<Group>,
    pub(super) departed: Vec<Departed>,
}

/// How to preview.
#[derive(Clone, Copy, Debug, Default)]
pub struct PreviewOptions {
    /// Namespaces of our names that somebody else made.
    pub foreign: Foreign,
    /// Take over fields that others own.
    pub force_conflicts: bool,
}

/// One change, for programs.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeView {
    /// The object.
    #[serde(flatten)]
    pub applied: Applied,
    /// What differs, as lines of YAML that begin with ` `, `-` or `+`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub difference: String,
    /// Fields that somebody else owns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
}

impl Preview {
    /// Every object that would be applied, in order.
    pub fn objects(&self) -> impl Iterator<Item = &Planned> {
        self.groups.iter().flat_map(|group| &group.objects)
    }

    /// Whether a deploy would write nothing at all.
    pub fn is_empty(&self) -> bool {
        self.departed.is_empty()
            && self.objects().all(|planned| planned.change == Change::Unchanged)
            && self.groups.iter().filter_map(|group| group.set.as_ref()).all(SetState::is_settled)
    }

    /// What would be taken away.
    pub fn pruned(&self) -> impl Iterator<Item = &Applied> {
        let sets = self.groups.iter().filter_map(|group| group.set.as_ref());
        let surplus = sets.flat_map(|set| &set.surplus).chain(self.departed.iter().flat_map(|gone| &gone.surplus));
        surplus.map(|surplus| &surplus.gone)
    }

    /// Every change, with what differs.
    pub fn changes(&self) -> Vec<ChangeView> {
        let applied = self.objects().filter(|planned| planned.change != Change::Unchanged).map(|planned| {
            // What is new is shown as it is applied: the API server chooses some values anew each time.
            let tried_out = planned.after.as_ref().filter(|_| planned.live.is_some());
            let after = tried_out.unwrap_or(&planned.object);
            ChangeView {
                applied: planned.applied(),
                difference: compare::difference(planned.live.as_ref(), Some(after)),
                conflicts: planned.conflicts.clone(),
            }
        });
        let sets = self.groups.iter().filter_map(|group| group.set.as_ref());
        let parents = sets.filter_map(SetState::parent_change);
        let departed = self.departed.iter().map(Departed::parent_change);
        applied.chain(self.pruned().cloned().chain(parents).chain(departed).map(ChangeView::from)).collect()
    }

    /// Whether it may be carried out.
    ///
    /// # Errors
    /// When somebody else owns fields of it; says who, and which.
    pub fn check(&self) -> anyhow::Result<()> {
        let disputed: Vec<_> = self
            .objects()
            .filter(|planned| !planned.force && !planned.conflicts.is_empty())
            .map(|planned| (planned.title(), planned.conflicts.clone()))
            .collect();
        if disputed.is_empty() { Ok(()) } else { Err(refusal::disputed(&disputed).into()) }
    }
}

/// Finds out what applying these objects would do. With `present` (every namespace of the environment) also what is
/// left of businesses that are not in it any more.
///
/// # Errors
/// When a namespace of our name is somebody else's, the API server would refuse an object, or cannot be asked.
pub async fn preview_rendered(
    client: &Client,
    environment: &str,
    rendered: &Rendered,
    present: Option<&BTreeSet<String>>,
    options: PreviewOptions,
) -> anyhow::Result<Preview> {
    let mut outside = Vec::new();
    let mut namespaces: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for object in rendered.objects() {
        match applyset::home(object) {
            Some(place) => namespaces.entry(place.to_owned()).or_default().push(object.clone()),
            None => outside.push(object.clone()),
        }
    }
    let outside = Group { objects: try_out(client, outside, options).await?, set: None };
    let groups = namespaces
        .into_iter()
        .map(|(name, objects)| namespace(client, environment, name, objects, options))
        .collect::<Vec<_>>();
    let mut groups: Vec<Group> = stream::iter(groups).buffered(AT_ONCE).try_collect().await?;
    groups.insert(0, outside);
    let departed = match present {
        Some(present) => applyset::departed(client, environment, present).await?,
        None => Vec::new(),
    };
    Ok(Preview { environment: environment.to_owned(), groups, departed })
}

async fn namespace(
    client: &Client,
    environment: &str,
    name: String,
    mut objects: Vec<Value>,
    options: PreviewOptions,
) -> anyhow::Result<Group> {
    let sets = applyset::assign(&mut objects.iter_mut().collect::<Vec<_>>());
    let desired = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let live = reach::read(client, &desired).await?;
    let exists = live.is_some();
    if live.as_ref().is_some_and(|live| !live["metadata"]["deletionTimestamp"].is_null()) {
        return Err(refusal::ending(&name, unsettled(client, &name).await?.total()).into());
    }
    if let Some(live) = &live
        && objects.iter().any(|object| object["kind"] == "Namespace")
    {
        check_namespace(live, environment, options.foreign)?;
    }
    let objects =
        if exists { try_out(client, objects, options).await? } else { objects.into_iter().map(fresh).collect() };
    let set = match sets.into_iter().next() {
        Some(set) => Some(applyset::read_set(client, environment, set, exists).await?),
        None => None,
    };
    Ok(Group { objects, set })
}

fn fresh(object: Value) -> Planned {
    Planned { object, change: Change::Created, live: None, after: None, conflicts: Vec::new(), force: false }
}

async fn try_out(client: &Client, objects: Vec<Value>, options: PreviewOptions) -> anyhow::Result<Vec<Planned>> {
    let objects = objects.into_iter().map(|object| try_out_one(client, object, options)).collect::<Vec<_>>();
    stream::iter(objects).buffered(AT_ONCE).try_collect().await
}

async fn try_out_one(client: &Client, object: Value, options: PreviewOptions) -> anyhow::Result<Planned> {
    let (live, after) =
        tokio::join!(reach::read(client, &object), reach::apply(client, &object, options.force_conflicts, true));
    let live = live?;
    let mut force = options.force_conflicts;
    let mut conflicts = Vec::new();
    let after = match after {
        Ok(after) => Some(after),
        Err(error) => match reach::refusal(&error) {
            // What it refers to is as new as itself; a role that a binding names, for example.
            Some(status) if status.code == 404 && live.is_none() => None,
            Some(status) if refusal::is_conflict(status) => {
                conflicts = refusal::conflicts(status);
                // What a verb of ours changed in between is ours to take back.
                force = conflicts.is_empty();
                Some(reach::apply(client, &object, true, true).await?)
            }
            Some(status) => return Err(refusal::refused(&reach::title(&object), status).into()),
            None => return Err(error.context(format!("try out the {}", reach::title(&object)))),
        },
    };
    let change = match (&live, &after) {
        (None, _) => Change::Created,
        (Some(live), Some(after)) if compare::same(live, after) => Change::Unchanged,
        _ => Change::Changed,
    };
    Ok(Planned { object, change, live, after, conflicts, force })
}

/// Whether a namespace is ours, and of this environment.
fn check_namespace(live: &Value, environment: &str, foreign: Foreign) -> anyhow::Result<()> {
    let metadata = &live["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if metadata["labels"][labels::MANAGED_BY] != labels::MANAGED_BY_DESKGRID && foreign == Foreign::Refuse {
        bail!(
            "the namespace {name} is not ours (it has no label {}={}); `cargo xtask deploy --adopt` takes it over, or give the business another `namespace` in the environment file",
            labels::MANAGED_BY,
            labels::MANAGED_BY_DESKGRID
        );
    }
    match metadata["labels"][ENVIRONMENT].as_str() {
        Some(other) if other != environment => {
            bail!("the namespace {name} belongs to the environment {other}; give the business another `namespace`")
        }
        _ => Ok(()),
    }
}
