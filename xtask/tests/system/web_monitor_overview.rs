//! The first page of the monitor: what is wrong with its cause, charts with numbers that a restart keeps, and values
//! that can be copied.

use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, Monitor, world},
    world::eventually,
};

const BOOK: &str = include_str!("../../../examples/pricing/03-collar.json");
const MALFORMED: &str = include_str!("../../../examples/malformed.json");

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_comes_first_and_history_survives_a_restart() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1", "bu2"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    for (session, job, body) in [("early", "bad-1", MALFORMED), ("early", "bad-2", MALFORMED), ("late", "good", BOOK)] {
        world.publish(&world.upload("bu1", session, job, body).await).await;
    }
    world.settled("bu1", 3).await;
    for number in 0..3 {
        world.upload("bu2", "waits", &format!("job-{number}"), "payload").await;
    }
    monitor.shows("bu2", "waiting", 3).await;
    monitor.stop().await;
    let monitor = Monitor::start(&world).await;
    browser.log_in(&monitor.url("/"), ALL).await;

    // The cause and the way to act on it, whatever succeeded since.
    browser.wait_for("#alerts", "early 2 failed").await;
    browser.wait_for("#alerts", "2 malformed-input").await;
    browser.wait_for("#alerts", "The orchestrator is not ready").await;
    let first = "document.querySelector('main .part > .card h2').innerText";
    assert_eq!(browser.evaluate(first).await, json!("Needs attention"));

    // The hour before the start, with numbers at both axes.
    browser.wait_for("#businesses", "last 60 min").await;
    let line = "[...document.querySelectorAll('.plot .ticks')].at(-1).innerText.split('\\n').join()";
    assert_eq!(browser.evaluate(line).await, json!("4,2,0"));
    let columns = "new Set([...document.querySelectorAll('.business')].map((card) => card.offsetLeft)).size";
    browser.resize(1900, 1000).await;
    assert_eq!(browser.evaluate(columns).await, json!(2));
    browser.pictures("monitor-overview-alerts", Screen::Wide).await;
    browser.assert_accessible("monitor overview with alerts").await;

    // A result has short numbers, and all digits behind them; a name is copied.
    browser.open(&monitor.url("/job?business=bu1&session=late&job=good")).await;
    browser.wait_for("#result", "value").await;
    let longest = "Math.max(...[...document.querySelectorAll('#result td.number')].map((cell) => \
                   cell.innerText.replace(/^[-0.]*|e.*$|\\./g, '').length))";
    assert!(browser.evaluate(longest).await.as_u64().unwrap() <= 6);
    let exact = "[...document.querySelectorAll('#result td.number[title]')].every((cell) => \
                 Math.abs(cell.title - cell.innerText) <= Math.abs(cell.title) * 1e-5)";
    assert_eq!(browser.evaluate(exact).await, json!(true));
    browser.evaluate("document.addEventListener('copy', () => { self.copied = getSelection().toString(); })").await;
    browser.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined }) && 1").await;
    browser.click("#facts [data-copy^='gs:']").await;
    browser.wait_for("#facts", "gs://").await;
    eventually("it is copied", async || {
        browser.evaluate("String(self.copied).startsWith('gs://test-desk-bucket/bu1/')").await == json!(true)
    })
    .await;
    browser.pictures("monitor-job-facts", Screen::Wide).await;
    browser.assert_accessible("monitor job with copy buttons").await;

    // What is discarded needs no attention any more.
    assert_eq!(monitor.act(ALL, json!({"action": "discard", "business": "bu1", "session": "early"})).await.0, 200);
    browser.open(&monitor.url("/")).await;
    eventually("it is gone", async || !browser.text("#alerts").await.contains("early")).await;
    browser.close().await;
    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&monitor.url("/"), ALL).await;
    phone.wait_for("#alerts", "not ready").await;
    let wide = phone.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1").await;
    phone.pictures("monitor-overview-alerts", Screen::Phone).await;
    assert_eq!(wide, json!(false));
    phone.close().await;
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}
