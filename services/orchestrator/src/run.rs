//! Starts the tasks of the orchestrator, and stops them in order.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

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
        lookup::OutcomeLookup,
        packs::Packs,
    },
    base::Base,
    clock::Clock,
    cluster::Cluster,
    config::{Config, PoolConfig},
    execute::{
        create::Creates,
        job::Template,
        pool::{self, Pool, slots::EngineTemplate, tokens::Tokens},
    },
    hooks::Hooks,
    intake::{
        self, Intake,
        accept::Acceptor,
        breaker::Breaker,
        pool::PoolIntake,
        priority::{Priority, Rank},
        received::Payloads,
    },
    metrics::Metrics,
    sessions::{self, Controls},
    settle::{
        self, Settler,
        conclude::LargeRefusals,
        events::Events,
        pods::{self, Pods},
        settled_cache::SettledCache,
    },
    sweep::{self, Sweeper},
    watch::{follow, jobs::Jobs},
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

/// What receives messages.
#[derive(Clone)]
enum Receiver {
    Jobs(Arc<Intake>),
    Pool(Arc<PoolIntake>),
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
    let subscriber = connection.subscriber().await?;
    // Messages of the priority subscription use the same slots as the others.
    let has_intake = business.intake;
    let first = business.priority_subscription.clone().map(|subscription| (subscription, Rank::First));
    let ordinary = (business.subscription.clone(), Rank::Ordinary);
    let subscriptions: Vec<(String, Rank)> = first.into_iter().chain([ordinary]).filter(|_| has_intake).collect();
    let cluster = Cluster::new(kube, &namespace);
    let (watched, watched_pods) = (cluster.watched(&namespace), cluster.watched_pods());
    let base = Arc::new(Base {
        template: Template::parse(&template, &business, &namespace)?,
        cluster,
        store: Store::connect(&connection).await?,
        events: Events::new(connection.publisher(&business.events_topic).await?, metrics.events_lost.clone()),
        publisher: connection.publisher(&business.topic).await?,
        jobs: Jobs::new(),
        pods: Pods::new(),
        metrics,
        health: health.clone(),
        hooks,
        clock,
        timing,
        business,
    });
    let (gate, controls, settled) =
        (Arc::new(Gate::new()), Arc::new(Controls::new()), Arc::new(SettledCache::default()));
    let packs = Arc::new(Packs::default());
    // Intake stops first, then settling; the rest serves both and stops last.
    let (intake_stop, settle_stop, rest_stop) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let pool = Pool::new(&base, &settled, &packs, intake_stop.clone()).map(Arc::new);
    let admission = Arc::new(Admission {
        base: base.clone(),
        controls: controls.clone(),
        settled: settled.clone(),
        lookup: OutcomeLookup::default(),
        creates: Creates::default(),
        packs: packs.clone(),
        pool: pool.clone(),
    });
    let acceptor = Arc::new(Acceptor {
        base: base.clone(),
        admission: admission.clone(),
        gate: gate.clone(),
        large_refusals: LargeRefusals::default(),
        breaker: Mutex::<Breaker>::default(),
    });
    let payloads = Payloads::default();
    let received = match &pool {
        Some(pool) => {
            Receiver::Pool(Arc::new(PoolIntake { base: base.clone(), acceptor, payloads, pool: pool.clone() }))
        }
        None => Receiver::Jobs(Arc::new(Intake {
            base: base.clone(),
            acceptor,
            payloads,
            priority: Priority::new(base.business.priority_subscription.is_some(), timing.priority_quiet),
        })),
    };
    let settler = Arc::new(Settler { base: base.clone(), settled, packs: packs.clone() });
    tracing::info!(business = base.business.name, namespace, ?subscriptions, "started");

    let mut intake: JoinSet<Task> = JoinSet::new();
    let mut settling: JoinSet<Task> = JoinSet::new();
    let mut rest: JoinSet<Task> = JoinSet::new();
    for (subscription, rank) in subscriptions {
        let (received, token, subscriber) = (received.clone(), intake_stop.clone(), subscriber.clone());
        let controls = controls.clone();
        intake.spawn(async move {
            // The decisions about sessions are read before the first message is received.
            controls.loaded(&token).await;
            let ended = match received {
                Receiver::Jobs(intake) => intake::run(intake, subscriber, subscription, rank, token).await,
                Receiver::Pool(intake) => intake::pool::run(intake, subscriber, subscription, rank, token).await,
            };
            ("intake", ended)
        });
    }
    if has_intake {
        let sweeper =
            Sweeper { base: base.clone(), controls: controls.clone(), packs: packs.clone(), pool: pool.clone() };
        let token = intake_stop.clone();
        intake.spawn(async move {
            sweeper.controls.loaded(&token).await;
            ("sweep", sweep::run(&sweeper, &token).await)
        });
    }
    {
        // Also without intake: a cancel must reach the running Jobs.
        let (base, pool, token) = (base.clone(), pool.clone(), intake_stop.clone());
        intake.spawn(async move { ("controls", sessions::run(&base, &controls, pool.as_deref(), &token).await) });
    }
    {
        let (base, token) = (base.clone(), intake_stop.clone());
        intake.spawn(async move { ("gate", gate::run(&base, &gate, &token).await) });
    }
    {
        let token = settle_stop.clone();
        settling.spawn(async move { ("settle", settle::run(settler, token).await) });
    }
    {
        let base = base.clone();
        rest.spawn(async move {
            let followed = follow(watched, &base.business.name, &base.jobs, &base.health).await;
            ("watch", followed)
        });
    }
    {
        let base = base.clone();
        rest.spawn(async move {
            let followed = pods::follow(watched_pods, &base.business.name, &base.jobs, &base.pods).await;
            ("pods", followed)
        });
    }
    {
        let (health, token) = (health.clone(), rest_stop.clone());
        rest.spawn(async move { ("probes", probes::serve(listener, health, Arc::new(registry), token).await) });
    }

    if let (Some(pool), Some(config)) = (&pool, pool_config) {
        let PoolConfig { template, certificates, listen: address, pod } = config;
        let template = EngineTemplate::parse(&template, &namespace, base.business.queue.as_deref())?;
        let (pool, token) = (pool.clone(), rest_stop.clone());
        let tokens = Tokens::new(base.cluster.clone(), &namespace);
        let listener = listen(address).await?;
        let server = pool::server::serve(pool.clone(), tokens, listener, certificates, token.clone());
        rest.spawn(async move { ("pool server", server.await) });
        let reported = (pool.clone(), token.clone());
        rest.spawn(async move { ("pool report", pool::report::run(&reported.0, &pod, &reported.1).await) });
        rest.spawn(async move { ("pool", pool::slots::run(&pool, &template, &token).await) });
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
    if tokio::time::timeout(timeout.saturating_sub(started.elapsed()), base.events.flush()).await.is_err() {
        tracing::warn!("failed to publish the last events in time");
    }
    rest_stop.cancel();
    rest.shutdown().await;
    tracing::info!("stopped");
    ended
}

/// Updates liveness and gauges every second.
fn tick(base: &Base, pool: Option<&Pool>) {
    if let Some(pool) = pool {
        let (engines, waiting, assigned) = pool.counts();
        for (gauge, count) in [
            (&base.metrics.pool_engines, engines),
            (&base.metrics.pool_waiting, waiting),
            (&base.metrics.pool_assigned, assigned),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    base.health.tick();
    let view = base.jobs.view();
    base.metrics.active.set(i64::try_from(view.active()).unwrap_or(i64::MAX));
    base.metrics.suspended.set(i64::try_from(view.suspended()).unwrap_or(i64::MAX));
    base.metrics.unsettled.set(i64::try_from(view.unsettled()).unwrap_or(i64::MAX));
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
