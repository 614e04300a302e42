//! The totals of a session's results in the monitor, beside those of the command line.

use cloud::storage::Properties;
use contract::{
    object,
    pack::{Format, Pack},
};
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, Monitor, world},
    web_client_results::settle,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_shows_the_totals_of_its_results_and_which_rows_are_missing() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    let trade = |id: &str, value: f64| json!({"id": id, "price": 2.5, "value": value, "value_standard_error": 3.0});
    let trades = [trade("t1", 1000.0), trade("t2", -250.0), json!({"id": "t3", "error": "volatility is negative"})];
    let book = json!({"kernel": "monte-carlo", "trades": trades, "portfolio": {"value": 750.0, "standard_error": 4.0}});
    settle(&world, "s1", "book.json", None, 1, vec![book.to_string()]).await;
    let pack = Pack { format: Format::Lines, items: 4, items_per_range: 2, rows_per_item: 1 };
    let range = async |first: u32| {
        let item = |item: u32| json!({"value": f64::from(item), "standard_error": 1.5}).to_string();
        settle(&world, "s1", "pack.ndjson", Some((pack.clone(), first)), 1, vec![item(first), item(first + 1)]).await;
    };
    let layout = object::layout("bu1", "s1", "pack.ndjson", 1);
    let metadata = [("deskgrid-items", "4"), ("deskgrid-items-per-range", "2")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let (body, properties) = (serde_json::to_vec(&pack).unwrap(), Properties { metadata, ..Properties::json() });
    world.store.write_once(&world.business("bu1").bucket, &layout, body, properties).await.unwrap();
    range(0).await;
    world.upload("bu1", "s1", "later.json", "{}").await;
    let monitor = Monitor::start(&world).await;
    browser.log_in(&monitor.url("/session?business=bu1&session=s1"), ALL).await;
    browser.wait_for("#totals", "rows are missing").await;
    browser.wait_for("#totals", "not ended").await;
    browser.wait_for("#totals", "751.0 ± 8.9").await;

    // The rest of the pack arrives while the page is open.
    range(2).await;
    browser.wait_for("#totals", "756.0 ± 9.8").await;
    browser.wait_for("#totals", "1 sum lacks").await;
    let totals = browser.text("#totals").await;
    let ended = world.command(&["results", "--session", "s1", "--business", "bu1"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let rows = browser.text("#totals .figure:first-child b").await;
    assert!(said.contains(&format!("{rows} rows of 2 Jobs, 1 row error")), "{said} {totals}");
    browser.pictures("monitor-session-totals", Screen::Wide).await;
    browser.assert_accessible("monitor session with totals").await;
    browser.close().await;
    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&monitor.url("/session?business=bu1&session=s1"), ALL).await;
    phone.wait_for("#totals", "756.0").await;
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(phone.evaluate(overflow).await, json!(0), "it fits a phone");
    phone.evaluate("document.querySelector('#totals').scrollIntoView()").await;
    phone.pictures("monitor-session-totals", Screen::Phone).await;
    phone.close().await;
    monitor.stop().await;
    world.stop().await;
}
