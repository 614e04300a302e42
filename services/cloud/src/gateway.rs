//! gRPC to Google through an HTTP proxy.
//!
//! Google's gRPC clients (`gaxi::grpc`) connect with tonic, which knows no proxy: its connector is fixed, and they would
//! go past `HTTPS_PROXY`. So where a proxy applies they call a server on loopback, and reqwest, which knows proxies,
//! sends each call on over TLS. The server adds nothing to a call; its credentials are the caller's.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use contract::config::variables;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{net::TcpListener, sync::OnceCell, task::JoinSet};

use crate::proxy::proxy_for;

/// gRPC packages, and the host that serves each.
const HOSTS: [(&str, &str); 2] =
    [("/google.pubsub.v1.", "pubsub.googleapis.com"), ("/google.storage.", "storage.googleapis.com")];
/// Longest time that a connection may take.
const CONNECT_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
/// `UNAVAILABLE` of gRPC, which clients retry.
const UNAVAILABLE: &str = "14";

struct Gateway {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

/// One for the process, and as long as the process: the clients that call it cannot own it.
static GATEWAY: OnceCell<Option<Gateway>> = OnceCell::const_new();

/// The endpoint for gRPC clients of Google's own APIs; `None` when no proxy applies to them.
///
/// # Errors
/// When the proxy is not a URL, or no port can be used.
pub(crate) async fn endpoint() -> anyhow::Result<Option<String>> {
    let gateway = GATEWAY.get_or_try_init(start).await?;
    Ok(gateway.as_ref().map(|gateway| format!("http://{}", gateway.address)))
}

async fn start() -> anyhow::Result<Option<Gateway>> {
    let variables = variables();
    let mut is_needed = false;
    for (_, host) in HOSTS {
        is_needed |= proxy_for(&format!("https://{host}").parse()?, None, &variables)?.is_some();
    }
    if !is_needed {
        return Ok(None);
    }
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("set up the HTTP client")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("open a port for gRPC on this machine")?;
    let address = listener.local_addr().context("open a port for gRPC on this machine")?;
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        if let Err(error) = axum::serve(listener, Router::new().fallback(forward).with_state(client)).await {
            tracing::error!("failed to send gRPC through the proxy: {error}");
        }
    });
    Ok(Some(Gateway { address, _serving: serving }))
}

async fn forward(State(client): State<reqwest::Client>, request: Request) -> Response {
    let path = request.uri().path();
    let Some((_, host)) = HOSTS.iter().find(|(package, _)| path.starts_with(package)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let url = format!("https://{host}{path}");
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(header::HOST);
    let body = reqwest::Body::wrap_stream(body.into_data_stream());
    match client.request(parts.method, url).headers(parts.headers).body(body).send().await {
        // The body keeps its trailers, which hold the status.
        Ok(answer) => axum::http::Response::<reqwest::Body>::from(answer).map(Body::new),
        Err(error) => unavailable(&error.into()),
    }
}

/// An answer of gRPC without a body.
fn unavailable(error: &anyhow::Error) -> Response {
    let message = utf8_percent_encode(&format!("{error:#}"), NON_ALPHANUMERIC).to_string();
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(UNAVAILABLE));
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert("grpc-message", message);
    }
    answer
}
