//! The objects of the cluster in memory: one version counter, one log of changes per kind, indexes for the
//! questions that are asked on every write.
//!
//! All writes go through [`Store::write`], which holds one lock for one transaction. A transaction is not undone:
//! callers check first and write last.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

pub use super::key::{Change, Key, Page};
use super::{
    autopilot::IsAutopilot,
    kinds::{KINDS, Kind},
    value,
};

/// Changes kept per kind for watches that resume; older versions answer 410.
const LOG: usize = 8_192;

#[derive(Default)]
struct Table {
    objects: BTreeMap<String, BTreeMap<String, Arc<Value>>>,
    log: VecDeque<Change>,
    /// Highest version that has left the log.
    compacted: u64,
}

struct Inner {
    version: u64,
    tables: Vec<Table>,
    dependents: HashMap<String, HashSet<Key>>,
    subscribers: Vec<(Vec<usize>, mpsc::UnboundedSender<Change>)>,
}

/// The store.
pub struct Store {
    inner: Mutex<Inner>,
    versions: Vec<watch::Sender<u64>>,
    is_autopilot: IsAutopilot,
}

impl Store {
    /// An empty one.
    pub fn new(is_autopilot: IsAutopilot) -> Self {
        let inner = Inner {
            version: 1,
            tables: KINDS.iter().map(|_| Table::default()).collect(),
            dependents: HashMap::new(),
            subscribers: Vec::new(),
        };
        let versions = KINDS.iter().map(|_| watch::Sender::new(1)).collect();
        Self { inner: Mutex::new(inner), versions, is_autopilot }
    }

    /// Whether pods are those of an Autopilot cluster.
    pub fn is_autopilot(&self) -> bool {
        (self.is_autopilot)()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// One object.
    pub fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().get(kind, namespace, name).cloned()
    }

    /// The object at a key.
    pub fn at(&self, key: &Key) -> Option<Arc<Value>> {
        self.get(key.kind, &key.namespace, &key.name)
    }

    /// Every object of a kind, of one namespace or of all.
    pub fn all(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.lock().each(kind, namespace).cloned().collect()
    }

    /// A page of the objects that `desired` takes, at most `limit` (0 = all), after the place given.
    pub fn page(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
        desired: impl Fn(&Value) -> bool,
    ) -> Page {
        let inner = self.lock();
        let mut page = Page { items: Vec::new(), version: inner.version, next: None };
        for object in inner.after(kind, namespace, after) {
            if !desired(object) {
                continue;
            }
            if limit > 0 && page.items.len() == limit {
                page.next =
                    page.items.last().map(|last| (value::namespace(last).to_owned(), value::name(last).to_owned()));
                break;
            }
            page.items.push(object.clone());
        }
        page
    }

    /// Does one transaction and wakes those who watch the kinds it touched.
    pub fn write<R>(&self, work: impl FnOnce(&mut Transaction<'_>) -> R) -> R {
        let mut inner = self.lock();
        let mut transaction = Transaction { inner: &mut inner, touched: Vec::new(), is_autopilot: &self.is_autopilot };
        let result = work(&mut transaction);
        let touched = std::mem::take(&mut transaction.touched);
        let version = inner.version;
        drop(inner);
        for index in touched {
            if let Some(sender) = self.versions.get(index) {
                sender.send_replace(version);
            }
        }
        result
    }

    /// Every change of these kinds from now on, in order and without loss: for controllers. The objects that exist
    /// already come first, as changes that create them.
    pub fn subscribe(&self, kinds: &[&'static Kind]) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        for kind in kinds {
            for object in inner.each(kind, None) {
                let change = Change { version: inner.version, kind, old: None, object: object.clone(), removed: false };
                let _ = sender.send(change);
            }
        }
        inner.subscribers.push((kinds.iter().map(|kind| kind.index).collect(), sender));
        receiver
    }

    /// Wakes when something of the kind changes; for watches, which then read [`Store::changes`].
    pub fn versions(&self, kind: &'static Kind) -> watch::Receiver<u64> {
        self.versions[kind.index].subscribe()
    }

    /// The changes of a kind after `version`, at most `limit`.
    ///
    /// # Errors
    /// The oldest version still known, when some of those changes are no longer in the log.
    pub fn changes(&self, kind: &'static Kind, version: u64, limit: usize) -> Result<Vec<Change>, u64> {
        let inner = self.lock();
        let table = &inner.tables[kind.index];
        if version < table.compacted {
            return Err(table.compacted);
        }
        let start = table.log.partition_point(|change| change.version <= version);
        Ok(table.log.range(start..).take(limit).cloned().collect())
    }

    /// Forgets the log of every kind, as a compaction does: watches from older versions answer 410.
    pub fn compact(&self) {
        let mut inner = self.lock();
        let version = inner.version;
        for table in &mut inner.tables {
            table.log.clear();
            table.compacted = version;
        }
    }

    /// All objects and the version, for saving.
    pub fn snapshot(&self) -> (u64, Vec<(&'static Kind, Arc<Value>)>) {
        let inner = self.lock();
        let objects =
            KINDS.iter().flat_map(|kind| inner.each(kind, None).map(|object| (*kind, object.clone()))).collect();
        (inner.version, objects)
    }

    /// Takes over objects as they were saved, versions and all.
    pub fn restore(&self, version: u64, objects: Vec<(&'static Kind, Value)>) {
        let mut inner = self.lock();
        inner.version = inner.version.max(version);
        for table in &mut inner.tables {
            table.compacted = version;
        }
        for (kind, object) in objects {
            let object = Arc::new(object);
            inner.index(kind, None, Some(&object));
            inner.insert(kind, object);
        }
    }
}

impl Inner {
    fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.tables[kind.index].objects.get(namespace)?.get(name)
    }

    fn each<'a>(&'a self, kind: &Kind, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Value>> {
        self.after(kind, namespace, None)
    }

    fn after<'a>(
        &'a self,
        kind: &Kind,
        namespace: Option<&'a str>,
        after: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = &'a Arc<Value>> {
        let first = namespace.or(after.map(|(namespace, _)| namespace));
        let range =
            (first.map_or(Bound::Unbounded, Bound::Included), namespace.map_or(Bound::Unbounded, Bound::Included));
        self.tables[kind.index].objects.range::<str, _>(range).flat_map(move |(here, objects)| {
            let start = match after {
                Some((namespace, name)) if namespace == here => Bound::Excluded(name),
                _ => Bound::Unbounded,
            };
            objects.range::<str, _>((start, Bound::Unbounded)).map(|(_, object)| object)
        })
    }

    fn insert(&mut self, kind: &Kind, object: Arc<Value>) {
        let names = self.tables[kind.index].objects.entry(value::namespace(&object).to_owned()).or_default();
        names.insert(value::name(&object).to_owned(), object);
    }

    /// Keeps the index of dependents by owner.
    fn index(&mut self, kind: &'static Kind, old: Option<&Value>, new: Option<&Value>) {
        let owners = |object: Option<&Value>| -> Vec<String> {
            let owners = object.map_or(&[][..], |object| value::items(object, "/metadata/ownerReferences"));
            owners.iter().map(|owner| value::text(owner, "/uid").to_owned()).collect()
        };
        let (before, now) = (owners(old), owners(new));
        if before == now {
            return;
        }
        let Some(object) = new.or(old) else { return };
        let key = Key::of(kind, object);
        for owner in before {
            if let Some(keys) = self.dependents.get_mut(&owner) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
        }
        for owner in now {
            self.dependents.entry(owner).or_default().insert(key.clone());
        }
    }

    fn commit(&mut self, change: Change) {
        let index = change.kind.index;
        self.subscribers.retain(|(kinds, sender)| {
            if kinds.contains(&index) { sender.send(change.clone()).is_ok() } else { !sender.is_closed() }
        });
        let table = &mut self.tables[index];
        table.log.push_back(change);
        if table.log.len() > LOG
            && let Some(gone) = table.log.pop_front()
        {
            table.compacted = gone.version;
        }
    }
}

/// A set of writes done together.
pub struct Transaction<'a> {
    inner: &'a mut Inner,
    touched: Vec<usize>,
    is_autopilot: &'a IsAutopilot,
}

impl Transaction<'_> {
    /// Whether pods are those of an Autopilot cluster.
    pub fn is_autopilot(&self) -> bool {
        (self.is_autopilot)()
    }

    /// One object.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.inner.get(kind, namespace, name).cloned()
    }

    /// The object at a key.
    pub fn at(&self, key: &Key) -> Option<Arc<Value>> {
        self.get(key.kind, &key.namespace, &key.name)
    }

    /// Every object of a kind, of one namespace or of all.
    pub fn each<'b>(&'b self, kind: &Kind, namespace: Option<&'b str>) -> impl Iterator<Item = &'b Arc<Value>> {
        self.inner.each(kind, namespace)
    }

    /// How many objects of a kind a namespace has.
    pub fn count(&self, kind: &Kind, namespace: &str) -> usize {
        self.inner.tables[kind.index].objects.get(namespace).map_or(0, BTreeMap::len)
    }

    /// The keys of the objects that name this uid as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Key> {
        self.inner.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The objects of a kind that name this uid as an owner.
    pub fn owned(&self, uid: &str, kind: &Kind) -> Vec<Arc<Value>> {
        let keys = self.inner.dependents.get(uid).into_iter().flatten();
        keys.filter(|key| key.kind == kind)
            .filter_map(|key| self.inner.get(kind, &key.namespace, &key.name).cloned())
            .collect()
    }

    /// Writes an object at a new version. A write that changes nothing keeps the version.
    pub fn put(&mut self, kind: &'static Kind, mut object: Value) -> Arc<Value> {
        let old = self.get(kind, value::namespace(&object), value::name(&object));
        if let Some(old) = &old {
            let version = value::text(old, "/metadata/resourceVersion").to_owned();
            value::set(&mut object, &["metadata", "resourceVersion"], version);
            if **old == object {
                return old.clone();
            }
        }
        self.inner.version += 1;
        let version = self.inner.version;
        value::set(&mut object, &["metadata", "resourceVersion"], version.to_string());
        let object = Arc::new(object);
        self.inner.index(kind, old.as_deref(), Some(&object));
        self.inner.insert(kind, object.clone());
        self.touched.push(kind.index);
        self.inner.commit(Change { version, kind, old, object: object.clone(), removed: false });
        object
    }

    /// Changes an object that exists, if `edit` says that it did anything.
    pub fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut Value) -> bool) -> Option<Arc<Value>> {
        let old = self.at(key)?;
        let mut object = (*old).clone();
        if edit(&mut object) { Some(self.put(key.kind, object)) } else { Some(old) }
    }

    /// Removes an object for good and gives its last state.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let names = self.inner.tables[key.kind.index].objects.get_mut(&key.namespace)?;
        let old = names.remove(&key.name)?;
        if names.is_empty() {
            self.inner.tables[key.kind.index].objects.remove(&key.namespace);
        }
        self.inner.index(key.kind, Some(&old), None);
        self.inner.version += 1;
        let version = self.inner.version;
        let mut last = (*old).clone();
        value::set(&mut last, &["metadata", "resourceVersion"], version.to_string());
        let object = Arc::new(last);
        self.touched.push(key.kind.index);
        self.inner.commit(Change { version, kind: key.kind, old: Some(old), object: object.clone(), removed: true });
        Some(object)
    }

    /// The version after this transaction so far.
    pub fn version(&self) -> u64 {
        self.inner.version
    }
}
