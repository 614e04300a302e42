//! Carries out actions by the code of the command line, with a line in the audit log.

use axum::http::StatusCode;
use contract::{message::Resources, names, quantity};
use futures::StreamExt as _;
use jiff::Timestamp;
use sessions::{
    Doing, Retried, Retrier, Selection, dead_letters,
    dead_letters::{Correction, DeadLetter, Replayer},
    jobs,
};
use web::{Problem, Visitor};

use super::{Action, Done, Verb};
use crate::{
    audit::Acted,
    operations::Progress,
    state::{Followed, State},
};

/// Jobs that are retried or replayed at the same time.
const CONCURRENCY: usize = 16;

/// Jobs or dead letters by what became of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    count: usize,
    /// Those whose input is deleted.
    gone: usize,
    failed: usize,
    /// Why the first of them failed.
    error: Option<String>,
}

/// Does them one after the other; what is wrong with one does not stop the others.
pub(super) async fn all(
    state: &State,
    visitor: &Visitor,
    actions: &[Action],
    progress: &Progress,
) -> Result<Done, Problem> {
    let (mut all, mut problem) = (Vec::new(), None);
    for action in actions {
        match perform(state, visitor, action, progress).await {
            Ok(done) => all.push(done),
            Err(error) => problem = Some(error),
        }
    }
    match (problem, all.pop()) {
        (Some(problem), None) => Err(problem),
        (None, Some(done)) if all.is_empty() => Ok(done),
        (problem, last) => {
            let tallies = all.into_iter().chain(last).filter_map(|done| done.tally);
            let tally = tallies.fold(Tally::default(), Tally::add);
            let failed = usize::from(problem.is_some());
            let error = problem.map(|problem| problem.why.unwrap_or(problem.what));
            Ok(tally.add(Tally { failed, error, ..Tally::default() }).done(actions[0].action))
        }
    }
}

/// Does it, and logs it for the audit, whether it succeeded or not.
async fn perform(state: &State, visitor: &Visitor, action: &Action, progress: &Progress) -> Result<Done, Problem> {
    let of = state.business(visitor, &action.business)?;
    if action.session != jobs::REFUSED_SESSION && names::check_session(&action.session).is_err() {
        return Err(Problem::bad_request(format!("{:?} cannot be a session", action.session)));
    }
    let result = carry_out(state, &of, visitor, action, progress).await;
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
        jobs = action.jobs.len(),
        code = action.code,
        done = result.is_ok(),
        "an operator acted: {result_text}"
    );
    state.audit.add(Acted {
        time: Timestamp::now(),
        who: visitor.name.clone(),
        action: format!("{:?}", action.action).to_lowercase(),
        business: action.business.clone(),
        session: action.session.clone(),
        job: action.job.clone(),
        is_done: result.is_ok(),
        result: result_text,
    });
    of.list_now.notify_one();
    result
}

async fn carry_out(
    state: &State,
    of: &Followed,
    visitor: &Visitor,
    action: &Action,
    progress: &Progress,
) -> Result<Done, Problem> {
    let (store, business, session) = (&state.store, &of.business, action.session.as_str());
    let whole = |message: String| Done { message, count: None, tally: None };
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
            let named = action.named();
            let pending = if named.is_empty() { named } else { still_pending(of, state, session, &named).await? };
            sessions::control::cancel_jobs(store, business, session, &pending, &visitor.name).await.map_err(failed)?;
            match &action.job {
                Some(job) => Ok(Done {
                    message: format!("Job {job} is to be cancelled, unless it ends first; its input is kept."),
                    count: Some(1),
                    tally: None,
                }),
                None if pending.is_empty() => Ok(whole(format!(
                    "Session {session} is to be cancelled: running Jobs stop within seconds, and inputs are kept."
                ))),
                None => Ok(Tally { count: pending.len(), ..Tally::default() }.done(action.action)),
            }
        }
        Verb::Retry => retry(state, of, action, progress).await,
        Verb::Replay | Verb::Discard => letters(state, of, action, progress).await,
    }
}

/// Those of these Jobs that wait or run. When none does, there is nothing to cancel: answers that instead of recording
/// a decision.
async fn still_pending<'a>(
    of: &Followed,
    state: &State,
    session: &str,
    named: &[&'a str],
) -> Result<Vec<&'a str>, Problem> {
    let jobs = latest_jobs(state, of, session).await?;
    let found = |name: &str| jobs.iter().find(|other| other.job == name).map(|found| found.state);
    let is_pending =
        |name: &&str| matches!(found(name), Some(Some(jobs::State::Waiting | jobs::State::Running) | None));
    let pending: Vec<&str> = named.iter().copied().filter(is_pending).collect();
    if !pending.is_empty() {
        return Ok(pending);
    }
    let why = match (named, named.first().and_then(|name| found(name))) {
        ([_, _, ..], _) => "they have ended".to_owned(),
        (_, Some(Some(state))) => format!("it has ended: {}", state.as_str()),
        _ => "there is no such Job in the session".to_owned(),
    };
    Err(Problem::new(StatusCode::CONFLICT, "not-pending", "This Job cannot be cancelled any more").why(why))
}

/// The Jobs of a session, each in its latest attempt at its latest input.
async fn latest_jobs(state: &State, of: &Followed, session: &str) -> Result<Vec<jobs::Job>, Problem> {
    let business = &of.business.name;
    let objects = jobs::list(&state.store, &of.business, Some(session)).await;
    let objects = objects.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?;
    let active = of.raw().active();
    Ok(sessions::latest(jobs::merge(business, Some(session), &objects, &active)))
}

async fn retry(state: &State, of: &Followed, action: &Action, progress: &Progress) -> Result<Done, Problem> {
    let resources = &resources(action)?;
    let jobs = latest_jobs(state, of, &action.session).await?;
    let selection = Selection {
        jobs: action.named().into_iter().map(str::to_owned).collect(),
        codes: action.code.iter().cloned().collect(),
        ..Selection::default()
    };
    let chosen = selection.choose(&jobs);
    if chosen.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "nothing-to-retry", "There is nothing to retry")
            .why("no Job of it failed or was cancelled"));
    }
    web::check_intake(&state.intake, &of.business).await?;
    let retrier = &Retrier::new(state.store.clone(), &state.publisher, of.business.clone());
    let retries = chosen.iter().map(|chosen| {
        let name = match &chosen.doing {
            Doing::Anew { outcome, .. } => outcome.as_str(),
            Doing::Again { input } => input,
            Doing::InputGone => "",
        };
        (name, async move { retrier.retry(chosen, resources).await })
    });
    each(state, progress, retries.collect()).await.checked(action.action)
}

/// Sends each of these once, many at a time. The names are those of what they follow; what is without one sends nothing.
async fn each(
    state: &State,
    progress: &Progress,
    requests: Vec<(&str, impl Future<Output = anyhow::Result<Retried>>)>,
) -> Tally {
    progress.expect(requests.len());
    let requests = requests.into_iter().map(async |(name, request)| {
        let result = if name.is_empty() || state.operations.claim(name) { Some(request.await) } else { None };
        if let Some(Err(_)) = &result {
            state.operations.release(name);
        }
        progress.step();
        result
    });
    let results: Vec<_> =
        futures::stream::iter(requests.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY).collect().await;
    let mut tally = Tally::default();
    for result in results {
        match result {
            // Another request of the same sent it.
            None | Some(Ok(Retried::Published { .. })) => tally.count += 1,
            Some(Ok(Retried::InputGone)) => tally.gone += 1,
            Some(Err(error)) => {
                tally.failed += 1;
                tally.error.get_or_insert(format!("{error:#}"));
            }
        }
    }
    tally
}

fn resources(action: &Action) -> Result<Resources, Problem> {
    if let Some(memory) = &action.memory
        && quantity::bytes(memory).is_none()
    {
        return Err(Problem::bad_request(format!("{memory:?} is not an amount of memory")).next("Write it like 2Gi."));
    }
    Ok(Resources { memory: action.memory.clone(), ..Resources::default() })
}

async fn letters(state: &State, of: &Followed, action: &Action, progress: &Progress) -> Result<Done, Problem> {
    let (store, business) = (&state.store, &of.business);
    let unavailable = |error: anyhow::Error| Problem::unavailable("Cloud Storage does not answer", &error);
    let objects = jobs::list(store, business, Some(&action.session)).await;
    let letters = dead_letters::among(&business.name, Some(&action.session), &objects.map_err(unavailable)?, false);
    let named = action.named();
    let is_chosen = |letter: &DeadLetter| {
        (named.is_empty() || named.contains(&letter.job.as_str()))
            && action.code.as_ref().is_none_or(|code| *code == letter.code)
    };
    let chosen: Vec<_> = letters.into_iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "no-such-letter", "There is no such dead letter")
            .why("somebody replayed or discarded it, or its Job was retried"));
    }
    if action.action == Verb::Discard {
        let discards = chosen.iter().map(async |letter| {
            dead_letters::discard(store, business, letter, action.delete_input).await?;
            Ok(Retried::Published { attempt: letter.attempt, message_id: String::new() })
        });
        let discards = discards.map(|discard| ("", discard)).collect();
        return each(state, progress, discards).await.checked(action.action);
    }
    if action.contents.is_some() && chosen.len() > 1 {
        return Err(Problem::bad_request("One file cannot correct several dead letters")
            .next("Replay them without a file, or one by one."));
    }
    let correction =
        Correction { contents: action.contents.clone(), resources: resources(action)?, ..Correction::default() };
    web::check_intake(&state.intake, business).await?;
    let replayer = Replayer::new(store.clone(), &state.publisher, business.clone());
    let replays = chosen.iter().map(|letter| (letter.outcome.as_str(), replayer.replay(letter, &correction)));
    each(state, progress, replays.collect()).await.checked(action.action)
}

impl Tally {
    /// The result of an action on these; an error when nothing was done.
    fn checked(self, verb: Verb) -> Result<Done, Problem> {
        match &self.error {
            Some(error) if self.count == 0 => {
                Err(Problem::unavailable("The action failed", &anyhow::anyhow!("{error}")))
            }
            _ => Ok(self.done(verb)),
        }
    }

    fn done(self, verb: Verb) -> Done {
        let things = if verb == Verb::Discard { "dead letter" } else { "Job" };
        let mut message = match self.count {
            1 => format!("1 {things} is {}.", verb.done()),
            count => format!("{count} {things}s are {}.", verb.done()),
        };
        if self.gone > 0 {
            message.push_str(&format!(" The inputs of {} are deleted, so they cannot run.", self.gone));
        }
        if let Some(error) = &self.error {
            message.push_str(&format!(" {} failed: {error}.", self.failed));
        }
        Done { message, count: Some(self.count), tally: Some(self) }
    }

    fn add(mut self, other: Self) -> Self {
        self.count += other.count;
        self.gone += other.gone;
        self.failed += other.failed;
        self.error = self.error.or(other.error);
        self
    }
}
