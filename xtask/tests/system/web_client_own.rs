//! People cancel and retry their own inputs in the client web app, and are notified of the end of a session.

use client::Uploads;
use orchestrator::Hooks;
use serde_json::json;
use web::Limits;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, App, ONE, world_with},
    web_client_results::settle,
    web_monitor_jobs::{PATIENT, endless},
    world::{Setup, eventually},
};

/// Keeps the notifications of a page, and allows them.
const NOTIFICATIONS: &str = "window.shown = []; window.Notification = class { static permission = 'granted'; \
     static requestPermission() { return Promise.resolve('granted'); } \
     constructor(title, options) { window.shown.push(`${title}: ${options.body}`); } };";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_cancels_and_retries_their_own_inputs_and_no_others() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world_with(&["bu1"], Setup { engine: PATIENT, ..Setup::default() }).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    browser.log_in(&app.url("/?session=run"), ALL).await;
    let folder = world.folder();
    for name in ["one.json", "two.json"] {
        std::fs::write(folder.join(name), endless()).unwrap();
    }
    let files = ["one.json", "two.json"].map(|name| folder.join(name).display().to_string());
    browser.fill("#inputs", &files.join("\n")).await;
    browser.wait_for("#message", "Ready").await;
    browser.click("#send").await;
    browser.wait_for("#status", "Cancel 2 of mine").await;
    world.publish(&world.upload("bu1", "run", "others.json", &endless()).await).await;
    browser.wait_for("#jobs", "others.json").await;

    // Another person has nothing to cancel there, and no page of another site does it for this one.
    let act = |action: &str| format!("/act?business=bu1&session=run&action={action}");
    let answer = app.request("POST", &act("cancel"), ONE).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 409);
    assert!(answer.text().await.unwrap().contains("others submitted them"));
    let status = browser
        .promise(&format!("fetch({}, {{method: 'POST'}}).then((answer) => answer.status)", json!(act("cancel"))))
        .await;
    assert_eq!(status, json!(403));

    browser.click("[popovertarget=confirm-cancel]").await;
    browser.pictures("client-cancel", Screen::Wide).await;
    browser.assert_accessible("cancel").await;
    browser.click("#confirm-cancel .primary").await;
    browser.wait_for("#status", "Retry 2 of mine").await;
    browser.wait_for("#status", "were paused or cancelled").await;
    let session = app.session("bu1", "run").await;
    assert_eq!((&session["counts"]["cancelled"], &session["counts"]["waiting"]), (&json!(2), &json!(1)), "{session}");
    browser.pictures("client-cancelled", Screen::Wide).await;
    browser.assert_accessible("cancelled").await;

    browser.click("[popovertarget=confirm-retry]").await;
    browser.click("#confirm-retry .primary").await;
    browser.wait_for("#jobs", "attempt 1").await;
    browser.wait_for("#status", "Cancel 2 of mine").await;
    let running = |session: &serde_json::Value| {
        let jobs = session["jobs"].as_array().unwrap().iter();
        jobs.filter(|job| job["attempt"] == 1 && job["state"] == "waiting").count()
    };
    eventually("both have another attempt", async || running(&app.session("bu1", "run").await) == 2).await;

    // One of them alone, on a page with a filter; nothing happens to the others.
    let answer = app.request("POST", &act("cancel&job=one.json"), ONE).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 409);
    assert!(answer.text().await.unwrap().contains("another person submitted it"));
    browser.open(&app.url("/session?business=bu1&session=run&jobs-q=o")).await;
    let others = "document.querySelector('[aria-label=\"Cancel others.json\"]')";
    assert_eq!(browser.evaluate(&format!("{others}.disabled")).await, json!(true));
    browser.wait_for("#jobs", "It is not known who submitted it.").await;
    browser.click("[aria-label='Cancel one.json']").await;
    let is_cancelled = "[...document.querySelectorAll('#jobs button')].map((button) => button.ariaLabel).join()";
    eventually("one is cancelled", async || {
        let labels = browser.evaluate(is_cancelled).await.as_str().unwrap_or_default().to_owned();
        labels.contains("Retry one.json") && labels.contains("Cancel two.json") && labels.contains("Cancel others.json")
    })
    .await;
    browser.pictures("client-own-one", Screen::Wide).await;
    browser.assert_accessible("actions on each input").await;
    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&app.url("/session?business=bu1&session=run"), ONE).await;
    phone.wait_for("#jobs", "Submitted by alice").await;
    phone.evaluate("document.querySelector('#jobs').scrollIntoView()").await;
    phone.pictures("client-own-one", Screen::Phone).await;
    phone.close().await;
    browser.click("[aria-label='Retry one.json']").await;
    browser.wait_for("#jobs", "attempt 2").await;
    assert!(browser.evaluate("location.search").await.as_str().unwrap().ends_with("session=run&jobs-q=o"));
    let session = app.session("bu1", "run").await;
    assert_eq!(session["counts"]["waiting"], json!(3), "{session}");
    browser.close().await;
    orchestrator.kill();
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_is_shown_in_the_title_and_as_a_notification() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world_with(&["bu1"], Setup::default()).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    world.upload("bu1", "evening-run", "note.txt", "engine payload").await;
    browser.before_pages(NOTIFICATIONS).await;
    browser.log_in(&app.url("/session?business=bu1&session=evening-run"), ALL).await;
    browser.wait_for("#status", "0 of 1 input done").await;
    browser.click("#notify").await;
    browser.wait_for("#notify", "Notifies you").await;
    browser.pictures("client-notify", Screen::Wide).await;
    browser.assert_accessible("a session with notification").await;
    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&app.url("/session?business=bu1&session=evening-run"), ALL).await;
    phone.wait_for("#status", "0 of 1 input done").await;
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(phone.evaluate(overflow).await, json!(0), "the button fits a phone");
    phone.pictures("client-notify", Screen::Phone).await;
    phone.close().await;
    // The person looks at something else: the page is hidden and has no live parts.
    browser.evaluate("Object.defineProperty(document, 'hidden', {value: true}) && document.dispatchEvent(new Event('visibilitychange'))").await;
    let generation = world.objects("bu1", "input").await[0].generation;
    settle(&world, "evening-run", "note.txt", None, generation, vec!["1".to_owned()]).await;
    eventually("it is notified", async || browser.evaluate("window.shown.length").await == json!(1)).await;
    assert_eq!(browser.evaluate("window.shown[0]").await, json!("evening-run is done: All done: 1 input succeeded."));
    assert!(browser.evaluate("document.title").await.as_str().unwrap().starts_with("✓ evening-run"));
    assert_eq!(browser.evaluate("document.querySelector('#notify').hidden").await, json!(true));
    browser.close().await;
    app.stop().await;
    world.stop().await;
}
