//! `verify`: the results of a session against its outcomes, and against a new computation of local inputs.

use std::path::PathBuf;

use contract::exit;
use serde_json::json;
use sessions::verify::{Problem, Recomputed, Verified, recompute, verify};

use crate::{context::Opener, error::Failure, output::Output, text};

/// Objects that a message names.
const NAMED: usize = 5;

/// Reads every result that an outcome of the session names, and compares its size and its hash. Results that are
/// missing or differ, and items that succeeded without a result, are errors. Objects that no outcome names are listed.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Session
    session: String,
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    /// Folder with copies of the inputs, as they were submitted: compute them once more with the built-in kernel, and
    /// compare every bit
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
}

/// Verifies the session.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if let Some(folder) = args.inputs.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Failure::new("no-such-file", format!("there is no folder {}", folder.display())).into());
    }
    let context = opener.open().await?;
    let (business, session) = (context.business(args.business.as_deref())?, &args.session);
    let verified = verify(&context.store, business, session).await?;
    if verified.outcomes == 0 && verified.unnamed.is_empty() {
        return Err(Failure::new("no-results", format!("no Job of {} has ended in session {session}", business.name))
            .next(format!("cargo xtask{} session list --business {}", context.flag, business.name))
            .into());
    }
    let recomputed = match &args.inputs {
        Some(folder) => {
            let mut progress = output.progress("recomputed", verified.results);
            let done = |done| progress.set(done, "");
            Some(recompute(&context.store, business, session, folder, done).await?)
        }
        None => None,
    };
    let problems = || verified.problems.iter().chain(recomputed.iter().flat_map(|recomputed| &recomputed.problems));
    if output.json {
        let mut document = json!(verified);
        document["business"] = business.name.as_str().into();
        document["session"] = session.as_str().into();
        document["recomputed"] = json!(recomputed);
        output.document(&document)?;
    } else {
        if problems().next().is_some() {
            output.line(table(problems()))?;
        }
        output.line(summary(&verified))?;
        if let Some(recomputed) = &recomputed {
            output.line(summary_of_recomputed(recomputed))?;
        }
    }
    if !verified.unnamed.is_empty() {
        output.warn(format_args!(
            "no outcome names {}, and nothing reads them: {}",
            text::count(verified.unnamed.len(), "object"),
            text::some(verified.unnamed.iter().map(String::as_str), NAMED)
        ));
    }
    match problems().count() {
        0 => Ok(exit::DONE),
        count => Err(Failure::new("not-verified", format!("session {session} has {}", text::count(count, "problem")))
            .on(format!("business {}", business.name))
            .next("submit the Jobs above once more in another session, and compare the results")
            .into()),
    }
}

fn summary(verified: &Verified) -> String {
    let pending = match verified.pending {
        0 => String::new(),
        pending => format!("; {} of work that has not ended", text::count(pending, "object")),
    };
    format!(
        "{} named by {}; {} ({}) read{pending}",
        text::count(verified.results, "result"),
        text::count(verified.outcomes, "outcome"),
        text::count(verified.objects, "object"),
        text::bytes(verified.bytes)
    )
}

fn summary_of_recomputed(recomputed: &Recomputed) -> String {
    let Recomputed { results, problems, of_programs, without_input } = recomputed;
    let mut parts = vec![format!("{} computed once more, {} differ", text::count(*results, "result"), problems.len())];
    parts.extend((*of_programs > 0).then(|| format!("{} not made by the kernel", text::count(*of_programs, "result"))));
    parts.extend((*without_input > 0).then(|| format!("{} without a local input", text::count(*without_input, "Job"))));
    parts.join("; ")
}

fn table<'a>(problems: impl Iterator<Item = &'a Problem>) -> String {
    let header = ["problem", "job", "item", "object", "message"];
    let cells = |problem: &Problem| {
        let item = problem.item.map(|item| item.to_string()).unwrap_or_default();
        let Problem { problem, job, object, message, .. } = problem;
        vec![problem.as_str().to_owned(), job.clone(), item, object.clone(), message.clone()]
    };
    text::table(&header, problems.map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_count_what_was_verified_and_what_was_not() {
        let verified = Verified { outcomes: 1, results: 2, objects: 1, bytes: 2048, pending: 3, ..Verified::default() };
        assert_eq!(
            summary(&verified),
            "2 results named by 1 outcome; 1 object (2.0 KiB) read; 3 objects of work that has not ended"
        );
        let recomputed = Recomputed { results: 2, of_programs: 1, without_input: 1, ..Recomputed::default() };
        assert_eq!(
            summary_of_recomputed(&recomputed),
            "2 results computed once more, 0 differ; 1 result not made by the kernel; 1 Job without a local input"
        );
    }
}
