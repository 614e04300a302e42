//! The log of a Job in the monitor: as a terminal shows it, searched, whole, of any size.

use std::time::Duration;

use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    sample::is_long,
    web_apps::{ALL, Monitor, world_with},
    web_monitor_jobs::{PATIENT, endless},
    web_monitor_load::allowed,
    world::{Setup, eventually},
};

/// Lines of a large log: in a sample, and when every case runs.
const LINES: [u64; 2] = [20_000, 720_000];
/// Longest time that the page may not answer.
const TASK_WITHIN: Duration = Duration::from_millis(50);
/// Bytes of the page's heap.
const HEAP: u64 = 200 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_shown_as_in_a_terminal_and_searched_at_any_size() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world_with(&["bu1"], Setup { engine: PATIENT, ..Setup::default() }).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    world.publish(&world.upload("bu1", "s1", "endless.json", &endless()).await).await;
    monitor.shows("bu1", "running", 1).await;
    browser.log_in(&monitor.url("/job?business=bu1&session=s1&job=endless.json"), ALL).await;
    browser.wait_for("#log", "read the input").await;
    browser.wait_for("#log-card .cut", "at most the last 500 lines").await;
    browser.click("#log-card .cut a").await;
    let is_whole = async || browser.evaluate("location.search.includes('log=whole')").await == json!(true);
    eventually("the page with the whole log is open", is_whole).await;
    // The whole log comes from the stream.
    browser.wait_for("#log", "read the input").await;
    assert_eq!(browser.text("#log-card .cut").await, "");

    // Colours, progress, and letters of which another case has another length.
    let lines =
        json!(["\u{1b}[1;31mred\u{1b}[0m and plain", "10 %\r50 %\r100 %", "İstanbul ÉTÉ \u{1b}[32mété\u{1b}[0m"]);
    browser.promise(&format!("Promise.resolve(deskgridLog('log', {lines}))")).await;
    browser.wait_for("#log", "100 %").await;
    let text = browser.text("#log").await;
    assert!(!text.contains("50 %") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(browser.text("#log .a-bold.a-c1").await, "red");
    browser.fill("#log-search", "été").await;
    browser.wait_for("[data-found]", "1 of 2").await;
    browser.click("[data-step='1']").await;
    browser.wait_for("[data-found]", "2 of 2").await;
    browser.click("[data-step='1']").await;
    browser.wait_for("[data-found]", "1 of 2").await;
    browser.pictures("monitor-log", Screen::Wide).await;
    browser.assert_accessible("monitor log").await;

    // The whole log as a file.
    let file =
        browser.promise("fetch(document.querySelector('#log-card a[download]').href).then((answer) => answer.text())");
    assert!(file.await.as_str().unwrap().contains("read the input"));

    // A large one.
    let lines = LINES[usize::from(is_long())];
    let large = format!(
        "(async () => {{
            const tasks = [];
            new PerformanceObserver((list) => tasks.push(...list.getEntries())).observe({{ entryTypes: ['longtask'] }});
            for (let at = 0; at < {lines}; at += 1000) {{
                await deskgridLog('log', Array.from({{ length: 1000 }}, (_, line) => `line ${{at + line}} of a log`));
                await new Promise((resolve) => setTimeout(resolve));
            }}
            const field = document.querySelector('#log-search');
            field.value = 'line {} of';
            field.dispatchEvent(new Event('input', {{ bubbles: true }}));
            return {{ longest: Math.max(0, ...tasks.map((task) => task.duration)), heap: performance.memory.usedJSHeapSize }};
        }})()",
        lines - 1
    );
    let seen = browser.promise(&large).await;
    browser.wait_for("[data-found]", "1 of 1").await;
    println!("{lines} lines: {seen}");
    assert!(seen["heap"].as_u64().unwrap() < HEAP, "{seen}");
    assert!(seen["longest"].as_f64().unwrap() < allowed(TASK_WITHIN).as_secs_f64() * 1000.0, "{seen}");
    browser.close().await;
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}
