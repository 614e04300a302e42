//! `job JOB`: all details of one Job.

use std::collections::BTreeMap;

use contract::{exit, names};
use inspect::{Sources, gather};
use sessions::jobs::{self, Job};

use crate::{
    context::{Context, Opener},
    error::Failure,
    output::Output,
    text, view,
};

mod item;
mod print;

/// Last log lines shown.
const LOG_LINES: i64 = 20;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Job id (for a refused message, its message id)
    job: String,
    /// Session [default: the one whose Job of this id changed last]
    #[arg(long, short)]
    session: Option<String>,
    /// Show this item of a pack, counted from 0
    #[arg(long, value_name = "N")]
    item: Option<u32>,
    /// Business [default: all]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
}

/// Shows the Job.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let mut found: Vec<Job> = Vec::new();
    let mut running: BTreeMap<String, usize> = BTreeMap::new();
    let mut similar: Vec<String> = Vec::new();
    for business in context.businesses(args.business.as_deref())? {
        let (jobs, active) = view::jobs_and_running(&context, business, args.session.as_deref(), output).await?;
        running.insert(business.name.clone(), active);
        similar.extend(jobs.iter().filter(|job| job.job.contains(&args.job)).map(|job| job.job.clone()));
        found.extend(jobs.into_iter().filter(|job| names::is_same(&job.job, &args.job)));
    }
    found.sort_by_key(|job| std::cmp::Reverse(job.changed));
    if found.is_empty() {
        return Err(missing(args, &context, similar).into());
    }
    let first = found.remove(0);
    let business = context.config.business(&first.business)?.clone();
    if let Some(item) = args.item {
        item::show(&context, &business, &first, item, output).await?;
        return Ok(exit::DONE);
    }
    let running = running.get(&first.business).copied().unwrap_or_default();
    let (others, elsewhere): (Vec<Job>, Vec<Job>) =
        found.into_iter().partition(|job| job.business == first.business && job.session == first.session);
    let sources = Sources { store: &context.store, cluster: context.cluster.as_ref().ok(), business: &business };
    let mut detail = gather(sources, first, running, LOG_LINES).await?;
    if let Some(error) = &detail.cluster_trouble {
        output.detail(format_args!("details from the cluster are missing: {error}"));
    }
    detail.others = others;
    jobs::fill(&context.store, &business.bucket, &mut detail.others).await?;
    detail.other_sessions = elsewhere.iter().map(|job| format!("{}/{}", job.business, job.session)).collect();
    if output.json {
        output.document(&detail)?;
    } else {
        output.line(print::page(&detail, &context.flag).trim_end_matches('\n'))?;
    }
    Ok(exit::DONE)
}

fn missing(args: &Args, context: &Context, mut similar: Vec<String>) -> Failure {
    similar.sort();
    similar.dedup();
    let of = args.session.as_ref().map(|session| format!(" in session {session}")).unwrap_or_default();
    let failure = Failure::new("no-such-job", format!("there is no Job {:?}{of}", args.job))
        .on(format!("environment {}", context.config.environment));
    if similar.is_empty() {
        failure.next(format!("cargo xtask{} jobs", context.flag))
    } else {
        failure.next(format!("did you mean {}?", text::some(similar.iter().map(String::as_str), 5)))
    }
}
