//! The report of `submit`: messages, result and error.

use std::collections::BTreeMap;

use contract::{exit, outcome::State, pack::Pack};
use serde_json::json;
use sessions::{
    causes,
    submit::{self, Ended, Fate, Waited},
};

use crate::{
    error::{self, Failure},
    output::Output,
    text,
};

/// Jobs that are named in a message.
const NAMED: usize = 5;

/// A submission and its results.
pub(super) struct Report<'a> {
    pub(super) environment: &'a str,
    pub(super) business: &'a str,
    pub(super) session: &'a str,
    pub(super) flag: &'a str,
    /// The Jobs that are packs.
    pub(super) packs: &'a BTreeMap<String, Pack>,
    pub(super) sent: &'a submit::Report,
    pub(super) seconds: f64,
    pub(super) size: u64,
    /// The command that submits the missing Jobs, or waits again.
    pub(super) command: String,
    pub(super) waited: Option<Waited>,
}

/// Whether every Job has succeeded.
pub(super) fn all_succeeded(waited: &Waited) -> bool {
    waited.ended == Ended::Settled && waited.outcomes.iter().all(|outcome| outcome.state == State::Succeeded)
}

impl Report<'_> {
    /// Prints what was submitted, and what to do next unless the verb waits.
    pub(super) fn print_submitted(&self, output: &Output, waits: bool) {
        let submitted = self.sent.count(|fate| matches!(fate, Fate::Submitted { .. }));
        let repeated = self.sent.count(|fate| matches!(fate, Fate::Submitted { repeated: true, .. }));
        let settled = self.sent.count(|fate| matches!(fate, Fate::Settled { .. }));
        output.note(format_args!(
            "submitted {} to {} in session {} ({}, {:.1} s)",
            if self.packs.is_empty() {
                text::count(submitted, "Job")
            } else {
                let jobs = || self.sent.jobs.iter().filter(|(_, fate)| matches!(fate, Fate::Submitted { .. }));
                let ranges = |job: &str| self.packs.get(job).map_or(1, |pack| pack.ranges().len());
                format!(
                    "{} of {} in {}",
                    text::count(submitted, "Job"),
                    text::count(jobs().map(|(job, _)| self.items(job)).sum(), "item"),
                    text::count(jobs().map(|(job, _)| ranges(job)).sum(), "range")
                )
            },
            self.business,
            self.session,
            text::bytes(self.size),
            self.seconds
        ));
        if repeated > 0 {
            output.note(format_args!("{repeated} of them had been uploaded before; a repeated message has no effect"));
        }
        if settled > 0 {
            output.note(format_args!(
                "{} had ended in this session before, so {} not sent again; use another session to compute again",
                text::count(settled, "Job"),
                if settled == 1 { "it was" } else { "they were" }
            ));
        }
        if self.sent.is_complete() && !waits {
            output.note(format_args!(
                "next: cargo xtask{} jobs --business {} --session {}",
                self.flag, self.business, self.session
            ));
        }
    }

    /// The items of a Job.
    fn items(&self, job: &str) -> usize {
        self.packs.get(job).map_or(1, |pack| pack.items as usize)
    }

    /// Prints how the Jobs ended.
    pub(super) fn print_waited(&self, output: &Output) {
        let Some(waited) = &self.waited else { return };
        let succeeded: usize = waited.outcomes.iter().map(|outcome| outcome.counts().succeeded as usize).sum();
        let row_errors = waited.outcomes.iter().map(|outcome| outcome.row_errors as usize).sum();
        let total = self.sent.expected().iter().map(|(job, _)| self.items(job)).sum();
        let total = text::count(total, if self.packs.is_empty() { "Job" } else { "item" });
        output.note(format_args!(
            "{succeeded} of {total} succeeded{} ({:.1} s)",
            text::row_errors(row_errors),
            self.seconds
        ));
        for cause in causes(&waited.outcomes) {
            output.note(text::cause(&cause));
        }
        if !waited.missing.is_empty() {
            let names = text::some(waited.missing.iter().map(String::as_str), NAMED);
            let why = if waited.ended == Ended::TimedOut { "at the time limit" } else { "at the interrupt" };
            output.note(format_args!("{} not settled {why}: {names}", waited.missing.len()));
        }
        let next = match waited.ended {
            Ended::Settled if !all_succeeded(waited) => {
                format!("cargo xtask{} session failures {} --business {}", self.flag, self.session, self.business)
            }
            Ended::Settled => {
                format!("cargo xtask{} results --business {} --session {}", self.flag, self.business, self.session)
            }
            // The same command sends nothing again, and waits.
            Ended::TimedOut | Ended::Stopped => self.command.clone(),
        };
        output.note(format_args!("next: {next}"));
    }

    /// Prints the result: the session, or everything as JSON.
    pub(super) fn print(&self, output: &Output) -> anyhow::Result<()> {
        if !output.json {
            return output.line(self.session);
        }
        let jobs: Vec<serde_json::Value> = self
            .sent
            .jobs
            .iter()
            .map(|(job, fate)| match fate {
                Fate::NotTried => json!({"job": job, "state": "not-tried"}),
                Fate::Uploaded { generation } => json!({"job": job, "state": "uploaded", "generation": generation}),
                Fate::Submitted { generation, message_id, repeated } => json!({"job": job, "state": "submitted",
                    "generation": generation, "message_id": message_id, "repeated": repeated}),
                Fate::Settled { generation } => json!({"job": job, "state": "settled", "generation": generation}),
                Fate::Failed(error) => json!({"job": job, "state": "failed", "error": format!("{error:#}")}),
            })
            .collect();
        let mut document = json!({"environment": self.environment, "business": self.business,
            "session": self.session, "seconds": self.seconds, "jobs": jobs});
        if let Some(waited) = &self.waited {
            document["outcomes"] = serde_json::to_value(&waited.outcomes)?;
            document["missing"] = serde_json::to_value(&waited.missing)?;
        }
        output.document(&document)
    }

    /// The exit code of the submission.
    ///
    /// # Errors
    /// When Jobs were not submitted.
    pub(super) fn result(&self) -> anyhow::Result<u8> {
        if self.sent.is_complete() {
            return Ok(exit::DONE);
        }
        let failed: Vec<(&str, &anyhow::Error)> = self
            .sent
            .jobs
            .iter()
            .filter_map(|(job, fate)| match fate {
                Fate::Failed(error) => Some((job.as_str(), error)),
                _ => None,
            })
            .collect();
        let rest = self.sent.count(|fate| matches!(fate, Fate::NotTried | Fate::Uploaded { .. }));
        let mut why = reasons(&failed);
        for (count, state) in [
            (self.sent.count(|fate| matches!(fate, Fate::NotTried)), "not tried"),
            (self.sent.count(|fate| matches!(fate, Fate::Uploaded { .. })), "uploaded and not published"),
        ] {
            if count > 0 {
                why.push(format!("{count} {state}, because the submission stopped"));
            }
        }
        let code = match failed.first() {
            Some((_, error)) => match error::explain(error).code {
                "failed" => "not-submitted",
                code => code,
            },
            None => "stopped",
        };
        let mut next = format!("run it again to send only the missing Jobs: {}", self.command);
        if let Some(hint) = failed.first().and_then(|(_, error)| error::explain(error).next) {
            next = format!("{hint}\nthen {next}");
        }
        Err(Failure::new(
            code,
            format!("{} of {} not submitted", failed.len() + rest, text::count(self.sent.jobs.len(), "Job")),
        )
        .on(format!("{}, session {}", self.business, self.session))
        .why(why.join("\n"))
        .next(next)
        .into())
    }
}

/// Why Jobs were not submitted: a line for each of the first few causes.
fn reasons(failed: &[(&str, &anyhow::Error)]) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<(&str, &anyhow::Error)>> = BTreeMap::new();
    for (job, error) in failed {
        groups.entry(error.root_cause().to_string()).or_default().push((job, error));
    }
    let mut lines: Vec<String> = groups
        .iter()
        .take(NAMED)
        .map(|(cause, of)| match of.as_slice() {
            [(job, error)] => format!("{job}: {}", error::chain(error).join(": ")),
            several => {
                let names = text::some(several.iter().map(|(job, _)| *job), NAMED);
                format!("{}: {cause} ({names})", text::count(several.len(), "Job"))
            }
        })
        .collect();
    if groups.len() > NAMED {
        lines.push(format!("and {} more causes", groups.len() - NAMED));
    }
    lines
}

#[cfg(test)]
mod tests;
