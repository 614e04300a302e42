//! The client web app over HTTP, with the identity that it has when it is deployed: who sees what, what is refused, and
//! how much memory an upload takes.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use client::Uploads;
use common::{clients::Connection, submit::content_type};
use google_cloud_auth::credentials::mds;
use orchestrator::Hooks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use web::{AccessSettings, Limits, Settings};

use crate::world::{Setup, World, eventually, programs};

pub(crate) const ALL: &str = "all-businesses-0123456789abcdef";
pub(crate) const ONE: &str = "only-bu1-0123456789abcdef";
const MALFORMED: &str = include_str!("../../../examples/malformed.json");
const BOOK: &str = include_str!("../../../examples/pricing/03-collar.json");
const TRADES: &str = include_str!("../../../examples/trades.csv");
const MARKET: &str = include_str!("../../../examples/market.json");

/// A world that has the web apps.
pub(crate) async fn world(businesses: &[&str]) -> World {
    let world =
        World::start_as(businesses, Setup { more: "[web]\nenabled = true\n", ..Setup::default() }, |_| {}).await;
    world.apply_without_orchestrators().await;
    world
}

/// The app, served in this process.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
    stop: CancellationToken,
    served: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl App {
    pub(crate) async fn start(world: &World, uploads: Uploads, limits: Limits) -> Self {
        let tokens = world.folder().join("tokens");
        std::fs::write(&tokens, format!("{ALL}\n{ONE} bu1\n")).unwrap();
        let settings = Settings {
            config: world.rendered.config.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            access: AccessSettings::Tokens { file: tokens },
            tls: false,
            log_filter: String::new(),
        };
        let credentials = mds::Builder::default().with_endpoint(format!("http://{}", metadata(world).await)).build();
        let connection = Connection::with_credentials(&world.clients.endpoints, credentials.unwrap());
        let listener = web::listen(settings.listen).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let until = stop.clone();
        let served =
            tokio::spawn(async move { client::run(&settings, uploads, limits, &connection, listener, until).await });
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { address, http, stop, served: Some(served) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it as SIGTERM would.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let served = self.served.take().expect("it runs");
        tokio::time::timeout(Duration::from_secs(60), served).await.expect("it stops").unwrap().unwrap();
    }

    fn request(&self, method: &str, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), self.url(path)).bearer_auth(token)
    }

    /// Status and text of a page or document.
    async fn get(&self, path: &str, token: &str) -> (u16, String) {
        let answer = self.request("GET", path, token).header("accept", "text/html").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Submits an input; status and answer.
    async fn put(&self, business: &str, session: &str, job: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let query = web::encode([("business", business), ("session", session), ("job", job)]);
        let request = self.request("PUT", &format!("/api/v1/inputs?{query}"), ONE);
        let answer = request.header("content-type", content_type(job)).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn session(&self, business: &str, session: &str) -> Value {
        let query = web::encode([("business", business), ("session", session)]);
        let (status, text) = self.get(&format!("/api/v1/session?{query}"), ALL).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until a session has so many inputs and none of them is pending.
    pub(crate) async fn done(&self, business: &str, session: &str, total: u64) {
        eventually(&format!("{session} is done"), async || {
            let counts = &self.session(business, session).await["counts"];
            let count = |state: &str| counts[state].as_u64().unwrap_or_default();
            let ended = count("succeeded") + count("failed") + count("cancelled");
            ended == total && count("waiting") + count("running") == 0
        })
        .await;
    }
}

/// Where the app's own identity comes from.
async fn metadata(world: &World) -> SocketAddr {
    let account = Some(world.environment.accounts.web_client.clone());
    world.cloud.google.metadata_address("deskgrid", "web-client", account).await.unwrap()
}

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
        for headers in
            [vec![], vec![("authorization", "Bearer wrong-wrong-wrong-wrong")], vec![("cookie", "deskgrid-client=a.b")]]
        {
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

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_elsewhere_are_refused() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let long = "x".repeat(513);
    for job in
        ["../outcome/s/j", "a/../../b", "/etc/passwd", "a//b", ".", "a\nb", "a\0b", "\u{7f}", long.as_str(), "a/"]
    {
        let (status, answer) = app.put("bu1", "s", job, "x").await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad-name")), "{job:?}: {answer}");
    }
    for session in ["..", "../s", "refused", "a b", "<b>", ".batch", "a/b"] {
        let (status, answer) = app.put("bu1", session, "a.txt", "x").await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad-session")), "{session:?}: {answer}");
    }
    for (query, what) in [
        ("business=bu1&session=s", "no name"),
        ("business=bu1&job=a", "no session"),
        ("business=..%2Fbu1&session=s&job=a", ""),
    ] {
        let answer = app.request("PUT", &format!("/api/v1/inputs?{query}"), ONE).body("x").send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 400 | 404), "{what}");
    }
    // The same in a form, where browsers escape what cannot stand there.
    for name in ["../../x", "a%0D%0Ab", "..%2f..%2fx/.."] {
        let form = format!(
            "--x\r\nContent-Disposition: form-data; name=\"inputs\"; filename=\"{name}\"\r\n\r\nx\r\n--x--\r\n"
        );
        let request =
            app.request("POST", "/submit?business=bu1", ONE).header("content-type", "multipart/form-data; boundary=x");
        let answer = request.body(form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 422, "{name}");
        assert!(answer.text().await.unwrap().contains("cannot be the name of an input"), "{name}");
    }
    let objects = world.store.list(&world.business("bu1").bucket, "").await.unwrap();
    assert!(objects.iter().all(|object| !object.name.starts_with("bu1/")), "{objects:?}");
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_before_anything_is_submitted() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let (status, answer) = app.put("bu1", "s", "book.json", MALFORMED).await;
    let line = MALFORMED.lines().position(|line| line.contains("strike\": \"")).unwrap() + 1;
    assert_eq!(
        (status, &answer["code"], &answer["problems"][0]["line"]),
        (422, &json!("malformed-input"), &json!(line)),
        "{answer}"
    );
    assert!(answer["problems"][0]["field"].as_str().unwrap().ends_with(".strike"), "{answer}");
    assert!(world.objects("bu1", "input").await.is_empty());
    // A table with market data that is wrong in a row, checked and not submitted.
    let market = MARKET.replacen("\"row\"", "\"fail\"", 1);
    let table = TRADES.replacen(",call,", ",cal,", 1);
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"market\"; filename=\"m\"\r\n\r\n{market}\r\n--x\r\nContent-Disposition: \
         form-data; name=\"input\"; filename=\"t\"\r\n\r\n{table}\r\n--x--\r\n"
    );
    let check = async |form: String| -> Value {
        let request = app.request("POST", "/api/v1/check?business=bu1&job=trades.csv", ONE);
        let request = request.header("content-type", "multipart/form-data; boundary=x").body(form);
        request.send().await.unwrap().json().await.unwrap()
    };
    let found = check(form.clone()).await;
    assert_eq!(
        (&found["verdict"], &found["problems"][0]["field"]),
        (&json!("wrong"), &json!("trades[0].option")),
        "{found}"
    );
    assert_eq!(check(form.replacen(",cal,", ",call,", 1)).await["verdict"], "good");
    // Twice the same is one; something else of the same name is refused.
    assert_eq!(app.put("bu1", "s", "book.json", BOOK).await.1["fate"], "submitted");
    assert_eq!(app.put("bu1", "s", "book.json", BOOK).await.1["fate"], "repeated");
    let (status, answer) = app.put("bu1", "s", "book.json", BOOK.replacen("seed\": 2", "seed\": 3", 1)).await;
    assert_eq!((status, &answer["code"]), (409, &json!("name-taken")), "{answer}");
    assert_eq!(world.objects("bu1", "input").await.len(), 1);
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_slow_is_refused_with_words() {
    let world = world(&["bu1"]).await;
    let second = Duration::from_secs(1);
    let limits = Limits { idle: second, grace: 2 * second, ..Limits::PRODUCTION };
    let app = App::start(&world, Uploads { max_bytes: 1024 * 1024, ..Uploads::default() }, limits).await;
    let is_too_large = |(status, answer): (u16, Value)| {
        assert_eq!((status, &answer["code"]), (413, &json!("too-large")), "{answer}");
        assert!(answer["why"].as_str().unwrap().contains("1 MiB") && answer["next"].is_string(), "{answer}");
    };
    is_too_large(app.put("bu1", "s", "a.bin", vec![b'x'; 1024 * 1024 + 1]).await);
    let pieces = futures::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 32 * 1024]))));
    is_too_large(app.put("bu1", "s", "a.bin", reqwest::Body::wrap_stream(pieces)).await);
    // One that stops coming.
    let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "PUT /api/v1/inputs?business=bu1&session=s&job=slow.bin HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ONE}\r\n\
         Content-Length: 1000\r\n\r\nonly this",
        app.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("it ends");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too-slow"), "{answer}");
    // One that breaks off.
    let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
    stream.write_all(head.replace("slow.bin", "broken.bin").as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(app.put("bu1", "s", "good.bin", vec![b'x'; 1024 * 1024]).await.0, 201);
    let names: Vec<String> = world.objects("bu1", "input").await.into_iter().map(|object| object.name).collect();
    assert_eq!(names, ["bu1/input/s/good.bin"], "nothing of what was refused is there");
    app.stop().await;
    world.stop().await;
}

/// Most memory that a process has had, in KiB.
fn most_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_does_not_grow_the_program() {
    let long = common::config::variables().get("DESKGRID_TEST_LONG").is_some_and(|value| !value.is_empty());
    let mib: usize = if long { 1024 } else { 256 };
    let world = world(&["bu1"]).await;
    let folder = world.folder();
    std::fs::write(folder.join("tokens"), ONE).unwrap();
    std::fs::write(folder.join("config.json"), serde_json::to_string(&world.rendered.config).unwrap()).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut program = tokio::process::Command::new(&programs()["client"])
        .args(["--config", "config.json"])
        .current_dir(&folder)
        .env_clear()
        .env("DESKGRID_ACCESS_TOKEN_FILE", "tokens")
        .env("DESKGRID_LISTEN", "127.0.0.1:0")
        .env("GCE_METADATA_HOST", metadata(&world).await.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(folder.join("log")).unwrap();
    let address = || {
        let line = said().lines().find(|line| line.contains("\"serving\""))?.to_owned();
        serde_json::from_str::<Value>(&line).ok()?["address"].as_str().map(str::to_owned)
    };
    eventually("it serves", async || address().is_some()).await;
    let address = address().unwrap();
    let http = reqwest::Client::new();
    let put = async |job: &str, mib: usize| {
        let pieces = (0..mib * 4).map(|number| Ok::<_, std::io::Error>(Bytes::from(vec![number as u8; 256 * 1024])));
        let url = format!("http://{address}/api/v1/inputs?business=bu1&session=s&job={job}");
        let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        let answer = http.put(url).bearer_auth(ONE).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201, "{:?} {}", answer.text().await, said());
    };
    // Whatever it takes once: connections, credentials, the window of an upload.
    put("small.bin", 24).await;
    let pid = program.id().unwrap();
    let before = most_memory_kib(pid);
    put("large.bin", mib).await;
    let grown = most_memory_kib(pid).saturating_sub(before);
    println!("{mib} MiB: {before} KiB before, {grown} KiB more at most");
    assert!(grown < 24 * 1024, "it grew by {grown} KiB");
    let objects = world.objects("bu1", "input").await;
    let large = objects.iter().find(|object| object.name.ends_with("large.bin")).unwrap();
    assert_eq!(large.size, i64::try_from(mib * 1024 * 1024).unwrap());
    program.start_kill().unwrap();
    program.wait().await.unwrap();
    world.stop().await;
}
