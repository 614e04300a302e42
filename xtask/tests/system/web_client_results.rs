//! The results of a session in the client web app: one table, a chart, two sessions beside each other, and downloads.
//! Outcomes are written as an orchestrator would, without the Jobs.

use std::time::{Duration, Instant};

use client::Uploads;
use cloud::storage::Properties;
use contract::{
    Outcome,
    outcome::State,
    pack::{Format, Item, ItemResult, Pack},
};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use sessions::submit::Options;
use web::Limits;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, App, ONE, world},
    web_monitor_load::allowed,
    world::World,
};

/// Items of a large pack, and of each of its ranges.
const ITEMS: u32 = 100_000;
const ITEMS_PER_RANGE: u32 = 1000;

/// Writes the outcome of an input, or of a range of a pack, with these results.
pub(crate) async fn settle(
    world: &World,
    session: &str,
    job: &str,
    pack: Option<(Pack, u32)>,
    generation: i64,
    results: Vec<String>,
) {
    let business = world.business("bu1");
    let (pack, first) = pack.unzip();
    let options = Options { session: session.to_owned(), pack, ..Options::default() };
    let mut work = options.work(business, job);
    (work.identity.generation, work.identity.first) = (generation, first);
    let mut outcome = Outcome::new("bu1", State::Succeeded, "completed", "");
    let inline = |text: &String| ItemResult::inline(text.as_bytes(), "application/json");
    match first {
        None => outcome.result = results.first().map(inline),
        Some(first) => {
            let item = |(index, text): (u32, &String)| {
                let item = Item::without_result(index, State::Succeeded, contract::outcome::Reason::default());
                Item { reason: None, result: Some(inline(text)), ..item }
            };
            outcome.items = (first..).zip(&results).map(item).collect();
        }
    }
    let name = work.outcome();
    outcome.work = Some(work);
    let properties = Properties { metadata: outcome.metadata(), ..Properties::json() };
    let body = serde_json::to_string(&outcome).unwrap();
    world.store.write_once(&business.bucket, &name, body, properties).await.unwrap();
}

/// A book as the kernel prices it: one large trade, and small ones.
fn book(trades: std::ops::Range<usize>, shift: f64) -> String {
    let trade = |number: usize| {
        let price = if number == 0 { 25_000.0 } else { 10.0 + number as f64 / 7.0 } + shift;
        let quantity = if number.is_multiple_of(3) { -20.0 } else { 10.0 };
        json!({
            "id": format!("trade-{number:02}"), "price": price, "standard_error": price / 900.0,
            "value": price * quantity, "value_standard_error": (price * quantity / 900.0).abs(),
            "delta": 0.5 + number as f64 / 100.0, "delta_standard_error": 0.002,
            "vega": 31.0 - number as f64, "vega_standard_error": 0.31, "paths": 100_000,
        })
    };
    let trades: Vec<_> = trades.map(trade).collect();
    let sum: f64 = trades.iter().map(|trade| trade["value"].as_f64().unwrap()).sum();
    let portfolio = json!({"value": sum, "standard_error": 555.0, "trades": trades.len()});
    json!({"kernel": "monte-carlo", "trades": trades, "portfolio": portfolio}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quant_reads_one_table_and_compares_two_sessions() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    settle(&world, "monday", "book-a.json", None, 1, vec![book(0..12, 0.0)]).await;
    settle(&world, "monday", "book-b.json", None, 1, vec![book(12..16, 0.0)]).await;
    settle(&world, "tuesday", "book-a.json", None, 1, vec![book(1..14, 0.6)]).await;
    settle(&world, "tuesday", "book-b.json", None, 1, vec![book(12..16, 0.0)]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    browser.log_in(&app.url("/"), ALL).await;

    // Prices and Greeks of a trade are one line; the sums are at the end.
    let page = "/session?business=bu1&session=monday&rows=all&measure=price";
    browser.open(&app.url(page)).await;
    browser.wait_for("#results tbody", "trade-11").await;
    let table = "(selector) => [...document.querySelectorAll(`#results ${selector}`)].map((cell) => cell.innerText)";
    let header = browser.evaluate(&format!("({table})('thead th')")).await;
    assert_eq!(header, json!(["Input", "Row", "price", "value", "delta", "vega"]));
    let first = browser.evaluate(&format!("({table})('tbody tr:first-child td')")).await;
    assert_eq!(first[2], json!("25,000 ± 54"), "the table has the 95 % interval");
    assert_eq!(browser.text("#results svg .spelled").await, "", "an SVG has no inner text");
    let spelled = browser.evaluate("document.querySelector('#results svg .spelled').textContent").await;
    assert_eq!(spelled, first[2], "and so has the chart");
    let total = browser.text("#results tfoot").await;
    assert!(total.contains("16 lines") && total.matches('±').count() == 1, "{total}");
    browser.pictures("client-results", Screen::Wide).await;
    browser.assert_accessible("results in one table").await;

    // Small values are seen beside a large one.
    let width = "(() => { const bar = document.querySelectorAll('#results svg g')[5].querySelector('.whisker'); \
         return parseFloat(bar.getAttribute('x2')) - parseFloat(bar.getAttribute('x1')); })()";
    let shared = browser.evaluate(width).await.as_f64().unwrap();
    for scale in ["row", "log"] {
        browser.click(&format!("#results nav[aria-label^=Scale] a[href*='scale={scale}']")).await;
        browser
            .wait_for("#results nav[aria-label^=Scale] [aria-current]", if scale == "row" { "each row" } else { "log" })
            .await;
        let found = browser.evaluate(width).await.as_f64().unwrap();
        assert!(found > shared * 10.0, "{scale}: {found} where one scale has {shared}");
        browser.pictures(&format!("client-results-{scale}"), Screen::Wide).await;
    }

    // Two sessions: what differs beyond its error, what is new, what is gone.
    browser.open(&app.url("/session?business=bu1&session=tuesday&rows=all&measure=price")).await;
    browser.wait_for("#results tbody", "trade-13").await;
    browser.fill("#results input[name=against]", "monday\u{e007}").await;
    browser.wait_for("#results thead", "Difference").await;
    browser
        .wait_for(
            "#results .note",
            "15 numbers in both sessions, 11 of them with a difference beyond its error; 2 new, 1 gone.",
        )
        .await;
    let differences = browser.evaluate(&format!("({table})('tbody td:last-child')")).await.to_string();
    assert!(
        differences.contains("new") && differences.contains("gone") && differences.contains("0.60"),
        "{differences}"
    );
    browser.pictures("client-results-against", Screen::Wide).await;
    browser.assert_accessible("two sessions").await;
    browser.close().await;

    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&app.url("/"), ALL).await;
    for (name, path) in [("results", page), ("results-against", "/session?business=bu1&session=tuesday&against=monday")]
    {
        phone.open(&app.url(path)).await;
        phone.wait_for("#results", "±").await;
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(phone.evaluate(overflow).await, json!(0), "{name} fits a phone");
        phone.pictures(&format!("client-{name}"), Screen::Phone).await;
    }
    phone.close().await;
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_rows_are_downloaded_in_two_seconds() {
    let world = world(&["bu1"]).await;
    let pack = Pack { format: Format::Lines, items: ITEMS, items_per_range: ITEMS_PER_RANGE, rows_per_item: 1 };
    let ranges: Vec<u32> = pack.ranges().collect();
    let writes = ranges.into_iter().map(|first| {
        let results = (first..first + ITEMS_PER_RANGE).map(|item| format!("{{\"value\":{item}.25}}")).collect();
        settle(&world, "s", "pack.ndjson", Some((pack.clone(), first)), 1, results)
    });
    futures::stream::iter(writes).buffer_unordered(8).collect::<Vec<()>>().await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    for (path, is_row) in [("csv", "s,pack.ndjson,"), ("json", "{\"session\"")] {
        let since = Instant::now();
        let answer = app.request("GET", &format!("/results.{path}?business=bu1&session=s"), ONE).send().await.unwrap();
        let pieces: Vec<_> = answer.bytes_stream().try_collect().await.unwrap();
        let took = since.elapsed();
        let text = String::from_utf8(pieces.concat()).unwrap();
        println!("{path}: {} ms, {} bytes", took.as_millis(), text.len());
        assert_eq!(text.matches(is_row).count(), ITEMS as usize, "every row once");
        assert!(took < allowed(Duration::from_secs(2)), "{path} took {took:?}");
    }
    app.stop().await;
    world.stop().await;
}
