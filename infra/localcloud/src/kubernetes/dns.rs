//! The cluster's name server: it answers for headless Services, from the pods behind them
//! (github.com/kubernetes/dns/blob/master/docs/specification.md, sections 2.4.1 and 2.4.2).
//!
//! All pods of a laptop have the address 127.0.0.1 and ports of their own: those are in the SRV records.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use hickory_proto::{
    op::{Edns, Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use super::{
    cluster::Cluster,
    kinds, port_forward,
    value::{self, entries, items, text, truth},
};
use crate::serve;

/// Seconds that a resolver may keep an answer.
const TTL_SECS: u32 = 5;
/// Time that a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// Largest request over UDP, in bytes.
const REQUEST: usize = 4_096;

/// A name server that is bound and does not answer yet.
pub(super) struct NameServer {
    udp: UdpSocket,
    tcp: TcpListener,
    /// Where it will answer.
    pub(super) address: SocketAddr,
}

impl NameServer {
    /// Binds UDP and TCP to one free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn bind() -> anyhow::Result<Self> {
        for _ in 0..10 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, serve::free_port()?));
            if let (Ok(udp), Ok(tcp)) = (UdpSocket::bind(address).await, TcpListener::bind(address).await) {
                return Ok(Self { udp, tcp, address });
            }
        }
        bail!("bind a name server: no port is free for UDP and TCP")
    }

    /// Answers until the cluster stops.
    pub(super) async fn run(self, cluster: Arc<Cluster>) {
        tokio::select! {
            () = serve_udp(&self.udp, &cluster) => {}
            () = serve_tcp(&self.tcp, &cluster) => {}
            () = cluster.stop.cancelled() => {}
        }
    }
}

async fn serve_udp(socket: &UdpSocket, cluster: &Cluster) {
    let mut buffer = [0; REQUEST];
    loop {
        // A failure is that of a client which is gone.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(request) = read(&buffer[..length]) else { continue };
        let response = answer(cluster, &request);
        let whole = response.to_vec().ok().filter(|bytes| bytes.len() <= usize::from(request.max_payload()));
        if let Some(bytes) = whole.or_else(|| response.truncate().to_vec().ok()) {
            let _ = socket.send_to(&bytes, client).await;
        }
    }
}

async fn serve_tcp(listener: &TcpListener, cluster: &Arc<Cluster>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let cluster = cluster.clone();
        connections.spawn(async move { serve_connection(stream, &cluster).await });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers the requests of a connection, each of which begins with its length; none once one fails.
async fn serve_connection(mut stream: TcpStream, cluster: &Cluster) -> Option<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await.ok()?.ok()?;
        let mut request = vec![0; usize::from(length)];
        tokio::time::timeout(IDLE, stream.read_exact(&mut request)).await.ok()?.ok()?;
        let response = answer(cluster, &read(&request)?).to_vec().ok()?;
        stream.write_u16(response.len().try_into().ok()?).await.ok()?;
        stream.write_all(&response).await.ok()?;
    }
}

fn read(bytes: &[u8]) -> Option<Message> {
    Message::from_vec(bytes).ok().filter(|message| message.metadata.message_type == MessageType::Query)
}

fn answer(cluster: &Cluster, request: &Message) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.authoritative = true;
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        response.set_edns(Edns::new());
    }
    let [query] = request.queries.as_slice() else {
        response.metadata.response_code = ResponseCode::FormErr;
        return response;
    };
    let name = query.name();
    match find(cluster, &name.to_lowercase().to_ascii()) {
        None => response.metadata.response_code = ResponseCode::NXDomain,
        Some(Found::Address) if query.query_type() == RecordType::A => {
            response.add_answer(address(name.clone()));
        }
        Some(Found::Ports(ports)) if query.query_type() == RecordType::SRV => {
            for (target, port) in ports {
                let service = SRV::new(0, 100, port, target.clone());
                response.add_answer(Record::from_rdata(name.clone(), TTL_SECS, RData::SRV(service)));
                response.add_additional(address(target));
            }
        }
        // The name exists, without records of this type.
        Some(_) => {}
    }
    response
}

fn address(name: Name) -> Record {
    Record::from_rdata(name, TTL_SECS, RData::A(Ipv4Addr::LOCALHOST.into()))
}

/// What a name stands for.
enum Found {
    /// The address of all pods.
    Address,
    /// Names of pods, each with the port in question.
    Ports(Vec<(Name, u16)>),
}

fn find(cluster: &Cluster, name: &str) -> Option<Found> {
    let name = name.trim_end_matches('.');
    let name = name.strip_suffix(".cluster.local").unwrap_or(name).strip_suffix(".svc")?;
    let labels: Vec<_> = name.split('.').collect();
    let (rest, [service, namespace]) = labels.split_last_chunk()?;
    let found = cluster.store.get(&kinds::SERVICE, namespace, service)?;
    let pods = pods_behind(cluster, &found);
    match rest {
        [] if !pods.is_empty() => Some(Found::Address),
        [label] if pods.iter().any(|pod| value::uid(pod) == *label) => Some(Found::Address),
        [port, protocol] => {
            let port = items(&found, "/spec/ports").iter().find(|one| {
                format!("_{}", text(one, "/name")) == *port
                    && format!("_{}", text(one, "/protocol").to_lowercase()) == *protocol
            })?;
            let target = port.get("targetPort")?;
            let real = pods.iter().filter_map(|pod| {
                let name = format!("{}.{service}.{namespace}.svc.cluster.local.", value::uid(pod));
                Some((Name::from_ascii(name).ok()?, port_forward::real_port(pod, target)?))
            });
            let real: Vec<_> = real.collect();
            (!real.is_empty()).then_some(Found::Ports(real))
        }
        _ => None,
    }
}

/// The pods that a headless Service stands for; none for another Service.
fn pods_behind(cluster: &Cluster, service: &Value) -> Vec<Arc<Value>> {
    let selector: Vec<_> = entries(service, "/spec/selector").collect();
    if text(service, "/spec/clusterIP") != "None" || selector.is_empty() {
        return Vec::new();
    }
    let all_states = truth(service, "/spec/publishNotReadyAddresses");
    let mut pods = cluster.store.all(&kinds::POD, Some(value::namespace(service)));
    pods.retain(|pod| {
        selector.iter().all(|(key, desired)| value::label(pod, key) == *desired)
            && !text(pod, "/status/podIP").is_empty()
            && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
            && (all_states || value::has_condition(pod, "Ready") && !value::is_deleting(pod))
    });
    pods
}
