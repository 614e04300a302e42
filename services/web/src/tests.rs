//! The foundation as a whole, served on a socket and asked over HTTP.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use cloud::probes::Health;
use contract::config::Config;
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::*;

const ALL: &str = "all-businesses-0123456789abcdef";
const SOME: &str = "only-bu1-0123456789abcdef";

struct Served {
    address: SocketAddr,
    http: reqwest::Client,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Served {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(self.url(path)).header("accept", "text/html").send().await.unwrap()
    }

    /// Logs in; returns the cookie.
    async fn log_in(&self, token: &str) -> String {
        let form = [("token", token), ("name", "alice"), ("next", "/who?a=b")];
        let answer = self.http.post(self.url("/login")).form(&form).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/who?a=b".parse().unwrap()));
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.starts_with("deskgrid-test-test="), "named after app and environment: {cookie}");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("Secure"));
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Sends bytes as they are, and reads until the other side closes.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is reset has said what it had to.
        let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("no end");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn config() -> Config {
    Config {
        schema: contract::config::SCHEMA,
        environment: "test".into(),
        project: "p".into(),
        location: "l".into(),
        bucket: "p-bucket".into(),
        endpoints: Default::default(),
        cluster: None,
        businesses: Default::default(),
    }
}

async fn who(State(site): State<Arc<Site>>, viewer: Viewer) -> Result<Response, Problem> {
    let mut context = tera::Context::new();
    let visitor = &viewer.visitor;
    context.insert("text", &format!("{} bu1={} bu2={}", visitor.name, visitor.may_see("bu1"), visitor.may_see("bu2")));
    site.render(&viewer, Page { template: "who.html", title: "<b>Who</b>".into(), nav: "/who", live: None, context })
}

async fn change(fields: Form) -> String {
    format!("changed {}", fields.get("what").unwrap_or_default())
}

async fn named(State(site): State<Arc<Site>>, viewer: Viewer) -> Response {
    let (_, changes) = tokio::sync::watch::channel(0);
    site.live(changes, move || {
        let name = viewer.visitor.name.clone();
        async move { Ok(live::Parts::from([("name", name)])) }
    })
}

async fn receive(request: Request) -> Response {
    match axum::body::to_bytes(request.into_body(), usize::MAX).await {
        Ok(body) => body.len().to_string().into_response(),
        Err(error) => Problem::bad_request(error.to_string()).into_response(),
    }
}

async fn served(access: impl Fn(PathBuf) -> AccessSettings) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("{ALL}\n{SOME} bu1\n")).unwrap();
    let settings = Settings {
        config: config(),
        listen: "127.0.0.1:0".parse().unwrap(),
        access: access(file),
        tls: false,
        base_path: String::new(),
        log_filter: String::new(),
    };
    let second = Duration::from_secs(1);
    let app = App {
        name: "test",
        title: "Test",
        nav: &[NavItem { href: "/who", label: "Who", icon: "person" }],
        templates: &[("who.html", "{% extends \"web/layout.html\" %}{% block main %}<p>{{ text }}</p>{% endblock %}")],
        assets: &[],
        limits: Limits { head_within: second, idle: second, grace: 2 * second, ..Limits::PRODUCTION },
    };
    let (mut registry, stop) = (Registry::default(), CancellationToken::new());
    let site = Arc::new(Site::new(app, &settings, &mut registry, None, stop.clone()).unwrap());
    let pages = Router::new().route("/who", get(who)).route("/change", post(change)).with_state(site.clone());
    let streams = Router::new().route("/receive", post(receive)).route("/live/name", get(named));
    let routes = Routes { pages, streams: streams.with_state(site.clone()) };
    let router = site.router(routes, Health::new(second), Arc::new(registry));
    let listener = listen(settings.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, site.app.limits, stop.clone()));
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    Served { address, http, stop, _folder: folder }
}

async fn by_token() -> Served {
    let _ = cloud::clients::install_tls_provider();
    served(|file| AccessSettings::Tokens { file }).await
}

fn csrf(page: &str) -> &str {
    page.split_once("data-csrf=\"").unwrap().1.split_once('"').unwrap().0
}

#[tokio::test]
async fn nothing_is_shown_without_access() {
    let served = by_token().await;
    let answer = served.get("/who?q=1&job=a%2Fb").await;
    assert_eq!(answer.status().as_u16(), 303);
    assert_eq!(answer.headers()["location"], "/login?next=%2Fwho%3Fq%3D1%26job%3Da%252Fb");
    for path in ["/who", "/metrics", "/api/v1/jobs", "/nothing"] {
        let answer = served.http.get(served.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{path}");
        assert!(answer.text().await.unwrap().contains("\"no-access\""));
    }
    for path in ["/change", "/receive", "/logout"] {
        assert_eq!(served.http.post(served.url(path)).send().await.unwrap().status().as_u16(), 401, "{path}");
    }
    for (path, status) in [("/healthz", 200), ("/readyz", 503), ("/login", 200), ("/assets/app.css", 200)] {
        assert_eq!(served.get(path).await.status().as_u16(), status, "{path}");
    }
    let wrong = served.http.post(served.url("/login")).form(&[("token", "wrong")]).send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 403);
    assert!(wrong.headers().get("set-cookie").is_none());
}

#[tokio::test]
async fn a_token_opens_what_it_may_open_and_no_more() {
    let served = by_token().await;
    let cookie = served.log_in(SOME).await;
    let ask = |path: &str| served.http.get(served.url(path)).header("accept", "text/html").header("cookie", &cookie);
    let page = ask("/who").send().await.unwrap();
    let headers = page.headers().clone();
    let text = page.text().await.unwrap();
    assert!(text.contains("bu1=true bu2=false") && text.contains("alice (token "), "{text}");
    assert!(text.contains("&lt;b&gt;Who&lt;") && !text.contains("<b>Who"), "escaped: {text}");
    assert!(!text.contains("<script>") && !text.contains("style=\""), "nothing is inline");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(
        (&headers["x-content-type-options"], &headers["cache-control"]),
        (&"nosniff".parse().unwrap(), &"no-store".parse().unwrap())
    );
    let bearer = served.http.get(served.url("/who")).bearer_auth(ALL).send().await.unwrap().text().await.unwrap();
    assert!(bearer.contains("bu1=true bu2=true"), "{bearer}");
    assert_eq!(served.http.get(served.url("/metrics")).bearer_auth(ALL).send().await.unwrap().status().as_u16(), 200);
    let missing = ask("/nothing").send().await.unwrap();
    assert_eq!(missing.status().as_u16(), 404);
    assert!(missing.text().await.unwrap().contains("There is no such page"));
    // Out again: the cookie is worth nothing even where it was kept.
    let out = served.http.post(served.url("/logout")).header("cookie", &cookie).form(&[("csrf", csrf(&text))]);
    assert_eq!(out.send().await.unwrap().status().as_u16(), 303);
    assert_eq!(ask("/who").send().await.unwrap().status().as_u16(), 303);
}

#[tokio::test]
async fn the_tabs_of_a_browser_share_a_stream() {
    let served = by_token().await;
    let cookie = served.log_in(SOME).await;
    let page =
        served.http.get(served.url("/who")).header("cookie", &cookie).send().await.unwrap().text().await.unwrap();
    let body = r#"[{"url": "/live/name"}, {"url": "/live/nothing", "last": "7"}, {"url": "/live/name?b"}]"#;
    let request = served.http.post(served.url("/live")).header("cookie", &cookie).body(body);
    let request = request.header("content-type", "application/json");
    assert_eq!(request.try_clone().unwrap().send().await.unwrap().status().as_u16(), 403, "without a proof");
    let mut answer = request.header("x-csrf-token", csrf(&page)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let mut seen = String::new();
    while seen.matches("\n\n").count() < 3 {
        let piece = tokio::time::timeout(Duration::from_secs(60), answer.chunk()).await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(&piece.expect("it goes on")).unwrap());
    }
    for event in
        ["of: 0\nevent: parts\ndata: {\"name\":\"alice", "of: 1\nevent: refused\ndata: 404\n\n", "of: 2\nevent: parts"]
    {
        assert!(seen.contains(event), "{event}: {seen}");
    }
}

#[tokio::test]
async fn only_a_page_of_ours_changes_anything() {
    let served = by_token().await;
    let (cookie, other) = (served.log_in(ALL).await, served.log_in(ALL).await);
    let page = |cookie: &str| served.http.get(served.url("/who")).header("cookie", cookie.to_owned()).send();
    let token = csrf(&page(&cookie).await.unwrap().text().await.unwrap()).to_owned();
    let others = csrf(&page(&other).await.unwrap().text().await.unwrap()).to_owned();
    let post = |fields: &[(&str, &str)]| served.http.post(served.url("/change")).header("cookie", &cookie).form(fields);
    let good = post(&[("what", "it"), ("csrf", &token)]);
    let origin = format!("http://{}", served.address);
    for (request, status) in [
        (good.try_clone().unwrap(), 200),
        (good.try_clone().unwrap().header("origin", &origin).header("sec-fetch-site", "same-origin"), 200),
        (post(&[("what", "it")]).header("x-csrf-token", &token), 200),
        // Behind a proxy that rewrites Host, the browser itself says where the page is from.
        (
            good.try_clone().unwrap().header("origin", "https://proxy.example").header("sec-fetch-site", "same-origin"),
            200,
        ),
        (good.try_clone().unwrap().header("origin", "https://evil.example"), 403),
        (good.try_clone().unwrap().header("origin", "null"), 403),
        (good.try_clone().unwrap().header("sec-fetch-site", "cross-site"), 403),
        (good.try_clone().unwrap().header("sec-fetch-site", "same-site"), 403),
        (post(&[("what", "it")]), 403),
        (post(&[("what", "it"), ("csrf", "")]), 403),
        (post(&[("what", "it"), ("csrf", &others)]), 403),
        (served.http.post(served.url("/change")).header("cookie", &cookie).body("what=it"), 403),
        (served.http.post(served.url("/change")).bearer_auth(ALL).form(&[("what", "it")]), 200),
    ] {
        let asked = format!("{request:?}");
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{asked}");
    }
}

#[tokio::test]
async fn tricks_and_floods_are_refused_clearly() {
    let served = by_token().await;
    let host = served.address;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for target in ["/%2e%2e/who", "/who/../who", "//who", "/.git/config", "/who%00", "/a\\b", "http://evil.example/who"]
    {
        let answer = served.raw(&get(target)).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    let two = format!("GET /who HTTP/1.1\r\nHost: {host}\r\nHost: evil\r\nConnection: close\r\n\r\n");
    assert!(served.raw(&two).await.starts_with("HTTP/1.1 400"));
    let long = format!("GET /who HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    assert!(served.raw(&long).await.starts_with("HTTP/1.1 431"));
    let both = format!(
        "POST /login HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /"
    );
    let answer = served.raw(&both).await;
    assert!(answer.matches("HTTP/1.1").count() <= 1, "one request has one answer: {answer}");
    let flood = served.http.post(served.url("/login")).form(&[("token", "x".repeat(MAX_FORM_BYTES))]);
    let answer = flood.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 413);
    assert!(answer.text().await.unwrap().contains("65536 bytes"));
    let large = served.http.post(served.url("/receive")).bearer_auth(ALL).body(vec![0; 4 << 20]).send().await.unwrap();
    assert_eq!(large.text().await.unwrap(), (4 << 20).to_string(), "streams have limits of their own");
}

#[tokio::test]
async fn slow_requests_are_ended() {
    let served = by_token().await;
    let host = served.address;
    assert_eq!(served.raw(&format!("GET /who HTTP/1.1\r\nHost: {host}\r\nX-A")).await, "", "a head that never ends");
    let head = format!(
        "POST /receive HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ALL}\r\nAccept: text/html\r\nContent-Length: 999\r\n\r\n"
    );
    let answer = served.raw(&format!("{head}abc")).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("came too slowly"), "{answer}");
    // A few bytes now and then are too slow as well.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let drip = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut answer = vec![0; 64];
    let length = tokio::time::timeout(Duration::from_secs(60), read.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer[..length]));
    drip.abort();
}

#[tokio::test]
async fn who_guesses_tokens_must_wait() {
    let served = by_token().await;
    let guess = || served.http.post(served.url("/login")).form(&[("token", "wrong-wrong-wrong-wrong")]).send();
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(guess().await.unwrap().status().as_u16());
    }
    let refused = guess().await.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    statuses.push(refused.status().as_u16());
    assert_eq!((statuses[9], statuses[10]), (403, 429), "{statuses:?}");
    let right = served.http.post(served.url("/login")).form(&[("token", ALL)]).send().await.unwrap();
    assert_eq!(right.status().as_u16(), 303, "wrong tokens do not lock out the right one");
}
