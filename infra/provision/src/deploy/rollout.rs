//! Whether a rollout is done, still going on, or cannot succeed: a pure function of the Deployment and its Pods.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod},
};

/// Annotation on the Pod template: hash of the configuration it was rendered with.
pub const CONFIG_HASH: &str = "deskgrid.dev/config-hash";

/// What is to be said of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it runs.
    Ready,
    /// Not yet; says on what it waits.
    Waiting(String),
    /// It cannot succeed by waiting.
    Failed {
        /// Why.
        reason: String,
        /// Pod and container whose log says more.
        crashed: Option<(String, String)>,
    },
}

/// Judges a rollout. Pods of an older template do not count.
pub fn verdict<'a>(deployment: &Deployment, pods: impl Iterator<Item = &'a Pod>) -> Verdict {
    let generation = deployment.metadata.generation.unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation.unwrap_or_default() < generation {
        return Verdict::Waiting("the Deployment controller has not seen it yet".to_owned());
    }
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let count = |count: Option<i32>| count.unwrap_or_default();
    if count(status.updated_replicas) >= wanted
        && count(status.available_replicas) >= wanted
        && count(status.replicas) <= count(status.updated_replicas)
    {
        return Verdict::Ready;
    }
    let mut waiting = None;
    for pod in pods.filter(|pod| is_current(deployment, pod)) {
        match judge(pod) {
            Some(failed @ Verdict::Failed { .. }) => return failed,
            Some(Verdict::Waiting(why)) => waiting = Some(why),
            _ => {}
        }
    }
    for condition in status.conditions.iter().flatten() {
        let message = condition.message.clone().unwrap_or_default();
        match (condition.type_.as_str(), condition.status.as_str()) {
            // Quota, admission, pod security: the ReplicaSet may not make Pods at all.
            ("ReplicaFailure", "True") => {
                return Verdict::Failed { reason: format!("its pods are refused: {message}"), crashed: None };
            }
            ("Progressing", "False") => {
                let why = waiting.map(|why| format!(" ({why})")).unwrap_or_default();
                return Verdict::Failed { reason: format!("it makes no progress: {message}{why}"), crashed: None };
            }
            _ => {}
        }
    }
    let progress = format!("{} of {wanted} pods are ready", count(status.available_replicas));
    Verdict::Waiting(waiting.unwrap_or(progress))
}

fn is_current(deployment: &Deployment, pod: &Pod) -> bool {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let wanted = template.and_then(|template| template.metadata.as_ref()?.annotations.as_ref()?.get(CONFIG_HASH));
    let found = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONFIG_HASH));
    let image = |spec: &k8s_openapi::api::core::v1::PodSpec| spec.containers.first().and_then(|c| c.image.clone());
    wanted == found && template.and_then(|template| template.spec.as_ref()).map(image) == pod.spec.as_ref().map(image)
}

fn judge(pod: &Pod) -> Option<Verdict> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.as_ref()?;
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "PodScheduled" && condition.status == "False" {
            // A node may be on its way, so this alone is no failure.
            let message = condition.message.clone().unwrap_or_default();
            return Some(Verdict::Waiting(format!("no node takes the pod {name}: {message}")));
        }
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.filter_map(|container| judge_container(&name, container)).next()
}

fn judge_container(pod: &str, container: &ContainerStatus) -> Option<Verdict> {
    let state = container.state.as_ref()?.waiting.as_ref()?;
    let message = state.message.clone().unwrap_or_default();
    match state.reason.as_deref()? {
        // Not the first refusal (ErrImagePull), which a registry may take back, but the pause after several.
        "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => Some(Verdict::Failed {
            reason: format!("the image {} cannot be pulled: {message}", container.image),
            crashed: None,
        }),
        "CrashLoopBackOff" => {
            let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            let code = ended.map(|ended| format!(" with exit code {}", ended.exit_code)).unwrap_or_default();
            Some(Verdict::Failed {
                reason: format!("the container {} ends again and again{code}", container.name),
                crashed: Some((pod.to_owned(), container.name.clone())),
            })
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(Verdict::Failed {
            reason: format!("the container {} cannot be started: {message}", container.name),
            crashed: None,
        }),
        other => Some(Verdict::Waiting(format!("the container {} of {pod} is in {other}", container.name))),
    }
}
