//! Actions of an operator, done by the code of the command line, with a line in the audit log.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    Json,
    extract::{Extension, State as FromState},
    http::StatusCode,
    response::Redirect,
};
use contract::{message::Resources, names, quantity};
use futures::{StreamExt as _, TryStreamExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sessions::{
    Retried, Retrier, Selection, dead_letters,
    dead_letters::{Correction, Replayer},
    jobs,
};
use web::{Form, Problem, Viewer, Visitor, path_of_ours};

use crate::state::{Followed, State};

/// Jobs that are retried or replayed at the same time.
const CONCURRENCY: usize = 16;

/// The kinds of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    /// Stop a session, or one of its Jobs.
    Cancel,
    /// Start no more Jobs of a session.
    Pause,
    /// End a pause.
    Resume,
    /// Give Jobs that failed or were cancelled another attempt.
    Retry,
    /// Replay a dead letter.
    Replay,
    /// Remove a dead letter from the list.
    Discard,
}

/// A request for an action.
#[derive(Clone, Debug, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Action {
    /// The kind of action.
    pub(crate) action: Verb,
    /// Business.
    pub(crate) business: String,
    /// Session; `refused` for the dead letter of a message that never was a Job.
    pub(crate) session: String,
    /// One Job, or one message; everything of the session that did not succeed when it is absent.
    #[serde(default)]
    pub(crate) job: Option<String>,
    /// Memory for the new attempt.
    #[serde(default)]
    pub(crate) memory: Option<String>,
    /// Discard: delete the input too.
    #[serde(default)]
    pub(crate) delete_input: bool,
}

/// The result of an action.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(crate) struct Done {
    /// A sentence.
    pub(crate) message: String,
    /// Number of Jobs or dead letters; absent for an action on a whole session.
    pub(crate) count: Option<usize>,
}

/// A form of a page.
pub(crate) async fn by_form(
    FromState(state): FromState<Arc<State>>,
    viewer: Viewer,
    form: Form,
) -> Result<Redirect, Problem> {
    let text = |name: &str| form.get(name).unwrap_or_default().to_owned();
    let optional = |name: &str| form.get(name).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
    let action: Verb = serde_json::from_value(text("action").into())
        .map_err(|_| Problem::bad_request(format!("There is no action {:?}", text("action"))))?;
    let action = Action {
        action,
        business: text("business"),
        session: text("session"),
        job: optional("job"),
        memory: optional("memory"),
        delete_input: form.get("delete_input").is_some(),
    };
    let done = perform(&state, &viewer.visitor, &action).await?;
    state.notify(&viewer.visitor, done.message);
    Ok(Redirect::to(path_of_ours(form.get("back"))))
}

/// A program's request.
pub(crate) async fn by_api(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    body: Result<Json<Action>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Done>, Problem> {
    let Json(action) = body.map_err(|error| {
        Problem::new(error.status(), "bad-request", "The request is not an action").why(error.body_text())
    })?;
    Ok(Json(perform(&state, &visitor, &action).await?))
}

/// Does it, and logs it for the audit, whether it succeeded or not.
async fn perform(state: &State, visitor: &Visitor, action: &Action) -> Result<Done, Problem> {
    let of = state.business(visitor, &action.business)?;
    if action.session != jobs::REFUSED_SESSION && names::check_session(&action.session).is_err() {
        return Err(Problem::bad_request(format!("{:?} cannot be a session", action.session)));
    }
    let result = carry_out(state, &of, visitor, action).await;
    let result_text = match &result {
        Ok(done) => done.message.clone(),
        Err(problem) => problem.what.clone(),
    };
    tracing::info!(
        audit = true,
        who = visitor.name,
        action = ?action.action,
        business = action.business,
        session = action.session,
        job = action.job,
        done = result.is_ok(),
        "an operator acted: {result_text}"
    );
    of.list_now.notify_one();
    result
}

async fn carry_out(state: &State, of: &Followed, visitor: &Visitor, action: &Action) -> Result<Done, Problem> {
    let (store, business, session) = (&state.store, &of.business, action.session.as_str());
    let whole = |message: String| Done { message, count: None };
    let failed = |error: anyhow::Error| Problem::unavailable("The action failed", &error);
    match action.action {
        Verb::Pause => {
            sessions::control::change(store, business, session, &visitor.name, |control| control.paused = true)
                .await
                .map_err(failed)?;
            Ok(whole(format!(
                "Session {session} is to be paused: within seconds, waiting Jobs do not start; running Jobs continue."
            )))
        }
        Verb::Resume => {
            sessions::control::change(store, business, session, &visitor.name, |control| control.paused = false)
                .await
                .map_err(failed)?;
            Ok(whole(format!("Session {session} is to be resumed: its parked messages are published within seconds.")))
        }
        Verb::Cancel => {
            let job = action.job.as_deref();
            if let Some(job) = job {
                still_pending(of, state, session, job).await?;
            }
            sessions::control::cancel(store, business, session, job, &visitor.name).await.map_err(failed)?;
            if let Some(job) = job {
                return Ok(Done {
                    message: format!("Job {job} is to be cancelled, unless it ends first; its input is kept."),
                    count: Some(1),
                });
            }
            Ok(whole(format!(
                "Session {session} is to be cancelled: running Jobs stop within seconds, and inputs are kept."
            )))
        }
        Verb::Retry => retry(state, of, action).await,
        Verb::Replay | Verb::Discard => letters(state, of, action).await,
    }
}

/// A Job that has ended or does not exist cannot be cancelled: answers that instead of recording a decision.
async fn still_pending(of: &Followed, state: &State, session: &str, job: &str) -> Result<(), Problem> {
    let ended = |why: &str| {
        Problem::new(StatusCode::CONFLICT, "not-pending", "This Job cannot be cancelled any more").why(why.to_owned())
    };
    let jobs = latest_jobs(state, of, session).await?;
    match jobs.iter().find(|other| other.job == job).map(|found| found.state) {
        Some(Some(jobs::State::Waiting | jobs::State::Running) | None) => Ok(()),
        Some(Some(state)) => Err(ended(&format!("it has ended: {}", state.as_str()))),
        None => Err(ended("there is no such Job in the session")),
    }
}

/// The Jobs of a session, each in its latest attempt at its latest input.
async fn latest_jobs(state: &State, of: &Followed, session: &str) -> Result<Vec<jobs::Job>, Problem> {
    let business = &of.business.name;
    let objects = jobs::list(&state.store, &of.business, Some(session)).await;
    let objects = objects.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?;
    let active = of.raw().active();
    Ok(sessions::latest(jobs::merge(business, Some(session), &objects, &active)))
}

async fn retry(state: &State, of: &Followed, action: &Action) -> Result<Done, Problem> {
    let resources = resources(action)?;
    let jobs = latest_jobs(state, of, &action.session).await?;
    let selection = Selection { jobs: action.job.iter().cloned().collect(), ..Selection::default() };
    let chosen = selection.choose(&jobs);
    if chosen.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "nothing-to-retry", "There is nothing to retry")
            .why("no Job of it failed or was cancelled"));
    }
    web::check_intake(&state.intake, &of.business).await?;
    let retrier = Retrier::new(state.store.clone(), &state.publisher, of.business.clone());
    let retries = chosen.iter().map(|chosen| retrier.retry(chosen, &resources));
    let retried: Vec<Retried> = futures::stream::iter(retries.collect::<Vec<_>>())
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
        .map_err(|error| Problem::unavailable("Some Jobs could not be retried", &error))?;
    Ok(summary(&retried, "is retried", "are retried"))
}

fn resources(action: &Action) -> Result<Resources, Problem> {
    if let Some(memory) = &action.memory
        && quantity::bytes(memory).is_none()
    {
        return Err(Problem::bad_request(format!("{memory:?} is not an amount of memory")).next("Write it like 2Gi."));
    }
    Ok(Resources { memory: action.memory.clone(), ..Resources::default() })
}

fn summary(retried: &[Retried], one: &str, many: &str) -> Done {
    let published = retried.iter().filter(|retried| matches!(retried, Retried::Published { .. })).count();
    let gone = retried.len() - published;
    let mut message = if published == 1 { format!("1 Job {one}.") } else { format!("{published} Jobs {many}.") };
    if gone > 0 {
        message.push_str(&format!(" The inputs of {gone} are deleted, so they cannot run."));
    }
    Done { message, count: Some(published) }
}

async fn letters(state: &State, of: &Followed, action: &Action) -> Result<Done, Problem> {
    let (store, business) = (&state.store, &of.business);
    let unavailable = |error: anyhow::Error| Problem::unavailable("Cloud Storage does not answer", &error);
    let objects = jobs::list(store, business, Some(&action.session)).await;
    let letters = dead_letters::among(&business.name, Some(&action.session), &objects.map_err(unavailable)?, false);
    let chosen: Vec<_> =
        letters.into_iter().filter(|letter| action.job.as_ref().is_none_or(|job| *job == letter.job)).collect();
    if chosen.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "no-such-letter", "There is no such dead letter")
            .why("somebody replayed or discarded it, or its Job was retried"));
    }
    if action.action == Verb::Discard {
        for letter in &chosen {
            dead_letters::discard(store, business, letter, action.delete_input).await.map_err(unavailable)?;
        }
        let count = chosen.len();
        let message = if count == 1 {
            "1 dead letter is discarded.".to_owned()
        } else {
            format!("{count} dead letters are discarded.")
        };
        return Ok(Done { message, count: Some(count) });
    }
    let correction = Correction { resources: resources(action)?, ..Correction::default() };
    web::check_intake(&state.intake, business).await?;
    let replayer = Replayer::new(store.clone(), &state.publisher, business.clone());
    let replays = chosen.iter().map(|letter| replayer.replay(letter, &correction));
    let replayed: Vec<Retried> = futures::stream::iter(replays.collect::<Vec<_>>())
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
        .context("replay dead letters")
        .map_err(|error| Problem::unavailable("Some dead letters could not be replayed", &error))?;
    Ok(summary(&replayed, "is replayed", "are replayed"))
}
