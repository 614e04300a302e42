//! The log of a Pod as it is written.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Extension, State as FromState},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{AsyncBufReadExt as _, StreamExt as _};
use inspect::cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::{sleep_until, timeout};
use web::{Problem, Query, Visitor};

use crate::state::State;

/// Lines that are shown of what was written before.
const TAIL: i64 = 500;
/// Lines that are sent together at most.
const TOGETHER: usize = 200;
/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(150);
/// After which a stream ends, so that the access of who reads it is looked at anew.
const LASTS: Duration = Duration::from_secs(900);

/// Follows a Pod's log: events `lines`, each a JSON array of lines, and one `end`.
pub(crate) async fn follow(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Response, Problem> {
    let of = state.business(&visitor, query.get("business").unwrap_or_default())?;
    let name = query.get("pod").unwrap_or_default().to_owned();
    let job = query.get("job").map(str::to_owned);
    let missing = || Problem::not_found(format!("There is no Pod {name:?}"));
    // Only engines of this business: an orchestrator's log tells of other things.
    if of.raw().pods.get(&name).is_none_or(|pod| pod.app != common::labels::APP_ENGINE) {
        return Err(missing());
    }
    let namespace = of.business.namespace.clone();
    let api: Api<Pod> = Api::namespaced(state.kube.clone(), &namespace);
    let pod =
        api.get_opt(&name).await.map_err(|error| Problem::unavailable("Kubernetes does not answer", &error.into()))?;
    let pod = pod.ok_or_else(missing)?;
    let reader = cluster::log_stream(&state.kube, &namespace, &pod, Some(TAIL)).await;
    let reader = reader.map_err(|error| Problem::unavailable("There is no log yet", &error))?;
    let stop = state.site.stop.clone();
    let events = async_stream::stream! {
        let mut lines = Box::pin(reader).lines();
        let end = tokio::time::Instant::now() + LASTS;
        loop {
            let next = tokio::select! {
                next = lines.next() => next,
                () = stop.cancelled() => None,
                () = sleep_until(end) => None,
            };
            let Some(Ok(line)) = next else { break };
            let mut together = vec![line];
            while together.len() < TOGETHER {
                match timeout(GATHER, lines.next()).await {
                    Ok(Some(Ok(line))) => together.push(line),
                    _ => break,
                }
            }
            together.retain(|line| cluster::is_about(job.as_deref(), &pod, line));
            if let Ok(event) = Event::default().event("lines").json_data(&together) {
                yield Ok::<_, Infallible>(event);
            }
        }
        yield Ok(Event::default().event("end").data(""));
    };
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
