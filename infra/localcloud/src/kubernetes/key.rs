//! What the store speaks of: where an object lives, what changed, a page of a list.

use std::sync::Arc;

use serde_json::Value;

use super::{kinds::Kind, value};

/// Where an object lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its namespace, "" when it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of(kind: &'static Kind, object: &Value) -> Self {
        Self { kind, namespace: value::namespace(object).to_owned(), name: value::name(object).to_owned() }
    }

    fn parts(&self) -> (usize, &str, &str) {
        (self.kind.index, &self.namespace, &self.name)
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

/// One committed change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Version the change made.
    pub version: u64,
    /// Kind of the object.
    pub kind: &'static Kind,
    /// The object before; none when it was created.
    pub old: Option<Arc<Value>>,
    /// The object after; when it was removed, its last state at the version of the removal.
    pub object: Arc<Value>,
    /// Whether the object is gone.
    pub removed: bool,
}

/// One page of a list.
pub struct Page {
    /// The objects, in order of namespace and name.
    pub items: Vec<Arc<Value>>,
    /// Version of the whole list.
    pub version: u64,
    /// Where the next page begins (after this namespace and name), when there is one.
    pub next: Option<(String, String)>,
}
