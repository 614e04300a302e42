//! `pods/NAME/portforward` over a WebSocket: for the n-th port asked for, channel 2n carries its bytes and 2n+1 its
//! error; each channel begins with the port's number (Kubernetes, `v4.channel.k8s.io`).

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{
    cluster::Cluster,
    failure::{Answer, Failure},
    kinds,
    request::{Query, Target},
    value::{self, items, text},
};

/// The protocol spoken; kubectl's own (SPDY) is not.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// Bytes read from a pod at a time.
const CHUNK: usize = 16 * 1024;

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers a request for ports of a pod, and forwards until either side ends.
///
/// # Errors
/// 400 without a port, a WebSocket or our protocol; 404 for a pod that does not exist.
pub(super) fn answer(
    cluster: &Arc<Cluster>,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
) -> Answer<Response> {
    let pod = cluster
        .store
        .get(&kinds::POD, &target.namespace, &target.name)
        .ok_or_else(|| Failure::not_found(&kinds::POD, &target.name))?;
    let asked: Vec<u16> = query.text("ports").split(',').filter_map(|port| port.parse().ok()).collect();
    if asked.is_empty() {
        return Err(Failure::bad_request("query parameter \"ports\" is required"));
    }
    let ports: Vec<(u16, Option<u16>)> = asked.iter().map(|port| (*port, real_port(&pod, &(*port).into()))).collect();
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let (Some(upgrade), Some(key)) = (upgrade.filter(|_| is_upgrade(headers)), key) else {
        return Err(Failure::bad_request("unable to upgrade: only WebSockets are spoken here"));
    };
    if !offered.split(',').any(|protocol| protocol.trim() == PROTOCOL) {
        return Err(Failure::bad_request(format!("none of the protocols {offered:?} is {PROTOCOL}")));
    }
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|error| Failure::bad_request(error.to_string()))?;
    let stop = cluster.stop.clone();
    cluster.tasks.spawn(async move {
        let work = async {
            let Ok(stream) = upgrade.await else { return };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
            forward(socket, &ports).await;
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

/// The laptop's port behind a port of the pod, given by its number or name: the node notes those that have a name.
pub(super) fn real_port(pod: &Value, port: &Value) -> Option<u16> {
    let containers = items(pod, "/spec/containers").iter();
    let mut ports = containers.flat_map(|container| items(container, "/ports"));
    let named = ports.find(|one| [one.get("containerPort"), one.get("name")].contains(&Some(port)))?;
    value::annotation(pod, &format!("deskgrid.dev/port-{}", text(named, "/name"))).parse().ok()
}

async fn forward<S>(socket: WebSocketStream<S>, ports: &[(u16, Option<u16>)])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let (sender, mut frames) = mpsc::channel::<Message>(16);
    let mut writers: Vec<Option<OwnedWriteHalf>> = Vec::new();
    let mut readers = tokio::task::JoinSet::new();
    for (index, (port, real)) in ports.iter().enumerate() {
        let Ok(data) = u8::try_from(index * 2) else { return };
        for channel in [data, data + 1] {
            let [low, high] = port.to_le_bytes();
            if sink.send(Message::Binary(Bytes::from(vec![channel, low, high]))).await.is_err() {
                return;
            }
        }
        let connected = match real {
            Some(real) => TcpStream::connect(("127.0.0.1", *real)).await.map_err(|error| error.to_string()),
            None => Err("nothing listens there".to_owned()),
        };
        match connected {
            Ok(connected) => {
                let (mut from, to) = connected.into_split();
                writers.push(Some(to));
                let sender = sender.clone();
                readers.spawn(async move {
                    let mut buffer = vec![0; CHUNK];
                    while let Ok(count @ 1..) = from.read(&mut buffer).await {
                        let mut frame = vec![data];
                        frame.extend_from_slice(&buffer[..count]);
                        if sender.send(Message::Binary(frame.into())).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Err(error) => {
                writers.push(None);
                let mut frame = vec![data + 1];
                frame.extend_from_slice(format!("an error occurred forwarding {port}: {error}").as_bytes());
                let _ = sender.send(Message::Binary(frame.into())).await;
            }
        }
    }
    drop(sender);
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => if sink.send(frame).await.is_err() { return },
                // Every side of the pod has ended.
                None => break,
            },
            message = stream.next() => match message {
                Some(Ok(Message::Binary(frame))) => {
                    let Some((channel, bytes)) = frame.split_first() else { continue };
                    let Some(Some(writer)) = writers.get_mut(usize::from(channel / 2)) else { continue };
                    if channel % 2 == 0 && writer.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = sink.close().await;
}
