//! One container of a Pod, and what its log says of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};

use super::{Cause, On, Patience, Seen, Verdict, Why};

/// Restarts after which a container is given up. One may be bad luck.
pub(super) const CRASHES: i32 = 2;

/// What programs and Google's libraries say when they may not be who they should be.
const REFUSED: [&str; 8] = [
    "iam.serviceAccounts.getAccessToken",
    "Unable to generate access token",
    "roles/iam.workloadIdentityUser",
    "invalid_grant",
    "could not create credentials",
    "PERMISSION_DENIED",
    "PermissionDenied",
    "Permission denied on resource",
];

/// What registries and nodes say of an image that does not exist, in lower case.
const NO_IMAGE: [&str; 5] = ["not found", "manifest unknown", "manifest_unknown", "name unknown", "name_unknown"];

/// What they say when the node may not read it, in lower case.
const DENIED: [&str; 5] = ["403 forbidden", "401 unauthorized", "denied", "authorization failed", "unauthorized:"];

/// Judges one container; nothing when it runs or is done.
pub(super) fn judge(pod: &str, container: &ContainerStatus, seen: Seen<'_>, patience: &Patience) -> Option<Verdict> {
    let state = container.state.as_ref()?;
    let waiting = match (&state.waiting, &state.terminated) {
        (Some(waiting), _) => waiting,
        (None, Some(ended)) if ended.exit_code != 0 => return Some(crashed(pod, container, seen, patience)),
        _ => return None,
    };
    let message = waiting.message.clone().unwrap_or_default();
    let failed = |why, text: String| Some(Verdict::Failed(Cause::new(why, text)));
    match waiting.reason.as_deref()? {
        "InvalidImageName" | "ErrImageNeverPull" => {
            failed(Why::ImagePull, format!("the image {} cannot be pulled: {message}", container.image))
        }
        // The first refusal says most, and the pause after it (ImagePullBackOff) is when it counts.
        "ImagePullBackOff" | "ImageInspectError" => Some(unpulled(container, message, seen, patience)),
        "CrashLoopBackOff" => Some(crashed(pod, container, seen, patience)),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            failed(Why::PodConfig, format!("the container {} cannot be started: {message}", container.name))
        }
        other => Some(Verdict::waiting(format!("the container {} of {pod} is in {other}", container.name))),
    }
}

/// The verdict on an image that could not be pulled. One that does not exist is no matter of time; the others are: a
/// node that is new has no names yet, and a grant is not known everywhere at once.
fn unpulled(container: &ContainerStatus, message: String, seen: Seen<'_>, patience: &Patience) -> Verdict {
    let said = pull_refusal(seen).unwrap_or(message);
    let words = said.to_ascii_lowercase();
    let says = |all: &[&str]| all.iter().any(|one| words.contains(one));
    let (patience, on) = match () {
        () if says(&DENIED) => (patience.identity, On::Grant),
        () if says(&NO_IMAGE) => (Duration::ZERO, On::Cluster),
        () => (patience.pulling, On::Cluster),
    };
    let why = format!("the image {} cannot be pulled: {said}", container.image);
    if seen.lasting < patience {
        Verdict::Waiting { why, on }
    } else {
        Verdict::Failed(Cause::new(Why::ImagePull, why))
    }
}

/// The verdict on a container that ended with an error, while it is ended as in the pause before it is started again.
fn crashed(pod: &str, container: &ContainerStatus, seen: Seen<'_>, patience: &Patience) -> Verdict {
    if let Some(line) = refused_identity(seen.log) {
        return identity(pod, &line, seen, patience);
    }
    if container.restart_count < CRASHES {
        let (name, code) = (&container.name, exit_code(container));
        return Verdict::waiting(format!("the container {name} of {pod} ended{code} and is started again"));
    }
    crash_loop(container, seen)
}

/// That a container ends again and again, with what it said before it did.
pub(super) fn crash_loop(container: &ContainerStatus, seen: Seen<'_>) -> Verdict {
    let why = format!("the container {} ends again and again{}", container.name, exit_code(container));
    // The log may be lost with the container; the node keeps its last lines when the Pod asks for that.
    let kept = ended(container).and_then(|ended| ended.message.as_deref()).unwrap_or_default();
    let log = if seen.log.trim().is_empty() { kept } else { seen.log };
    Verdict::Failed(Cause::new(Why::CrashLoop, why).with_log(log))
}

/// How a container ended last, if it did.
pub(super) fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    now.or_else(|| container.last_state.as_ref()?.terminated.as_ref())
}

fn exit_code(container: &ContainerStatus) -> String {
    ended(container).map(|ended| format!(" with exit code {}", ended.exit_code)).unwrap_or_default()
}

/// What the registry said: more than the pause after it does.
fn pull_refusal(seen: Seen<'_>) -> Option<String> {
    let found = seen.events.iter().rfind(|event| event.message.contains("ailed to pull"));
    found.map(|event| event.message.clone())
}

/// The verdict on a pod that Google refuses: such a refusal may be cured by waiting, but not for long.
pub(super) fn identity(pod: &str, line: &str, seen: Seen<'_>, patience: &Patience) -> Verdict {
    let why = format!("Google does not let the pod {pod} be who it should be: {line}");
    if seen.lasting < patience.identity {
        Verdict::Waiting { why, on: On::Grant }
    } else {
        Verdict::Failed(Cause::new(Why::Identity, why))
    }
}

/// The last line of a log that says that Google refuses an identity.
pub(super) fn refused_identity(log: &str) -> Option<String> {
    let found = log.lines().rfind(|line| REFUSED.iter().any(|words| line.contains(words)));
    found.map(|line| line.trim().to_owned())
}
