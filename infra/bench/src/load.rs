//! Inputs, messages and Jobs to measure with.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use cloud::storage::{Properties, Written};
use contract::{Identity, config::Business, message::Work, object};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use google_cloud_pubsub::{client::Publisher, model::Message};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use cli::Context;

/// Requests in flight at once, ours and those of the yardsticks.
pub(super) const AT_ONCE: usize = 32;
/// Deadline of every wait; they take seconds.
const LIMIT: Duration = Duration::from_secs(300);

/// An input that an engine processes in no time.
const PAYLOAD: &str = "bench payload";

/// Uploads small inputs, and returns the work of each.
pub(super) async fn upload(
    context: &Context,
    business: &Business,
    session: &str,
    count: usize,
) -> anyhow::Result<Vec<Work>> {
    stream::iter(0..count)
        .map(|index| async move {
            let job = format!("{index:06}");
            let object = object::input(&business.name, session, &job);
            let properties = Properties { content_type: "text/plain".to_owned(), ..Properties::default() };
            let written = context.store.write_once(&business.bucket, &object, PAYLOAD.to_owned(), properties).await?;
            let Written::New(generation) = written else { bail!("{object} exists already") };
            let identity = Identity { bucket: business.bucket.clone(), object, generation, first: None, attempt: 0 };
            Ok(Work::new(identity, &business.name, session, &job))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// Publishes the message for some work.
pub(super) async fn publish(publisher: &Publisher, work: &Work) -> anyhow::Result<()> {
    let (data, attributes) = work.encode();
    let message = Message::new().set_data(data).set_attributes(attributes);
    publisher.publish(message).await.map(drop).context("publish a message")
}

/// Publishes them all.
pub(super) async fn publish_all(context: &Context, business: &Business, works: &[Work]) -> anyhow::Result<()> {
    let publisher = &context.connection.publisher(&business.topic).await?;
    stream::iter(works).map(|work| publish(publisher, work)).buffer_unordered(1000).try_collect().await
}

/// Jobs of a namespace, as a watch of their metadata reports them.
pub(super) struct Seen {
    jobs: watch::Receiver<BTreeMap<String, Sighting>>,
    task: JoinHandle<()>,
}

/// A Job, when it was first seen.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// When the watch reported it.
    pub(super) at: Instant,
    /// The same as a time of day.
    pub(super) now: jiff::Timestamp,
    /// It was created during the watch.
    pub(super) is_fresh: bool,
    /// Its annotations.
    pub(super) annotations: BTreeMap<String, String>,
}

impl Seen {
    /// Begins to watch, and waits until the existing Jobs are listed.
    ///
    /// # Errors
    /// When the watch does not begin.
    pub(super) async fn begin(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let api: Api<PartialObjectMeta<Job>> = Api::namespaced(client.clone(), namespace);
        let (sender, jobs) = watch::channel(BTreeMap::new());
        let (ready_sender, mut ready) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
            let mut is_fresh = false;
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::InitApply(job) | watcher::Event::Apply(job)) => {
                        let sighting = Sighting {
                            at: Instant::now(),
                            now: jiff::Timestamp::now(),
                            is_fresh,
                            annotations: job.metadata.annotations.unwrap_or_default(),
                        };
                        let name = job.metadata.name.unwrap_or_default();
                        sender.send_if_modified(|jobs| {
                            let is_new = !jobs.contains_key(&name);
                            jobs.entry(name).or_insert(sighting);
                            is_new
                        });
                    }
                    Ok(watcher::Event::InitDone) => {
                        is_fresh = true;
                        let _ = ready_sender.send(true);
                    }
                    _ => {}
                }
            }
        });
        let begun = timeout(LIMIT, ready.wait_for(|ready| *ready)).await.context("watch the Jobs")?;
        begun.context("watch the Jobs")?;
        Ok(Self { jobs, task })
    }

    /// Waits until so many Jobs were seen, and returns them.
    ///
    /// # Errors
    /// When there are not as many after minutes.
    pub(super) async fn wait_for(&mut self, count: usize) -> anyhow::Result<Vec<Sighting>> {
        if timeout(LIMIT, self.jobs.wait_for(|jobs| jobs.len() >= count)).await.is_err() {
            bail!("only {} of {count} Jobs exist after {} s", self.jobs.borrow().len(), LIMIT.as_secs());
        }
        Ok(self.jobs.borrow().values().cloned().collect())
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until a business has so many outcomes in a session.
///
/// # Errors
/// When there are not as many after minutes.
pub(super) async fn outcomes(
    context: &Context,
    business: &Business,
    session: &str,
    count: usize,
) -> anyhow::Result<()> {
    let prefix = object::outcome_prefix(&business.name, Some(session));
    let deadline = Instant::now() + LIMIT;
    loop {
        let there = context.store.list(&business.bucket, &prefix).await?.len();
        if there >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("only {there} of {count} jobs have an outcome after {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Events per second between the first and the last.
pub(super) fn rate(mut times: Vec<Instant>) -> f64 {
    times.sort_unstable();
    match (times.first(), times.last()) {
        (Some(first), Some(last)) if last > first => (times.len() - 1) as f64 / (*last - *first).as_secs_f64(),
        _ => 0.0,
    }
}
