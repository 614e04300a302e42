//! The client web app under a path of a reverse proxy, which keeps the path or removes it.

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use client::Uploads;
use orchestrator::Hooks;
use serde_json::json;
use web::Limits;

use crate::{
    browser::{Browser, Screen},
    web_apps::{ALL, App, world},
    world::eventually,
};

const PATH: &str = "/deskgrid/client";

/// A reverse proxy that knows one path; its address.
async fn proxy(app: String, is_removed: bool) -> String {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let forward = async move |request: Request| -> Response {
        let (parts, body) = request.into_parts();
        let address = parts.uri.path_and_query().unwrap().as_str();
        let Some(rest) = address.strip_prefix(PATH) else { return StatusCode::NOT_FOUND.into_response() };
        let to = format!("{app}{}", if is_removed { rest } else { address });
        let body = reqwest::Body::wrap_stream(body.into_data_stream());
        let answer = http.request(parts.method, to).headers(parts.headers).body(body).send().await.unwrap();
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove(header::TRANSFER_ENCODING);
        (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(forward)).await.unwrap() });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_works_under_the_path_of_a_reverse_proxy() {
    let Some(browser) = Browser::start(Screen::Wide).await else { return };
    let world = world(&["bu1"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let app = App::start_under(&world, Uploads::default(), Limits::PRODUCTION, PATH).await;
    for is_removed in [false, true] {
        let at = proxy(app.url(""), is_removed).await;
        let answer = app.http.post(format!("{at}{PATH}/login")).form(&[("token", ALL)]).send().await.unwrap();
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("; Path=/deskgrid/client;"), "{cookie}");
        assert_eq!(answer.headers()["location"], "/deskgrid/client/");

        browser.forget_logins().await;
        browser.open(&format!("{at}{PATH}/?business=bu1")).await;
        browser.fill("#token", ALL).await;
        browser.click("button.primary").await;
        browser.wait_for("h1", "New submission").await;
        browser.wait_for("#live", "Live").await;
        // Submitted by the script: checked, sent, and on to the session, which ends while it is shown.
        let session = format!("run-{is_removed}");
        browser.fill("#session", &session).await;
        let file = world.folder().join("note.txt");
        std::fs::write(&file, "engine payload").unwrap();
        browser.fill("#inputs", &file.display().to_string()).await;
        browser.wait_for("#message", "Ready").await;
        browser.click("#send").await;
        browser.wait_for("h1", &session).await;
        browser.wait_for("#live", "Live").await;
        browser.wait_for("#status", "All done").await;
        let elsewhere = "[...document.querySelectorAll('[href], [src], form')].map((at) => new URL(at.href || at.src || \
             at.action).pathname).filter((path) => !path.startsWith('/deskgrid/client/'))";
        assert_eq!(browser.evaluate(elsewhere).await, json!([]));
        assert_eq!(browser.evaluate("location.pathname").await, json!("/deskgrid/client/session"));
        browser.assert_accessible("a session under a path").await;
        // A way back to the login, and out.
        browser.click("nav a[href$='/sessions']").await;
        browser.wait_for("h1", "Sessions").await;
        browser.click("details.who summary").await;
        browser.click("form[action$='/logout'] button").await;
        eventually("it is the login", async || {
            browser.evaluate("location.pathname").await == json!("/deskgrid/client/login")
        })
        .await;
    }
    browser.close().await;
    orchestrator.kill();
    app.stop().await;
    world.stop().await;
}
