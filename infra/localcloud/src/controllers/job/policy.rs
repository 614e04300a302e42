//! Pod failure policies: what a failed pod means for its Job.

use serde_json::Value;

use crate::kubernetes::value::{self, items, number, text};

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// One more failure.
    Count,
    /// Nothing.
    Ignore,
    /// The index has failed for good.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// What the Job's policy says of a failed pod.
pub(super) fn judge(job: &Value, pod: &Value) -> Action {
    for (index, rule) in items(job, "/spec/podFailurePolicy/rules").iter().enumerate() {
        let why = match rule.get("onExitCodes").filter(|codes| !codes.is_null()) {
            Some(codes) => by_exit_code(codes, pod),
            None => by_condition(rule, pod),
        };
        let Some(why) = why else { continue };
        return match text(rule, "/action") {
            "Ignore" => Action::Ignore,
            "FailIndex" => Action::FailIndex,
            "FailJob" => Action::FailJob(format!("{why} matching FailJob rule at index {index}")),
            _ => Action::Count,
        };
    }
    Action::Count
}

fn by_exit_code(codes: &Value, pod: &Value) -> Option<String> {
    let only = text(codes, "/containerName");
    let values = items(codes, "/values");
    let statuses = items(pod, "/status/initContainerStatuses").iter().chain(items(pod, "/status/containerStatuses"));
    for status in statuses.filter(|status| only.is_empty() || text(status, "/name") == only) {
        let Some(code) = number(status, "/state/terminated/exitCode").filter(|code| *code != 0) else { continue };
        let listed = values.iter().any(|value| value.as_i64() == Some(code));
        if listed == (text(codes, "/operator") == "In") {
            return Some(format!(
                "Container {} for pod {}/{} failed with exit code {code}",
                text(status, "/name"),
                value::namespace(pod),
                value::name(pod)
            ));
        }
    }
    None
}

fn by_condition(rule: &Value, pod: &Value) -> Option<String> {
    for desired in items(rule, "/onPodConditions") {
        let kind = text(desired, "/type");
        let status = match text(desired, "/status") {
            "" => "True",
            status => status,
        };
        if value::condition(pod, kind).is_some_and(|condition| text(condition, "/status") == status) {
            let (namespace, name) = (value::namespace(pod), value::name(pod));
            return Some(format!("Pod {namespace}/{name} has condition {kind}"));
        }
    }
    None
}
