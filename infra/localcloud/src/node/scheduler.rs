//! Binding pods to nodes: by room for cpu, memory and pods, and by node selectors, in order of priority and age.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::status;
use crate::kubernetes::{
    autopilot,
    cluster::Cluster,
    events::Weight,
    kinds, quantity, quota,
    store::{Change, Key},
    value::{self, entries, number, text},
};

/// Shapes of pods that may fail to fit before a pass gives up.
const SHAPES: usize = 64;

/// Room in thousandths of cores, thousandths of bytes, and pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Room {
    cpu: i128,
    memory: i128,
    pods: i128,
}

impl Room {
    fn lacks(self, needs: Self) -> Option<&'static str> {
        if self.pods < needs.pods {
            Some("Too many pods")
        } else if self.cpu < needs.cpu {
            Some("Insufficient cpu")
        } else if self.memory < needs.memory {
            Some("Insufficient memory")
        } else {
            None
        }
    }

    fn add(&mut self, other: Self, sign: i128) {
        self.cpu += sign * other.cpu;
        self.memory += sign * other.memory;
        self.pods += sign * other.pods;
    }
}

struct Node {
    free: Room,
    labels: Value,
    open: bool,
}

/// What the scheduler knows.
#[derive(Default)]
struct Scheduler {
    nodes: BTreeMap<String, Node>,
    bound: HashMap<String, (String, Room)>,
    /// By priority (highest first), then age.
    queue: BTreeMap<(i64, u64), (Key, String)>,
    queued: HashMap<String, (i64, u64)>,
    sequence: u64,
}

/// Schedules until the cluster stops.
pub async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut scheduler = Scheduler::default();
    loop {
        let first = tokio::select! {
            change = changes.recv() => change,
            () = cluster.stop.cancelled() => return,
        };
        let Some(first) = first else { return };
        scheduler.note(&first);
        while let Ok(change) = changes.try_recv() {
            scheduler.note(&change);
        }
        scheduler.pass(&cluster);
    }
}

impl Scheduler {
    fn note(&mut self, change: &Change) {
        if change.kind == &kinds::NODE {
            self.note_node(change);
        } else {
            self.note_pod(change);
        }
    }

    fn note_node(&mut self, change: &Change) {
        let node = &change.object;
        let name = value::name(node);
        if change.removed {
            self.nodes.remove(name);
            return;
        }
        let amount = |resource: &str| {
            quantity::parse(text(node, &format!("/status/allocatable/{resource}"))).unwrap_or_default()
        };
        let mut free = Room { cpu: amount("cpu"), memory: amount("memory"), pods: amount("pods") };
        for (_, needs) in self.bound.values().filter(|(at, _)| at == name) {
            free.add(*needs, -1);
        }
        let labels = node.pointer("/metadata/labels").cloned().unwrap_or_default();
        let open = value::has_condition(node, "Ready") && !value::truth(node, "/spec/unschedulable");
        self.nodes.insert(name.to_owned(), Node { free, labels, open });
    }

    fn note_pod(&mut self, change: &Change) {
        let pod = &change.object;
        let uid = value::uid(pod);
        let over = change.removed || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        let node = text(pod, "/spec/nodeName");
        if (over || !node.is_empty())
            && let Some(place) = self.queued.remove(uid)
        {
            self.queue.remove(&place);
        }
        if over {
            if let Some((node, needs)) = self.bound.remove(uid)
                && let Some(node) = self.nodes.get_mut(&node)
            {
                node.free.add(needs, 1);
            }
        } else if !node.is_empty() {
            self.bind(uid, node, needs(pod));
        } else if !value::is_deleting(pod) && !self.queued.contains_key(uid) {
            self.sequence += 1;
            let place = (-number(pod, "/spec/priority").unwrap_or_default(), self.sequence);
            self.queued.insert(uid.to_owned(), place);
            self.queue.insert(place, (Key::of(&kinds::POD, pod), uid.to_owned()));
        }
    }

    fn bind(&mut self, uid: &str, node: &str, needs: Room) {
        if self.bound.contains_key(uid) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(node) {
            node.free.add(needs, -1);
        }
        self.bound.insert(uid.to_owned(), (node.to_owned(), needs));
    }

    /// Binds what fits.
    fn pass(&mut self, cluster: &Cluster) {
        let is_autopilot = cluster.store.is_autopilot();
        let mut misfits = HashSet::new();
        let mut done = Vec::new();
        for (place, (key, uid)) in &self.queue {
            if misfits.len() >= SHAPES {
                break;
            }
            let Some(pod) = cluster.store.at(key).filter(|pod| value::uid(pod) == uid) else {
                done.push((*place, uid.clone(), None));
                continue;
            };
            let needs = needs(&pod);
            let excluded = is_autopilot && autopilot::is_excluded(&pod);
            let selector = pod.pointer("/spec/nodeSelector").map(Value::to_string).unwrap_or_default();
            let shape = (needs, selector, excluded);
            if misfits.contains(&shape) {
                refuse(cluster, &pod, key, &self.nodes, needs, excluded);
                continue;
            }
            let found = self.nodes.iter().filter(|(_, node)| node.open && !excluded && selects(&pod, node));
            let found =
                found.filter(|(_, node)| node.free.lacks(needs).is_none()).max_by_key(|(_, node)| node.free.cpu);
            let Some(name) = found.map(|(name, _)| name.clone()) else {
                refuse(cluster, &pod, key, &self.nodes, needs, excluded);
                misfits.insert(shape);
                continue;
            };
            if assign(cluster, key, uid, &name) {
                if let Some(node) = self.nodes.get_mut(&name) {
                    node.free.add(needs, -1);
                }
                done.push((*place, uid.clone(), Some((name, needs))));
            } else {
                done.push((*place, uid.clone(), None));
            }
        }
        for (place, uid, bound) in done {
            self.queue.remove(&place);
            self.queued.remove(&uid);
            if let Some(bound) = bound {
                self.bound.insert(uid, bound);
            }
        }
    }
}

fn needs(pod: &Value) -> Room {
    let amount = |resource: &str| quota::pod_amount(pod, "requests", resource);
    Room { cpu: amount("cpu"), memory: amount("memory"), pods: 1_000 }
}

fn selects(pod: &Value, node: &Node) -> bool {
    entries(pod, "/spec/nodeSelector").all(|(key, desired)| node.labels.get(key).is_some_and(|have| have == desired))
}

/// Binds a pod and begins its status.
fn assign(cluster: &Cluster, key: &Key, uid: &str, node: &str) -> bool {
    let now = cluster.clock.now();
    let bound = cluster.store.write(|transaction| {
        let pod = transaction.at(key).filter(|pod| value::uid(pod) == uid && !value::is_deleting(pod))?;
        // A node that has just died takes no more pods.
        transaction.get(&kinds::NODE, "", node)?;
        let all = status::initial(&pod);
        transaction.edit(key, |pod| {
            value::set(pod, &["spec", "nodeName"], node);
            value::set(pod, &["status", "startTime"], value::seconds(now));
            let conditions = value::list_at(pod, &["status", "conditions"]);
            conditions.retain(|condition| text(condition, "/type") != "PodScheduled");
            conditions.push(json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": value::seconds(now),
            }));
            status::write(pod, &all, now);
            true
        })
    });
    let Some(pod) = bound else { return false };
    let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
    cluster.event(&kinds::POD, &pod, Weight::Normal, "Scheduled", message, "default-scheduler");
    true
}

/// Says once why a pod waits.
fn refuse(cluster: &Cluster, pod: &Value, key: &Key, nodes: &BTreeMap<String, Node>, needs: Room, excluded: bool) {
    if value::condition(pod, "PodScheduled").is_some() {
        return;
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes.values() {
        let why = if !node.open {
            "node(s) were unschedulable"
        } else if excluded || !selects(pod, node) {
            "node(s) didn't match Pod's node affinity/selector"
        } else {
            node.free.lacks(needs).unwrap_or("node(s) were taken")
        };
        *reasons.entry(why).or_default() += 1;
    }
    let reasons: Vec<_> = reasons.into_iter().map(|(why, count)| format!("{count} {why}")).collect();
    let message = if nodes.is_empty() {
        "no nodes available to schedule pods".to_owned()
    } else {
        format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
    };
    let now = value::seconds(cluster.clock.now());
    cluster.store.write(|transaction| {
        transaction.edit(key, |pod| {
            value::list_at(pod, &["status", "conditions"]).push(json!({
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                "lastProbeTime": null, "lastTransitionTime": now,
            }));
            true
        });
    });
    cluster.event(&kinds::POD, pod, Weight::Warning, "FailedScheduling", message, "default-scheduler");
}
