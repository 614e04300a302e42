//! Hundreds of files in the form of the client web app, in a real browser.

use std::time::{Duration, Instant};

use client::Uploads;
use serde_json::json;
use web::Limits;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, App, world},
    web_client_results::settle,
    web_monitor_load::allowed,
    world::eventually,
};

/// Files of a folder.
const FILES: usize = 300;
const DROP: &str = "(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector('#drop').getBoundingClientRect())";

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_files_are_checked_and_sent_together_and_none_is_lost_silently() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let folder = world.folder();
    for (parent, count, text) in [("desk", FILES, "engine payload"), ("other", 2, "another engine payload")] {
        std::fs::create_dir_all(folder.join(parent).join("books/.git")).unwrap();
        std::fs::write(folder.join(parent).join("books/.git/config"), "x").unwrap();
        for number in 0..count {
            std::fs::write(folder.join(parent).join(format!("books/{number:03}.txt")), text).unwrap();
        }
    }
    std::fs::write(folder.join("desk/books/broken.json"), "{\"schema\": 1}").unwrap();
    let drop = async |parent: &str| {
        let (place, files) = (browser.evaluate(DROP).await, [folder.join(parent).join("books").display().to_string()]);
        for kind in ["dragEnter", "dragOver", "drop"] {
            browser.drag(kind, &place, &files).await;
        }
    };
    browser.log_in(&app.url("/"), ALL).await;
    let since = Instant::now();
    drop("desk").await;

    // The list is folded to what needs attention, and the button stays in view.
    browser.wait_for("#notes", "Not added, since they are hidden: books/.git/config").await;
    browser.wait_for("#folding", "301 files, 1 with a problem").await;
    browser.wait_for("#message", "1 cannot be submitted: correct or remove it").await;
    let checked = since.elapsed();
    let shown = "[...document.querySelectorAll('#queue .item')].filter((item) => item.offsetHeight).length";
    assert_eq!(browser.evaluate(shown).await, json!(1));
    let in_view = "(({top, bottom}) => top > 0 && bottom <= innerHeight)(document.querySelector('#send').getBoundingClientRect())";
    assert_eq!(browser.evaluate(in_view).await, json!(true));
    browser.pictures("client-many", Screen::Wide).await;
    browser.assert_accessible("many files").await;
    browser.click("#fold").await;
    assert_eq!(browser.evaluate(shown).await, json!(FILES + 1));
    assert_eq!(browser.evaluate(in_view).await, json!(true));
    browser.pictures("client-many-open", Screen::Wide).await;
    browser.assert_accessible("many files, all shown").await;

    // No file takes the place of another.
    drop("desk").await;
    browser.wait_for("#notes", "In the list already: books/000.txt, ").await;
    browser.wait_for("#notes", "Replaced, since it had a problem: books/broken.json").await;
    drop("other").await;
    browser.wait_for("#notes", "another file of this name is in the list").await;
    browser.click("#queue .item.bad button").await;
    browser.wait_for("#message", "Ready").await;

    // A field that is wrong says so itself.
    for (name, error) in [("a b", "A session name has"), ("refused", "reserved")] {
        browser.evaluate("document.querySelector('#session').value = ''").await;
        browser.fill("#session", &format!("{name}\u{e004}")).await;
        browser.wait_for("#session-error", error).await;
        assert_eq!(browser.evaluate("document.querySelector('#session').ariaInvalid").await, json!("true"));
    }
    browser.assert_accessible("a session that cannot be").await;
    browser.evaluate("document.querySelector('#session').value = ''").await;
    browser.fill("#session", "many\u{e004}").await;
    browser.wait_for("#message", "Ready").await;
    assert_eq!(browser.text("#session-error").await, "");

    // The button moves while it is pressed, and the click counts.
    let since = Instant::now();
    let center = "(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector('#send').getBoundingClientRect())";
    let place = browser.evaluate(center).await;
    browser.mouse("mousePressed", &place).await;
    browser.evaluate("document.querySelector('#send').style.transform = 'translateY(-20rem)'").await;
    browser.mouse("mouseReleased", &place).await;
    eventually("the session is open", async || {
        browser.evaluate("location.pathname === '/session'").await == json!(true)
    })
    .await;
    println!("{FILES} files: checked in {} ms, sent in {} ms", checked.as_millis(), since.elapsed().as_millis());
    assert!(since.elapsed() + checked < allowed(Duration::from_secs(7)), "it takes too long");
    assert_eq!(world.objects("bu1", "input").await.len(), FILES);

    // A file whose name has an outcome in the session is not computed, and the page says so.
    settle(&world, "done", "note.txt", None, 1, vec!["1".to_owned()]).await;
    std::fs::write(folder.join("note.txt"), "other contents").unwrap();
    browser.open(&app.url("/?business=bu1&session=done")).await;
    browser.fill("#inputs", &folder.join("note.txt").display().to_string()).await;
    browser.wait_for("#message", "Ready").await;
    browser.click("#send").await;
    browser.wait_for("#message", "1 input not sent: the session has outcomes of these names already").await;
    browser.wait_for("#queue .item.bad", "not sent").await;
    assert_eq!(world.objects("bu1", "input").await.len(), FILES);
    browser.close().await;

    let phone = Browser::start(Screen::Phone).await.expect("it was there a moment ago");
    phone.log_in(&app.url("/"), ALL).await;
    let files: Vec<String> =
        (0..20).map(|n| folder.join(format!("desk/books/{n:03}.txt")).display().to_string()).collect();
    phone.fill("#inputs", &files.join("\n")).await;
    phone.wait_for("#message", "Ready").await;
    assert_eq!(phone.evaluate(in_view).await, json!(true));
    phone.pictures("client-many", Screen::Phone).await;
    phone.assert_accessible("many files on a phone").await;
    phone.close().await;
    app.stop().await;
    world.stop().await;
}
