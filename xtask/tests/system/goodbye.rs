//! Stands in front of Google's Pub/Sub emulator and says goodbye to it for clients that cannot do so themselves.
//!
//! The emulator (0.8.20) takes a StreamingPull off its list only when the client closes its half of the stream. A
//! stream whose call is cancelled, or whose connection is gone, stays there for good: a message whose lease ends is
//! handed to any stream of the list, so with a few such streams it is lost for one lease after the other. Seen with a
//! client that is not ours (Google's for Python): of six messages whose holder had closed its half, all six came to the
//! next holder after one lease; of six whose holder was killed, and of six whose holder had cancelled, two each came
//! after two; of six dead streams at once, nothing came within ten leases. Google's clients cancel when they close a
//! stream, and a killed program does nothing at all.
//!
//! Pub/Sub itself sees that a stream has ended, however it did. So does this: whatever ends a request, the emulator
//! sees it end in the only way that it notices. Messages, leases and redelivery are the emulator's own.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI";

/// Listens for as long as it is held.
#[derive(Debug)]
pub(crate) struct Goodbye {
    /// Where.
    pub(crate) address: SocketAddr,
    _listening: JoinSet<()>,
}

impl Goodbye {
    /// Stands in front of what listens, or will listen, at `behind`.
    pub(crate) fn to(behind: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(connection(stream, behind));
            }
        });
        Self { address, _listening: listening }
    }
}

/// Calls are carried over one by one, anything else byte by byte.
async fn connection(mut stream: TcpStream, behind: SocketAddr) {
    let mut first = [0; PREFACE.len()];
    if !matches!(stream.peek(&mut first).await, Ok(length) if length == first.len()) || first != *PREFACE {
        if let Ok(mut other) = TcpStream::connect(behind).await {
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut other).await;
        }
        return;
    }
    // A task of its own brings each call to an end, also when this connection is gone.
    let service = service_fn(move |request| async move {
        tokio::spawn(call(request, behind)).await.unwrap_or_else(|error| Err(anyhow::anyhow!("{error}")))
    });
    let _ =
        server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// One call. Its request ends when the client is gone; its answer is read to the end whether somebody wants it or not.
async fn call(request: Request<Incoming>, behind: SocketAddr) -> anyhow::Result<Response<BoxBody<Bytes, Infallible>>> {
    let stream = TokioIo::new(TcpStream::connect(behind).await?);
    let (mut sender, connection) = client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    let request = request.map(|body| {
        let frames = BodyStream::new(body).take_while(|frame| std::future::ready(frame.is_ok()));
        StreamBody::new(frames)
    });
    let (head, body) = sender.send_request(request).await?.into_parts();
    let (mut wanted, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    tokio::spawn(async move {
        let mut body = BodyStream::new(body);
        while let Some(Ok(frame)) = body.next().await {
            let _ = wanted.send(Ok(frame)).await;
        }
    });
    Ok(Response::from_parts(head, BoxBody::new(StreamBody::new(frames))))
}
