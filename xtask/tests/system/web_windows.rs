//! Many windows of one browser: they share a connection, so that none of them waits for another.

use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    sample::is_long,
    web_apps::{ALL, Monitor, world_with},
    web_monitor_jobs::{PATIENT, endless},
    world::Setup,
};

/// Windows: in a sample more than a browser has connections to one server, and when every case runs.
const WINDOWS: [usize; 2] = [8, 50];

#[tokio::test(flavor = "multi_thread")]
async fn every_window_of_a_browser_is_live() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world_with(&["bu1"], Setup { engine: PATIENT, ..Setup::default() }).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    world.publish(&world.upload("bu1", "s1", "endless.json", &endless()).await).await;
    monitor.shows("bu1", "running", 1).await;
    browser.log_in(&monitor.url("/"), ALL).await;
    // Each has two streams: its parts, and the log of the Job that runs.
    let page = monitor.url("/job?business=bu1&session=s1&job=endless.json");
    let mut windows = Vec::new();
    for _ in 0..WINDOWS[usize::from(is_long())] {
        windows.push(browser.window(&page).await);
        browser.wait_for("#live", "Live").await;
        assert_eq!(browser.evaluate("document.hidden").await, json!(false), "it counts only while it is seen");
    }
    // It leads on, at once.
    windows.pop();
    browser.click("nav a[href='/jobs']").await;
    browser.wait_for("h1", "Jobs").await;
    browser.wait_for("#live", "Live").await;
    // A browser without shared workers.
    windows.push(browser.window("about:blank").await);
    browser.before_pages("delete globalThis.SharedWorker").await;
    browser.open(&page).await;
    browser.wait_for("#live", "Live").await;
    let (status, said) = monitor.act(ALL, json!({"action": "cancel", "business": "bu1", "session": "s1"})).await;
    assert_eq!(status, 200, "{said}");
    for window in &windows {
        browser.show(window).await;
        browser.wait_for("#head .badge", "cancelled").await;
    }
    browser.close().await;
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}
