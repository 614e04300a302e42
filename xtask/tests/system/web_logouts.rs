//! Who logged out of a web app stays logged out, and nobody else is.

use client::Uploads;
use web::Limits;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, App, Monitor, world},
};

/// The cookie of a new login, and the proof of its pages.
async fn log_in(http: &reqwest::Client, url: &impl Fn(&str) -> String) -> (String, String) {
    let answer = http.post(url("/login")).form(&[("token", ALL), ("name", "alice")]).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = http.get(url("/sessions")).header("cookie", &cookie).send().await.unwrap().text().await.unwrap();
    let proof =
        page.split_once("data-csrf=\"").expect("the page has its proof").1.split('"').next().unwrap().to_owned();
    (cookie, proof)
}

/// Status of a page with this cookie.
async fn status(http: &reqwest::Client, url: String, cookie: &str) -> u16 {
    let request = http.get(url).header("cookie", cookie).header("accept", "text/html");
    request.send().await.unwrap().status().as_u16()
}

async fn log_out(http: &reqwest::Client, url: String, (cookie, proof): &(String, String)) {
    let answer = http.post(url).header("cookie", cookie).form(&[("csrf", proof)]).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_survives_a_restart_of_both_apps() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let url = |path: &str| app.url(path);
    let (ended, goes_on) = (log_in(&app.http, &url).await, log_in(&app.http, &url).await);
    log_out(&app.http, app.url("/logout"), &ended).await;
    assert_eq!(status(&app.http, app.url("/sessions"), &ended.0).await, 303);
    app.stop().await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    assert_eq!(status(&app.http, app.url("/sessions"), &ended.0).await, 303, "the client has not forgotten it");
    assert_eq!(status(&app.http, app.url("/sessions"), &goes_on.0).await, 200, "a restart logs nobody out");

    let monitor = Monitor::start(&world).await;
    let url = |path: &str| monitor.url(path);
    let (ended, goes_on) = (log_in(&monitor.http, &url).await, log_in(&monitor.http, &url).await);
    log_out(&monitor.http, monitor.url("/logout"), &ended).await;
    monitor.stop().await;
    let monitor = Monitor::start(&world).await;
    assert_eq!(status(&monitor.http, monitor.url("/sessions"), &ended.0).await, 303, "neither has the monitor");
    assert_eq!(status(&monitor.http, monitor.url("/sessions"), &goes_on.0).await, 200);
    assert!(
        cloud::controls::all(&world.store, world.business("bu1")).await.unwrap().is_empty(),
        "no session is called so"
    );

    // In a browser: the button, then the way back to the restarted app.
    if let Some(browser) = Browser::start(Screen::Wide).await {
        browser.log_in(&app.url("/sessions"), ALL).await;
        browser.click("details.who summary").await;
        browser.click("form[action='/logout'] button").await;
        browser.wait_for("h1", "Deskgrid Client").await;
        app.stop().await;
        let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
        browser.open(&app.url("/sessions")).await;
        browser.wait_for("label[for=token]", "Access token").await;
        browser.close().await;
        app.stop().await;
    } else {
        app.stop().await;
    }
    monitor.stop().await;
    world.stop().await;
}
