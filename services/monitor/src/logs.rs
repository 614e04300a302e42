//! The log of a Pod, live.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Extension, State as FromState},
    http::HeaderMap,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{AsyncBufReadExt as _, StreamExt as _};
use inspect::cluster::{self, Position};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::{sleep_until, timeout};
use tokio_util::{compat::FuturesAsyncReadCompatExt as _, io::ReaderStream};
use web::{Problem, Query, Visitor, attachment};

use crate::state::State;

/// Lines before the current end of the log that are sent first.
const TAIL: i64 = 500;
/// Lines in one event.
const MAX_LINES: usize = 200;
/// How long an event waits for more lines.
const GATHER: Duration = Duration::from_millis(150);
/// Time after which a stream ends, so that the reader's access is checked again.
const LASTS: Duration = Duration::from_secs(900);

/// A line for people: of a line of JSON, the time, the message and the fields.
pub(crate) fn plain(line: &str) -> String {
    let logged: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(line).ok();
    let Some(mut fields) = logged else { return line.to_owned() };
    let mut text = |name: &str| match fields.remove(name) {
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (time, severity, message) = (text("time"), text("severity"), text("message"));
    if message.is_empty() || severity.is_empty() {
        return line.to_owned();
    }
    // The page names the Job.
    for field in ["job", "session", "target"] {
        text(field);
    }
    let clock = time
        .split_once('T')
        .map(|(_, clock)| format!("{}Z", clock.chars().take(12).collect::<String>()))
        .unwrap_or_default();
    let mut words: Vec<String> =
        [clock, severity.replace("INFO", ""), message].into_iter().filter(|word| !word.is_empty()).collect();
    words.extend(fields.into_iter().map(|(name, value)| match value {
        serde_json::Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    }));
    words.join("  ")
}

/// The Pod that a query names, with its namespace.
async fn pod(state: &State, visitor: &Visitor, query: &Query) -> Result<(String, Pod), Problem> {
    let of = state.business(visitor, query.get("business").unwrap_or_default())?;
    let name = query.get("pod").unwrap_or_default().to_owned();
    let missing = || Problem::not_found(format!("There is no Pod {name:?}"));
    // Only engines of this business: an orchestrator's log has lines about other Jobs.
    if of.raw().pods.get(&name).is_none_or(|pod| pod.app != contract::labels::APP_ENGINE) {
        return Err(missing());
    }
    let namespace = of.business.namespace.clone();
    let api: Api<Pod> = Api::namespaced(state.kube.clone(), &namespace);
    let pod =
        api.get_opt(&name).await.map_err(|error| Problem::unavailable("Kubernetes does not answer", &error.into()))?;
    Ok((namespace, pod.ok_or_else(missing)?))
}

/// The whole log of a Pod so far, as a file.
pub(crate) async fn download(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Response, Problem> {
    let (namespace, pod) = pod(&state, &visitor, &query).await?;
    let reader = cluster::whole_log(&state.kube, &namespace, &pod).await;
    let reader = reader.map_err(|error| Problem::unavailable("There is no log yet", &error))?;
    let file = format!("{}.log", query.get("pod").unwrap_or_default());
    Ok(attachment(Body::from_stream(ReaderStream::new(reader.compat())), "text/plain; charset=utf-8", &file))
}

/// Follows a Pod's log: events `lines`, each a JSON array of lines, and one `end`. With the id of an event it goes on
/// behind that event.
pub(crate) async fn follow(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    let (namespace, pod) = pod(&state, &visitor, &query).await?;
    let last = headers.get("last-event-id").and_then(|last| Position::behind(last.to_str().ok()?));
    let start = Position::before_last(Some(TAIL).filter(|_| query.get("from") != Some("start")));
    let mut position = last.unwrap_or(start);
    let reader = cluster::log_stream(&state.kube, &namespace, &pod, &mut position).await;
    let reader = reader.map_err(|error| Problem::unavailable("There is no log yet", &error))?;
    let stop = state.site.stop.clone();
    let events = async_stream::stream! {
        let mut lines = Box::pin(reader).lines();
        let end = tokio::time::Instant::now() + LASTS;
        loop {
            let next = tokio::select! {
                next = lines.next() => next,
                () = stop.cancelled() => return,
                () = sleep_until(end) => return,
            };
            let Some(Ok(line)) = next else { break };
            let mut together: Vec<String> = position.next_text(&line).map(plain).into_iter().collect();
            while together.len() < MAX_LINES {
                match timeout(GATHER, lines.next()).await {
                    Ok(Some(Ok(line))) => together.extend(position.next_text(&line).map(plain)),
                    _ => break,
                }
            }
            if together.is_empty() {
                continue;
            }
            if let Ok(event) = Event::default().event("lines").id(position.to_string()).json_data(&together) {
                yield Ok::<_, Infallible>(event);
            }
        }
        yield Ok(Event::default().event("end").data(""));
    };
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_line_that_a_program_logged_as_json_is_words() {
        for (line, expected) in [
            (
                r#"{"time":"2026-11-23T05:02:10.374032101Z","severity":"INFO","message":"read the input","bytes":21,"job":"j","session":"s","target":"engine::run"}"#,
                "05:02:10.374Z  read the input  bytes=21",
            ),
            (
                r#"{"severity":"ERROR","message":"no strike","code":"malformed-input"}"#,
                "ERROR  no strike  code=malformed-input",
            ),
            ("line 3 of the log", "line 3 of the log"),
            (r#"{"value": 1}"#, r#"{"value": 1}"#),
            (r#"{"message": "half"#, r#"{"message": "half"#),
            ("", ""),
        ] {
            assert_eq!(plain(line), expected);
        }
    }
}
