//! `job JOB --item N`: one item of a pack.

use cloud::outcomes;
use contract::{
    config::Business,
    pack::{Item, ItemResult},
    pool_report::Place,
};
use inspect::cluster;
use serde_json::json;
use sessions::jobs::Job;

use super::print::{field, section};
use crate::{context::Context, output::Output, text, view};

/// Bytes of the largest result that is shown.
const RESULT_MAX: u64 = 4096;

/// Shows the item.
///
/// # Errors
/// When there is no such item, or the bucket cannot be read.
pub(super) async fn show(
    context: &Context,
    business: &Business,
    job: &Job,
    index: u32,
    output: &Output,
) -> anyhow::Result<()> {
    let range = view::range_of(context, business, job, index).await?;
    let outcome = match job.outcome_of_range(range.start) {
        Some(name) => outcomes::read_or_replace(&context.store, &business.bucket, name).await?,
        None => None,
    };
    let item = outcome.into_iter().flat_map(|outcome| outcome.items).find(|item| item.index == index);
    let reports = match context.cluster.as_ref() {
        // Not every account may read them.
        Ok(client) if item.is_none() => cluster::pool_reports(client, business).await.unwrap_or_default(),
        _ => Vec::new(),
    };
    let place = reports.iter().find_map(|report| report.place(&job.session, &job.job, job.generation, index));
    let (engine, place) = match place {
        Some(Place::Engine(pod)) => (Some(pod), format!("It is with engine {pod} of the pool.")),
        Some(Place::Waiting) => (None, "It waits for an engine of the pool.".to_owned()),
        Some(Place::Ended) => (None, "It has ended; the outcome of its range is written when all have.".to_owned()),
        None => (None, "Its range waits or runs: it has no outcome yet.".to_owned()),
    };
    if output.json {
        return output.document(&json!({
            "business": job.business, "session": job.session, "job": job.job, "generation": job.generation,
            "index": index, "range": {"first": range.start, "items": range.len()}, "item": item,
            "engine": engine,
        }));
    }
    let result = match item.as_ref().and_then(|item| item.result.as_ref()) {
        Some(result) => Some(shown(context, business, result).await?),
        None => None,
    };
    output.line(page(job, index, item.as_ref().ok_or(place), result).trim_end_matches('\n'))
}

/// The item, or where it is.
fn page(job: &Job, index: u32, item: Result<&Item, String>, result: Option<String>) -> String {
    let mut page = String::new();
    let label = item.as_ref().map_or_else(|_| index.to_string(), |item| item.label());
    field(&mut page, "item", &format!("{label} of {}", job.job));
    field(&mut page, "session", &job.session);
    field(&mut page, "business", &job.business);
    let item = match item {
        Ok(item) => item,
        Err(place) => {
            field(&mut page, "state", "pending");
            field(&mut page, "", &place);
            return page;
        }
    };
    let code = item.reason.as_ref().map(|reason| format!(" ({})", reason.code)).unwrap_or_default();
    field(&mut page, "state", &format!("{}{code}", item.state));
    if let Some(reason) = item.reason.as_ref().filter(|reason| !reason.message.is_empty()) {
        field(&mut page, "", &reason.message);
    }
    if let Some(seconds) = item.seconds {
        field(&mut page, "took", &format!("{seconds:.3} s"));
    }
    if item.row_errors > 0 {
        field(&mut page, "rows", &text::count(item.row_errors as usize, "row error"));
    }
    section(&mut page, "log", item.log_tail.iter().flat_map(|log| log.lines()).map(str::to_owned).collect());
    section(&mut page, "result", result.iter().flat_map(|result| result.lines()).map(str::to_owned).collect());
    page
}

/// A short result as text; of another one, where it is.
async fn shown(context: &Context, business: &Business, result: &ItemResult) -> anyhow::Result<String> {
    let bytes = match result {
        ItemResult::Object { object, generation, offset, length, .. } if *length <= RESULT_MAX => {
            let read = context.store.read_part(&business.bucket, object, *generation, *offset, *length).await?;
            read.map(|(_, bytes)| bytes.to_vec())
        }
        ItemResult::Object { .. } => None,
        ItemResult::Text { .. } | ItemResult::Bytes { .. } => result.bytes(),
    };
    if let Some(text) = bytes.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        return Ok(text.to_owned());
    }
    Ok(match (result, bytes) {
        (ItemResult::Object { object, generation, offset, length, content_type }, _) => format!(
            "{} ({content_type}) in gs://{}/{object}#{generation}, from byte {offset}",
            text::bytes(*length),
            business.bucket
        ),
        (ItemResult::Text { content_type, .. } | ItemResult::Bytes { content_type, .. }, Some(bytes)) => {
            format!("{} ({content_type}) that are no text", text::bytes(bytes.len() as u64))
        }
        (ItemResult::Text { .. } | ItemResult::Bytes { .. }, None) => {
            "the result in the outcome is damaged: it is not base64".to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use contract::{
        outcome::{Reason, State},
        pack::Item,
    };
    use sessions::jobs::{Objects, merge};

    use super::*;

    #[test]
    fn an_item_says_how_it_ended() {
        let outcome = cloud::storage::Object {
            name: "bu1/outcome/s/p/5-0-0.json".into(),
            generation: 1,
            size: 1,
            created: None,
            content_type: String::new(),
            metadata: Default::default(),
        };
        let job = merge("bu1", None, &Objects { outcomes: vec![outcome], ..Objects::default() }, &[]).remove(0);
        let pending = page(&job, 3, Err("It waits.".into()), None);
        assert!(pending.contains("3 of p") && pending.contains("pending"), "{pending}");
        let reason = Reason { code: "malformed-input".into(), message: "no strike".into() };
        let mut item = Item::without_result(3, State::Failed, reason);
        (item.log_tail, item.seconds) = (Some("one\ntwo\n".into()), Some(0.25));
        let failed = page(&job, 3, Ok(&item), None);
        item.name = Some("a/b.json".into());
        assert!(page(&job, 3, Ok(&item), None).contains("3 (a/b.json) of p"));
        for part in ["failed (malformed-input)", "no strike", "0.250 s", "log\n  one\n  two"] {
            assert!(failed.contains(part), "{part:?} is not in {failed}");
        }
        let succeeded =
            Item { state: State::Succeeded, reason: None, ..Item::without_result(3, State::Failed, Reason::default()) };
        assert!(page(&job, 3, Ok(&succeeded), Some("42".into())).contains("result\n  42"));
    }
}
