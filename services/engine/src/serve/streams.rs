//! Streams to the orchestrators: finds them, keeps one stream to each, and passes frames on.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{Stream, stream::unfold};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};
use pool::{
    proto::{FromEngine, Hello, from_engine, pool_client::PoolClient, to_engine},
    worker::StreamId,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{
    Code, Request,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

use crate::config::Orchestrators;

/// How often orchestrators are looked up.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);
/// How long an orchestrator is connected to that the name server does not name any more.
const UNNAMED_MAX: Duration = Duration::from_secs(30);
/// Pause before a stream is opened again; it doubles up to the limit.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long an orchestrator may take to accept a connection, and a stream.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// A peer that answers no ping for so long, after so long without one, is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Limit of a frame, in bytes.
pub(super) const FRAME_MAX: usize = 16 * 1024 * 1024;
/// Records are joined into one frame up to so many bytes.
const JOINED_MAX: usize = 256 * 1024;
/// Bytes that a peer may send before they are read.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Sends frames on a stream; the stream ends when it is dropped.
pub(super) type Sender = UnboundedSender<from_engine::Frame>;

/// What happens with streams.
#[derive(Debug)]
pub(super) enum Event {
    /// A stream needs its first frame.
    Greeting(oneshot::Sender<Hello>),
    /// An orchestrator accepted a stream.
    Opened(StreamId, Sender),
    /// A frame.
    Frame(StreamId, to_engine::Frame),
    /// A stream that was open ended.
    Closed(StreamId),
}

/// When the name server named an orchestrator last.
type Named = Arc<Mutex<HashMap<SocketAddr, Instant>>>;

/// Keeps a stream to each orchestrator.
///
/// # Errors
/// When the name server cannot be configured. It does not end otherwise.
pub(super) async fn keep(orchestrators: Arc<Orchestrators>, events: UnboundedSender<Event>) -> anyhow::Result<()> {
    let resolver = resolver(orchestrators.name_server).context("configure the name server")?;
    let (named, next) = (Named::default(), Arc::new(AtomicU64::new(0)));
    let (mut connected, mut tasks) = (BTreeSet::new(), JoinSet::new());
    let (mut ticks, mut is_failing) = (interval(LOOKUP_INTERVAL), false);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                let address: SocketAddr = ended.context("keep a stream")?;
                connected.remove(&address);
                named.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
                continue;
            }
            _ = ticks.tick() => {}
        }
        let found = lookup(&resolver, &orchestrators.service).await;
        if let Err(error) = &found
            && !is_failing
        {
            tracing::warn!("failed to look up {}: {error}", orchestrators.service);
        }
        is_failing = found.is_err();
        for address in found.unwrap_or_default() {
            named.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Instant::now());
            if connected.insert(address) {
                let (orchestrators, named, next) = (orchestrators.clone(), named.clone(), next.clone());
                tasks.spawn(keep_one(address, orchestrators, named, next, events.clone()));
            }
        }
    }
}

fn resolver(name_server: Option<SocketAddr>) -> anyhow::Result<TokioResolver> {
    let mut builder = match name_server {
        None => TokioResolver::builder_tokio()?,
        Some(address) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            let server = NameServerConfig::new(address.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    builder.options_mut().cache_size = 0;
    Ok(builder.build()?)
}

/// The addresses of an SRV name; none when it does not exist.
async fn lookup(resolver: &TokioResolver, service: &str) -> anyhow::Result<BTreeSet<SocketAddr>> {
    let services = match resolver.srv_lookup(service).await {
        Ok(services) => services,
        Err(error) if error.is_no_records_found() => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeSet::new();
    for record in services.answers() {
        let RData::SRV(service) = &record.data else { continue };
        match resolver.lookup_ip(service.target.clone()).await {
            Ok(addresses) => found.extend(addresses.iter().map(|address| SocketAddr::new(address, service.port))),
            // It ended since the first lookup.
            Err(error) if error.is_no_records_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Keeps a stream to one orchestrator until the name server has not named it for a while.
async fn keep_one(
    address: SocketAddr,
    orchestrators: Arc<Orchestrators>,
    named: Named,
    next: Arc<AtomicU64>,
    events: UnboundedSender<Event>,
) -> SocketAddr {
    let mut pause = PAUSE;
    loop {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let (mut is_open, began) = (false, Instant::now());
        match stream(address, &orchestrators, id, &events, &mut is_open).await {
            Ok(()) => tracing::info!(%address, "an orchestrator ended its stream"),
            Err(error) if error.downcast_ref().map(tonic::Status::code) == Some(Code::Unauthenticated) => {
                tracing::warn!(%address, "an orchestrator refused this engine: {error:#}");
            }
            Err(error) => tracing::info!(%address, "lost the stream to an orchestrator: {error:#}"),
        }
        if is_open {
            // The engine ends when nobody receives events.
            let _ = events.send(Event::Closed(id));
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE;
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        let last = named.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied();
        if last.is_none_or(|last| last.elapsed() > UNNAMED_MAX) {
            return address;
        }
    }
}

/// Opens a stream and passes its frames on until it ends.
async fn stream(
    address: SocketAddr,
    orchestrators: &Orchestrators,
    id: StreamId,
    events: &UnboundedSender<Event>,
    is_open: &mut bool,
) -> anyhow::Result<()> {
    let Orchestrators { name, authorities, token, .. } = orchestrators;
    let read =
        async |path: &Path| tokio::fs::read_to_string(path).await.with_context(|| format!("read {}", path.display()));
    // Both are replaced while the engine runs.
    let (authorities, token) = (read(authorities).await?, read(token).await?);
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)).domain_name(name);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?
        .tls_config(tls)?
        .connect_timeout(OPEN_MAX)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let channel = timeout(OPEN_MAX, endpoint.connect()).await.context("connect")??;
    let (sender, frames) = unbounded_channel();
    let (greeting, hello) = oneshot::channel();
    events.send(Event::Greeting(greeting)).context("greet an orchestrator")?;
    sender.send(from_engine::Frame::Hello(hello.await?))?;
    let mut request = Request::new(joined(frames));
    let token = format!("Bearer {}", token.trim()).parse().context("read the token")?;
    request.metadata_mut().insert("authorization", token);
    let mut client = PoolClient::new(channel).max_decoding_message_size(FRAME_MAX).max_encoding_message_size(FRAME_MAX);
    let mut received = timeout(OPEN_MAX, client.work(request)).await.context("open a stream")??.into_inner();
    *is_open = true;
    tracing::info!(%address, "opened a stream to an orchestrator");
    events.send(Event::Opened(id, sender))?;
    while let Some(frame) = received.message().await? {
        // A frame of a later version is none to us.
        if let Some(frame) = frame.frame {
            events.send(Event::Frame(id, frame))?;
        }
    }
    Ok(())
}

/// The frames to send; records of one range that wait at the same time are joined.
pub(super) fn joined(frames: UnboundedReceiver<from_engine::Frame>) -> impl Stream<Item = FromEngine> {
    unfold((frames, None), async |(mut frames, kept)| {
        let mut first = match kept {
            Some(frame) => frame,
            None => frames.recv().await?,
        };
        let mut next = None;
        if let from_engine::Frame::Ended(ended) = &mut first {
            let mut bytes: usize = ended.record.iter().map(bytes::Bytes::len).sum();
            while bytes < JOINED_MAX
                && let Ok(frame) = frames.try_recv()
            {
                match frame {
                    from_engine::Frame::Ended(more) if more.range == ended.range => {
                        bytes += more.record.iter().map(bytes::Bytes::len).sum::<usize>();
                        ended.record.extend(more.record);
                        ended.index.extend(more.index);
                        ended.cpu_seconds += more.cpu_seconds;
                    }
                    other => {
                        next = Some(other);
                        break;
                    }
                }
            }
        }
        Some((FromEngine { frame: Some(first) }, (frames, next)))
    })
}
