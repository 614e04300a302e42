//! The Pods and attempts of one Job in the monitor: each has its log, and their numbers agree.

use std::path::Path;

use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, Monitor, world_with},
    world::{Setup, eventually},
};

/// A program that fails, and whose log says which try it is.
const ENGINE: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''read -r tries; echo x >> $tries; echo "this is try $(wc -l < $tries)" >&2; exit 3''']
"#;
/// The name of an input as macOS writes it, and as people type it.
const NAMES: [&str; 2] = ["re\u{301}sume\u{301}", "r\u{e9}sum\u{e9}"];

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_and_every_attempt_has_its_log() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world_with(&["bu1"], Setup { engine: ENGINE, ..Setup::default() }).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    let tries = world.folder().join("tries");
    world.publish(&world.upload("bu1", "s1", NAMES[0], &tries.display().to_string()).await).await;
    world.settled("bu1", 1).await;
    monitor.shows("bu1", "failed", 1).await;

    // The name in another form finds it.
    let page = |more: &str| {
        let query = web::encode([("business", "bu1"), ("session", "s1"), ("job", NAMES[1])]);
        monitor.url(&format!("/job?{query}{more}"))
    };
    browser.log_in(&page(""), ALL).await;
    browser.wait_for("#head", "It failed").await;
    assert_eq!(monitor.json(&format!("/jobs?q={}", NAMES[1])).await["total"], 1);

    // Three Pods, one after the other; each is chosen.
    let fact = |name: &str| {
        format!(
            "document.evaluate(\"//dt[.='{name}']/following-sibling::dd\", document).iterateNext().innerText.trim()"
        )
    };
    assert_eq!(browser.evaluate(&fact("Pods started")).await, json!("3"));
    assert_eq!(browser.evaluate(&fact("Attempt")).await, json!("1"));
    let exits = "[...document.querySelectorAll('#facts tbody td.number:nth-child(5)')].map((cell) => cell.innerText)";
    let exit = browser.evaluate(&fact("Exit code")).await;
    assert_eq!(browser.evaluate(exits).await, json!([exit, exit, exit]));
    for number in [1, 2, 3] {
        browser.click(&format!("nav[aria-label=Pods] a:nth-child({number})")).await;
        browser.wait_for("#log", &format!("this is try {number}")).await;
        let others = browser.text("#log").await.matches("this is try").count();
        assert_eq!(others, 1, "the log of one Pod alone");
    }
    browser.pictures("monitor-pods", Screen::Wide).await;
    browser.assert_accessible("monitor job with several pods").await;

    // Another attempt; the first one stays.
    assert_eq!(monitor.act(ALL, json!({"action": "retry", "business": "bu1", "session": "s1"})).await.0, 200);
    world.settled("bu1", 2).await;
    browser.open(&page("")).await;
    browser.wait_for("#log-card nav[aria-label=Attempts]", "attempt 2").await;
    eventually("its own log is shown", async || browser.text("#log").await.contains("this is try 6")).await;
    browser.click("nav[aria-label=Attempts] a:first-child").await;
    browser.wait_for("#log", "this is try 3").await;
    assert_eq!(browser.evaluate(&fact("Attempt")).await, json!("1"));
    assert!(!browser.text("#head").await.contains("Retry"), "only the latest attempt is retried");
    browser.pictures("monitor-attempts", Screen::Wide).await;
    browser.assert_accessible("monitor job with several attempts").await;
    browser.close().await;
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}
