//! One Job: its state, why, and all its objects.

use contract::{Identity, object};
use inspect::{Detail, Stored, cluster::PodView, text, timeline};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sessions::{
    jobs::{Job, REFUSED_SESSION, State},
    results::COLUMNS,
};
use web::{Problem, Query};

use super::rows::{JobRow, PodRow, Span, job_href, preview, session_href, time};

use crate::{
    board::View,
    logs::plain,
    page::{Crumb, Shown},
    page_request::PageRequest,
    state::LOG_LINES,
};

/// Bytes of a refused message that are shown.
const PAYLOAD: usize = 2000;
/// Results that are listed.
const RESULTS: usize = 20;
/// Width of the timeline, in its own units.
const WIDTH: f64 = 1000.0;

#[derive(Serialize)]
struct Head {
    row: JobRow,
    explanation: String,
    /// How long it may run.
    limit: String,
    can_retry: bool,
    can_cancel: bool,
    can_discard: bool,
    is_message: bool,
    orchestrator: String,
}

#[derive(Serialize)]
struct Step {
    what: &'static str,
    /// The phase until the next moment.
    phase: &'static str,
    x: f64,
    width: f64,
    class: &'static str,
    time: String,
    since: String,
}

#[derive(Serialize)]
struct Timeline {
    steps: Vec<Step>,
    total: Span,
    width: f64,
}

#[derive(Serialize)]
struct ObjectRow {
    kind: &'static str,
    url: String,
    size: String,
    /// URL of the download.
    download: String,
}

#[derive(Serialize)]
struct Facts {
    facts: Vec<(String, String)>,
    objects: Vec<ObjectRow>,
    attributes: Vec<(String, String)>,
    pods: Vec<PodRow>,
    events: Vec<EventRow>,
    others: Vec<JobRow>,
    payload: String,
}

#[derive(Serialize)]
struct EventRow {
    time: String,
    is_warning: bool,
    reason: String,
    message: String,
    count: i32,
}

#[derive(Serialize)]
struct Items {
    states: Vec<(&'static str, u32)>,
    failed: Vec<ItemRow>,
    /// They are files.
    has_names: bool,
    left_out: usize,
}

#[derive(Serialize)]
struct ItemRow {
    index: u32,
    /// Of a file.
    name: String,
    state: &'static str,
    code: String,
    message: String,
    /// The last line of its log.
    log: String,
}

#[derive(Serialize)]
struct Preview {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
    left_out: usize,
}

/// A value of a result: a number has at most six significant digits.
#[derive(Debug, PartialEq, Serialize)]
struct Value {
    text: String,
    /// All digits, when there are more.
    exact: String,
    is_number: bool,
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        let short = number
            .filter(|number| number.fract() != 0.0)
            .and_then(|number| format!("{number:.5e}").parse::<f64>().ok());
        let short = short.map(|short| short.to_string()).filter(|short| short.len() < text.len());
        Self {
            exact: if short.is_some() { text.clone() } else { String::new() },
            text: short.unwrap_or_else(|| text.clone()),
            is_number: number.is_some(),
        }
    }
}

#[derive(Serialize)]
struct Log {
    text: String,
    /// URL of the stream of the log, while a Pod runs or when one is chosen.
    follow: String,
    is_live: bool,
    /// Attempts to choose from, when there are several.
    attempts: Vec<Choice>,
    /// Pods to choose from.
    pods: Vec<Choice>,
    /// What is not shown.
    note: String,
    /// URL of the page with the whole log.
    whole: String,
    download: String,
}

#[derive(Serialize)]
struct Choice {
    name: String,
    href: String,
    is_current: bool,
}

/// The page.
pub(super) async fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let [business, session, id] =
        ["business", "session", "job"].map(|name| request.query.get(name).unwrap_or_default());
    let view = request.state.view(request.visitor, business)?;
    let generation: Option<i64> = request.query.get("generation").and_then(|value| value.parse().ok());
    let (job, others) = chosen(&view, session, id, generation)?;
    let latest = job.attempt;
    let job = &of_attempt(&view, job, request.query.get("attempt"));
    let (id, is_latest) = (job.job.as_str(), job.attempt == latest);
    let detail = request.state.detail(&view, job).await?;
    let row = JobRow::of(&view, &detail.job);
    let head = Head {
        explanation: detail.explanation.clone(),
        limit: limit(&view),
        can_retry: is_latest
            && matches!(detail.job.state, Some(State::Failed | State::Cancelled))
            && session != REFUSED_SESSION,
        can_cancel: matches!(detail.job.state, Some(State::Waiting | State::Running)) && row.state != "cancelling",
        can_discard: is_latest && view.letters.iter().any(|letter| letter.session == session && letter.job == id),
        is_message: session == REFUSED_SESSION,
        orchestrator: detail.orchestrator.as_ref().and_then(|of| of.problem.clone()).unwrap_or_default(),
        row,
    };
    let mut facts = facts(&detail, &view.business.bucket);
    facts.others = others;
    let parts = vec![
        request.part("head", "job_head.html", &head)?,
        request.part("items", "job_items.html", &items(&detail))?,
        request.part("timeline", "job_timeline.html", &timeline(&detail, Timestamp::now()))?,
        request.part("result", "job_result.html", &result(&detail))?,
        request.part("log-card", "job_log.html", &log(request, &detail, business, latest))?,
        request.part("facts", "job_facts.html", &facts)?,
    ];
    let crumbs = vec![
        Crumb { label: "Jobs".into(), href: "/jobs".into() },
        Crumb { label: business.to_owned(), href: format!("/jobs?{}", web::encode([("business", business)])) },
        Crumb { label: session.to_owned(), href: session_href(business, session) },
        Crumb { label: id.to_owned(), href: job_href(business, session, id, job.generation) },
    ];
    Ok(Shown { title: id.to_owned(), crumbs, parts })
}

/// The Job of this name and generation, the latest without a generation, and the others of the name.
fn chosen(view: &View, session: &str, id: &str, generation: Option<i64>) -> Result<(Job, Vec<JobRow>), Problem> {
    let all = view.named(session, id);
    let Some(latest) = all.first() else {
        return Err(Problem::not_found(format!("There is no Job {id:?} in session {session:?}"))
            .next("It may not be listed yet, or its outcome has reached the end of its retention."));
    };
    let job = *all.iter().find(|job| generation == Some(job.generation)).unwrap_or(latest);
    let others = all.iter().filter(|other| other.generation != job.generation).map(|job| JobRow::from(*job)).collect();
    Ok((job.clone(), others))
}

/// The Job as an attempt before the latest left it. The number of the first is 1, as people count.
fn of_attempt(view: &View, job: Job, attempt: Option<&str>) -> Job {
    let attempt = attempt.and_then(|number| number.parse::<u32>().ok()).and_then(|number| number.checked_sub(1));
    let Some(attempt) = attempt.filter(|attempt| *attempt < job.attempt && job.items.is_none()) else { return job };
    let input = object::input(&job.business, &job.session, &job.job);
    let bucket = view.business.bucket.clone();
    let identity = Identity { bucket, object: input, generation: job.generation, first: None, attempt };
    let outcome = object::outcome(&job.business, &job.session, &job.job, &identity);
    let (state, reason, timestamps) = (None, None, Default::default());
    let outcomes = vec![outcome.clone()];
    Job { attempt, state, reason, timestamps, kubernetes_job: None, outcome: Some(outcome), outcomes, ..job }
}

/// How long a Job of a business may run.
fn limit(view: &View) -> String {
    let engine = &view.business.engine;
    text::duration(SignedDuration::from_secs(engine.program.timeout_secs.unwrap_or(engine.timeout_secs).into()))
}

/// The moments along a line, to scale. Until the Job has ended, the line ends now.
fn timeline(detail: &Detail, now: Timestamp) -> Timeline {
    let moments = &detail.timeline;
    let is_open = matches!(detail.job.state, Some(State::Waiting | State::Running));
    let (first, last) = (moments.first().map(|moment| moment.time), moments.last().map(|moment| moment.time));
    let end = if is_open { last.max(Some(now)) } else { last };
    let whole = first.zip(end).map_or(0.0, |(first, end)| end.duration_since(first).as_secs_f64());
    let at = |time: Timestamp| {
        let since = first.map_or(0.0, |first| time.duration_since(first).as_secs_f64());
        let share = if whole > 0.0 { (since / whole).clamp(0.0, 1.0) } else { 0.0 };
        (share * WIDTH * 10.0).round() / 10.0
    };
    let ended = detail.job.state.map_or("cancelled", State::as_str);
    let steps = moments.iter().enumerate().map(|(index, moment)| {
        let (phase, class) = match moment.what {
            "published" => ("in Pub/Sub", "waiting"),
            "received" => ("being accepted", "waiting"),
            "created" => ("waiting for a node", "waiting"),
            "scheduled" => ("starting", "waiting"),
            "started" => ("computing", "running"),
            "finished" => ("being settled", ended),
            _ => ("", ended),
        };
        let until = moments.get(index + 1).map(|next| next.time).or(end).unwrap_or(moment.time);
        Step {
            what: moment.what,
            phase,
            x: at(moment.time),
            width: (at(until) - at(moment.time)).max(0.0),
            class,
            time: time(Some(moment.time)),
            since: moment.since.clone().unwrap_or_default(),
        }
    });
    let total = match (first, last) {
        (Some(_), _) if is_open => Span { since: time(first), ..Span::default() },
        (Some(first), Some(last)) if moments.len() > 1 => {
            Span { length: timeline::elapsed(first, last), ..Span::default() }
        }
        _ => Span::default(),
    };
    Timeline { steps: steps.collect(), total, width: WIDTH }
}

fn stored(kind: &'static str, bucket: &str, object: &Stored, job: &Job, index: usize) -> ObjectRow {
    let (generation, index) = (job.generation.to_string(), index.to_string());
    let query = [
        ("business", job.business.as_str()),
        ("session", &job.session),
        ("job", &job.job),
        ("generation", &generation),
        ("kind", kind),
        ("index", &index),
    ];
    ObjectRow {
        kind,
        url: format!("gs://{bucket}/{}", object.name),
        size: text::bytes(u64::try_from(object.size).unwrap_or_default()),
        download: format!("/object?{}", web::encode(query)),
    }
}

fn facts(detail: &Detail, bucket: &str) -> Facts {
    let outcome = detail.outcome_body.as_ref();
    let work = outcome.and_then(|outcome| outcome.work.as_ref());
    let job = &detail.job;
    let mut objects: Vec<ObjectRow> = Vec::new();
    objects.extend(detail.input_object.iter().map(|object| stored("input", bucket, object, job, 0)));
    let results = detail.results.iter().take(RESULTS).enumerate();
    objects.extend(results.map(|(index, object)| stored("result", bucket, object, job, index)));
    objects.extend(job.outcomes.iter().take(RESULTS).map(|name| ObjectRow {
        kind: "outcome",
        url: format!("gs://{bucket}/{name}"),
        size: String::new(),
        download: String::new(),
    }));
    let mut attributes: Vec<(String, String)> = Vec::new();
    if let Some(object) = &detail.input_object {
        attributes.extend(object.metadata.iter().map(|(name, value)| (name.clone(), value.clone())));
    } else if let Some(work) = work {
        attributes.extend(work.metadata());
    }
    if let Some(of_message) = outcome.and_then(|outcome| outcome.message_attributes.as_ref()) {
        attributes.extend(of_message.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    let some = |text: Option<String>| text.unwrap_or_default();
    // Without an outcome, the Pods show what there is so far.
    let exit_code = match outcome {
        Some(outcome) => outcome.exit_code,
        None => detail.pods.last().and_then(|pod| pod.exit_code),
    };
    let facts = [
        ("Kubernetes Job", some(detail.job.kubernetes_job.clone())),
        ("Generation", detail.job.generation.to_string()),
        ("Attempt", (detail.job.attempt + 1).to_string()),
        ("Message", some(outcome.and_then(|outcome| outcome.message_id.clone()))),
        ("Exit code", some(exit_code.map(|code| code.to_string()))),
        ("Pods started", pods_started(outcome.map_or(0, |outcome| outcome.pods as usize), detail.pods.len())),
        ("CPU time", some(outcome.and_then(|outcome| outcome.cpu_seconds).map(|secs| format!("{secs:.2} s")))),
        ("Node", some(outcome.and_then(|outcome| outcome.node.clone()))),
        ("Image", some(outcome.and_then(|outcome| outcome.image.clone()))),
        ("Cluster", some(detail.cluster_trouble.clone())),
    ];
    let payload = outcome.and_then(|outcome| outcome.message_data.as_ref()).map(|data| preview(data, PAYLOAD));
    Facts {
        facts: facts
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        objects,
        attributes,
        pods: detail.pods.iter().map(PodRow::from).collect(),
        events: detail
            .events
            .iter()
            .map(|event| EventRow {
                time: time(event.time),
                is_warning: event.kind == "Warning",
                reason: event.reason.clone(),
                message: event.message.clone(),
                count: event.count,
            })
            .collect(),
        others: Vec::new(),
        payload: payload.unwrap_or_default(),
    }
}

/// How many Pods were started, and how many of them the page lists; empty when none was.
fn pods_started(recorded: usize, listed: usize) -> String {
    match recorded.max(listed) {
        0 => String::new(),
        started if started == listed => started.to_string(),
        started => format!("{started}, of which the cluster keeps {listed}"),
    }
}

/// The items of a pack, and the first ones without a result.
fn items(detail: &Detail) -> Items {
    let states = detail.job.items.map(|items| {
        [
            ("waiting", items.waiting),
            ("running", items.running),
            ("succeeded", items.succeeded),
            ("failed", items.failed),
            ("cancelled", items.cancelled),
        ]
    });
    let failed = detail.failed_items.iter().map(|item| {
        let reason = item.reason.clone().unwrap_or_default();
        let log = item.log_tail.iter().flat_map(|log| log.lines()).last().map(plain).unwrap_or_default();
        let (index, name, state) = (item.index, item.name.clone().unwrap_or_default(), item.state.as_str());
        ItemRow { index, name, state, code: reason.code, message: reason.message, log }
    });
    Items {
        states: states.into_iter().flatten().collect(),
        failed: failed.collect(),
        has_names: detail.failed_items.iter().any(|item| item.name.is_some()),
        left_out: detail.failed_items_left_out,
    }
}

fn result(detail: &Detail) -> Preview {
    Preview {
        columns: COLUMNS[2..].to_vec(),
        rows: detail.preview.iter().map(|row| row.cells()[2..].iter().map(Value::from).collect()).collect(),
        left_out: detail.preview_left_out,
    }
}

fn log(request: &PageRequest<'_>, detail: &Detail, business: &str, latest: u32) -> Log {
    let named = |name: &str| detail.pods.iter().find(|pod| pod.name == name);
    let chosen = request.query.get("pod").and_then(named);
    let is_whole = request.query.get("log") == Some("whole");
    let is_running = |pod: &&PodView| pod.state == "Running" && detail.job.state == Some(State::Running);
    let running = detail.pods.iter().rev().find(is_running);
    let shown = chosen.or(running).or(detail.pods.last());
    let url = |path: &str, from: &str| {
        let pod = shown.map(|pod| pod.name.as_str());
        pod.map(|pod| format!("{path}?{}", web::encode([("business", business), ("pod", pod), ("from", from)])))
    };
    let page = |name: &str, value: &str| format!("/job?{}", request.query.with(name, value));
    let follow = url("/log", if is_whole { "start" } else { "" });
    let follow = follow.filter(|_| chosen.is_some() || running.is_some() || is_whole).unwrap_or_default();
    let lines: Vec<String> = detail.log.iter().flat_map(|log| log.lines()).map(plain).collect();
    let note = match shown {
        None if lines.is_empty() => String::new(),
        None => "Its Pod was deleted: these are the last lines, which the outcome has.".to_owned(),
        Some(_) if is_whole => String::new(),
        Some(_) => format!("The page shows at most the last {LOG_LINES} lines."),
    };
    // An attempt at a pack carries the records of the one before it forward.
    let attempts = if latest > 0 && detail.job.items.is_none() { 0..latest + 1 } else { 0..0 };
    let attempts = attempts.map(|attempt| {
        let query = Query::parse(&Query::parse(&request.query.with("pod", "")).with("log", ""));
        Choice {
            name: format!("attempt {}", attempt + 1),
            href: format!("/job?{}", query.with("attempt", &(attempt + 1).to_string())),
            is_current: attempt == detail.job.attempt,
        }
    });
    let choices = detail.pods.iter().map(|pod| Choice {
        name: pod.name.clone(),
        href: page("pod", &pod.name),
        is_current: shown.is_some_and(|shown| shown.name == pod.name),
    });
    Log {
        text: if chosen.is_some() || is_whole { String::new() } else { lines.join("\n") },
        follow,
        is_live: shown.as_ref().is_some_and(is_running),
        attempts: attempts.collect(),
        pods: choices.collect(),
        note,
        whole: if shown.is_some() && !is_whole { page("log", "whole") } else { String::new() },
        download: url("/log.txt", "").unwrap_or_default(),
    }
}
