//! Other ways to submit in a real browser: files that are dropped, a browser without scripts, and a bucket that does
//! not answer for a while.

use client::Uploads;
use localcloud::faults::{Fault, When};
use orchestrator::Hooks;
use serde_json::json;
use web::Limits;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, App, world},
};

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_dropped_on_the_page_are_submitted() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    browser.log_in(&app.url("/"), ALL).await;
    let folder = world.folder().join("desk");
    std::fs::create_dir_all(folder.join("books")).unwrap();
    std::fs::write(folder.join("note.txt"), "engine payload").unwrap();
    for name in ["one.txt", "two.txt"] {
        std::fs::write(folder.join("books").join(name), "engine payload").unwrap();
    }
    // As a mouse drops them: a file, and a folder with two.
    let place = browser.evaluate("(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector('#drop').getBoundingClientRect())").await;
    let files = ["note.txt", "books"].map(|name| folder.join(name).display().to_string());
    for kind in ["dragEnter", "dragOver"] {
        browser.drag(kind, &place, &files).await;
    }
    browser.wait_for("#drop.over", "").await;
    browser.pictures("client-drop", Screen::Wide).await;
    browser.drag("drop", &place, &files).await;
    browser.wait_for("#queue", "note.txt").await;
    browser.wait_for("#queue", "books/two.txt").await;
    browser.wait_for("#send", "Submit 3 inputs").await;
    assert_eq!(browser.evaluate("document.querySelector('#drop.over') === null").await, json!(true));
    browser.wait_for("#message", "Ready").await;
    // With the Enter key: to the browser the mouse is still dragging.
    browser.fill("#session", "dropped\u{e007}").await;
    browser.wait_for("main", "All done: 3 inputs succeeded").await;
    let outcomes = world.settled("bu1", 3).await;
    let mut jobs: Vec<String> = outcomes.into_iter().map(|outcome| outcome.work.unwrap().job).collect();
    jobs.sort();
    assert_eq!(jobs, ["books/one.txt", "books/two.txt", "note.txt"]);
    browser.close().await;
    app.stop().await;
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_scripts_submits_and_reads_what_came_of_it() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    browser.without_scripts().await;
    browser.log_in(&app.url("/"), ALL).await;
    assert_eq!(browser.evaluate("document.documentElement.classList.contains('scripted')").await, json!(false));
    browser.pictures("client-submit-plain", Screen::Wide).await;
    let folder = world.folder();
    std::fs::write(folder.join("note.txt"), "engine payload").unwrap();
    std::fs::write(folder.join("broken.json"), "{\"schema\": 1}").unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    // One of two is wrong: what is wrong with it is said, and the other one is in the session.
    browser.fill("#session", "plain").await;
    browser.fill("#inputs", &format!("{}\n{}", path("note.txt"), path("broken.json"))).await;
    browser.click("#send").await;
    browser.wait_for("main", "1 of 2 files were submitted").await;
    browser.wait_for("main", "broken.json").await;
    browser.pictures("client-submitted-plain", Screen::Wide).await;
    browser.click("a.button.primary").await;
    browser.wait_for("body", "plain").await;
    world.settled("bu1", 1).await;
    for _ in 0..600 {
        // Without scripts a person loads the page again.
        if browser.text("main").await.contains("succeeded") {
            break;
        }
        browser.open(&app.url("/session?business=bu1&session=plain")).await;
    }
    browser.wait_for("#jobs", "note.txt").await;
    browser.close().await;
    app.stop().await;
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_is_named_and_the_page_goes_on_by_itself() {
    let Some(browser) = Browser::start(Screen::Phone).await else { return };
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    world.upload("bu1", "morning", "first.txt", "engine payload").await;
    browser.log_in(&app.url("/session?business=bu1&session=morning"), ALL).await;
    browser.wait_for("#jobs", "first.txt").await;
    browser.evaluate("window.sameDocument = true").await;
    world.cloud.faults().add("", "/google.storage.v2.", When::Always, Fault::Answer(503));
    browser.wait_for("main", "does not answer").await;
    let seen = browser.text("main").await;
    assert!(seen.contains("first.txt"), "what was known is still shown: {seen}");
    browser.pictures("client-storage-away", Screen::Phone).await;
    browser.assert_accessible("a bucket that does not answer").await;
    world.cloud.faults().clear();
    world.upload("bu1", "morning", "second.txt", "engine payload").await;
    browser.wait_for("#jobs", "second.txt").await;
    assert!(!browser.text("main").await.contains("does not answer"));
    assert_eq!(browser.evaluate("window.sameDocument === true").await, json!(true), "it was not loaded again");
    browser.close().await;
    app.stop().await;
    world.stop().await;
}
