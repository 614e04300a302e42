//! The monitor in a real browser while work goes on: a log as it is written, a Job that is cancelled, a dead letter
//! that is sent again, and a session with a pack.

use std::path::Path;

use contract::{
    outcome::State,
    pack::{Format, Pack},
};
use orchestrator::Hooks;
use serde_json::json;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, Monitor, world_with},
    world::{Setup, eventually},
};

/// A program that writes a line again and again until its gate opens.
const ENGINE: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''read -r gate; i=0; while [ ! -e $gate ]; do i=$((i + 1)); echo "line $i of the log" >&2; sleep 0.2; done; echo "{\"value\": 1}"''']
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_follows_a_log_cancels_a_job_and_sends_a_dead_letter_again() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let setup = Setup { engine: ENGINE, ..Setup::default() };
    let world = world_with(&["bu1", "bu2"], setup).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    let mut orchestrators = vec![world.orchestrator("bu1", Hooks::none()).await];
    let monitor = Monitor::start(&world).await;
    browser.log_in(&monitor.url("/jobs"), ALL).await;
    let (gate, never) = (world.folder().join("gate"), world.folder().join("never"));

    // The log comes by itself, and is searched while it does.
    world.publish(&world.upload("bu1", "evening-run", "long-book", &never.display().to_string()).await).await;
    browser.wait_for("#jobs", "long-book").await;
    browser.click("#jobs td.name a").await;
    browser.wait_for("#log", "line 3 of the log").await;
    browser.evaluate("window.sameDocument = true").await;
    browser.wait_for("#log", "line 12 of the log").await;
    browser.wait_for("#timeline", "started").await;
    assert_eq!(browser.evaluate("window.sameDocument === true").await, json!(true), "it was not loaded again");
    browser.pictures("monitor-job-running", Screen::Wide).await;
    browser.assert_accessible("monitor, a Job that runs").await;
    browser.fill("#log-search", "line 12 ").await;
    browser.wait_for("[data-found]", "1 of 1").await;
    assert_eq!(browser.evaluate("[...CSS.highlights.get('chosen')].join()").await, json!("line 12 "));

    // It is cancelled, after a question.
    browser.click("button[popovertarget=confirm-cancel]").await;
    browser.wait_for("#confirm-cancel", "Its input is kept").await;
    browser.pictures("monitor-cancel-question", Screen::Wide).await;
    browser.click("#confirm-cancel button.primary").await;
    browser.wait_for("main", "Job long-book is to be cancelled").await;
    browser.wait_for("#head", "cancelled").await;
    let outcomes = world.settled("bu1", 1).await;
    assert_eq!(outcomes[0].state, State::Cancelled);
    browser.wait_for("#facts", "Download").await;
    let given = browser
        .promise("fetch(document.querySelector('#facts a[download]').href).then((answer) => answer.text())")
        .await;
    assert_eq!(given, json!(never.display().to_string()), "its input is there to take");

    // A message that could not be read is sent again, and is refused again, as another one.
    world
        .publish_raw("bu1", b"{\"bucket\": \"another\"}".to_vec(), [("deskgrid".to_owned(), "1".to_owned())].into())
        .await;
    world.settled("bu1", 2).await;
    browser.open(&monitor.url("/letters?business=bu1")).await;
    browser.wait_for("main", "Replay").await;
    let first = browser.text("td.name a").await;
    browser.click("button[popovertarget^=replay-]").await;
    browser.wait_for("[popover][id^=replay-]", "stored message is published again").await;
    browser.pictures("monitor-letters-question", Screen::Wide).await;
    browser.click("[popover][id^=replay-] button.primary").await;
    browser.wait_for("main", "is replayed").await;
    world.settled("bu1", 3).await;
    eventually("the new one took the place of the old", async || {
        let now = browser.text("td.name a").await;
        !now.is_empty() && now != first
    })
    .await;

    // A session with a pack.
    let lines = format!("{}\n", gate.display()).repeat(12);
    let pack = Pack { format: Format::Lines, items: 12, items_per_range: 4, rows_per_item: 1 };
    world.publish(&world.upload_pack("bu2", "sweep", "scenarios", &lines, pack).await).await;
    orchestrators.push(world.orchestrator("bu2", Hooks::none()).await);
    let session = monitor.url("/session?business=bu2&session=sweep");
    eventually("the session is known", async || monitor.get("/session?business=bu2&session=sweep", ALL).await.0 == 200)
        .await;
    browser.open(&session).await;
    browser.wait_for("main", "scenarios").await;
    browser.wait_for("main", "running").await;
    browser.pictures("monitor-pack-session", Screen::Wide).await;
    browser.open(&monitor.url("/job?business=bu2&session=sweep&job=scenarios")).await;
    browser.wait_for("main", "12").await;
    browser.pictures("monitor-pack-job", Screen::Wide).await;
    browser.open(&session).await;
    std::fs::write(&gate, "").unwrap();
    browser.wait_for("main", "12 of 12 done").await;
    browser.assert_accessible("monitor, a session with a pack").await;
    browser.close().await;
    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&session, ALL).await;
    for (path, name, text) in [
        ("/session?business=bu2&session=sweep", "pack-session", "12 of 12 done"),
        ("/job?business=bu1&session=evening-run&job=long-book", "job-cancelled", "cancelled"),
    ] {
        phone.open(&monitor.url(path)).await;
        phone.wait_for("main", text).await;
        let wide = phone.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1").await;
        phone.pictures(&format!("monitor-{name}"), Screen::Phone).await;
        assert_eq!(wide, json!(false), "{path} does not fit a phone");
        phone.assert_accessible(name).await;
    }
    phone.close().await;
    for orchestrator in orchestrators {
        orchestrator.kill();
    }
    monitor.stop().await;
    world.stop().await;
}
