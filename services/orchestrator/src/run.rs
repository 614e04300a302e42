//! Puts the tasks of the orchestrator together, and stops them in order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use cloud::{clients::Connection, probes, probes::Health, storage::Store};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    batcher::{self, Batcher},
    clock::Clock,
    cluster::Cluster,
    conclude,
    config::Config,
    context::{CREATES_MAX, Context, Recent},
    controls::{self, Controls},
    events::Events,
    follow::follow,
    gate::{self, Gate},
    hooks::Hooks,
    intake,
    job::Template,
    jobs::Jobs,
    looks::Looks,
    metrics::Metrics,
    payload::Payloads,
    priority::{Priority, Rank},
    settle,
    settle_batch::Progress,
    sweep,
};

/// How long without a tick until the liveness probe fails.
const STALE_AFTER: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_secs(1);

/// What the orchestrator calls, and where it is called.
pub struct Clients {
    /// Kubernetes. Its own retries must be off (`default_retry = false`): who asked decides what an answer means.
    pub kube: kube::Client,
    /// Pub/Sub and Cloud Storage.
    pub connection: Connection,
    /// Where the probes and the metrics are served.
    pub listener: TcpListener,
}

type Task = (&'static str, anyhow::Result<()>);

/// Runs the orchestrator until `stop`; then stops intake, finishes what is in hand, and returns.
///
/// # Errors
/// When the Job template is not one, a client cannot be built, or a task ends by itself.
pub async fn run(
    config: Config,
    clients: Clients,
    clock: Clock,
    hooks: Hooks,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Config { business, namespace, endpoints: _, template, port: _, log_filter: _, timing } = config;
    let Clients { kube, connection, listener } = clients;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let health = Health::new(STALE_AFTER);
    let again = connection.publisher(&business.topic).await?;
    let subscriber = connection.subscriber().await?;
    // What waits in the priority subscription competes for the same slots as the rest.
    let takes = business.intake;
    let first = business.priority_subscription.clone().map(|subscription| (subscription, Rank::First));
    let ordinary = (business.subscription.clone(), Rank::Ordinary);
    let subscriptions: Vec<(String, Rank)> = first.into_iter().chain([ordinary]).filter(|_| takes).collect();
    let cluster = Cluster::new(kube, &namespace);
    let watched = cluster.watched(&namespace);
    let context = Arc::new(Context {
        template: Template::parse(&template, &business, &namespace)?,
        cluster,
        store: Store::connect(&connection).await?,
        events: Events::new(connection.publisher(&business.events_topic).await?, metrics.events_lost.clone()),
        jobs: Jobs::new(),
        gate: Gate::new(),
        metrics,
        health: health.clone(),
        hooks,
        clock,
        timing,
        breaker: Mutex::default(),
        creates: Semaphore::new(CREATES_MAX),
        payloads: Payloads::default(),
        large_refusals: Semaphore::new(conclude::LARGE_AT_ONCE),
        looks: Looks::default(),
        recent: Recent::default(),
        again,
        batcher: Batcher::default(),
        progress: Progress::default(),
        controls: Controls::new(),
        priority: Priority::new(business.priority_subscription.is_some(), timing.priority_quiet),
        business,
    });
    tracing::info!(business = context.business.name, namespace, ?subscriptions, "started");

    // Intake stops first, then settling; the rest serves both and stops last.
    let (intake_stop, settle_stop, rest_stop) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let mut intake: JoinSet<Task> = JoinSet::new();
    let mut settling: JoinSet<Task> = JoinSet::new();
    let mut rest: JoinSet<Task> = JoinSet::new();
    for (subscription, rank) in subscriptions {
        let (context, token, subscriber) = (context.clone(), intake_stop.clone(), subscriber.clone());
        intake.spawn(async move {
            // What is decided about a session is known before its first message is taken.
            context.controls.loaded(&token).await;
            ("intake", intake::run(context, subscriber, subscription, rank, token).await)
        });
    }
    if takes {
        let (context, token) = (context.clone(), intake_stop.clone());
        intake.spawn(async move {
            context.controls.loaded(&token).await;
            ("sweep", sweep::run(&context, &token).await)
        });
    }
    {
        // Also while no message is taken: a cancel must reach what runs.
        let (context, token) = (context.clone(), intake_stop.clone());
        intake.spawn(async move { ("controls", controls::run(&context, &token).await) });
    }
    {
        let (context, token) = (context.clone(), intake_stop.clone());
        intake.spawn(async move { ("batches", batcher::run(context, token).await) });
    }
    {
        let (context, token) = (context.clone(), intake_stop.clone());
        intake.spawn(async move { ("gate", gate::run(&context, &token).await) });
    }
    {
        let (context, token) = (context.clone(), settle_stop.clone());
        settling.spawn(async move { ("settle", settle::run(context, token).await) });
    }
    {
        let context = context.clone();
        rest.spawn(async move {
            let followed = follow(watched, &context.business.name, &context.jobs, &context.health).await;
            ("watch", followed)
        });
    }
    {
        let (health, token) = (health.clone(), rest_stop.clone());
        rest.spawn(async move { ("probes", probes::serve(listener, health, Arc::new(registry), token).await) });
    }

    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            Some(task) = intake.join_next() => break Err(unexpected(task)),
            Some(task) = settling.join_next() => break Err(unexpected(task)),
            Some(task) = rest.join_next() => break Err(unexpected(task)),
            _ = ticks.tick() => tick(&context),
        }
    };

    health.not_ready("stopping", "was asked to stop");
    let within = context.timing.stop_within;
    let started = Instant::now();
    intake_stop.cancel();
    finish("intake", &mut intake, within * 3 / 5).await;
    settle_stop.cancel();
    finish("settling", &mut settling, (within * 9 / 10).saturating_sub(started.elapsed())).await;
    if tokio::time::timeout(within.saturating_sub(started.elapsed()), context.events.flush()).await.is_err() {
        tracing::warn!("events were still to be published");
    }
    rest_stop.cancel();
    rest.shutdown().await;
    tracing::info!("stopped");
    ended
}

/// What is done every second.
fn tick(context: &Context) {
    context.health.tick();
    let view = context.jobs.look();
    context.metrics.active.set(i64::try_from(view.active()).unwrap_or(i64::MAX));
    context.metrics.suspended.set(i64::try_from(view.suspended()).unwrap_or(i64::MAX));
    context.metrics.unsettled.set(i64::try_from(view.unsettled()).unwrap_or(i64::MAX));
}

fn unexpected(task: Result<Task, tokio::task::JoinError>) -> anyhow::Error {
    match task {
        Ok((name, Ok(()))) => anyhow::anyhow!("the task {name} ended by itself"),
        Ok((name, Err(error))) => error.context(format!("run the task {name}")),
        Err(error) => anyhow::Error::from(error).context("run a task"),
    }
}

/// Waits for tasks that were asked to stop.
async fn finish(what: &str, tasks: &mut JoinSet<Task>, within: Duration) {
    let all = async {
        while let Some(task) = tasks.join_next().await {
            if let Ok((name, Err(error))) = task {
                tracing::warn!("failed to end the task {name}: {error:#}");
            }
        }
    };
    match tokio::time::timeout(within, all).await {
        Ok(()) => tracing::info!("{what} has stopped"),
        Err(_) => tracing::warn!("{what} did not stop in time; what was in hand is done again by the next process"),
    }
    tasks.shutdown().await;
}

/// Opens the listener of the probes and the metrics.
///
/// # Errors
/// When the port is taken.
pub async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("listen on port {port}"))
}
