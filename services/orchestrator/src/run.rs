//! Starts the tasks of the orchestrator, and stops them in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use cloud::{clients::Connection, probes, probes::Health, storage::Store};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admit::{
        Admission,
        gate::{self, Gate},
    },
    base::Base,
    clock::Clock,
    cluster::Cluster,
    config::{Config, PoolConfig},
    execute::{
        Executor,
        create::Creator,
        job::Template,
        pool::{self, Pool, slots::EngineTemplate, tokens::Tokens},
    },
    hooks::Hooks,
    intake::{
        Intake,
        accept::Acceptor,
        priority::{Priority, Rank},
    },
    metrics::Metrics,
    sessions::{self, Controls},
    settle::{
        self, Settler,
        events::Events,
        pods::{self, Pods},
        record::Records,
    },
    sweep::{self, Sweeper},
    watch::{self, jobs::Jobs},
};

/// How long after the last tick the liveness probe fails.
const STALE_AFTER: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_secs(1);

/// The clients of the orchestrator, and its listener.
pub struct Clients {
    /// Kubernetes. Its own retries must be off (`default_retry = false`): the caller decides what an answer means.
    pub kube: kube::Client,
    /// Pub/Sub and Cloud Storage.
    pub connection: Connection,
    /// Serves the probes and the metrics.
    pub listener: TcpListener,
}

type Task = (&'static str, anyhow::Result<()>);

/// Runs the orchestrator until `stop`; then stops intake, finishes the accepted messages, and returns.
///
/// # Errors
/// When the Job template is invalid, a client cannot be built, or a task ends by itself.
pub async fn run(
    config: Config,
    clients: Clients,
    clock: Clock,
    hooks: Hooks,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Config { business, namespace, endpoints: _, template, pool: pool_config, listen: _, log_filter: _, timing } =
        config;
    let Clients { kube, connection, listener } = clients;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let health = Health::new(STALE_AFTER);
    let template = Template::parse(&template, &business, &namespace)?;
    let subscriber = connection.subscriber().await?;
    let events = Events::new(connection.publisher(&business.events_topic).await?, metrics.events_lost.clone());
    // Messages of the priority subscription use the same slots as the others.
    let first = business.priority_subscription.clone().map(|subscription| (subscription, Rank::First));
    let ordinary = (business.subscription.clone(), Rank::Ordinary);
    let has_intake = business.intake;
    let subscriptions: Vec<(String, Rank)> = first.into_iter().chain([ordinary]).filter(|_| has_intake).collect();
    tracing::info!(business = business.name, namespace, ?subscriptions, "started");
    let base = Arc::new(Base {
        cluster: Cluster::new(kube, &namespace),
        store: Store::connect(&connection).await?,
        publisher: connection.publisher(&business.topic).await?,
        jobs: Jobs::new(),
        metrics,
        health: health.clone(),
        hooks,
        clock,
        timing,
        business,
    });
    // Intake stops first, then settling; the rest serves both and stops last.
    let (intake_stop, settle_stop, rest_stop) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let records = Arc::new(Records::new(&base, events));
    let pool = Pool::new(&base, &records, intake_stop.clone()).map(Arc::new);
    let creator = Creator::new(&base, template.clone());
    let executor = Arc::new(Executor { base: base.clone(), creator, pool: pool.clone() });
    let (gate, controls, pods) = (Arc::new(Gate::new()), Arc::new(Controls::new(&base)), Arc::new(Pods::new()));
    let admission = Admission::new(&base, &controls, &records, &executor);
    let received = Arc::new(Intake {
        base: base.clone(),
        acceptor: Acceptor::new(&base, admission, &gate),
        priority: Priority::new(base.business.priority_subscription.is_some(), timing.priority_quiet),
        pool: pool.clone(),
    });

    let mut intake: JoinSet<Task> = JoinSet::new();
    let mut settling: JoinSet<Task> = JoinSet::new();
    let mut rest: JoinSet<Task> = JoinSet::new();
    for (subscription, rank) in subscriptions {
        let (received, controls) = (received.clone(), controls.clone());
        let (subscriber, stop) = (subscriber.clone(), intake_stop.clone());
        spawn(&mut intake, "intake", async move {
            // The decisions about sessions are read before the first message is received.
            controls.loaded(&stop).await;
            received.run(subscriber, subscription, rank, stop).await
        });
    }
    if has_intake {
        let (base, controls) = (base.clone(), controls.clone());
        let sweeper = Sweeper { base, controls, records: records.clone(), executor: executor.clone() };
        spawn(&mut intake, "sweep", sweep::run(sweeper, intake_stop.clone()));
    }
    // Also without intake: a cancel must reach the running Jobs.
    spawn(&mut intake, "controls", sessions::run(controls, records.clone(), executor, intake_stop.clone()));
    spawn(&mut intake, "gate", gate::run(gate, base.clone(), template, intake_stop.clone()));
    let settler = Arc::new(Settler { base: base.clone(), records: records.clone(), pods: pods.clone() });
    spawn(&mut settling, "settle", settle::run(settler, settle_stop.clone()));
    spawn(&mut rest, "watch", watch::run(base.clone()));
    spawn(&mut rest, "pods", pods::run(base.clone(), pods));
    spawn(&mut rest, "probes", probes::serve(listener, health.clone(), Arc::new(registry), rest_stop.clone()));
    if let (Some(pool), Some(config)) = (&pool, pool_config) {
        let PoolConfig { template, certificates, listen: address, pod } = config;
        let template = EngineTemplate::parse(&template, &namespace, base.business.queue.as_deref())?;
        let tokens = Tokens::new(base.cluster.clone(), &namespace);
        let server = pool::server::serve(pool.clone(), tokens, listen(address).await?, certificates, rest_stop.clone());
        spawn(&mut rest, "pool server", server);
        spawn(&mut rest, "pool report", pool::report::run(pool.clone(), pod, rest_stop.clone()));
        spawn(&mut rest, "pool", pool::slots::run(pool.clone(), template, rest_stop.clone()));
    }

    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            Some(task) = intake.join_next() => break Err(unexpected(task)),
            Some(task) = settling.join_next() => break Err(unexpected(task)),
            Some(task) = rest.join_next() => break Err(unexpected(task)),
            _ = ticks.tick() => tick(&base, pool.as_deref()),
        }
    };

    health.not_ready("stopping", "received a stop signal");
    let timeout = base.timing.stop_timeout;
    let started = Instant::now();
    intake_stop.cancel();
    finish("intake", &mut intake, timeout * 3 / 5).await;
    settle_stop.cancel();
    finish("settling", &mut settling, (timeout * 9 / 10).saturating_sub(started.elapsed())).await;
    if tokio::time::timeout(timeout.saturating_sub(started.elapsed()), records.events.flush()).await.is_err() {
        tracing::warn!("failed to publish the last events in time");
    }
    rest_stop.cancel();
    rest.shutdown().await;
    tracing::info!("stopped");
    ended
}

fn spawn(
    tasks: &mut JoinSet<Task>,
    name: &'static str,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    tasks.spawn(async move { (name, task.await) });
}

/// Updates liveness and gauges every second.
fn tick(base: &Base, pool: Option<&Pool>) {
    base.health.tick();
    let (engines, waiting, assigned) = pool.map(Pool::counts).unwrap_or_default();
    let (view, metrics) = (base.jobs.view(), &base.metrics);
    for (gauge, count) in [
        (&metrics.active, view.active()),
        (&metrics.suspended, view.suspended()),
        (&metrics.unsettled, view.unsettled()),
        (&metrics.pool_engines, engines),
        (&metrics.pool_waiting, waiting),
        (&metrics.pool_assigned, assigned),
    ] {
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

fn unexpected(task: Result<Task, tokio::task::JoinError>) -> anyhow::Error {
    match task {
        Ok((name, Ok(()))) => anyhow::anyhow!("the task {name} ended by itself"),
        Ok((name, Err(error))) => error.context(format!("run the task {name}")),
        Err(error) => anyhow::Error::from(error).context("run a task"),
    }
}

/// Waits for stopping tasks, and aborts those that do not stop in time.
async fn finish(part: &str, tasks: &mut JoinSet<Task>, timeout: Duration) {
    let all = async {
        while let Some(task) = tasks.join_next().await {
            if let Ok((name, Err(error))) = task {
                tracing::warn!("failed to end the task {name}: {error:#}");
            }
        }
    };
    match tokio::time::timeout(timeout, all).await {
        Ok(()) => tracing::info!("{part} has stopped"),
        Err(_) => tracing::warn!("{part} did not stop in time; the next process repeats the unfinished work"),
    }
    tasks.shutdown().await;
}

/// Opens the listener of the probes and the metrics.
///
/// # Errors
/// When the address is taken.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}
