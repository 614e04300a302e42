//! The client web app over HTTP: who sees what, and that everything is shown as text.

use client::Uploads;
use orchestrator::Hooks;
use web::Limits;

use crate::{
    web_apps::{ALL, App, ONE, world},
    world::eventually,
};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_or_changes_anything_of_a_business_that_is_not_theirs() {
    let world = world(&["bu1", "bu2"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    world.upload("bu2", "secret-session", "secret-job", "x").await;
    let pages = [
        "/",
        "/sessions",
        "/session?session=secret-session",
        "/results.csv?session=secret-session",
        "/results.json?session=secret-session",
        "/result?session=secret-session&job=secret-job",
        "/live/session?session=secret-session",
        "/live/sessions",
        "/live/recent",
        "/api/v1/sessions",
        "/api/v1/session?session=secret-session",
        "/api/v1/results?session=secret-session",
        "/api/v1/businesses",
    ];
    for page in pages {
        for headers in [
            vec![],
            vec![("authorization", "Bearer wrong-wrong-wrong-wrong")],
            vec![("cookie", "deskgrid-client-test=a.b")],
        ] {
            let mut request = app.http.get(app.url(page)).header("accept", "text/html");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(matches!(status, 303 | 401), "{page}: {status}");
            assert!(!answer.text().await.unwrap().contains("secret"), "{page}");
        }
        let separator = if page.contains('?') { '&' } else { '?' };
        let (status, text) = app.get(&format!("{page}{separator}business=bu2"), ONE).await;
        if page == "/api/v1/businesses" {
            assert_eq!(text, r#"{"businesses":["bu1"]}"#);
            continue;
        }
        assert_eq!(status, 404, "{page}: {text}");
        assert!(!text.contains("secret-job"), "{page}: {text}");
        // Without a name it is their own business that is meant. A stream has no end.
        if page.starts_with("/live/") {
            continue;
        }
        let (status, text) = app.get(page, ONE).await;
        assert!(status == 404 || !text.contains("secret-job"), "{page}: {text}");
    }
    let (status, text) = app.get("/api/v1/session?business=bu2&session=secret-session", ALL).await;
    assert!(status == 200 && text.contains("secret-job"), "whoever may see it sees it: {text}");

    // Nothing is submitted to it either, whatever way.
    assert_eq!(app.put("bu2", "s", "a.txt", "x").await.0, 404);
    let form = "--x\r\nContent-Disposition: form-data; name=\"inputs\"; filename=\"a.txt\"\r\n\r\nx\r\n--x--\r\n";
    for (method, path) in [
        ("PUT", "/api/v1/shared?business=bu2&session=s&name=a"),
        ("POST", "/submit?business=bu2"),
        ("POST", "/api/v1/check?business=bu2&job=a"),
    ] {
        let request = app.request(method, path, ONE).header("content-type", "multipart/form-data; boundary=x");
        assert_eq!(request.body(form).send().await.unwrap().status().as_u16(), 404, "{path}");
        let unknown = app.http.request(method.parse().unwrap(), app.url(&path.replace("bu2", "bu1")));
        assert_eq!(
            unknown.header("content-type", "text/plain").body(form).send().await.unwrap().status().as_u16(),
            401
        );
    }
    let names: Vec<String> = world.objects("bu2", "input").await.into_iter().map(|object| object.name).collect();
    assert_eq!(names, ["bu2/input/secret-session/secret-job"]);
    assert!(world.objects("bu2", "common").await.is_empty() && world.objects("bu1", "input").await.is_empty());
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_page_changes_nothing() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let answer = app.http.post(app.url("/login")).form(&[("token", ONE), ("name", "eve")]).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = app.http.get(app.url("/")).header("cookie", &cookie).send().await.unwrap().text().await.unwrap();
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").expect("the form has its proof");
    let proof = rest.split('"').next().unwrap().to_owned();
    let form = |proof: &str| {
        format!(
            "--x\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\n{proof}\r\n--x\r\nContent-Disposition: form-data; \
             name=\"session\"\r\n\r\nmine\r\n--x\r\nContent-Disposition: form-data; name=\"inputs\"; \
             filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n"
        )
    };
    let send = async |body: String, header: Option<(&str, &str)>| {
        let mut request = app.http.post(app.url("/submit?business=bu1")).header("cookie", &cookie).body(body);
        request = request.header("content-type", "multipart/form-data; boundary=x");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    };
    for (body, header) in [
        (form("wrong"), None),
        (form(""), None),
        (form("wrong"), Some(("x-csrf-token", "wrong"))),
        (form(&proof), Some(("origin", "https://elsewhere.example"))),
        (form(&proof), Some(("sec-fetch-site", "cross-site"))),
    ] {
        assert_eq!(send(body, header).await.status().as_u16(), 403, "{header:?}");
    }
    assert!(world.objects("bu1", "input").await.is_empty());
    let answer = send(form(&proof), None).await;
    assert_eq!(answer.status().as_u16(), 303, "{:?}", answer.text().await);
    assert_eq!(answer.headers()["location"], "/session?business=bu1&session=mine");
    assert_eq!(world.objects("bu1", "input").await[0].name, "bu1/input/mine/a.txt");
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_name_and_send_is_shown_as_text() {
    let world = world(&["bu1"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let script = "<script>alert(1)</script>";
    let image = "\"><img src=x onerror=alert(2)>";
    // As the name of a file, as its contents, as what is wrong with it, and as the name of shared data.
    assert_eq!(app.put("bu1", "s", &format!("{script}.txt"), format!("{script}{image}")).await.0, 201);
    assert_eq!(app.put("bu1", "s", &format!("{image}.txt"), "x").await.0, 201);
    // What another client submits is not checked beforehand.
    let broken = format!("{{\"schema\": 1, \"{script}\": \"{image}\"}}").replace("\"\">", "\"\\\">");
    let work = world.upload("bu1", "s", "broken.json", &broken).await;
    world.publish(&work).await;
    let query = web::encode([("business", "bu1"), ("session", "s"), ("name", image)]);
    let shared = app.request("PUT", &format!("/api/v1/shared?{query}"), ONE).body("x").send().await.unwrap();
    assert_eq!(shared.status().as_u16(), 201);
    app.done("bu1", "s", 3).await;
    for page in [
        "/",
        "/sessions?business=bu1",
        "/session?business=bu1&session=s",
        "/session?business=bu1&session=s&measure=payload",
        "/session?business=bu1&session=s&q=%3Cscript%3Ealert(3)%3C/script%3E&state=%22%3E%3Ci%3Ez&measure=%3Ci%3Ez",
    ] {
        eventually(&format!("{page} is there"), async || app.get(page, ALL).await.0 == 200).await;
        let (_, html) = app.get(page, ALL).await;
        for raw in ["<script>alert", "<img src=x", "<i>z"] {
            assert!(!html.contains(raw), "{raw} in {page}: {html}");
        }
    }
    let (_, html) = app.get("/session?business=bu1&session=s&measure=payload", ALL).await;
    assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("&lt;img src=x onerror=alert(2)"), "{html}");
    // Neither does a refusal carry it, or a program's answer claim to be a page.
    let answer = app
        .request("GET", "/session?business=bu1&session=%3Cscript%3E", ALL)
        .header("accept", "text/html")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    assert!(!answer.text().await.unwrap().contains("<script>\""));
    let answer = app
        .request("GET", "/result?business=bu1&session=s&job=%3Cscript%3Ealert(1)%3C%2Fscript%3E.txt", ALL)
        .send()
        .await
        .unwrap();
    let headers = answer.headers().clone();
    assert_eq!(
        (answer.status().as_u16(), headers["content-type"].to_str().unwrap()),
        (200, "application/octet-stream")
    );
    assert!(headers["content-disposition"].to_str().unwrap().starts_with("attachment;"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(headers["content-security-policy"].to_str().unwrap().contains("script-src 'self'"));
    app.stop().await;
    orchestrator.stop().await;
    world.stop().await;
}
