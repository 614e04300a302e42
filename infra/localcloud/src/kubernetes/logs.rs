//! `pods/NAME/log`: which container's log, from where, and as a stream.

use axum::{body::Body, response::Response};
use http::{HeaderValue, header};
use jiff::SignedDuration;
use serde_json::Value;

use super::{
    cluster::Cluster,
    failure::{Answer, Failure},
    kinds,
    request::{Query, Target},
    value::{self, items, number, text},
};
use crate::node::logs::{self, Reading};

/// Answers a request for the log of a container.
pub(super) async fn answer(cluster: &Cluster, target: &Target, query: &Query) -> Answer<Response> {
    let pod = cluster
        .store
        .get(&kinds::POD, &target.namespace, &target.name)
        .ok_or_else(|| Failure::not_found(&kinds::POD, &target.name))?;
    let container = container(&pod, query.text("container"))?;
    let statuses = items(&pod, "/status/containerStatuses").iter().chain(items(&pod, "/status/initContainerStatuses"));
    let status = statuses.clone().find(|status| text(status, "/name") == container).unwrap_or(&Value::Null);
    let restarts = number(status, "/restartCount").unwrap_or_default();
    let previous = query.truth("previous");
    let name = value::name(&pod);
    let run = if previous {
        restarts.checked_sub(1).filter(|run| *run >= 0).ok_or_else(|| {
            let message = format!("previous terminated container {container:?} in pod {name:?} not found");
            Failure::bad_request(message)
        })?
    } else if status.pointer("/state/running").is_some() || status.pointer("/state/terminated").is_some() {
        restarts
    } else if restarts > 0 {
        // Waiting for its next start: what it wrote last is what there is.
        restarts
    } else {
        let reason = match text(status, "/state/waiting/reason") {
            "" if text(&pod, "/spec/nodeName").is_empty() => {
                return Err(Failure::bad_request(format!("pod {name} does not have a host assigned")));
            }
            "" => "ContainerCreating",
            reason => reason,
        };
        let message = format!("container {container:?} in pod {name:?} is waiting to start: {reason}");
        return Err(Failure::bad_request(message));
    };
    // As the API server's `ValidatePodLogOptions`.
    let invalid = |why: String| Failure::new(422, "Invalid", format!("PodLogOptions {name:?} is invalid: {why}"));
    let bounded = |field: &str, least: i64, rule: &str| match query.number(field)? {
        Some(number) if number < least => Err(invalid(format!("{field}: Invalid value: {number}: must be {rule} 0"))),
        number => Ok(number),
    };
    let count = |number: Option<i64>| number.and_then(|number| usize::try_from(number).ok());
    let since = match (bounded("sinceSeconds", 1, "greater than")?, query.text("sinceTime")) {
        (Some(_), at) if !at.is_empty() => {
            let why = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
            return Err(invalid(why.to_owned()));
        }
        (Some(seconds), _) => cluster.clock.now().checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, "") => None,
        (None, at) => Some(at.parse().map_err(|_| Failure::bad_request(format!("invalid sinceTime {at:?}")))?),
    };
    let reading = Reading {
        follow: query.truth("follow") && !previous,
        tail: count(bounded("tailLines", 0, "greater than or equal to")?),
        limit: count(bounded("limitBytes", 1, "greater than")?),
        since,
        timestamps: query.truth("timestamps"),
    };
    let path = logs::path(&cluster.folder, value::uid(&pod), container, run);
    let mut response = Response::new(Body::from_stream(logs::read(&cluster.logs, path, reading)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn container<'a>(pod: &'a Value, asked: &str) -> Answer<&'a str> {
    let names = |list: &str| -> Vec<&'a str> {
        items(pod, &format!("/spec/{list}")).iter().map(|container| text(container, "/name")).collect()
    };
    let (init, main) = (names("initContainers"), names("containers"));
    if !asked.is_empty() {
        let found = main.iter().chain(&init).find(|name| **name == asked).copied();
        return found.ok_or_else(|| {
            Failure::bad_request(format!("container {asked} is not valid for pod {}", value::name(pod)))
        });
    }
    if let [only] = main.as_slice() {
        return Ok(only);
    }
    let preferred = value::annotation(pod, "kubectl.kubernetes.io/default-container");
    if let Some(found) = main.iter().find(|name| **name == preferred) {
        return Ok(found);
    }
    let name = value::name(pod);
    Err(Failure::bad_request(format!(
        "a container name must be specified for pod {name}, choose one of: [{}]",
        main.join(" ")
    )))
}
