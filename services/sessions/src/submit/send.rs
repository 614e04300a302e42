//! Sends a submission: many uploads at once, with their messages published in batches.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, bail};
use cloud::{
    clients::PUBLISH_DELAY,
    storage::{self, Properties, Store, Written},
};
use contract::{config::Business, message::Work, object};
use futures::StreamExt as _;
use google_cloud_pubsub::{
    client::{BasePublisher, Publisher},
    model::Message,
};
use tokio_util::sync::CancellationToken;

use super::{
    compare::{check_same, fingerprint, is_same},
    existing::{Existing, Step},
    input::{Input, Source},
    options::{Fate, Options},
};

/// Uploads at a time. Each holds an open file and a few hundred KiB.
const UPLOADS: usize = 32;
/// Messages handed to the publisher and not yet confirmed.
const UNCONFIRMED: usize = 1000;
/// Failures of the cloud in a row after which the rest is not sent.
const FAILURES_IN_A_ROW: u32 = 8;
/// Time for started uploads to finish after the submission is stopped.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// Submits to one business.
#[derive(Clone, Debug)]
pub struct Submitter {
    pub(super) store: Store,
    publisher: Publisher,
    pub(super) business: Business,
}

/// The result of a submission.
#[derive(Debug)]
pub struct Report {
    /// The Jobs in the order given, each with its result.
    pub jobs: Vec<(String, Fate)>,
    /// Whether it stopped before the end: by request, or after too many failures.
    pub stopped: bool,
}

impl Report {
    /// The Jobs that have or will have an outcome, with the generation of their input.
    pub fn expected(&self) -> Vec<(String, i64)> {
        self.jobs
            .iter()
            .filter_map(|(job, fate)| match fate {
                Fate::Submitted { generation, .. } | Fate::Settled { generation } => Some((job.clone(), *generation)),
                Fate::NotTried | Fate::Uploaded { .. } | Fate::Failed(_) => None,
            })
            .collect()
    }

    /// Number of Jobs with such a result.
    pub fn count(&self, is_counted: impl Fn(&Fate) -> bool) -> usize {
        self.jobs.iter().filter(|(_, fate)| is_counted(fate)).count()
    }

    /// True when every Job is submitted or has its outcome.
    pub fn is_complete(&self) -> bool {
        self.count(|fate| matches!(fate, Fate::Submitted { .. } | Fate::Settled { .. })) == self.jobs.len()
    }
}

/// The result of an upload.
enum Placed {
    /// The input exists; publish this work.
    Publish { work: Box<Work>, repeated: bool },
    /// There is nothing to publish.
    Done(Fate),
}

impl Submitter {
    /// For submissions to `business`.
    pub fn new(store: Store, publisher: &BasePublisher, business: Business) -> Self {
        let publisher = publisher.publisher(&business.topic).set_delay_threshold(PUBLISH_DELAY).build();
        Self { store, publisher, business }
    }

    /// Reads the inputs and outcomes of a session. Needed only for a session that may exist.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub async fn existing(&self, session: &str) -> anyhow::Result<Existing> {
        let inputs = object::input(&self.business.name, session, "");
        let outcomes = object::outcome_prefix(&self.business.name, Some(session));
        let (inputs, outcomes) = tokio::try_join!(
            self.store.list(&self.business.bucket, &inputs),
            self.store.list(&self.business.bucket, &outcomes)
        )?;
        let names = |objects: &[storage::Object]| objects.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
        let (inputs, outcomes) = (names(&inputs), names(&outcomes));
        Ok(Existing::new(&self.business.name, inputs.iter().map(String::as_str), outcomes.iter().map(String::as_str)))
    }

    /// Writes common data of a session, unless it exists.
    ///
    /// # Errors
    /// When the session has other data of this name, or the bucket cannot be written.
    pub async fn place_common(&self, input: &Input, session: &str) -> anyhow::Result<()> {
        let bucket = &self.business.bucket;
        let object = object::common(&self.business.name, session, &input.job);
        let properties = Properties { content_type: input.content_type.clone(), ..Properties::default() };
        if let Written::New(_) = self.write(&input.source, bucket, &object, properties).await? {
            return Ok(());
        }
        // A client may have permission to write common data and not to read it. Then it cannot be compared.
        let ours = fingerprint(&input.source).await?;
        match self.store.fingerprint(bucket, &object).await {
            Ok(Some((there, _))) if !is_same(&there, ours) => bail!(
                "session {session} already has other common data called {} (gs://{bucket}/{object}); choose another \
                 session or another name",
                input.job
            ),
            Ok(_) => Ok(()),
            Err(error) if storage::is_denied(&error) => {
                bail!("session {session} has common data called {} already, and it cannot be compared", input.job)
            }
            Err(error) => Err(error),
        }
    }

    /// Submits every input, and calls `progress` with the result of each. When `stop` is cancelled, started uploads
    /// finish and the rest is not sent.
    pub async fn run(
        &self,
        inputs: Vec<Input>,
        options: &Options,
        existing: &Existing,
        stop: &CancellationToken,
        mut progress: impl FnMut(&str, &Fate),
    ) -> Report {
        let names: Vec<String> = inputs.iter().map(|input| input.job.clone()).collect();
        let fates = Arc::new(Mutex::new(names.iter().map(|_| Fate::NotTried).collect::<Vec<_>>()));
        let halt = stop.child_token();
        let failures = Arc::new(AtomicU32::new(0));
        let (until, count, noted) = (halt.clone(), Arc::clone(&failures), Arc::clone(&fates));
        let (placer, sender) = (self.clone(), self.clone());
        let (options, existing) = (Arc::new(options.clone()), Arc::new(existing.clone()));

        let placed = futures::stream::iter(inputs.into_iter().enumerate())
            .take_while(move |_| futures::future::ready(!until.is_cancelled()))
            .map(move |(position, input)| {
                let (this, options, existing) = (placer.clone(), Arc::clone(&options), Arc::clone(&existing));
                async move { (position, this.place(&input, &options, &existing).await) }
            })
            .buffer_unordered(UPLOADS);
        let sent = placed
            .map(move |(position, placed)| {
                let (this, noted) = (sender.clone(), Arc::clone(&noted));
                async move {
                    let fate = match placed {
                        Ok(Placed::Done(fate)) => fate,
                        Ok(Placed::Publish { work, repeated }) => {
                            record(&noted, position, Fate::Uploaded { generation: work.identity.generation });
                            this.publish(&work, repeated).await.unwrap_or_else(Fate::Failed)
                        }
                        Err(error) => Fate::Failed(error),
                    };
                    (position, fate)
                }
            })
            .buffer_unordered(UNCONFIRMED);
        let mut sent = std::pin::pin!(sent);
        let mut overdue = std::pin::pin!(async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        });
        loop {
            let next = tokio::select! {
                next = sent.next() => next,
                () = &mut overdue => None,
            };
            let Some((position, fate)) = next else { break };
            if gives_up(&fate, &count) {
                halt.cancel();
            }
            progress(&names[position], &fate);
            record(&fates, position, fate);
        }
        let fates = std::mem::take(&mut *fates.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Report { jobs: names.into_iter().zip(fates).collect(), stopped: halt.is_cancelled() }
    }

    /// Writes one input, unless it exists.
    async fn place(&self, input: &Input, options: &Options, existing: &Existing) -> anyhow::Result<Placed> {
        let mut work = options.work(&self.business, &input.job);
        work.check_message().map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let mut step = existing.step(&input.job);
        // An existing input may be deleted in between, when its Job succeeds. Then its outcome exists.
        for _ in 0..3 {
            match step {
                Step::Settled { generation } => return Ok(Placed::Done(Fate::Settled { generation })),
                Step::Upload => match self.upload(input, &work).await? {
                    Written::New(generation) => {
                        work.identity.generation = generation;
                        return Ok(Placed::Publish { work: Box::new(work), repeated: false });
                    }
                    Written::Exists => step = Step::Compare,
                },
                Step::Compare => match self.compare(input, &work).await? {
                    Some(generation) if existing.is_settled(&input.job, generation) => {
                        return Ok(Placed::Done(Fate::Settled { generation }));
                    }
                    Some(generation) => {
                        work.identity.generation = generation;
                        return Ok(Placed::Publish { work: Box::new(work), repeated: true });
                    }
                    None => step = self.step_after_deletion(&input.job, &work.session).await?,
                },
            }
        }
        bail!("the input gs://{}/{} keeps appearing and disappearing", work.identity.bucket, work.identity.object)
    }

    async fn upload(&self, input: &Input, work: &Work) -> anyhow::Result<Written> {
        let properties = Properties { content_type: input.content_type.clone(), metadata: work.metadata() };
        self.write(&input.source, &work.identity.bucket, &work.identity.object, properties).await
    }

    async fn write(
        &self,
        source: &Source,
        bucket: &str,
        object: &str,
        properties: Properties,
    ) -> anyhow::Result<Written> {
        match source {
            Source::File(path) => self.store.write_file_once(bucket, object, path, properties).await,
            Source::Bytes(bytes) => self.store.write_once(bucket, object, bytes.clone(), properties).await,
        }
    }

    /// The live generation of the existing input, if it is the same as ours; `None` when it was deleted.
    async fn compare(&self, input: &Input, work: &Work) -> anyhow::Result<Option<i64>> {
        let (bucket, object) = (&work.identity.bucket, &work.identity.object);
        let found = match self.store.fingerprint(bucket, object).await {
            // A client may create inputs and list them, and not read them.
            Err(error) if storage::is_denied(&error) => self.store.listed(bucket, object).await?,
            found => found?,
        };
        let Some((there, written)) = found else { return Ok(None) };
        let ours = fingerprint(&input.source).await?;
        check_same(work, &there, &written, ours)?;
        Ok(Some(there.generation))
    }

    /// The next step for an input that was deleted meanwhile.
    pub(super) async fn step_after_deletion(&self, job: &str, session: &str) -> anyhow::Result<Step> {
        let prefix = format!("{}{job}/", object::outcome_prefix(&self.business.name, Some(session)));
        let outcomes = self.store.list(&self.business.bucket, &prefix).await?;
        let names = outcomes.iter().map(|outcome| outcome.name.as_str());
        Ok(Existing::new(&self.business.name, [], names).step(job))
    }

    pub(super) async fn publish(&self, work: &Work, repeated: bool) -> anyhow::Result<Fate> {
        let (data, attributes) = work.encode();
        let message = Message::new().set_data(data).set_attributes(attributes);
        let message_id = self
            .publisher
            .publish(message)
            .await
            .with_context(|| format!("publish to {}; its input is uploaded", self.business.topic))?;
        Ok(Fate::Submitted { generation: work.identity.generation, message_id, repeated })
    }
}

/// Counts failures of the cloud in a row; true when the rest must not be sent.
fn gives_up(fate: &Fate, failures: &AtomicU32) -> bool {
    match fate {
        Fate::Failed(error) if storage::is_denied(error) => true,
        Fate::Failed(error) if is_of_cloud(error) => failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_IN_A_ROW,
        Fate::Failed(_) => false,
        _ => {
            failures.store(0, Ordering::Relaxed);
            false
        }
    }
}

/// Whether the error is one of the cloud, not of the input.
fn is_of_cloud(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<google_cloud_storage::Error>() || cause.is::<google_cloud_pubsub::error::PublishError>()
    })
}

fn record(fates: &Mutex<Vec<Fate>>, position: usize, fate: Fate) {
    fates.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[position] = fate;
}
