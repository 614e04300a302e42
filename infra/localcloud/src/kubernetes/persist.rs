//! Keeping the objects in a folder over a restart.

use std::{collections::HashSet, fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    kinds,
    objects::is_finished,
    value::{self, text},
};

/// At most so long after a change the objects are saved.
const INTERVAL: Duration = Duration::from_secs(2);
const FILE: &str = "objects.json";

/// Saves all objects, in one step.
///
/// # Errors
/// When the folder cannot be written.
pub(super) fn save(cluster: &Cluster, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
    let (version, objects) = cluster.store.snapshot();
    let objects: Vec<&Value> = objects.iter().map(|(_, object)| object.as_ref()).collect();
    let saved = json!({"version": version, "objects": objects});
    let part = folder.join("objects.part");
    fs::write(&part, saved.to_string()).context("save objects")?;
    fs::rename(&part, folder.join(FILE)).context("save objects")
}

/// Saves after changes until the cluster stops.
pub(super) async fn keep(cluster: Arc<Cluster>, folder: std::path::PathBuf) {
    let mut saved = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = cluster.stop.cancelled() => return,
        }
        let version = cluster.store.version();
        if version == saved {
            continue;
        }
        saved = version;
        let (shared, folder) = (cluster.clone(), folder.clone());
        let result = tokio::task::spawn_blocking(move || save(&shared, &folder)).await;
        if let Ok(Err(error)) = result {
            tracing::warn!("failed to {error:#}");
        }
    }
}

/// Takes over saved objects, if there are any. Pods that ran are lost with their processes: those of a Job or bare
/// ones have failed as disrupted, and the others are made anew by their controllers.
///
/// # Errors
/// When what is there cannot be read.
pub(super) fn load(cluster: &Cluster, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let saved: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    let now = value::seconds(cluster.clock.now());
    let objects = value::items(&saved, "/objects").iter().filter_map(|object| {
        let kind = kinds::by_kind(self::text(object, "/apiVersion"), self::text(object, "/kind"))?;
        let mut object = object.clone();
        if kind == &kinds::POD {
            lose(&mut object, &now);
            let replaced = value::controller_of(&object).is_some_and(|one| self::text(one, "/kind") == "ReplicaSet");
            if replaced && self::text(&object, "/status/phase") == "Failed" || is_finished(kind, &object) {
                return None;
            }
        }
        Some((kind, object))
    });
    let version = value::number(&saved, "/version").and_then(|version| u64::try_from(version).ok()).unwrap_or(1);
    cluster.store.restore(version + 1, objects.collect());
    Ok(())
}

/// Marks a pod that was running as lost.
fn lose(pod: &mut Value, now: &str) {
    if text(pod, "/spec/nodeName").is_empty() || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
        return;
    }
    value::set(pod, &["status", "phase"], "Failed");
    value::set(pod, &["status", "reason"], "NodeLost");
    value::set(pod, &["status", "message"], "the node went away with everything on it");
    let conditions = value::list_at(pod, &["status", "conditions"]);
    for condition in conditions.iter_mut() {
        if matches!(text(condition, "/type"), "Ready" | "ContainersReady") {
            value::set(condition, &["status"], "False");
        }
    }
    conditions.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists", "lastTransitionTime": now,
    }));
    if value::is_deleting(pod) {
        value::set(pod, &["metadata", "deletionGracePeriodSeconds"], 0);
    }
}

/// Removes the folders of pods that are no more.
///
/// # Errors
/// When one cannot be removed.
pub(super) fn sweep(cluster: &Cluster) -> anyhow::Result<()> {
    let known: HashSet<String> =
        cluster.store.all(&kinds::POD, None).iter().map(|pod| value::uid(pod).to_owned()).collect();
    let Ok(folders) = fs::read_dir(cluster.folder.join("pods")) else { return Ok(()) };
    for folder in folders.flatten().filter(|folder| !known.contains(&*folder.file_name().to_string_lossy())) {
        fs::remove_dir_all(folder.path()).with_context(|| format!("remove {}", folder.path().display()))?;
    }
    Ok(())
}
