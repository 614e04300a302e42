//! Watches: the changes after a version that a selector takes, as a stream of JSON lines.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};

use super::{
    cluster::Cluster, failure::Failure, render::Shape, request::Target, select::Selector, store::Change, value,
};

/// How often a watch that allows it gets the version it has reached.
const BOOKMARK: Duration = Duration::from_secs(20);
/// Changes read from the log at a time.
const BATCH: usize = 256;

/// What a watch asks for.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Collection (or object, by a selector on its name).
    pub target: Target,
    /// Which objects of it.
    pub selector: Selector,
    /// Version to go on from; none to begin with the objects there are.
    pub version: Option<u64>,
    /// Whether bookmarks are desired.
    pub bookmarks: bool,
    /// Whether a bookmark marks the end of the objects there are.
    pub initial_end: bool,
    /// When it ends.
    pub timeout: Duration,
    /// How objects are shown.
    pub shape: Shape,
}

/// What happened to an object as one selector sees it.
pub fn seen(change: &Change, takes: impl Fn(&Value) -> bool) -> Option<(&'static str, Arc<Value>)> {
    let before = change.old.as_deref().is_some_and(&takes);
    let after = !change.removed && takes(&change.object);
    match (before, after) {
        (false, true) => Some(("ADDED", change.object.clone())),
        (true, true) => Some(("MODIFIED", change.object.clone())),
        (true, false) if change.removed => Some(("DELETED", change.object.clone())),
        (true, false) => {
            // It left the selector: its last selected state, at the version at which it left.
            let mut last = change.old.as_deref().cloned().unwrap_or_default();
            value::set(&mut last, &["metadata", "resourceVersion"], change.version.to_string());
            Some(("DELETED", Arc::new(last)))
        }
        (false, false) => None,
    }
}

/// The lines of a watch.
pub fn lines(cluster: Arc<Cluster>, watch: Watch) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    async_stream::stream! {
        let kind = watch.target.kind;
        let takes = |object: &Value| {
            watch.target.scope().is_none_or(|namespace| value::namespace(object) == namespace)
                && (watch.target.name.is_empty() || value::name(object) == watch.target.name)
                && watch.selector.takes(kind, object)
        };
        let mut shape = watch.shape.clone();
        let mut versions = cluster.store.versions(kind);
        let mut at = match watch.version {
            Some(version) => version,
            None => {
                let page = cluster.store.page(kind, watch.target.scope(), None, 0, takes);
                for object in &page.items {
                    yield Ok(line("ADDED", &shape.event(&watch.target, object)));
                }
                if watch.initial_end {
                    yield Ok(bookmark(&watch.target, &shape, page.version, true));
                }
                page.version
            }
        };
        if at > cluster.store.version() {
            yield Ok(failed(&Failure::expired(at, cluster.store.version())));
            return;
        }
        let end = tokio::time::sleep(watch.timeout);
        tokio::pin!(end);
        let mut sent = at;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + BOOKMARK, BOOKMARK);
        loop {
            versions.borrow_and_update();
            loop {
                let changes = match cluster.store.changes(kind, at, BATCH) {
                    Ok(changes) => changes,
                    Err(oldest) => {
                        yield Ok(failed(&Failure::expired(at, oldest)));
                        return;
                    }
                };
                let Some(last) = changes.last() else { break };
                at = last.version;
                let mut buffer = Vec::new();
                for change in &changes {
                    if let Some((event, object)) = seen(change, takes) {
                        write_line(&mut buffer, event, &shape.event(&watch.target, &object));
                    }
                }
                if !buffer.is_empty() {
                    sent = at;
                    yield Ok(Bytes::from(buffer));
                }
            }
            tokio::select! {
                changed = versions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = ticks.tick() => {
                    at = at.max(quiet_version(&cluster, kind, at));
                    if watch.bookmarks && at > sent {
                        sent = at;
                        yield Ok(bookmark(&watch.target, &shape, at, false));
                    }
                }
                () = &mut end => {
                    if watch.bookmarks && at > sent {
                        yield Ok(bookmark(&watch.target, &shape, at, false));
                    }
                    return;
                }
                () = cluster.stop.cancelled() => return,
            }
        }
    }
}

/// The version reached when nothing of the kind has changed after `at`: other kinds move it on.
fn quiet_version(cluster: &Cluster, kind: &'static super::kinds::Kind, at: u64) -> u64 {
    let version = cluster.store.version();
    if cluster.store.changes(kind, at, 1).is_ok_and(|changes| changes.is_empty()) { version } else { at }
}

fn line(event: &str, object: &Value) -> Bytes {
    let mut line = Vec::new();
    write_line(&mut line, event, object);
    Bytes::from(line)
}

/// One line of a watch. The types of events need no quoting.
fn write_line(line: &mut Vec<u8>, event: &str, object: &Value) {
    line.extend_from_slice(format!("{{\"type\":\"{event}\",\"object\":").as_bytes());
    // Writing a value to memory does not fail.
    let _ = serde_json::to_writer(&mut *line, object);
    line.extend_from_slice(b"}\n");
}

fn failed(failure: &Failure) -> Bytes {
    line("ERROR", &failure.status())
}

fn bookmark(target: &Target, shape: &Shape, version: u64, initial_end: bool) -> Bytes {
    let mut object = json!({
        "kind": target.kind.kind, "apiVersion": target.kind.api_version(),
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
    });
    if initial_end {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    match shape {
        Shape::Table { .. } => {
            object = json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
                "columnDefinitions": [], "rows": [],
            });
        }
        Shape::Metadata => {
            object["kind"] = "PartialObjectMetadata".into();
            object["apiVersion"] = "meta.k8s.io/v1".into();
        }
        Shape::Whole => {}
    }
    line("BOOKMARK", &object)
}
