//! Many Jobs at once in the monitor: chosen in a list or by their cause, and nothing is sent twice.

use std::collections::BTreeSet;

use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, Monitor, world},
    world::{World, eventually},
};

const BOOK: &str = include_str!("../../../examples/pricing/03-collar.json");
const MALFORMED: &str = include_str!("../../../examples/malformed.json");
const JOBS: usize = 12;

fn backlog(world: &World) -> usize {
    world.cloud.google.pubsub().backlog(&world.business("bu1").subscription).unwrap().messages
}

/// The Jobs with an outcome of this attempt.
async fn attempted(world: &World, attempt: u32) -> BTreeSet<String> {
    let outcomes = world.outcomes("bu1").await;
    let works = outcomes.into_iter().filter_map(|outcome| outcome.work);
    works.filter(|work| work.identity.attempt == attempt).map(|work| work.job).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_are_chosen_and_nothing_is_sent_twice() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    let monitor = Monitor::start(&world).await;
    for number in 0..JOBS {
        world.publish(&world.upload("bu1", "night", &format!("book-{number}"), MALFORMED).await).await;
    }
    monitor.shows("bu1", "waiting", JOBS as u64).await;

    // What is being cancelled is said, until the counts are true.
    browser.log_in(&monitor.url("/session?business=bu1&session=night"), ALL).await;
    browser.click("button[popovertarget=confirm-cancel]").await;
    browser.click("#confirm-cancel button.primary").await;
    browser.wait_for("#session header", "Cancelling 12…").await;
    browser.wait_for("#jobs .badge", "cancelling").await;
    browser.pictures("monitor-cancelling", Screen::Wide).await;
    browser.assert_accessible("monitor, a session that is cancelled").await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let cancelled = "document.evaluate(\"//div[span='cancelled']/b\", document).iterateNext().innerText";
    eventually("all are cancelled", async || browser.evaluate(cancelled).await == json!("12")).await;
    assert!(!browser.text("#session").await.contains("Cancelling"));

    // Three are chosen. They stay so while others come.
    assert_eq!(browser.evaluate("document.querySelector('[data-of-selection]').disabled").await, json!(true));
    for job in ["book-2", "book-5", "book-7"] {
        browser.click(&format!("input[aria-label='Select {job}']")).await;
    }
    browser.wait_for("[data-selected]", "3 selected").await;
    world.publish(&world.upload("bu1", "night", "late", MALFORMED).await).await;
    browser.wait_for("#jobs", "late").await;
    browser.wait_for("#jobs", "malformed-input").await;
    browser.wait_for("[data-selected]", "3 selected").await;
    browser.click("button[popovertarget=selected-retry]").await;
    browser.wait_for("#selected-retry", "3 selected").await;
    browser.pictures("monitor-selected", Screen::Wide).await;
    browser.click("#selected-retry button.primary").await;
    browser.wait_for("#operations", "3 Jobs are retried").await;
    world.settled("bu1", JOBS + 4).await;
    assert_eq!(attempted(&world, 1).await, ["book-2", "book-5", "book-7"].map(str::to_owned).into());

    // A corrected file replaces the input.
    let file = world.folder().join("corrected.json");
    std::fs::write(&file, BOOK).unwrap();
    browser.open(&monitor.url("/job?business=bu1&session=night&job=late")).await;
    browser.wait_for("#head", "It failed").await;
    browser.click("button[popovertarget=confirm-replay]").await;
    browser.fill("#confirm-replay input[type=file]", &file.display().to_string()).await;
    browser.pictures("monitor-correct", Screen::Wide).await;
    browser.click("#confirm-replay button.primary").await;
    browser.wait_for("#operations", "1 Job is replayed").await;
    browser.open(&monitor.url("/job?business=bu1&session=night&job=late")).await;
    browser.wait_for("#head", "It succeeded").await;

    // All with one cause. Nobody takes the messages, so that they can be counted.
    world
        .publish_raw("bu1", b"{\"bucket\": \"another\"}".to_vec(), [("deskgrid".to_owned(), "1".to_owned())].into())
        .await;
    world.settled("bu1", JOBS + 6).await;
    orchestrator.stop().await;
    eventually("nothing is left", async || backlog(&world) == 0).await;
    browser.open(&monitor.url("/letters")).await;
    browser.wait_for("#letters h2", "4 failed or refused").await;
    browser.pictures("monitor-letters-causes", Screen::Wide).await;
    browser.assert_accessible("monitor dead letters").await;
    browser.click("#letters nav[aria-label=Cause] a:nth-child(2)").await;
    browser.wait_for("#letters h2", "3 failed or refused").await;
    browser.click("button[popovertarget=cause-replay]").await;
    browser.click("#cause-replay button.primary").await;
    browser.wait_for("#operations", "3 Jobs are replayed").await;
    assert_eq!(backlog(&world), 3);

    // Who did what.
    browser.click("details.who summary").await;
    browser.click("details.who a[href='/audit']").await;
    browser.wait_for("#audit", "3 Jobs are replayed").await;
    browser.wait_for("#audit", "alice (token ").await;
    browser.wait_for("#audit", "Decisions that hold").await;
    browser.pictures("monitor-audit", Screen::Wide).await;
    browser.assert_accessible("monitor audit").await;

    // Two clicks are one message.
    browser.open(&monitor.url("/letters")).await;
    browser.wait_for("#letters h2", "1 failed or refused").await;
    let twice = "Promise.all([1, 2].map(() => fetch('/actions', { method: 'POST', body: new URLSearchParams(new \
                 FormData(document.querySelector('[popover][id^=replay-] form'))) }).then((answer) => answer.status)))";
    assert_eq!(browser.promise(twice).await, json!([200, 200]));
    assert_eq!(backlog(&world), 4);
    browser.close().await;
    monitor.stop().await;
    world.stop().await;
}
