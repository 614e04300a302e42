//! `jobs`: the list of Jobs with their states.

use contract::exit;
use jiff::{SignedDuration, Timestamp};
use sessions::jobs::{self, Job, State};

use crate::{context::Opener, limit::Limit, output::Output, text, view};

/// The Job that changed last comes first.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Business [default: all]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    /// Only this session
    #[arg(long, short)]
    session: Option<String>,
    /// Only these states: waiting, running, succeeded, failed, cancelled, refused, expired
    #[arg(long, value_delimiter = ',', value_parser = parse_state)]
    state: Vec<State>,
    #[command(flatten)]
    limit: Limit,
}

/// Lists the Jobs.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let businesses = context.businesses(args.business.as_deref())?;
    let session = args.session.as_deref();
    let views = businesses.iter().map(|business| async {
        let merged = view::jobs(&context, business, session, output).await?;
        // One more than is shown says whether there are more.
        let max = args.limit.max(output).saturating_add(1);
        jobs::select(&context.store, &business.bucket, merged, &args.state, max).await
    });
    let mut shown: Vec<Job> = futures::future::try_join_all(views).await?.into_iter().flatten().collect();
    shown.sort_by_key(|job| std::cmp::Reverse(job.changed));
    args.limit.cut(&mut shown, output);
    if output.json {
        output.document(&shown)?;
        return Ok(exit::DONE);
    }
    if shown.is_empty() {
        let of = session.map(|session| format!(" in session {session}")).unwrap_or_default();
        output.note(format_args!("no Jobs{of}"));
        return Ok(exit::DONE);
    }
    output.line(table(&shown, Timestamp::now()))?;
    Ok(exit::DONE)
}

/// The table of Jobs.
pub(crate) fn table(jobs: &[Job], now: Timestamp) -> String {
    let header = ["business", "session", "job", "state", "reason", "age", "took", "attempts"];
    text::table(
        &header,
        jobs.iter().map(|job| {
            let took = job.seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
            vec![
                job.business.clone(),
                job.session.clone(),
                job.job.clone(),
                job.state_line(),
                job.reason.as_ref().map(|reason| reason.code.clone()).unwrap_or_default(),
                text::age(job.changed, now),
                took.map(text::duration).unwrap_or_default(),
                (job.attempt + 1).to_string(),
            ]
        }),
    )
}

pub(crate) fn parse_state(word: &str) -> Result<State, String> {
    State::parse(word).ok_or_else(|| {
        let known: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("unknown state; known states are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use cloud::storage::Object;
    use sessions::jobs::Objects;

    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_job() {
        let input = || Object {
            name: "bu1/input/s/a.json".into(),
            generation: 1,
            size: 1,
            created: "2026-01-01T00:00:00Z".parse().ok(),
            content_type: String::new(),
            metadata: Default::default(),
        };
        let objects = Objects { inputs: vec![input()], ..Objects::default() };
        let jobs = jobs::merge("bu1", None, &objects, &[]);
        let table = table(&jobs, "2026-01-01T00:01:05Z".parse().unwrap());
        let outcome = Object {
            name: "bu1/outcome/s/b.json/2-0.json".into(),
            metadata: [("deskgrid-state", "succeeded"), ("deskgrid-row-errors", "2")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..input()
        };
        let objects = Objects { outcomes: vec![outcome], ..Objects::default() };
        let with_errors = super::table(&jobs::merge("bu1", None, &objects, &[]), Timestamp::UNIX_EPOCH);
        assert!(with_errors.contains("succeeded, 2 row errors"), "{with_errors}");
        let cells: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["bu1", "s", "a.json", "waiting", "1m05s", "1"]);
    }

    #[test]
    fn unknown_states_are_refused_with_the_known_ones() {
        assert!(parse_state("done").unwrap_err().contains("succeeded"));
        assert_eq!(parse_state("failed"), Ok(State::Failed));
    }
}
