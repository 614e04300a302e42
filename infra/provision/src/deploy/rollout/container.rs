//! One container of a Pod, and what its log says of it.

use k8s_openapi::api::core::v1::ContainerStatus;

use super::{Cause, Patience, Seen, Verdict, Why};

/// Restarts after which a container is given up. One may be bad luck.
const CRASHES: i32 = 2;

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

/// Judges one container; nothing when it runs or is done.
pub(super) fn judge(pod: &str, container: &ContainerStatus, seen: Seen<'_>, patience: &Patience) -> Option<Verdict> {
    let state = container.state.as_ref()?;
    let ended = state.terminated.as_ref().or_else(|| container.last_state.as_ref()?.terminated.as_ref());
    let code = ended.map(|ended| format!(" with exit code {}", ended.exit_code)).unwrap_or_default();
    let waiting = match (&state.waiting, &state.terminated) {
        (Some(waiting), _) => waiting,
        (None, Some(ended)) if ended.exit_code != 0 => {
            return Some(Verdict::waiting(format!("the container {} of {pod} ended{code}", container.name)));
        }
        _ => return None,
    };
    let message = waiting.message.clone().unwrap_or_default();
    let failed = |why, text: String| Some(Verdict::Failed(Cause::new(why, text)));
    match waiting.reason.as_deref()? {
        // The first refusal says most, and the pause after it (ImagePullBackOff) is when it counts.
        "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
            let said = pull_refusal(seen).unwrap_or(message);
            failed(Why::ImagePull, format!("the image {} cannot be pulled: {said}", container.image))
        }
        "CrashLoopBackOff" => {
            if let Some(line) = refused_identity(seen.log) {
                return Some(identity(pod, &line, seen, patience));
            }
            if container.restart_count < CRASHES {
                let why = format!("the container {} of {pod} ended{code} and is started again", container.name);
                return Some(Verdict::waiting(why));
            }
            let why = format!("the container {} ends again and again{code}", container.name);
            Some(Verdict::Failed(Cause::new(Why::CrashLoop, why).with_log(seen.log)))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            failed(Why::PodConfig, format!("the container {} cannot be started: {message}", container.name))
        }
        other => Some(Verdict::waiting(format!("the container {} of {pod} is in {other}", container.name))),
    }
}

/// What the registry said: more than the pause after it does.
fn pull_refusal(seen: Seen<'_>) -> Option<String> {
    let refused = |message: &&str| message.contains("ailed to pull");
    let mut messages = seen.events.iter().filter_map(|event| event.message.as_deref());
    messages.rfind(refused).map(str::to_owned)
}

/// The verdict on a pod that Google refuses: such a refusal may be cured by waiting, but not for long.
pub(super) fn identity(pod: &str, line: &str, seen: Seen<'_>, patience: &Patience) -> Verdict {
    let why = format!("Google does not let the pod {pod} be who it should be: {line}");
    if seen.lasting < patience.identity {
        Verdict::waiting(why)
    } else {
        Verdict::Failed(Cause::new(Why::Identity, why))
    }
}

/// The last line of a log that says that Google refuses an identity.
pub(super) fn refused_identity(log: &str) -> Option<String> {
    let found = log.lines().rfind(|line| REFUSED.iter().any(|words| line.contains(words)));
    found.map(|line| line.trim().to_owned())
}
