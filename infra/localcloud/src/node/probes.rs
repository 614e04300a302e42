//! Probes of a container: HTTP, TCP or a command, with thresholds.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::kubernetes::value::{items, number, text};

/// What a probe needs to know of its container.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Real ports by name and by the number the pod names.
    pub(super) ports: BTreeMap<String, u16>,
    /// Environment of the container.
    pub(super) environment: BTreeMap<String, String>,
    /// Its folder.
    pub(super) folder: PathBuf,
}

/// One probe.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    check: Check,
    /// Before the first check.
    pub(super) delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: i64,
    failures: i64,
}

#[derive(Clone, Debug)]
enum Check {
    Http { port: u16, path: String, headers: Vec<(String, String)> },
    Tcp { port: u16 },
    Exec { command: Vec<String>, place: Place },
}

impl Probe {
    /// The probe in a field of a container, if it has one that can be carried out.
    pub(super) fn of(container: &Value, field: &str, place: &Place) -> Option<Self> {
        let probe = container.get(field).filter(|probe| probe.is_object())?;
        let port = |at: &str| {
            let desired = probe.pointer(at)?;
            let named = desired.as_str().map_or_else(|| desired.to_string(), str::to_owned);
            place.ports.get(&named).copied().or_else(|| named.parse().ok())
        };
        let check = if probe.get("httpGet").is_some() {
            let headers = items(probe, "/httpGet/httpHeaders").iter();
            Check::Http {
                port: port("/httpGet/port")?,
                path: text(probe, "/httpGet/path").to_owned(),
                headers: headers.map(|one| (text(one, "/name").to_owned(), text(one, "/value").to_owned())).collect(),
            }
        } else if probe.get("tcpSocket").is_some() {
            Check::Tcp { port: port("/tcpSocket/port")? }
        } else {
            let command = items(probe, "/exec/command").iter().filter_map(Value::as_str).map(str::to_owned);
            let command: Vec<_> = command.collect();
            if command.is_empty() {
                return None;
            }
            Check::Exec { command, place: place.clone() }
        };
        let seconds = |field: &str, default: u64| {
            let given = number(probe, &format!("/{field}")).and_then(|given| u64::try_from(given).ok());
            Duration::from_secs(given.unwrap_or(default))
        };
        Some(Self {
            check,
            delay: seconds("initialDelaySeconds", 0),
            period: seconds("periodSeconds", 10).max(Duration::from_secs(1)),
            timeout: seconds("timeoutSeconds", 1).max(Duration::from_secs(1)),
            successes: number(probe, "/successThreshold").unwrap_or(1).max(1),
            failures: number(probe, "/failureThreshold").unwrap_or(3).max(1),
        })
    }

    /// Probes repeatedly and reports each change of the verdict with its cause; the first verdict is always reported.
    /// Until something was found good it checks more often than the period, so that what starts quickly is ready
    /// quickly.
    pub(super) async fn watch(&self, mut report: impl FnMut(bool, &str)) {
        tokio::time::sleep(self.delay).await;
        let (mut good, mut bad) = (0, 0);
        let mut last_good = Instant::now();
        let mut verdict = None;
        let mut pause = Duration::from_millis(50).min(self.period);
        loop {
            let why = match tokio::time::timeout(self.timeout, self.check_once()).await {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(why),
                Err(_) => Some("context deadline exceeded".to_owned()),
            };
            match &why {
                None => (good, bad, last_good) = (good + 1, 0, Instant::now()),
                Some(_) => (good, bad) = (0, bad + 1),
            }
            // Quick checks make no failure quicker: the time must have passed too.
            let patience = self.period * u32::try_from(self.failures - 1).unwrap_or(u32::MAX);
            if good >= self.successes && verdict != Some(true) {
                verdict = Some(true);
                report(true, "");
            } else if bad >= self.failures && last_good.elapsed() >= patience && verdict != Some(false) {
                verdict = Some(false);
                report(false, why.as_deref().unwrap_or_default());
            }
            pause = if verdict == Some(true) { self.period } else { (pause * 3 / 2).min(self.period) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn check_once(&self) -> Result<(), String> {
        match &self.check {
            Check::Tcp { port } => connect(*port).await.map(drop),
            Check::Http { port, path, headers } => http(*port, path, headers).await,
            Check::Exec { command, place } => exec(command, place).await,
        }
    }
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| format!("dial tcp 127.0.0.1:{port}: {error}"))
}

async fn http(port: u16, path: &str, headers: &[(String, String)]) -> Result<(), String> {
    let mut stream = connect(port).await?;
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: kube-probe/1.34\r\nConnection: close\r\n"
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let failed = |error: std::io::Error| format!("Get \"http://127.0.0.1:{port}{path}\": {error}");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.map_err(failed)?;
    let status = std::str::from_utf8(&head[9..]).ok().and_then(|code| code.parse::<u16>().ok()).unwrap_or_default();
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

async fn exec(command: &[String], place: &Place) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Err("no command".to_owned()) };
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&place.environment)
        .current_dir(&place.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("command exited with {status}")) }
}
