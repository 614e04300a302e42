//! `open`: a way to a web app through the Kubernetes API server, from a port of this machine.

use std::{io::IsTerminal as _, net::Ipv4Addr, process::Stdio};

use anyhow::Context as _;
use cli::{error::Failure, interrupt, output::Output};
use cloud::shutdown;
use contract::{config::variables, exit, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use provision::{deploy::access, manifests::WEB_NAMESPACE};
use serde::Serialize;
use tokio::{net::TcpListener, net::TcpStream, task::JoinSet};

use crate::{context, globals::Globals};

/// Port that the apps listen on in their pods.
const APP_PORT: u16 = 8080;

/// Arguments of `open`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which app
    app: App,
    /// Port of this machine [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Open no browser
    #[arg(long)]
    no_browser: bool,
}

/// A web app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum App {
    /// Where people submit
    Client,
    /// Where people look
    Monitor,
}

impl App {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Monitor => "monitor",
        }
    }
}

/// Where the app is.
#[derive(Debug, Serialize)]
struct Opened {
    url: String,
    /// What to log in with; absent when you may not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Opens a port on this machine and passes every connection on to the app, until Ctrl-C; behind Identity-Aware Proxy
/// the app has an address of its own, which is shown.
///
/// # Errors
/// When the app is not there, or the port is taken.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if let Ok(environment) = context::load(globals)
        && let Some(iap) = environment.web.iap.as_ref().filter(|_| environment.web.enabled)
    {
        // No way through the cluster: whoever comes there has no assertion.
        let of_app = if args.app == App::Client { &iap.client } else { &iap.monitor };
        return behind_proxy(args, &format!("https://{}/", of_app.host), output);
    }
    let context = context::open(globals).await?;
    let client = context.cluster()?;
    let app = args.app.name();
    // Before anything is promised.
    pod(client, app).await?;
    let address = (Ipv4Addr::LOCALHOST, args.port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on port {}", args.port))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let token = match access::token(client).await {
        Ok(token) => Some(token),
        Err(error) => {
            output.warn(format_args!("the token to log in with is not known: {error:#}"));
            None
        }
    };
    if output.json {
        output.record(&Opened { url: url.clone(), token })?;
    } else {
        // The token is not put into the address, which browsers keep and proxies log.
        output.line(&url)?;
        if let Some(token) = token {
            output.note(format_args!("log in with the token {token}"));
        }
        output.note("Ctrl-C closes it");
        if !args.no_browser && std::io::stdout().is_terminal() {
            browse(&url, output);
        }
    }
    serve(client, app, listener, output).await
}

/// Shows where the app is behind Identity-Aware Proxy, where people log in with their own accounts.
fn behind_proxy(args: &Args, url: &str, output: &Output) -> anyhow::Result<u8> {
    if output.json {
        output.record(&Opened { url: url.to_owned(), token: None })?;
        return Ok(exit::DONE);
    }
    output.line(url)?;
    if !args.no_browser && std::io::stdout().is_terminal() {
        browse(url, output);
    }
    Ok(exit::DONE)
}

async fn serve(client: &Client, app: &'static str, listener: TcpListener, output: &Output) -> anyhow::Result<u8> {
    let stop = shutdown::on_signal()?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(interrupt::exit_code().unwrap_or(exit::DONE)),
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept a connection")?;
                let client = client.clone();
                connections.spawn(async move { pass(&client, app, stream).await });
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Ok(Err(error)) = ended {
                    output.warn(format_args!("a connection to the {app} broke: {error:#}"));
                }
            }
        }
    }
}

/// Passes one connection on. The pod is looked up for each connection, since a deploy may have replaced it.
async fn pass(client: &Client, app: &str, mut stream: TcpStream) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), WEB_NAMESPACE);
    let name = pod(client, app).await?;
    let mut forwarder = pods.portforward(&name, &[APP_PORT]).await.context("forward a port of the pod")?;
    let forward_error = forwarder.take_error(APP_PORT);
    let mut remote = forwarder.take_stream(APP_PORT).context("take the stream of the port")?;
    // Either side may hang up at any time.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut remote).await;
    drop(remote);
    let joined = forwarder.join().await;
    // What the node says of it is the cause; what follows is that the connection is gone.
    if let Some(forward_error) = forward_error
        && let Some(why) = forward_error.await
    {
        anyhow::bail!("the node of the pod {name} says: {}", why.trim());
    }
    joined.context("forward a port of the pod")
}

/// A pod of the app that is ready.
async fn pod(client: &Client, app: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), WEB_NAMESPACE);
    let of_app = ListParams::default().labels(&format!("{}={app}", labels::APP));
    let found = pods.list(&of_app).await.with_context(|| format!("list the pods of the {app}"))?;
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        pod.metadata.deletion_timestamp.is_none()
            && conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
    };
    let exists = !found.items.is_empty();
    if let Some(name) = found.items.into_iter().find(ready).and_then(|pod| pod.metadata.name) {
        return Ok(name);
    }
    let why = if exists { "it has no pod that is ready" } else { "it is not deployed" };
    Err(Failure::new("no-web-app", format!("the {app} cannot be opened"))
        .on(format!("namespace {WEB_NAMESPACE}"))
        .why(why)
        .next("`cargo xtask deploy` deploys it, where the environment file has `web.enabled`")
        .into())
}

/// Opens the page in the person's browser, where there is one.
fn browse(url: &str, output: &Output) {
    let variables = variables();
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| variables.contains_key(*name));
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if !has_display && program == "xdg-open" {
        return;
    }
    let mut command = std::process::Command::new(program);
    let started = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = started {
        output.detail(format_args!("no browser was opened: {error}"));
    }
}
