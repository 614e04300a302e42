//! Explains the state of a Job in plain words.

use contract::{outcome::stored::UNREADABLE, pool_report::InPool};
use sessions::jobs::{LOST, SUSPENDED, State};

use crate::{cluster::PodView, detail::Detail};

/// Engines that are named.
const ENGINES: usize = 8;

/// Why the Job is in its state, in a sentence or two.
pub fn explain(detail: &Detail) -> String {
    let reason = detail.job.reason.as_ref();
    let message = reason.map(|reason| reason.message.trim()).filter(|message| !message.is_empty());
    let code = reason.map_or("unknown", |reason| reason.code.as_str());
    let text = of_job(detail, code, message);
    match &detail.job.items {
        Some(items) if items.total() > 0 => {
            let states = [
                (items.succeeded, State::Succeeded),
                (items.failed, State::Failed),
                (items.cancelled, State::Cancelled),
                (items.running, State::Running),
                (items.waiting, State::Waiting),
            ];
            let states = states.iter().filter(|(count, _)| *count > 0);
            let states: Vec<String> = states.map(|(count, state)| format!("{count} {state}")).collect();
            format!("Of its {} items, {}. {text}", items.total(), states.join(", "))
        }
        Some(_) | None => text,
    }
}

fn of_job(detail: &Detail, code: &str, message: Option<&str>) -> String {
    if let (Some(State::Waiting | State::Running), Some(pool)) = (detail.job.state, &detail.in_pool) {
        return in_pool(pool, &detail.pods);
    }
    match detail.job.state {
        None => "It ended; its outcome was deleted.".to_owned(),
        Some(State::Succeeded) => {
            let errors = match detail.job.row_errors {
                0 => String::new(),
                1 => " 1 row in the result has an error.".to_owned(),
                errors => format!(" {errors} rows in the result have an error."),
            };
            format!("It succeeded: the result is in the bucket, and the input is deleted.{errors}")
        }
        Some(State::Waiting) => waiting(detail),
        Some(State::Running) => running(detail, code, message),
        Some(State::Expired) => expired(detail),
        Some(State::Cancelled) => {
            format!("It was cancelled ({}). The input is kept.", message.unwrap_or(code))
        }
        Some(State::Refused) => {
            format!("The message could not be a Job ({code}): {}.", bare(message.unwrap_or("no reason")))
        }
        Some(State::Failed) if code == UNREADABLE => format!(
            "It is not known how it ended: {}. Another program wrote or changed the outcome object.",
            bare(message.unwrap_or("its outcome cannot be read"))
        ),
        Some(State::Failed) => {
            let exit = detail.outcome_body.as_ref().and_then(|outcome| outcome.exit_code);
            let pods = detail.outcome_body.as_ref().map_or(0, |outcome| outcome.pods);
            let mut text = format!("It failed ({code}): {}.", bare(message.unwrap_or("no reason was given")));
            if exit == Some(contract::exit::PERMANENT.into()) {
                text.push_str(" The engine reported that this input can never work, so it was not retried.");
            } else if pods > 1 {
                text.push_str(&format!(" It ran {pods} times."));
            }
            let silent = [contract::exit::DONE, contract::exit::PERMANENT].map(i32::from);
            if let Some(exit) = exit.filter(|exit| !silent.contains(exit)) {
                text.push_str(&format!(" Exit code {exit}{}.", signal(exit)));
            }
            text.push_str(" The input is kept.");
            text
        }
    }
}

fn expired(detail: &Detail) -> String {
    if detail.parked.is_some() {
        return waiting(detail);
    }
    "Its input is older than outcomes are kept, and it has no outcome: it failed, was cancelled or never ran. It does not \
     run by itself; `session retry` runs it."
        .to_owned()
}

fn waiting(detail: &Detail) -> String {
    if detail.job.reason.as_ref().is_some_and(|reason| reason.code == SUSPENDED) {
        let said = warning(detail).map(|said| format!(" The cluster reports: {}.", bare(said))).unwrap_or_default();
        return format!("Its Kubernetes Job is suspended: it waits until its queue (Kueue) admits it.{said}");
    }
    if let Some(control) = detail.control.as_ref().filter(|control| control.paused) {
        let by = if control.by.is_empty() { "somebody" } else { &control.by };
        let message = match &detail.parked {
            Some(_) => "its message is parked",
            None => "its message will be parked",
        };
        return format!(
            "It waits because {by} paused session {} ({}): {message} until `session resume`.",
            detail.job.session,
            control.changed.strftime("%Y-%m-%d %H:%M:%SZ")
        );
    }
    if detail.parked.is_some() {
        return "Its session was paused and is resumed: its message will be published again.".to_owned();
    }
    let retry = if detail.job.attempt > 0 {
        format!(" It is attempt {}, which a person requested.", detail.job.attempt + 1)
    } else {
        String::new()
    };
    format!("{}{retry}", waiting_for_a_job(detail))
}

/// Where the items of a Job are in a pool.
fn in_pool(pool: &InPool, pods: &[PodView]) -> String {
    let mut places: Vec<String> = match pool.engines.len() {
        0..=ENGINES => pool.engines.iter().map(|(pod, items)| format!("{items} with engine {pod}")).collect(),
        engines => vec![format!("{} with {engines} engines", pool.engines.values().sum::<usize>())],
    };
    places.extend((pool.waiting > 0).then(|| format!("{} waiting for an engine", pool.waiting)));
    match places.is_empty() {
        true => "It is in the pool: its items have ended, and its outcome is written soon.".to_owned(),
        false => {
            let engine = pods.last().map(|pod| format!(" {}", not_started("Engine", pod))).unwrap_or_default();
            format!("It is in the pool: {}.{engine}", places.join(", "))
        }
    }
}

/// Why a pod has not started.
fn not_started(subject: &str, PodView { name, state, message, .. }: &PodView) -> String {
    let message = bare(message);
    match state.as_str() {
        "Unschedulable" => format!("{subject} {name} has no node yet: {message}."),
        state if state.contains("ImagePull") || state == "InvalidImageName" => {
            format!("{subject} {name} needs an image that cannot be pulled ({state}): {message}.")
        }
        state if message.is_empty() => format!("{subject} {name} is {state}."),
        state => format!("{subject} {name} is {state}: {message}."),
    }
}

fn waiting_for_a_job(detail: &Detail) -> String {
    if let Some(problem) = detail.orchestrator.as_ref().and_then(|orchestrator| orchestrator.problem.as_ref()) {
        return format!("It waits because the orchestrator of {} does not work: {problem}.", detail.job.business);
    }
    if detail.running >= detail.max_active_jobs as usize {
        return format!(
            "It waits for a running Job to end: {} Jobs of {} run, which is the limit (max_active_jobs = {}).",
            detail.running, detail.job.business, detail.max_active_jobs
        );
    }
    if let Some(quota) = detail.full_quotas.first() {
        return format!(
            "It waits because the namespace of {} is full: {quota}. It starts when another Job ends.",
            detail.job.business
        );
    }
    if let Some(reason) = detail.job.reason.as_ref().filter(|reason| reason.code == LOST) {
        return format!("It may be lost: {}.", reason.message);
    }
    "Its input exists, and its Kubernetes Job was not created yet: its message is on its way, or was never published (then \
     the orchestrator publishes it after an hour; submitting it again publishes it at once)."
        .to_owned()
}

fn running(detail: &Detail, code: &str, message: Option<&str>) -> String {
    let pod = detail.pods.last();
    match (code, pod) {
        ("running", _) => match message {
            Some(message) => format!("It runs; {message}."),
            None => "It runs.".to_owned(),
        },
        ("pending" | "retrying", Some(pod)) if pod.state != "Running" => not_started("Its pod", pod),
        ("created", None)
            if !detail.full_quotas.is_empty() && warning(detail).is_none_or(|said| said.contains("quota")) =>
        {
            format!("Its Kubernetes Job has no pod, because the namespace is full: {}.", detail.full_quotas.join("; "))
        }
        ("created", None) => match warning(detail) {
            Some(warning) => format!("Its Kubernetes Job has no pod: {}.", bare(warning)),
            None => "Its Kubernetes Job was just created, and has no pod yet.".to_owned(),
        },
        _ => match message {
            Some(message) => format!("It has a Kubernetes Job ({code}): {}.", bare(message)),
            None => format!("It has a Kubernetes Job ({code})."),
        },
    }
}

/// The last warning of the cluster about the Job.
fn warning(detail: &Detail) -> Option<&str> {
    detail.events.iter().rev().find(|event| event.kind == "Warning").map(|event| event.message.as_str())
}

/// A message without its full stop.
fn bare(sentence: &str) -> &str {
    sentence.trim().trim_end_matches('.')
}

fn signal(exit: i32) -> &'static str {
    match exit {
        137 => " (killed, most likely for lack of memory)",
        139 => " (a crash: segmentation fault)",
        143 => " (stopped by SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use contract::{Outcome, outcome};
    use sessions::jobs::Job;

    use super::*;
    use crate::cluster::OrchestratorView;

    fn detail(state: State, code: &str, message: &str) -> Detail {
        Detail {
            job: Job {
                business: "bu1".into(),
                session: "s".into(),
                job: "j".into(),
                generation: 1,
                attempt: 0,
                state: Some(state),
                reason: Some(outcome::Reason { code: code.into(), message: message.into() }),
                changed: None,
                timestamps: Default::default(),
                seconds: None,
                row_errors: 0,
                items: None,
                kubernetes_job: None,
                input: None,
                outcome: None,
                outcomes: vec![],
                unsuccessful: vec![],
                items_per_range: None,
            },
            explanation: String::new(),
            timeline: vec![],
            outcome_body: None,
            failed_items: vec![],
            failed_items_left_out: 0,
            input_object: None,
            results: vec![],
            pods: vec![],
            in_pool: None,
            events: vec![],
            log: None,
            preview: vec![],
            preview_left_out: 0,
            orchestrator: None,
            running: 0,
            max_active_jobs: 4,
            control: None,
            parked: None,
            full_quotas: vec![],
            others: vec![],
            other_sessions: vec![],
            cluster_trouble: None,
        }
    }

    fn check(detail: &Detail, wanted: &[&str]) {
        let text = explain(detail);
        for part in wanted {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert!(text.ends_with('.') && !text.contains(".."), "{text}");
    }

    fn pod(state: &str, message: &str) -> PodView {
        PodView {
            name: "p".into(),
            state: state.into(),
            message: message.into(),
            node: None,
            created: None,
            scheduled: None,
            started: None,
            finished: None,
            exit_code: None,
            restarts: 0,
        }
    }

    #[test]
    fn a_waiting_job_says_what_it_waits_for() {
        let mut waiting = detail(State::Waiting, "", "");
        check(&waiting, &["on its way"]);
        waiting.running = 4;
        check(&waiting, &["waits for a running Job to end", "max_active_jobs = 4"]);
        waiting.orchestrator = Some(OrchestratorView { wanted: 1, ready: 0, problem: Some("0 of 1 ready".into()) });
        check(&waiting, &["orchestrator of bu1 does not work: 0 of 1 ready"]);
        waiting.job.attempt = 1;
        check(&waiting, &["attempt 2"]);
        let mut control = contract::control::Control::new("s", "2026-01-01T00:00:00Z".parse().unwrap());
        (control.paused, control.by) = (true, "alice".into());
        waiting.control = Some(control);
        check(&waiting, &["alice paused session s (2026-01-01 00:00:00Z)", "will be parked", "session resume"]);
        let mut full = detail(State::Waiting, "", "");
        full.full_quotas = vec!["quota q: count/jobs.batch is used up (5 of 5)".into()];
        check(&full, &["quota q: count/jobs.batch is used up"]);
        check(&detail(State::Waiting, SUSPENDED, ""), &["until its queue (Kueue) admits it"]);
        let engines = [("pool-0-x".to_owned(), 3), ("pool-1-y".to_owned(), 4)].into();
        full.in_pool = Some(InPool { waiting: 5, engines, at: None });
        check(&full, &["in the pool: 3 with engine pool-0-x, 4 with engine pool-1-y, 5 waiting for an engine."]);
        full.pods = vec![pod("Unschedulable", "0/3 nodes are available.")];
        check(&full, &["5 waiting for an engine. Engine p has no node yet: 0/3 nodes are available."]);
        full.job.state = Some(State::Running);
        full.in_pool = Some(InPool::default());
        check(&full, &["its items have ended"]);
    }

    #[test]
    fn a_pack_says_how_many_items_are_in_each_state() {
        let mut pack = detail(State::Failed, "malformed-input", "1 of 5 items failed, first item 3: no strike");
        pack.job.items = Some(sessions::Items { succeeded: 8, failed: 2, ..Default::default() });
        check(&pack, &["Of its 10 items, 8 succeeded, 2 failed. It failed (malformed-input)", "first item 3"]);
        pack.job.state = Some(State::Running);
        pack.job.items = Some(sessions::Items { waiting: 4, running: 3, succeeded: 3, ..Default::default() });
        check(&pack, &["Of its 10 items, 3 succeeded, 3 running, 4 waiting. "]);
    }

    #[test]
    fn an_input_older_than_outcomes_are_kept_does_not_wait() {
        check(&detail(State::Expired, "", ""), &["older than outcomes are kept", "session retry"]);
    }

    #[test]
    fn a_job_that_does_not_start_says_why() {
        let mut pending = detail(State::Running, "pending", "its pod is not running yet");
        for (state, message, wanted) in [
            ("Unschedulable", "0/3 nodes are available.", "no node yet: 0/3 nodes"),
            ("ImagePullBackOff", "no such image", "cannot be pulled (ImagePullBackOff)"),
            ("ContainerCreating", "", "p is ContainerCreating."),
        ] {
            pending.pods = vec![pod(state, message)];
            check(&pending, &[wanted]);
        }
        check(&detail(State::Running, "running", ""), &["It runs."]);
        let mut full = detail(State::Running, "created", "no pod yet");
        full.full_quotas = vec!["quota q: requests.memory is used up (8Gi of 8Gi)".into()];
        check(&full, &["no pod, because the namespace is full: quota q: requests.memory"]);
    }

    #[test]
    fn a_failed_job_says_why_and_that_the_input_is_kept() {
        let mut failed = detail(State::Failed, "malformed-input", "line 3: strike is negative.");
        let mut outcome = Outcome::new("bu1", outcome::State::Failed, "malformed-input", "");
        outcome.exit_code = Some(10);
        failed.outcome_body = Some(outcome.clone());
        check(&failed, &["malformed-input", "line 3", "can never work", "input is kept"]);
        (outcome.exit_code, outcome.pods) = (Some(137), 4);
        failed.outcome_body = Some(outcome);
        check(&failed, &["ran 4 times", "lack of memory"]);
        check(&detail(State::Refused, "wrong-bucket", "it names another"), &["could not be a Job (wrong-bucket)"]);
    }
}
