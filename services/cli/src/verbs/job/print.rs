//! One Job as a page of text.

use std::fmt::Write as _;

use sessions::{
    jobs::{REFUSED_SESSION, State},
    results::COLUMNS,
};

use inspect::{Detail, Stored, timeline};

use crate::{results, text};

/// Items without a result that are listed.
const FAILED_ITEMS: usize = 10;

/// The page.
pub(super) fn page(detail: &Detail, flag: &str) -> String {
    let job = &detail.job;
    let mut page = String::new();
    let state = job.state_line();
    let reason = job.reason.as_ref().map(|reason| format!(" ({})", reason.code)).unwrap_or_default();
    field(&mut page, "job", &job.job);
    field(&mut page, "session", &job.session);
    field(&mut page, "business", &job.business);
    field(&mut page, "state", &format!("{state}{reason}"));
    field(&mut page, "attempt", &(job.attempt + 1).to_string());
    field(&mut page, "", &detail.explanation);
    section(&mut page, "items", items(detail));
    if !detail.timeline.is_empty() {
        section(&mut page, "timeline", timeline::lines(&detail.timeline));
    }
    let mut objects = Vec::new();
    if let Some(input) = &detail.input_object {
        objects.push(stored("input", input));
        objects.extend(input.metadata.iter().map(|(key, value)| format!("         {key}={value}")));
    }
    objects.extend(detail.results.iter().take(5).map(|result| stored("result", result)));
    if detail.results.len() > 5 {
        objects.push(format!("         and {} more results", detail.results.len() - 5));
    }
    objects.extend(job.outcome.iter().map(|name| format!("outcome  {name}")));
    section(&mut page, "objects", objects);
    let mut decided = Vec::new();
    if let Some(control) = &detail.control {
        let time = control.changed.strftime("%Y-%m-%d %H:%M:%SZ");
        let by = if control.by.is_empty() { String::new() } else { format!(" by {}", control.by) };
        decided.extend(control.paused.then(|| format!("paused{by} at {time}")));
        decided.extend(control.cancelled_before.map(|before| format!("cancelled{by}: Jobs submitted before {before}")));
    }
    decided.extend(
        detail.parked.as_ref().map(|parked| format!("message {} parked at {}", parked.message_id, parked.parked)),
    );
    section(&mut page, "session", decided);
    let mut cluster = detail.full_quotas.clone();
    cluster.extend(job.kubernetes_job.iter().map(|name| format!("job  {name}")));
    if let Some(outcome) = &detail.outcome_body {
        let facts = [
            ("node", outcome.node.clone()),
            ("image", outcome.image.clone()),
            ("exit code", outcome.exit_code.map(|code| code.to_string())),
            ("cpu", outcome.cpu_seconds.map(|seconds| format!("{seconds:.2} s"))),
            ("pods", (outcome.pods > 0).then(|| outcome.pods.to_string())),
            ("message", outcome.message_id.clone()),
        ];
        cluster.extend(facts.into_iter().filter_map(|(name, value)| Some(format!("{name}  {}", value?))));
    }
    for pod in &detail.pods {
        let message = if pod.message.is_empty() { String::new() } else { format!(": {}", pod.message) };
        cluster.push(format!("pod  {} {}{message}", pod.name, pod.state));
    }
    section(&mut page, "kubernetes", cluster);
    let events = detail.events.iter().map(|event| {
        let time = event.time.map(|time| time.strftime("%H:%M:%S").to_string()).unwrap_or_default();
        format!("{time} {} {}: {}", event.kind, event.reason, event.message)
    });
    section(&mut page, "events", events.collect());
    if let Some(outcome) = &detail.outcome_body
        && let Some(data) = &outcome.message_data
    {
        let attributes = outcome.message_attributes.iter().flatten().map(|(key, value)| format!("{key}={value}"));
        section(&mut page, "message", attributes.chain([format!("data (base64)  {data}")]).collect());
    }
    if let Some(log) = &detail.log {
        section(&mut page, "log", log.lines().map(str::to_owned).collect());
    }
    if !detail.preview.is_empty() {
        let table = text::table(&COLUMNS[2..], detail.preview.iter().map(|row| results::shown(row)[2..].to_vec()));
        let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
        if detail.preview_left_out > 0 {
            lines.push(format!("and {} more rows", detail.preview_left_out));
        }
        section(&mut page, "result", lines);
    }
    let others = detail
        .others
        .iter()
        .map(|other| format!("generation {} {}", other.generation, other.state.map_or("ended", State::as_str)));
    section(&mut page, "earlier inputs of this name", others.collect());
    section(&mut page, "also in", detail.other_sessions.clone());
    section(&mut page, "next", next_commands(detail, flag));
    page
}

/// The items of a pack by state, and the first ones without a result.
fn items(detail: &Detail) -> Vec<String> {
    let Some(items) = &detail.job.items else { return Vec::new() };
    let states = [
        (State::Waiting, items.waiting),
        (State::Running, items.running),
        (State::Succeeded, items.succeeded),
        (State::Failed, items.failed),
        (State::Cancelled, items.cancelled),
    ];
    let mut lines: Vec<String> =
        states.iter().filter(|(_, count)| *count > 0).map(|(state, count)| format!("{state:<9} {count}")).collect();
    for item in detail.failed_items.iter().take(FAILED_ITEMS) {
        let reason = item.reason.clone().unwrap_or_default();
        lines.push(format!("item {} {}: {}: {}", item.label(), item.state, reason.code, reason.message));
    }
    let left_out = detail.failed_items.len().saturating_sub(FAILED_ITEMS) + detail.failed_items_left_out;
    lines.extend((left_out > 0).then(|| format!("and {left_out} more without a result")));
    lines
}

/// Commands for the next step.
fn next_commands(detail: &Detail, flag: &str) -> Vec<String> {
    let job = &detail.job;
    let scope = format!("--business {} --session {}", job.business, text::shell(&job.session));
    match job.state {
        Some(State::Running) => {
            vec![format!("cargo xtask{flag} logs {} {scope} --follow", text::shell(&job.job))]
        }
        Some(State::Succeeded) => vec![format!("cargo xtask{flag} results {scope}")],
        Some(State::Failed | State::Refused) if job.session == REFUSED_SESSION => vec![format!(
            "corrected: cargo xtask{flag} dead-letters replay {} --business {} --file FILE",
            text::shell(&job.job),
            job.business
        )],
        Some(State::Failed | State::Refused | State::Cancelled) => {
            let id = text::shell(&job.job);
            let session = text::shell(&job.session);
            let business = &job.business;
            let item = detail.failed_items.first();
            let item = item.map(|item| format!("one item: cargo xtask{flag} job {id} {scope} --item {}", item.index));
            let mut next = vec![
                format!("cargo xtask{flag} logs {id} {scope}"),
                format!("retry: cargo xtask{flag} session retry {session} {id} --business {business}"),
                format!("corrected: cargo xtask{flag} dead-letters replay {id} {scope} --file FILE"),
            ];
            match job.reason.as_ref().map_or("", |reason| &reason.code) {
                "out-of-memory" => next[1].push_str(" --memory MORE"),
                "timeout" => next[1].push_str(" --timeout LONGER"),
                _ => {}
            }
            next.extend(item);
            next
        }
        _ => Vec::new(),
    }
}

pub(super) fn field(page: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{name:<9} {value}");
}

pub(super) fn section(page: &mut String, name: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n{name}");
    for line in lines {
        let _ = writeln!(page, "  {}", line.trim_end());
    }
}

fn stored(what: &str, object: &Stored) -> String {
    let size = text::bytes(u64::try_from(object.size).unwrap_or_default());
    format!("{what:<8} {}#{} ({size})", object.name, object.generation)
}
