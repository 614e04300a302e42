//! The monitor shows how long things last, in the zone of the person, and nothing that is not so.

use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, Monitor, world_with},
    web_monitor_jobs::{PATIENT, endless},
    world::{Setup, eventually},
};

const MALFORMED: &str = include_str!("../../../examples/malformed.json");

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_how_long_it_lasts_and_call_nothing_what_it_is_not() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world =
        world_with(&["bu1"], Setup { settings: "max_active_jobs = 1", engine: PATIENT, ..Setup::default() }).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    world.publish(&world.upload("bu1", "fails", "malformed.json", MALFORMED).await).await;
    world.settled("bu1", 1).await;
    world.publish(&world.upload("bu1", "runs", "endless.json", &endless()).await).await;
    monitor.shows("bu1", "running", 1).await;
    world.publish(&world.upload("bu1", "waits", "later", "payload").await).await;
    monitor.shows("bu1", "waiting", 1).await;
    browser.zone("Asia/Tokyo").await;
    browser.log_in(&monitor.url("/job?business=bu1&session=runs&job=endless.json"), ALL).await;

    // What runs counts on, with its limit; the timeline goes up to now.
    browser.wait_for("#head .lasts", "a run may take 1h00m").await;
    let elapsed = "document.querySelector('#head .lasts time').textContent";
    let first = browser.evaluate(elapsed).await;
    eventually("it counts on", async || browser.evaluate(elapsed).await != first).await;
    browser.wait_for("#timeline", "so far").await;
    let widths = "[...document.querySelectorAll('#timeline rect[class^=f-]:not(.f-empty)')].reduce((sum, rect) => sum + \
         Number(rect.getAttribute('width')), 0)";
    let sum = browser.evaluate(widths).await.as_f64().unwrap();
    assert!((sum - 1000.0).abs() < 2.0, "the steps fill the line: {sum}");
    browser.pictures("monitor-job-running", Screen::Wide).await;
    browser.assert_accessible("monitor job that runs").await;

    // Times are in UTC, or in the zone of the person; both say so.
    browser.wait_for("#timeline .steps", " UTC").await;
    browser.click("#clock").await;
    browser.wait_for("#timeline .steps", " GMT+9").await;
    assert_eq!(browser.text("#clock").await, "GMT+9");
    browser.open(&monitor.url("/job?business=bu1&session=fails&job=malformed.json")).await;
    browser.wait_for("#timeline .steps", " GMT+9").await;
    browser.click("#clock").await;

    // No step of what failed looks good.
    let good =
        browser.evaluate("document.querySelectorAll('#timeline :is(.f-succeeded, .key.succeeded)').length").await;
    assert_eq!(good, json!(0));

    // What is paused does not wait.
    browser.open(&monitor.url("/")).await;
    let oldest = "document.evaluate(\"//div[span='oldest waiting']/b\", document).iterateNext().innerText";
    eventually("something waits", async || browser.evaluate(oldest).await != json!("–")).await;
    assert_eq!(monitor.act(ALL, json!({"action": "pause", "business": "bu1", "session": "waits"})).await.0, 200);
    browser.wait_for("#businesses .figures", "paused").await;
    eventually("nothing waits", async || browser.evaluate(oldest).await == json!("–")).await;
    browser.open(&monitor.url("/jobs")).await;
    browser.wait_for("#jobs thead", "Waited").await;
    browser.wait_for("#jobs thead", "Ran").await;
    browser.wait_for("#jobs .badge.paused", "paused").await;
    browser.wait_for("#jobs nav", "waiting\n0").await;
    browser.wait_for("#jobs nav", "paused\n1").await;
    monitor.shows("bu1", "paused", 1).await;
    browser.pictures("monitor-jobs-paused", Screen::Wide).await;
    browser.assert_accessible("monitor jobs, one paused").await;

    // What is cancelled did not fail.
    assert_eq!(monitor.act(ALL, json!({"action": "cancel", "business": "bu1", "session": "runs"})).await.0, 200);
    monitor.shows("bu1", "cancelled", 1).await;
    browser.open(&monitor.url("/sessions")).await;
    browser.wait_for("#sessions .badge.cancelled", "cancelled").await;
    let failed = "Object.fromEntries([...document.querySelectorAll('#sessions tbody tr')].map((row) => \
         [row.cells[0].innerText, row.cells[4].innerText]))";
    let failed = browser.evaluate(failed).await;
    assert_eq!((&failed["runs"], &failed["fails"]), (&json!("0"), &json!("1")), "{failed}");
    browser.close().await;
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}
