//! Topics, subscriptions and the backlog; and dead letters.

use contract::Outcome;
use serde::Serialize;
use sessions::dead_letters::DeadLetter;
use web::Problem;

use super::{
    jobs::Choice,
    rows::{self, LetterRow, preview},
};
use crate::{page::Shown, page_request::PageRequest, raw::PubsubItem};

/// Dead letters shown at once.
const LETTERS: usize = 50;
/// Characters of a payload that are shown.
const PAYLOAD: usize = 400;

#[derive(Serialize)]
struct Backlog {
    business: String,
    waiting: usize,
    paused: usize,
    running: usize,
    oldest: String,
    per_minute: usize,
    failed: usize,
    refused: usize,
    items: Vec<PubsubItem>,
    intake: bool,
}

#[derive(Serialize)]
struct Letters {
    rows: Vec<LetterRow>,
    total: usize,
    left_out: usize,
    /// The reason codes, each with the page of its dead letters.
    causes: Vec<Choice>,
    /// The reason code that is chosen.
    code: String,
    businesses: Vec<String>,
    business: String,
}

/// The page on Pub/Sub.
pub(super) fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let views = request.state.views(request.visitor, request.query.get("business"))?;
    let backlogs: Vec<Backlog> = views
        .iter()
        .map(|view| Backlog {
            business: view.business.name.clone(),
            waiting: view.counts.waiting.saturating_sub(view.paused_jobs),
            paused: view.paused_jobs,
            running: view.counts.running,
            oldest: rows::time(view.oldest_waiting),
            per_minute: view.per_minute,
            failed: view.letters.iter().filter(|letter| !letter.is_message()).count(),
            refused: view.letters.iter().filter(|letter| letter.is_message()).count(),
            items: view.pubsub.clone(),
            intake: view.business.intake,
        })
        .collect();
    let parts = vec![request.part("pubsub", "pubsub.html", &backlogs)?];
    Ok(Shown { title: "Pub/Sub".into(), crumbs: Vec::new(), parts })
}

/// The page of dead letters.
pub(super) async fn letters(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let only = request.query.get("business");
    let mut all: Vec<DeadLetter> =
        request.state.views(request.visitor, only)?.iter().flat_map(|view| view.letters.as_ref().clone()).collect();
    all.sort_by_key(|letter| std::cmp::Reverse(letter.since));
    let mut by_code = std::collections::BTreeMap::<String, usize>::new();
    for letter in &all {
        *by_code.entry(letter.code.clone()).or_default() += 1;
    }
    let mut by_code: Vec<(String, usize)> = by_code.into_iter().collect();
    by_code.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let code = request.query.get("code").unwrap_or_default();
    let choice = |label: &str, code_of: &str, count| Choice {
        label: label.to_owned(),
        href: format!("/letters?{}", request.query.with("code", code_of)),
        count,
        is_current: code == code_of,
    };
    let mut causes = vec![choice("all", "", all.len())];
    causes.extend(by_code.iter().map(|(code, count)| choice(code, code, *count)));
    all.retain(|letter| code.is_empty() || letter.code == code);
    let total = all.len();
    all.truncate(LETTERS);
    let reads: Vec<_> = all.iter().map(|letter| request.state.outcome(&letter.business, &letter.outcome)).collect();
    let outcomes = futures::future::join_all(reads).await;
    let rows = all.iter().zip(outcomes).map(|(letter, outcome)| row(letter, outcome));
    let letters = Letters {
        rows: rows.collect(),
        total,
        left_out: total.saturating_sub(LETTERS),
        causes,
        code: code.to_owned(),
        businesses: request.businesses(),
        business: only.unwrap_or_default().to_owned(),
    };
    let parts = vec![request.part("letters", "letters.html", &letters)?];
    Ok(Shown { title: "Dead letters".into(), crumbs: Vec::new(), parts })
}

fn row(letter: &DeadLetter, outcome: Option<Outcome>) -> LetterRow {
    let mut row = LetterRow::from(letter);
    let Some(outcome) = outcome else { return row };
    row.message = outcome.reason.message;
    row.attributes = outcome.message_attributes.into_iter().flatten().collect();
    if let Some(data) = outcome.message_data {
        row.preview = preview(&data, PAYLOAD);
    } else if let Some(tail) = outcome.log_tail {
        row.preview = tail.lines().last().unwrap_or_default().chars().take(PAYLOAD).collect();
    }
    row
}
