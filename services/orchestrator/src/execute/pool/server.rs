//! The streams of engines: a gRPC service with TLS. An engine identifies itself by the token of its pod.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ::pool::{
    dispatcher::EngineId,
    proto::{
        FromEngine, Hello, ToEngine, from_engine,
        pool_server::{self, PoolServer},
    },
};
use anyhow::Context as _;
use futures::{Stream, stream::BoxStream};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{Pool, tokens::Tokens};

/// Limit of a frame in bytes: a message of Pub/Sub has at most 10 MB.
const FRAME_MAX: usize = 16 * 1024 * 1024;
/// How often an idle stream is checked, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How long an engine may take to send its first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

struct Service {
    pool: Arc<Pool>,
    tokens: Arc<Tokens>,
    stop: CancellationToken,
}

/// Serves streams until `stop`.
///
/// # Errors
/// When the certificate cannot be read, or the listener fails.
pub(crate) async fn serve(
    pool: Arc<Pool>,
    tokens: Arc<Tokens>,
    listener: TcpListener,
    certificates: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let read = |name: &str| {
        let path = certificates.join(name);
        std::fs::read(&path).with_context(|| format!("read {}, which deploy makes", path.display()))
    };
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(read("tls.crt")?, read("tls.key")?));
    let service = PoolServer::new(Service { pool, tokens, stop: stop.clone() })
        .max_decoding_message_size(FRAME_MAX)
        .max_encoding_message_size(FRAME_MAX);
    Server::builder()
        .tls_config(tls)
        .context("use the certificate of the pool")?
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned())
        .await
        .context("serve the engines of the pool")
}

#[tonic::async_trait]
impl pool_server::Pool for Service {
    type WorkStream = BoxStream<'static, Result<ToEngine, Status>>;

    async fn work(&self, request: Request<Streaming<FromEngine>>) -> Result<Response<Self::WorkStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let pod = self.tokens.check(token).await.map_err(|error| {
            tracing::warn!("refused a stream: {error:#}");
            Status::unauthenticated(format!("{error:#}"))
        })?;
        let mut frames = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, frames.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("the first frame did not come"))??;
        let Some(from_engine::Frame::Hello(hello)) = first.and_then(|first| first.frame) else {
            return Err(Status::invalid_argument("the first frame has to be Hello"));
        };
        if (&hello.pod, &hello.uid) != (&pod.name, &pod.uid) {
            return Err(Status::permission_denied("the token is of another pod"));
        }
        let engine: EngineId = hello.uid.as_str().into();
        let Hello { pod, slot, node, version, .. } = &hello;
        tracing::info!(pod, slot, node, version, "an engine is connected");
        let (sender, receiver) = mpsc::unbounded_channel();
        let number = self.pool.connected(&engine, hello, sender);
        let connection = Connection { pool: self.pool.clone(), engine, number };
        Ok(Response::new(Box::pin(connection.stream(frames, receiver, self.stop.clone()))))
    }
}

/// A stream of an engine. When it is dropped, the engine is disconnected.
struct Connection {
    pool: Arc<Pool>,
    engine: EngineId,
    number: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pool.disconnected(&self.engine, self.number);
    }
}

impl Connection {
    /// The frames for the engine; those of the engine are read while it is polled.
    fn stream(
        self,
        mut frames: Streaming<FromEngine>,
        mut receiver: mpsc::UnboundedReceiver<ToEngine>,
        stop: CancellationToken,
    ) -> impl Stream<Item = Result<ToEngine, Status>> + Send {
        async_stream::stream! {
            loop {
                // Each branch can be cancelled: a frame is taken whole or not at all.
                tokio::select! {
                    () = stop.cancelled() => break,
                    frame = frames.message() => match frame {
                        Ok(Some(frame)) => self.pool.received(&self.engine, self.number, frame),
                        Ok(None) | Err(_) => break,
                    },
                    frame = receiver.recv() => match frame {
                        Some(frame) => yield Ok(frame),
                        // A newer stream of this engine took its place.
                        None => break,
                    },
                }
            }
        }
    }
}
