//! The monitor in a real browser: a person watches Jobs finish, reads why one failed, and retries it.

use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, Monitor, world},
    world::{World, eventually},
};

const BOOK: &str = include_str!("../../../examples/pricing/03-collar.json");
const MALFORMED: &str = include_str!("../../../examples/malformed.json");

async fn submit(world: &World, business: &str, session: &str, files: &[(&str, &str)]) {
    for (name, body) in files {
        world.publish(&world.upload(business, session, name, body).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_watches_jobs_reads_why_one_failed_and_retries_it() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1", "bu2"]).await;
    let orchestrators =
        [world.orchestrator("bu1", Hooks::none()).await, world.orchestrator("bu2", Hooks::none()).await];
    let monitor = Monitor::start(&world).await;
    browser.log_in(&monitor.url("/sessions"), ALL).await;
    browser.wait_for("#live", "Live").await;
    browser.evaluate("window.loadedOnce = true").await;
    submit(
        &world,
        "bu1",
        "evening-run",
        &[("collar.json", BOOK), ("book-2.json", BOOK), ("malformed.json", MALFORMED)],
    )
    .await;
    // All three end, and the page was not loaded anew.
    browser.wait_for("main", "3 / 3").await;
    browser.wait_for("main", "failed").await;
    assert_eq!(browser.evaluate("window.loadedOnce === true").await, json!(true));
    submit(&world, "bu2", "overnight", &[("a", "payload"), ("b", "payload")]).await;
    world
        .publish_raw("bu2", b"{\"bucket\": \"another\"}".to_vec(), [("deskgrid".to_owned(), "1".to_owned())].into())
        .await;
    world.settled("bu2", 3).await;

    for (path, name, text) in [
        ("/", "overview", "per minute"),
        ("/sessions", "sessions", "evening-run"),
        ("/session?business=bu1&session=evening-run", "session", "Why Jobs failed"),
        ("/jobs", "jobs", "malformed.json"),
        ("/job?business=bu1&session=evening-run&job=collar.json", "job-succeeded", "It succeeded"),
        ("/job?business=bu1&session=evening-run&job=malformed.json", "job-failed", "It failed"),
        ("/pubsub", "pubsub", "ack deadline"),
        ("/letters", "letters", "Replay"),
        ("/cluster", "cluster", "Engine"),
    ] {
        browser.open(&monitor.url(path)).await;
        browser.wait_for("main", text).await;
        browser.wait_for("#live", "Live").await;
        browser.pictures(&format!("monitor-{name}"), Screen::Wide).await;
        browser.assert_accessible(&format!("monitor {name}")).await;
    }

    // From the list to the one that failed, why, and another attempt.
    browser.open(&monitor.url("/jobs?state=failed&business=bu1")).await;
    browser.wait_for("#jobs", "malformed.json").await;
    browser.click("#jobs td.name a").await;
    browser.wait_for("#head", "can never work").await;
    browser.wait_for("#log-card", "Log").await;
    browser.wait_for("#live", "Live").await;
    browser.click("button[popovertarget=confirm-retry]").await;
    browser.wait_for("#confirm-retry", "another attempt").await;
    browser.pictures("monitor-question", Screen::Wide).await;
    browser.click("#confirm-retry button.primary").await;
    browser.wait_for("main", "1 Job is retried").await;
    browser.wait_for("#head", "attempt 2").await;
    browser.wait_for("#head", "It failed").await;
    eventually("both attempts have their outcome", async || {
        let outcomes = world.objects("bu1", "outcome").await;
        outcomes.iter().filter(|outcome| outcome.name.contains("malformed.json")).count() == 2
    })
    .await;
    browser.close().await;
    let Some(phone) = Browser::start(Screen::Phone).await else { return };
    phone.log_in(&monitor.url("/"), ALL).await;
    for (path, name, text) in [
        ("/", "overview", "bu1"),
        ("/session?business=bu1&session=evening-run", "session", "malformed"),
        ("/jobs", "jobs", "malformed"),
        ("/job?business=bu1&session=evening-run&job=malformed.json", "job", "It failed"),
        ("/letters", "letters", "Replay"),
        ("/cluster", "cluster", "Engine"),
    ] {
        phone.open(&monitor.url(path)).await;
        phone.wait_for("main", text).await;
        let wide = phone.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1").await;
        phone.pictures(&format!("monitor-{name}"), Screen::Phone).await;
        assert_eq!(wide, json!(false), "{path} does not fit a phone");
    }
    phone.close().await;
    for orchestrator in orchestrators {
        orchestrator.kill();
    }
    monitor.stop().await;
    world.stop().await;
}
