//! Actions of an operator: the requests of pages and programs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Extension, Request, State as FromState},
    http::{StatusCode, header},
    response::Redirect,
};
use bytes::Bytes;
use multer::{Constraints, Multipart, SizeLimit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::timeout};
use web::{Form, MAX_FORM_BYTES, Problem, Query, Viewer, Visitor, path_of_ours};

use crate::state::State;

mod perform;

/// Bytes of a file that corrects an input.
const MAX_CONTENTS: u64 = 16 * 1024 * 1024;
/// How long the answer to a form waits for the end of its action.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two reports of progress.
const REPORT: Duration = Duration::from_millis(300);

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
    /// Several Jobs or messages of the session.
    #[serde(default)]
    pub(crate) jobs: Vec<String>,
    /// Retry, replay, discard: only those with this reason code.
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// Memory for the new attempt.
    #[serde(default)]
    pub(crate) memory: Option<String>,
    /// Discard: delete the input too.
    #[serde(default)]
    pub(crate) delete_input: bool,
    /// Replay: bytes that replace the input of the dead letter.
    #[serde(skip)]
    contents: Option<Bytes>,
}

impl Action {
    /// The Jobs or messages that it names.
    fn named(&self) -> Vec<&str> {
        self.job.iter().chain(&self.jobs).map(String::as_str).collect()
    }
}

impl Verb {
    /// What happens until it is done.
    pub(crate) fn progressive(self) -> &'static str {
        match self {
            Self::Cancel => "Cancelling",
            Self::Pause => "Pausing",
            Self::Resume => "Resuming",
            Self::Retry => "Retrying",
            Self::Replay => "Replaying",
            Self::Discard => "Discarding",
        }
    }

    /// What is then the case.
    fn done(self) -> &'static str {
        match self {
            Self::Cancel => "to be cancelled",
            Self::Pause => "to be paused",
            Self::Resume => "to be resumed",
            Self::Retry => "retried",
            Self::Replay => "replayed",
            Self::Discard => "discarded",
        }
    }
}

/// The result of an action.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(crate) struct Done {
    /// A sentence.
    pub(crate) message: String,
    /// Number of Jobs or dead letters; absent for an action on a whole session.
    pub(crate) count: Option<usize>,
    #[serde(skip)]
    tally: Option<perform::Tally>,
}

/// A form of a page.
pub(crate) async fn by_form(
    FromState(state): FromState<Arc<State>>,
    viewer: Viewer,
    form: Form,
    request: Request,
) -> Result<Redirect, Problem> {
    let (form, contents) = with_file(form, request).await?;
    let text = |name: &str| form.get(name).unwrap_or_default().to_owned();
    let optional = |name: &str| form.get(name).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
    let verb: Verb = serde_json::from_value(text("action").into())
        .map_err(|_| Problem::bad_request(format!("There is no action {:?}", text("action"))))?;
    let one = Action {
        action: verb,
        business: text("business"),
        session: text("session"),
        job: optional("job"),
        jobs: Vec::new(),
        code: optional("code"),
        memory: optional("memory"),
        delete_input: form.get("delete_input").is_some(),
        contents,
    };
    let targets: Vec<Query> = form.all("target").map(Query::parse).collect();
    let actions =
        if form.get("several").is_some() { several(&state, &viewer.visitor, &one, &targets)? } else { vec![one] };
    let ended = start(&state, &viewer.visitor, verb, actions);
    // The page shows the progress of an action that takes longer.
    if let Ok(Ok(Err(problem))) = timeout(PATIENCE, ended).await {
        return Err(problem);
    }
    Ok(Redirect::to(path_of_ours(form.get("back"))))
}

/// The fields of a form, and the file in it.
async fn with_file(form: Form, request: Request) -> Result<(Form, Option<Bytes>), Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let Ok(boundary) = multer::parse_boundary(kind) else { return Ok((form, None)) };
    let limits = SizeLimit::new().for_field("contents", MAX_CONTENTS).per_field(MAX_FORM_BYTES as u64);
    let constraints = Constraints::new().size_limit(limits.whole_stream(MAX_CONTENTS + MAX_FORM_BYTES as u64));
    let mut fields = Multipart::with_constraints(request.into_body().into_data_stream(), boundary, constraints);
    let incomplete = |error: multer::Error| match error {
        multer::Error::FieldSizeExceeded { limit, .. } | multer::Error::StreamSizeExceeded { limit } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "This file is too large")
                .why(format!("it may have {limit} bytes"))
                .next("Use `deskgrid dead-letters replay`.")
        }
        error => Problem::bad_request("The form is incomplete").why(error.to_string()).next("Send it again."),
    };
    let (mut form, mut contents) = (Form::default(), None);
    while let Some(field) = fields.next_field().await.map_err(incomplete)? {
        let name = field.name().unwrap_or_default().to_owned();
        // Without a choice, browsers send a file without a name.
        let is_chosen = field.file_name().is_some_and(|name| !name.is_empty());
        let value = field.bytes().await.map_err(incomplete)?;
        if name != "contents" {
            form.0.push((name, String::from_utf8_lossy(&value).into_owned()));
        } else if is_chosen {
            contents = Some(value);
        }
    }
    Ok((form, contents))
}

/// The actions on Jobs of several sessions: on these, or on all dead letters with a reason code.
fn several(state: &State, visitor: &Visitor, one: &Action, targets: &[Query]) -> Result<Vec<Action>, Problem> {
    let mut sessions: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for target in targets {
        let [business, session, job] =
            ["business", "session", "job"].map(|name| target.get(name).unwrap_or_default().to_owned());
        sessions.entry((business, session)).or_default().push(job);
    }
    if targets.is_empty() && one.code.is_some() {
        let only = Some(one.business.as_str()).filter(|business| !business.is_empty());
        for view in state.views(visitor, only)? {
            for letter in view.letters.iter().filter(|letter| one.code.as_ref() == Some(&letter.code)) {
                sessions.entry((letter.business.clone(), letter.session.clone())).or_default();
            }
        }
    }
    if sessions.is_empty() {
        return Err(Problem::bad_request("Nothing is selected").next("Select Jobs in the first column."));
    }
    let of = |((business, session), jobs)| Action { business, session, jobs, ..one.clone() };
    Ok(sessions.into_iter().map(of).collect())
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
    let ended = start(&state, &visitor, action.action, vec![action]).await;
    Ok(Json(ended.map_err(|error| Problem::internal(error.into()))??))
}

/// Starts actions of one kind, one after the other; the receiver gets the result.
fn start(
    state: &Arc<State>,
    visitor: &Visitor,
    verb: Verb,
    actions: Vec<Action>,
) -> oneshot::Receiver<Result<Done, Problem>> {
    let (sender, receiver) = oneshot::channel();
    let (id, progress) = state.operations.begin(visitor, verb.progressive());
    let (state, visitor) = (state.clone(), visitor.clone());
    state.operations.tasks.clone().spawn(async move {
        let mut ticks = tokio::time::interval(REPORT);
        let mut all = std::pin::pin!(perform::all(&state, &visitor, &actions, &progress));
        let result = loop {
            tokio::select! {
                result = &mut all => break result,
                _ = ticks.tick() => state.report_change(),
            }
        };
        state.operations.end(id, result.clone().map(|done| done.message));
        state.report_change();
        // Nobody waits when the visitor left.
        let _ = sender.send(result);
    });
    receiver
}
