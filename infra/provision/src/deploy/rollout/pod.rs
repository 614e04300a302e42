//! One Pod of a rollout.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod, PodSpec},
};

use super::{CONFIG_HASH, Cause, Happening, On, Patience, Seen, Stage, Verdict, Why, container};

/// Age at which what a node could not do counts no more: it tries again sooner, and says so.
const FRESH: Duration = Duration::from_secs(10);
/// What an autoscaler says of a pod.
const SCALING: [&str; 3] = ["TriggeredScaleUp", "FailedScaleUp", "NotTriggerScaleUp"];
/// What a node does with a pod, in the order in which it does.
const SETTING_UP: [&str; 5] = ["FailedMount", "Pulling", "Pulled", "Created", "Started"];

/// Whether a Pod was made from the Deployment's present template.
pub(in super::super) fn is_current(deployment: &Deployment, pod: &Pod) -> bool {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let desired = template.and_then(|template| template.metadata.as_ref()?.annotations.as_ref()?.get(CONFIG_HASH));
    let found = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONFIG_HASH));
    let image = |spec: &PodSpec| spec.containers.first().and_then(|container| container.image.clone());
    pod.metadata.deletion_timestamp.is_none()
        && desired == found
        && template.and_then(|template| template.spec.as_ref()).map(image) == pod.spec.as_ref().map(image)
}

/// How far a Pod has come.
pub(in super::super) fn stage(pod: &Pod) -> Stage {
    let Some(status) = &pod.status else { return Stage::Other };
    let condition = |name: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == name);
    if condition("PodScheduled").is_some_and(|scheduled| scheduled.status == "False") {
        return Stage::Unscheduled;
    }
    let running = |container: &&ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    let mut running = status.container_statuses.iter().flatten().filter(running).peekable();
    if condition("Ready").is_some_and(|ready| ready.status == "True") || pod.metadata.deletion_timestamp.is_some() {
        Stage::Other
    } else if running.peek().is_some() {
        // Without a startup probe a container has started as soon as it runs.
        if running.any(|container| container.started == Some(false)) { Stage::Starting } else { Stage::Unready }
    } else {
        Stage::Creating
    }
}

/// Judges one Pod; nothing when there is nothing to say of it.
pub(super) fn judge(seen: Seen<'_>, patience: &Patience) -> Option<Verdict> {
    let name = seen.pod.metadata.name.clone().unwrap_or_default();
    let status = seen.pod.status.as_ref()?;
    let stage = stage(seen.pod);
    if stage == Stage::Unscheduled {
        let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let message = condition.and_then(|condition| condition.message.clone()).unwrap_or_default();
        return Some(unscheduled(&name, &message, seen, patience));
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let states: Vec<Verdict> = containers.filter_map(|state| container::judge(&name, state, seen, patience)).collect();
    if let Some(failed) = states.iter().find(|verdict| matches!(verdict, Verdict::Failed(_))) {
        return Some(failed.clone());
    }
    match stage {
        Stage::Starting | Stage::Unready => Some(unready(&name, stage, seen, patience)),
        Stage::Creating if seen.lasting >= patience.creating => match unmounted(seen.events) {
            Some(message) => {
                let seen = format!("the pod {name} cannot be set up: {message}");
                Some(Verdict::Failed(Cause::new(Why::PodConfig, seen)))
            }
            None => states.into_iter().next(),
        },
        _ => states.into_iter().next(),
    }
}

/// What keeps a pod from being set up, if that is so now: many pods have such problems in their first moments.
fn unmounted(events: &[Happening]) -> Option<String> {
    let newest = events.iter().rfind(|event| SETTING_UP.contains(&event.reason.as_str()))?;
    (newest.reason == "FailedMount" && newest.ago < FRESH).then(|| newest.message.clone())
}

/// A Pod that no node takes. Of what the autoscaler said the newest counts.
fn unscheduled(name: &str, message: &str, seen: Seen<'_>, patience: &Patience) -> Verdict {
    let said: Vec<&Happening> = seen.events.iter().filter(|event| SCALING.contains(&event.reason.as_str())).collect();
    if let Some(newest) = said.last().filter(|newest| newest.reason == "TriggeredScaleUp") {
        let why = format!("a node is being made for the pod {name}: {}", newest.message);
        return Verdict::Waiting { why, on: On::Node };
    }
    let nominated = seen.pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
    if let Some(node) = nominated.filter(|node| !node.is_empty()) {
        return Verdict::waiting(format!("the pod {name} takes the place of less important ones on {node}"));
    }
    let tried = said.iter().rposition(|event| event.reason == "TriggeredScaleUp");
    let since = said.get(tried.map_or(0, |tried| tried + 1)..).unwrap_or_default();
    let failed = since.iter().rfind(|event| event.reason == "FailedScaleUp");
    let refused = failed.or(since.last());
    let why = format!("no node takes the pod {name}: {message}");
    let refused = refused.map(|refused| format!("; the autoscaler makes none: {}", refused.message));
    let why = format!("{why}{}", refused.unwrap_or_default());
    if failed.is_some_and(|failed| failed.message.to_ascii_lowercase().contains("quota")) {
        return Verdict::Failed(Cause::new(Why::Quota, why));
    }
    // Where one pool or zone has no machines the autoscaler tries another one.
    let tries = tried.and_then(|tried| said.get(tried)).into_iter().chain(failed).map(|event| event.ago);
    if tries.fold(seen.lasting, Duration::min) < patience.unscheduled {
        return Verdict::waiting(why);
    }
    Verdict::Failed(Cause::new(Why::Unschedulable, why))
}

/// A Pod whose containers run and are not ready, in one of these two stages.
fn unready(name: &str, stage: Stage, seen: Seen<'_>, patience: &Patience) -> Verdict {
    let probed = last(seen.events, "Unhealthy");
    let probe = probed.clone().unwrap_or_else(|| "it is not ready".to_owned());
    if let Some(line) = container::refused_identity(seen.log).or_else(|| container::refused_identity(&probe)) {
        return container::identity(name, &line, seen, patience);
    }
    let why = format!("the pod {name} runs and is not ready: {probe}");
    // One that ends before a probe finds it well is judged when it has ended again, whatever the probe says meanwhile.
    let killed = was_killed(seen);
    let crashed = crashed(seen.pod);
    let ended_by_itself = restarts(seen.pod) > 0 && !killed && (probed.is_none() || crashed.is_some());
    // Without a word of a probe it may only be slow to start.
    let long = patience.unready * 3;
    if let Some(crashed) = crashed.filter(|crashed| !killed && crashed.restart_count >= container::CRASHES)
        && seen.lasting >= long
    {
        return container::crash_loop(crashed, seen);
    }
    let patience = if probed.is_some() { patience.unready } else { long };
    // How long a start may take is the startup probe's to say, which has the container ended then.
    let may_start = stage == Stage::Starting && !killed;
    if seen.lasting < patience || ended_by_itself || may_start {
        return Verdict::waiting(why);
    }
    Verdict::Failed(Cause::new(Why::Probe, why).with_log(seen.log))
}

/// Whether a container of it was ended since a probe said that it does not work.
fn was_killed(seen: Seen<'_>) -> bool {
    last(seen.events, "Killing").is_some_and(|message| message.contains("probe"))
}

/// A container of it that ended with an error before.
fn crashed(pod: &Pod) -> Option<&ContainerStatus> {
    let mut containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    containers.find(|container| container::ended(container).is_some_and(|ended| ended.exit_code != 0))
}

/// How often containers of a Pod were started again.
pub(in super::super) fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// The message of the last event with this reason.
fn last(events: &[Happening], reason: &str) -> Option<String> {
    events.iter().rfind(|event| event.reason == reason).map(|event| event.message.clone())
}
