//! A real browser without a screen, driven through WebDriver as a person would use it.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::world::eventually;

/// How long something that takes a moment may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The size of the window, and what it stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Screen {
    /// A desk.
    Wide,
    /// A phone.
    Phone,
}

/// A browser with one page.
pub(crate) struct Browser {
    http: reqwest::Client,
    /// Where its WebDriver session is.
    session: String,
    driver: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Whether a program is there.
fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

impl Browser {
    /// Starts one; `None`, and says so, where Debian's `chromium` and `chromium-driver` are not installed.
    pub(crate) async fn start(screen: Screen) -> Option<Self> {
        if !is_there("chromium") || !is_there("chromedriver") {
            println!("skipped: there is no browser here (apt-get install chromium chromium-driver)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run chromedriver");
        let said = BufReader::new(driver.stdout.take().expect("its output is a pipe"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("chromedriver says its port");
        let profile = format!("--user-data-dir={}", folder.path().display());
        let mut options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
            "--window-size=1360,1000", "--force-color-profile=srgb", "--lang=en-GB", profile,
        ] });
        if matches!(screen, Screen::Phone) {
            options["mobileEmulation"] = json!({ "deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2.0} });
        }
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "timeouts": {"script": 120_000}}}});
        let (http, server) = (reqwest::Client::new(), format!("http://127.0.0.1:{port}/session"));
        let mut browser = Self { http, session: server, driver, _folder: folder };
        let started = browser.command("", wanted).await;
        let id = started["sessionId"].as_str().unwrap_or_else(|| panic!("the browser does not start: {started}"));
        browser.session.push_str(&format!("/{id}"));
        Some(browser)
    }

    /// One command of W3C WebDriver; its value.
    async fn command(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.session)).json(&body).send().await.unwrap();
        let is_good = answer.status().is_success();
        let value = answer.json::<Value>().await.unwrap()["value"].take();
        assert!(is_good, "{path} {body}: {value}");
        value
    }

    /// Ends the page and the browser.
    pub(crate) async fn close(self) {
        let _ = self.http.delete(&self.session).send().await;
    }

    /// Goes to an address.
    pub(crate) async fn open(&self, url: &str) {
        self.command("/url", json!({ "url": url })).await;
    }

    /// Opens a window of its own, which the next commands are for, and goes to an address there.
    pub(crate) async fn window(&self, url: &str) -> Value {
        let window = self.command("/window/new", json!({ "type": "window" })).await["handle"].take();
        self.show(&window).await;
        self.open(url).await;
        window
    }

    /// The window that commands are for.
    pub(crate) async fn current(&self) -> Value {
        let answer = self.http.get(format!("{}/window", self.session)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["value"].take()
    }

    /// Ends every login.
    pub(crate) async fn forget_logins(&self) {
        self.chromium("Network.clearBrowserCookies", json!({})).await;
    }

    /// Goes to a window that is open.
    pub(crate) async fn show(&self, window: &Value) {
        self.command("/window", json!({ "handle": window })).await;
    }

    /// Sets the size of the window.
    pub(crate) async fn resize(&self, width: u64, height: u64) {
        self.command("/window/rect", json!({ "width": width, "height": height })).await;
    }

    async fn run(&self, script: &str) {
        self.command("/execute/sync", json!({ "script": script, "args": [] })).await;
    }

    /// The path of what a selector finds first.
    async fn element(&self, selector: &str) -> String {
        let found = self.command("/element", json!({ "using": "css selector", "value": selector })).await;
        let id = found.as_object().and_then(|found| found.values().next()?.as_str()).expect("an element has an id");
        format!("/element/{id}")
    }

    /// Evaluates an expression.
    pub(crate) async fn evaluate(&self, expression: &str) -> Value {
        self.command("/execute/sync", json!({ "script": format!("return ({expression});"), "args": [] })).await
    }

    /// Evaluates an expression that is a promise.
    pub(crate) async fn promise(&self, expression: &str) -> Value {
        let script =
            format!("const done = arguments[arguments.length - 1]; ({expression}).then(done, (e) => done(String(e)));");
        self.command("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// The text of what a selector finds first, as a person sees it; empty when there is nothing.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let found = self.evaluate(&format!("document.querySelector({})?.innerText ?? ''", json!(selector))).await;
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of what a selector finds has this in it.
    pub(crate) async fn wait_for(&self, selector: &str, text: &str) {
        let started = std::time::Instant::now();
        loop {
            let found = self.text(selector).await;
            if found.contains(text) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{selector} does not say {text:?} but {found:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types into a field.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("{element}/value"), json!({ "text": text })).await;
    }

    /// Clicks something, in the middle of the window: the bar at the top covers what is scrolled under it.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.run(&format!("document.querySelector({}).scrollIntoView({{block: 'center'}})", json!(selector))).await;
        self.command(&format!("{element}/click"), json!({})).await;
    }

    /// One command of Chromium's own protocol, for what WebDriver does not have.
    async fn chromium(&self, command: &str, parameters: Value) -> Value {
        self.command("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// Moves files of this machine over the page with the mouse: `dragEnter`, `dragOver` or `drop`, at `[x, y]`.
    pub(crate) async fn drag(&self, kind: &str, place: &Value, files: &[String]) {
        let data = json!({ "items": [], "files": files, "dragOperationsMask": 1 });
        let event = json!({ "type": kind, "x": place[0], "y": place[1], "data": data });
        self.chromium("Input.dispatchDragEvent", event).await;
    }

    /// Presses or releases the button of the mouse: `mousePressed` or `mouseReleased`, at `[x, y]`.
    pub(crate) async fn mouse(&self, kind: &str, place: &Value) {
        let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
        self.chromium("Input.dispatchMouseEvent", event).await;
    }

    /// From now on no script of a page runs.
    pub(crate) async fn without_scripts(&self) {
        self.chromium("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    /// Sets the time zone of this window.
    pub(crate) async fn zone(&self, zone: &str) {
        self.chromium("Emulation.setTimezoneOverride", json!({ "timezoneId": zone })).await;
    }

    /// Runs a script in this window before those of every page.
    pub(crate) async fn before_pages(&self, script: &str) {
        self.chromium("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    /// Logs in with a token.
    pub(crate) async fn log_in(&self, url: &str, token: &str) {
        self.open(url).await;
        self.fill("#token", token).await;
        self.fill("#name", "alice").await;
        self.click("button.primary").await;
        eventually("the login is over", async || {
            self.evaluate("!location.pathname.startsWith('/login')").await == json!(true)
        })
        .await;
    }

    /// Keeps pictures of the page as it is, light and dark, under `target/screenshots`.
    pub(crate) async fn pictures(&self, name: &str, screen: Screen) {
        let folder = target().join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let height =
            self.evaluate("Math.min(document.documentElement.scrollHeight, 3000)").await.as_u64().unwrap_or(900);
        let before = self.evaluate("document.documentElement.dataset.theme ?? ''").await;
        let width = self.evaluate("outerWidth").await.as_u64().unwrap_or(1360);
        if matches!(screen, Screen::Wide) {
            self.resize(width, (height + 150).max(900)).await;
        }
        let word = if matches!(screen, Screen::Wide) { "wide" } else { "phone" };
        for theme in ["light", "dark"] {
            self.evaluate(&format!("document.documentElement.dataset.theme = {}", json!(theme))).await;
            let picture = self.http.get(format!("{}/screenshot", self.session)).send().await.unwrap();
            let picture = picture.json::<Value>().await.unwrap()["value"].take();
            let picture = BASE64.decode(picture.as_str().unwrap_or_default()).unwrap();
            std::fs::write(folder.join(format!("{name}-{word}-{theme}.png")), picture).unwrap();
        }
        self.evaluate(&format!("document.documentElement.dataset.theme = {before}")).await;
        if matches!(screen, Screen::Wide) {
            self.resize(width, 1000).await;
        }
    }

    /// Has axe-core look at the page, light and dark: nothing serious may be wrong. Says so where it is not installed.
    pub(crate) async fn assert_accessible(&self, name: &str) {
        let Some(script) = axe() else {
            println!("skipped: there is no axe-core here (npm install --prefix target/tools axe-core)");
            return;
        };
        self.run(&std::fs::read_to_string(script).unwrap()).await;
        for theme in ["light", "dark"] {
            self.evaluate(&format!("document.documentElement.dataset.theme = {}", json!(theme))).await;
            let found = self.promise("axe.run(document, {resultTypes: ['violations']})").await;
            let violations = found["violations"].as_array().cloned();
            let violations = violations.unwrap_or_else(|| panic!("axe-core did not look at {name}: {found}"));
            let serious: Vec<String> = violations
                .iter()
                .filter(|found| matches!(found["impact"].as_str(), Some("serious" | "critical")))
                .map(|found| {
                    let nodes = found["nodes"].as_array().into_iter().flatten();
                    let nodes: Vec<String> =
                        nodes.take(4).map(|node| format!("{} {}", node["html"], node["failureSummary"])).collect();
                    format!("{}: {}: {}", found["id"], found["help"], nodes.join("\n  "))
                })
                .collect();
            assert!(serious.is_empty(), "{name}, {theme}:\n{}", serious.join("\n"));
        }
        self.evaluate("delete document.documentElement.dataset.theme").await;
    }
}

/// The workspace's target folder.
pub(crate) fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent folder");
    root.join("target")
}

/// The script of axe-core, where npm has put it.
fn axe() -> Option<PathBuf> {
    let folders = [target().join("tools"), PathBuf::from("/usr/local/lib"), PathBuf::from("/usr/lib")];
    folders.into_iter().map(|folder| folder.join("node_modules/axe-core/axe.min.js")).find(|path| path.is_file())
}
