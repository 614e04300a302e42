//! One Pod of a rollout.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Event, Pod, PodSpec},
};

use super::{CONFIG_HASH, Cause, Patience, Seen, Stage, Verdict, Why, container};

/// Whether a Pod was made from the Deployment's present template.
pub(in super::super) fn is_current(deployment: &Deployment, pod: &Pod) -> bool {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let wanted = template.and_then(|template| template.metadata.as_ref()?.annotations.as_ref()?.get(CONFIG_HASH));
    let found = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONFIG_HASH));
    let image = |spec: &PodSpec| spec.containers.first().and_then(|container| container.image.clone());
    pod.metadata.deletion_timestamp.is_none()
        && wanted == found
        && template.and_then(|template| template.spec.as_ref()).map(image) == pod.spec.as_ref().map(image)
}

/// How far a Pod has come.
pub(in super::super) fn stage(pod: &Pod) -> Stage {
    let Some(status) = &pod.status else { return Stage::Other };
    let condition = |name: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == name);
    if condition("PodScheduled").is_some_and(|scheduled| scheduled.status == "False") {
        return Stage::Unscheduled;
    }
    let running = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    let mut containers = status.container_statuses.iter().flatten();
    if condition("Ready").is_some_and(|ready| ready.status == "True") || pod.metadata.deletion_timestamp.is_some() {
        Stage::Other
    } else if containers.any(running) {
        Stage::Unready
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
        Stage::Unready => Some(unready(&name, seen, patience)),
        Stage::Creating if seen.lasting >= patience.creating => match last(seen.events, &["FailedMount"]) {
            Some(message) => {
                let seen = format!("the pod {name} cannot be set up: {message}");
                Some(Verdict::Failed(Cause::new(Why::PodConfig, seen)))
            }
            None => states.into_iter().next(),
        },
        _ => states.into_iter().next(),
    }
}

fn unscheduled(name: &str, message: &str, seen: Seen<'_>, patience: &Patience) -> Verdict {
    if let Some(scaling) = last(seen.events, &["TriggeredScaleUp"]) {
        return Verdict::Waiting { why: format!("a node is being made for the pod {name}: {scaling}"), scaling: true };
    }
    let nominated = seen.pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
    if let Some(node) = nominated.filter(|node| !node.is_empty()) {
        return Verdict::waiting(format!("the pod {name} takes the place of less important ones on {node}"));
    }
    let refused = last(seen.events, &["NotTriggerScaleUp"]);
    let why = format!("no node takes the pod {name}: {message}");
    if refused.is_none() && seen.lasting < patience.unscheduled {
        return Verdict::waiting(why);
    }
    let refused = refused.map(|refused| format!("; the autoscaler makes none: {refused}")).unwrap_or_default();
    Verdict::Failed(Cause::new(Why::Unschedulable, format!("{why}{refused}")))
}

/// A Pod whose containers run and are not ready.
fn unready(name: &str, seen: Seen<'_>, patience: &Patience) -> Verdict {
    let probed = last(seen.events, &["Unhealthy"]);
    let probe = probed.clone().unwrap_or_else(|| "it is not ready".to_owned());
    if let Some(line) = container::refused_identity(seen.log).or_else(|| container::refused_identity(&probe)) {
        return container::identity(name, &line, seen, patience);
    }
    let why = format!("the pod {name} runs and is not ready: {probe}");
    // One that ends before a probe finds it well is judged when it has ended again, whatever the probe says meanwhile.
    let ended_by_itself = restarts(seen.pod) > 0 && !was_killed(seen) && (probed.is_none() || has_failed(seen.pod));
    // Without a word of a probe it may only be slow to start.
    let patience = if probed.is_some() { patience.unready } else { patience.unready * 3 };
    if seen.lasting < patience || ended_by_itself {
        return Verdict::waiting(why);
    }
    Verdict::Failed(Cause::new(Why::Probe, why).with_log(seen.log))
}

/// Whether a container of it was ended since a probe said that it does not work.
fn was_killed(seen: Seen<'_>) -> bool {
    last(seen.events, &["Killing"]).is_some_and(|message| message.contains("probe"))
}

/// Whether a container of it ended with an error before.
fn has_failed(pod: &Pod) -> bool {
    let mut containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.any(|container| {
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code != 0)
    })
}

/// How often containers of a Pod were started again.
pub(in super::super) fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// The message of the last event with one of these reasons.
fn last(events: &[Event], reasons: &[&str]) -> Option<String> {
    let found = events.iter().rfind(|event| event.reason.as_deref().is_some_and(|reason| reasons.contains(&reason)));
    found.and_then(|event| event.message.clone())
}
