//! The client web app in a real browser: a person submits, watches, and takes the results.

use client::Uploads;
use orchestrator::Hooks;
use serde_json::json;
use web::Limits;

use crate::{
    browser::{Browser, Screen, target},
    web_apps::{ALL, App, world},
};

/// A book whose strike is no number.
const MALFORMED: &str = include_str!("../../../examples/malformed.json");

fn example(name: &str) -> String {
    target().parent().unwrap().join("examples").join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_submits_files_watches_them_finish_and_takes_the_results() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1", "bu2"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    browser.open(&app.url("/")).await;
    browser.pictures("client-login", Screen::Wide).await;
    browser.assert_accessible("login").await;
    browser.log_in(&app.url("/"), ALL).await;

    // One that is wrong is named with its line and field, and nothing is sent while it is there.
    let files = ["pricing/03-collar.json", "pricing/15-geometric-benchmarks.json", "malformed.json"].map(example);
    browser.fill("#inputs", &files.join("\n")).await;
    browser.wait_for("#queue", "2 trades, ").await;
    browser.wait_for("#queue .item.bad", "strike").await;
    let problem = browser.text("#queue .item.bad .problems").await;
    assert!(problem.contains("line ") && problem.contains("column ") && problem.contains("trades["), "{problem}");
    browser.wait_for("#message", "correct or remove it").await;
    browser.click("#send").await;
    browser.pictures("client-submit-problem", Screen::Wide).await;
    browser.assert_accessible("submit, with a problem").await;
    assert!(world.objects("bu1", "input").await.is_empty());
    browser.click("#queue .item.bad button").await;

    // With the keyboard: a payload is pasted under a name of its own.
    browser.fill("#session", "evening-run").await;
    browser.evaluate("document.querySelector('#paste').open = true").await;
    browser.fill("#payload-name", "<b>note</b>.txt").await;
    browser.fill("#payload", "engine payload <script>alert(1)</script>").await;
    browser.click("#add-payload").await;
    browser.wait_for("#message", "Ready").await;
    browser.pictures("client-submit-ready", Screen::Wide).await;
    browser.assert_accessible("submit").await;
    // What another client submits to the session is not checked beforehand.
    let work = world.upload("bu1", "evening-run", "malformed.json", MALFORMED).await;
    world.publish(&work).await;
    browser.fill("#payload-name", "\u{e007}").await;

    // The session's page fills in by itself.
    browser.wait_for("#top, .top", "evening-run").await;
    browser.evaluate("window.sameDocument = true").await;
    browser.wait_for("#sentence", "All done: 3 of 4 inputs succeeded, 1 did not.").await;
    browser.wait_for("#jobs", "malformed-input").await;
    browser.wait_for("#results", "15-geometric-benchmarks.json").await;
    assert_eq!(browser.evaluate("window.sameDocument === true").await, json!(true), "it was not loaded again");
    let seen = browser.text("#jobs").await;
    assert!(seen.contains("<b>note</b>.txt"), "{seen}");
    browser.wait_for("#results .values-of", "95 %").await;
    let marks = browser.evaluate("document.querySelectorAll('svg.values circle').length").await;
    let bars = browser.evaluate("document.querySelectorAll('svg.values .whisker').length").await;
    assert_eq!((marks, bars), (json!(2), json!(6)), "a dot and a bar with two ends for each book");
    browser.pictures("client-session", Screen::Wide).await;
    browser.assert_accessible("session").await;

    // Every row of one measure, then the downloads.
    browser.click("#results nav[aria-label=Rows] a:not([aria-current])").await;
    browser.wait_for("#results .values-table", "geo").await;
    browser.pictures("client-session-rows", Screen::Wide).await;
    let csv = browser
        .promise(
            "fetch(document.querySelector('#results a[href^=\"/results.csv\"]').href).then((answer) => answer.text())",
        )
        .await;
    let csv = csv.as_str().unwrap();
    assert!(csv.starts_with("session,job,row,measure,value,standard_error,error\n"), "{csv}");
    assert!(csv.contains("evening-run,03-collar.json,portfolio,value,") && csv.contains("malformed-input"), "{csv}");
    let rows = browser
        .promise(
            "fetch(document.querySelector('#results a[href^=\"/results.json\"]').href).then((answer) => answer.json())",
        )
        .await;
    assert_eq!(rows.as_array().unwrap().len(), csv.lines().count() - 1);

    browser.open(&app.url("/sessions")).await;
    browser.wait_for("#sessions-part", "evening-run").await;
    browser.pictures("client-sessions", Screen::Wide).await;
    browser.assert_accessible("sessions").await;
    browser.close().await;

    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&app.url("/"), ALL).await;
    for (name, path) in
        [("submit", "/"), ("sessions", "/sessions"), ("session", "/session?business=bu1&session=evening-run")]
    {
        phone.open(&app.url(path)).await;
        phone.wait_for("body", "evening-run").await;
        let overflow =
            phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(overflow, json!(0), "{name} fits a phone");
        phone.pictures(&format!("client-{name}"), Screen::Phone).await;
        phone.assert_accessible(name).await;
    }
    phone.close().await;
    app.stop().await;
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_login_leads_to_the_login_and_no_chosen_file_is_lost() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    browser.log_in(&app.url("/"), ALL).await;
    browser.fill("#session", "evening-run").await;
    browser.forget_logins().await;
    browser.fill("#inputs", &example("pricing/03-collar.json")).await;
    browser.wait_for("#message", "Your login has expired").await;
    browser.assert_accessible("submit, login expired").await;
    // The person logs in in another window, and the form is as it was.
    let form = browser.current().await;
    browser.window("about:blank").await;
    browser.log_in(&app.url("/login"), ALL).await;
    browser.show(&form).await;
    browser.click("#send").await;
    browser.wait_for("h1", "evening-run").await;
    assert_eq!(world.objects("bu1", "input").await.len(), 1);
    browser.close().await;
    app.stop().await;
    world.stop().await;
}
