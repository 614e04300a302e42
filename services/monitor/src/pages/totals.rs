//! The totals of a session's results, as `results` counts them.

use std::{collections::HashMap, sync::PoisonError};

use contract::config::Business;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use sessions::{
    Counts,
    jobs::Job,
    results::{self, Totals, grouped, spelled},
};
use web::Problem;

use crate::page_request::PageRequest;

/// Outcomes of a session whose results are summed, and those whose totals are kept.
const MAX_SUMMED: usize = 10_000;
const MAX_KEPT: usize = 2 * MAX_SUMMED;
/// Outcomes that are read for a page before it is shown, and those of them at the same time; the rest follows live.
const AT_ONCE: usize = 64;
const READS: usize = 8;
/// Bytes of the largest result that is read; of a larger one only the size is known.
const MAX_RESULT: usize = 4 * 1024 * 1024;

#[derive(Default, Serialize)]
struct Part {
    rows: String,
    errors: String,
    sum: String,
    has_interval: bool,
    notes: Vec<String>,
}

/// The part of the page; empty before the first outcome.
pub(super) async fn part(
    request: &PageRequest<'_>,
    business: &Business,
    jobs: &[Job],
    counts: &Counts,
) -> Result<(&'static str, String), Problem> {
    let names: Vec<&String> = jobs.iter().flat_map(|job| &job.outcomes).collect();
    let mut part = Part { notes: lacking(counts), ..Part::default() };
    if names.is_empty() {
        return Ok(("totals", String::new()));
    }
    if names.len() > MAX_SUMMED {
        let outcomes = grouped(names.len() as u64);
        part.notes.push(format!("The session has {outcomes} outcomes; `cargo xtask results` reads their results."));
        return request.part("totals", "session_totals.html", &part);
    }
    let unread = read(request, business, &names).await?;
    let totals = {
        let kept = request.state.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = |job: &Job| job.outcomes.iter().filter_map(|name| kept.get(name).copied()).collect::<Vec<_>>();
        jobs.iter().map(|job| Totals::joined(&ranges(job))).fold(Totals::default(), Totals::plus)
    };
    (part.rows, part.errors) = (grouped(totals.rows as u64), grouped(totals.errors as u64));
    part.sum = totals.sum.map(|(value, error)| spelled(value, error)).unwrap_or_default();
    part.has_interval = part.sum.contains('±');
    let more = [
        (totals.incomplete, "sum lacks trades or items without a value", "sums lack trades or items without a value"),
        (unread, "outcome is being read", "outcomes are being read"),
    ];
    let more = more.into_iter().filter(|(count, ..)| *count > 0);
    part.notes.extend(more.map(|(count, one, many)| format!("{count} {}.", if count == 1 { one } else { many })));
    request.part("totals", "session_totals.html", &part)
}

/// Reads results that were not read yet, and returns how many outcomes are left.
async fn read(request: &PageRequest<'_>, business: &Business, names: &[&String]) -> Result<usize, Problem> {
    let state = request.state;
    let kept = || state.totals.lock().unwrap_or_else(PoisonError::into_inner);
    if kept().len() + names.len() > MAX_KEPT {
        kept().clear();
    }
    let mut unread: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
    unread.retain(|name| !kept().contains_key(name));
    let left = unread.split_off(unread.len().min(AT_ONCE)).len();
    let reads = futures::stream::iter(unread).map(|name| async move {
        let rows = results::read(&state.store, business, std::slice::from_ref(&name), MAX_RESULT).await?;
        anyhow::Ok((name, Totals::of(&rows)))
    });
    let read: anyhow::Result<HashMap<String, Totals>> = reads.buffer_unordered(READS).try_collect().await;
    kept().extend(read.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?);
    if left > 0 {
        state.report_change();
    }
    Ok(left)
}

/// What the table of results lacks.
fn lacking(counts: &Counts) -> Vec<String> {
    let parts = [
        (counts.pending(), "not ended"),
        (counts.unsuccessful(), "without a result"),
        (counts.row_errors, "with an error in the result"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, of)| format!("{count} {of}"));
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { Vec::new() } else { vec![format!("Rows that lack values: {}.", parts.join(", "))] }
}
