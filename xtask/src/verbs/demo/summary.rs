//! What the demo shows at its end.

use cli::{Context, output::Output, text};
use contract::{config::Config, exit, outcome::State};
use serde_json::{Value, json};
use sessions::{jobs, results};

use super::{
    checks::Check,
    work::{Found, MALFORMED},
};

/// Everything there is to show.
pub(super) struct Summary {
    lines: Vec<Line>,
    checks: Vec<Check>,
}

struct Line {
    found: Found,
    value: String,
    standard_error: String,
}

impl Summary {
    /// Reads the results.
    pub(super) async fn new(context: &Context, outcomes: Vec<Found>, checks: Vec<Check>) -> anyhow::Result<Self> {
        let reads = outcomes.iter().map(|found| values(context, &context.config, found));
        let values = futures::future::try_join_all(reads).await?;
        let lines = outcomes
            .into_iter()
            .zip(values)
            .map(|(found, (value, standard_error))| Line { found, value, standard_error })
            .collect();
        Ok(Self { lines, checks })
    }

    /// 0 when every check held.
    pub(super) fn exit_code(&self) -> u8 {
        if self.checks.iter().all(|check| check.holds) { exit::DONE } else { exit::FAILED }
    }

    /// Prints the table, the malformed input's fate, and the checks.
    pub(super) fn print(&self, output: &Output) -> anyhow::Result<()> {
        if output.json {
            let jobs: Vec<Value> = self.lines.iter().map(Line::json).collect();
            return output.document(&json!({"jobs": jobs, "checks": self.checks}));
        }
        let header = ["business", "session", "job", "state", "value", "standard error", "settled after"];
        output.line(text::table(&header, self.lines.iter().map(Line::cells)))?;
        for line in self.lines.iter().filter(|line| line.found.outcome.state != State::Succeeded) {
            let outcome = &line.found.outcome;
            let Some(work) = outcome.work.as_ref().filter(|work| work.job == MALFORMED) else { continue };
            output.line(format_args!("\n{} of {}: {}", work.job, outcome.business, outcome.state))?;
            output.line(format_args!("  why    {}", outcome.reason.message))?;
            output.line(format_args!("  exit   {} after {} pod(s)", outcome.exit_code.unwrap_or(-1), outcome.pods))?;
            output.line(format_args!("  input  kept as gs://{}/{}", work.identity.bucket, work.identity.object))?;
        }
        output.line("")?;
        for check in &self.checks {
            let word = if check.holds { "holds" } else { "BROKEN" };
            output.line(format_args!("{word:<7} {} ({})", check.promise, check.seen))?;
        }
        Ok(())
    }
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let outcome = &self.found.outcome;
        let (session, job) =
            outcome.work.as_ref().map(|work| (work.session.clone(), work.job.clone())).unwrap_or_default();
        vec![
            outcome.business.clone(),
            session,
            job,
            outcome.state.to_string(),
            self.value.clone(),
            self.standard_error.clone(),
            jobs::published_to_settled(&outcome.timestamps).map(text::duration).unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "outcome": self.found.outcome,
            "value": self.value,
            "standard_error": self.standard_error,
        })
    }
}

/// Value and standard error of a Job: of its portfolio, or whatever else it has.
async fn values(context: &Context, config: &Config, found: &Found) -> anyhow::Result<(String, String)> {
    if !found.succeeded() {
        return Ok((found.outcome.reason.code.clone(), String::new()));
    }
    let business = config.business(&found.outcome.business)?;
    let rows = results::of(&context.store, business, &found.outcome, &found.object, usize::MAX).await?;
    let row = rows.iter().rfind(|row| row.row == results::PORTFOLIO).or(rows.first());
    let number = |value: &serde_json::Number| value.as_f64().map(|value| format!("{value:.2}")).unwrap_or_default();
    Ok(row.map_or_else(Default::default, |row| {
        let value = match &row.value {
            Some(Value::Number(value)) => number(value),
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        (value, row.standard_error.as_ref().map(number).unwrap_or_default())
    }))
}
