//! Operations of Google Cloud that go on after their request was answered: found, followed, waited for.
//!
//! Nothing is remembered between runs: an operation that a killed run began is found among those of its cluster, or
//! named by the API that refuses a second one meanwhile.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    google::{Api, Client, Error, OPERATION_FAILED, Request},
    kinds::Operations,
    resource::Id,
};

/// Pause before the second read of an operation; it grows.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// Longest pause between two reads.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An operation that takes longer is left to itself; the next run waits on.
const LIMIT: Duration = Duration::from_secs(3600);

/// How long an operation that was begun a moment ago may be unknown to who is asked.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(30);

/// An operation that may still run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    api: Api,
    path: String,
    /// The API reported a moment ago that it began.
    is_new: bool,
}

/// How far an operation is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// What it does, in Google's words.
    pub what: String,
    /// Percentage, when the operation reports it.
    pub percent: Option<u8>,
}

impl Operation {
    /// The operation in the answer to a request about `id`, if the answer is one that has not ended.
    pub fn of(id: &Id, answer: &Value) -> Option<Self> {
        let path = (id.rules().started_operation)(id, answer)?;
        Some(Self { api: id.rules().api, path, is_new: true })
    }

    /// The operation of this name that something waits for.
    pub(crate) fn named(id: &Id, operations: &Operations, name: &str) -> Self {
        Self { api: id.rules().api, path: format!("{}/{name}", (operations.path)(id)), is_new: false }
    }

    /// The operations that something waits for.
    ///
    /// # Errors
    /// When the cloud does not answer.
    pub(crate) async fn under_way(client: &Client, id: &Id, operations: &Operations) -> Result<Vec<Self>, Error> {
        let request = Request::get(id.rules().api, (operations.path)(id));
        let all = client.list(&request, "operations").await?;
        let running =
            all.iter().filter(|operation| operation["status"] != "DONE" && (operations.is_about)(id, operation));
        Ok(running.filter_map(|operation| Some(Self::named(id, operations, operation["name"].as_str()?))).collect())
    }

    /// Waits until it has ended, and reports its progress.
    ///
    /// # Errors
    /// When it failed, cannot be asked, or does not end.
    pub async fn wait(&self, client: &Client, mut report: impl FnMut(Advance)) -> Result<(), Error> {
        let deadline = Instant::now() + LIMIT;
        let mut pause = FIRST_PAUSE;
        let mut unknown_since: Option<Instant> = None;
        let mut last = Advance::default();
        loop {
            let request = Request::get(self.api, &self.path);
            let Some(state) = client.send_optional(&request).await? else {
                // Not every server knows it at once.
                if self.is_new && unknown_since.get_or_insert_with(Instant::now).elapsed() < UNKNOWN_LIMIT {
                    tokio::time::sleep(pause).await;
                    pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
                    continue;
                }
                // Ended so long ago that nobody knows it any more; the caller reads the resource itself.
                return Ok(());
            };
            unknown_since = None;
            if let Some(error) = failure(&request, &state) {
                return Err(error);
            }
            if state["done"] == true || state["status"] == "DONE" {
                return Ok(());
            }
            let now = advance(&state);
            if now != last {
                report(now.clone());
                last = now;
            }
            if Instant::now() > deadline {
                return Err(Error {
                    request: request.to_string(),
                    code: 504,
                    status: Some("DEADLINE_EXCEEDED".to_owned()),
                    reason: None,
                    message: format!("it has not ended after {} s; run again to wait on", LIMIT.as_secs()),
                    retry_after_secs: None,
                });
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
        }
    }
}

/// Why an operation failed, if it did.
fn failure(request: &Request, state: &Value) -> Option<Error> {
    let error = &state["error"];
    let message = error["message"].as_str().or_else(|| {
        // Only an ended operation reports its failure there; the field is old, and not always accompanied by the new
        // one.
        state["statusMessage"].as_str().filter(|text| state["status"] == "DONE" && !text.is_empty())
    })?;
    Some(Error {
        request: request.to_string(),
        code: 500,
        status: error["code"].as_i64().map(|code| format!("code {code}")),
        reason: None,
        message: format!("{OPERATION_FAILED}{message}"),
        retry_after_secs: None,
    })
}

/// How far an operation is by its own metrics: each step has a total beside it, `NAME` and `NAME_TOTAL`.
fn advance(state: &Value) -> Advance {
    let mut metrics: Vec<(&str, u64)> = Vec::new();
    collect(&state["progress"], &mut metrics);
    let value = |name: &str| metrics.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let steps: Vec<(&str, u64, u64)> = metrics
        .iter()
        .filter_map(|(name, done)| Some((*name, *done, value(&format!("{name}_TOTAL"))?)))
        .filter(|(_, _, total)| *total > 0)
        .collect();
    let all: u64 = steps.iter().map(|(_, _, total)| total).sum();
    let done: u64 = steps.iter().map(|(_, done, total)| done.min(total)).sum();
    let percent = (all > 0).then(|| u8::try_from(done * 100 / all).unwrap_or(100));
    let step = steps.iter().find(|(_, done, total)| done < total);
    let what = match (step, state["detail"].as_str(), state["operationType"].as_str()) {
        (Some((name, done, total)), _, _) => format!("{} {done}/{total}", name.to_lowercase().replace('_', " ")),
        (None, Some(detail), _) => detail.to_owned(),
        (None, None, kind) => kind.unwrap_or("waiting").to_lowercase().replace('_', " "),
    };
    Advance { what, percent }
}

/// The whole numbers among the metrics of an operation and of its stages.
fn collect<'a>(progress: &'a Value, metrics: &mut Vec<(&'a str, u64)>) {
    for metric in progress["metrics"].as_array().into_iter().flatten() {
        let number = metric["intValue"].as_str().and_then(|text| text.parse().ok());
        if let (Some(name), Some(number)) = (metric["name"].as_str(), number) {
            metrics.push((name, number));
        }
    }
    for stage in progress["stages"].as_array().into_iter().flatten() {
        collect(stage, metrics);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::Kind;

    #[test]
    fn progress_is_what_the_metrics_say() {
        let metric = |name: &str, value: &str| json!({"name": name, "intValue": value});
        let state = json!({"operationType": "CREATE_CLUSTER", "progress": {"metrics": [
            metric("CLUSTER_CONFIGURING", "8"), metric("CLUSTER_CONFIGURING_TOTAL", "8"),
            metric("CLUSTER_DEPLOYING", "3"), metric("CLUSTER_DEPLOYING_TOTAL", "12"),
            metric("CLUSTER_HEALTHCHECKING", "0"), metric("CLUSTER_HEALTHCHECKING_TOTAL", "2"),
        ]}});
        assert_eq!(advance(&state), Advance { what: "cluster deploying 3/12".to_owned(), percent: Some(50) });
        let state = json!({"operationType": "UPDATE_CLUSTER"});
        assert_eq!(advance(&state), Advance { what: "update cluster".to_owned(), percent: None });
    }

    #[test]
    fn only_what_still_runs_is_an_operation() {
        let services = Id::new(Kind::Services, "projects/p/services");
        let answer = |done: bool| json!({"name": "operations/1", "done": done});
        assert_eq!(Operation::of(&services, &answer(true)), None);
        assert_eq!(Operation::of(&services, &answer(false)).unwrap().path, "v1/operations/1");
        let registry = Id::new(Kind::Registry, "projects/p/locations/l/repositories/r");
        assert_eq!(Operation::of(&registry, &json!({"name": registry.name})), None, "a change is answered at once");
        let pool = Id::new(Kind::NodePool, "projects/p/locations/l/clusters/c/nodePools/n");
        let found = Operation::of(&pool, &json!({"name": "operation-1-a", "operationType": "CREATE_NODE_POOL"}));
        assert_eq!(found.unwrap().path, "v1/projects/p/locations/l/operations/operation-1-a");
    }
}
