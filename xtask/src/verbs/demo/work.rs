//! What the demo submits, and waiting for what becomes of it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use cli::{Context, output::Output};
use contract::{Outcome, object, outcome::State};
use google_cloud_pubsub::model::Message;
use jiff::Timestamp;
use sessions::submit::{Existing, Fate, Input, Options, Source, Submitter, session_name};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::examples_folder;

/// The payload of the message that is published without an input.
pub(super) const PAYLOAD: &str = "engine payload 1";
/// Job id of the malformed input.
pub(super) const MALFORMED: &str = "malformed.json";
/// A safety net; the demo takes seconds.
const LIMIT: Duration = Duration::from_secs(300);
const POLL_EVERY: Duration = Duration::from_millis(100);

/// What was submitted to one business.
pub(super) struct Submitted {
    /// Business.
    pub(super) business: String,
    /// Jobs by the name of their input object, with its generation; 0 while it is not known.
    pub(super) inputs: BTreeMap<String, i64>,
}

/// An outcome with the name of its object.
pub(super) struct Found {
    /// Name of the object.
    pub(super) object: String,
    /// What it says.
    pub(super) outcome: Outcome,
}

/// The pricing jobs among the examples, sorted by name.
pub(super) fn examples() -> anyhow::Result<Vec<Input>> {
    let folder = examples_folder().join("pricing");
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read the folder {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let job = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            inputs.push(Input { job, source: Source::File(path), content_type: "application/json".to_owned() });
        }
    }
    inputs.sort_by(|a, b| a.job.cmp(&b.job));
    Ok(inputs)
}

/// Submits a session of all examples and the malformed input, and publishes one message by hand.
pub(super) async fn submit(
    context: &Context,
    business: &str,
    examples: &[Input],
    stop: &CancellationToken,
) -> anyhow::Result<Submitted> {
    let business = context.config.business(business)?;
    let mut inputs = examples.to_vec();
    inputs.push(Input {
        job: MALFORMED.to_owned(),
        source: Source::File(examples_folder().join(MALFORMED)),
        content_type: "application/json".to_owned(),
    });
    let session = session_name(Timestamp::now(), &business.name);
    let options = Options { session: session.clone(), client: Some("demo".to_owned()), ..Options::default() };
    let publisher = context.connection.base_publisher().await?;
    let submitter = Submitter::new(context.store.clone(), &publisher, business.clone());
    let report = submitter.run(inputs, &options, &Existing::default(), stop, |_, _| {}).await;
    if !report.is_complete() {
        let failed = report.jobs.iter().filter_map(|(job, fate)| match fate {
            Fate::Failed(error) => Some(format!("{job}: {error:#}")),
            _ => None,
        });
        let failed: Vec<String> = failed.collect();
        bail!("{} of {} jobs were not submitted\n{}", failed.len(), report.jobs.len(), failed.join("\n"));
    }
    let mut expected: BTreeMap<String, i64> = report
        .expected()
        .into_iter()
        .map(|(job, generation)| (object::input(&business.name, &session, &job), generation))
        .collect();

    let by_hand = publisher.publisher(&business.topic).build();
    let message_id = by_hand.publish(Message::new().set_data(PAYLOAD)).await.context("publish a message by hand")?;
    expected.insert(object::input(&business.name, object::INLINE_SESSION, &message_id), 0);
    Ok(Submitted { business: business.name.clone(), inputs: expected })
}

/// Waits until every job has an outcome, and reads them all.
pub(super) async fn wait(context: &Context, submitted: &[Submitted], output: &Output) -> anyhow::Result<Vec<Found>> {
    let total: usize = submitted.iter().map(|submitted| submitted.inputs.len()).sum();
    let mut progress = output.progress("settled", total);
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut names = Vec::new();
        for business in submitted.iter().map(|submitted| &submitted.business) {
            let prefix = object::outcome_prefix(business, None);
            names
                .extend(context.store.list(&context.config.bucket, &prefix).await?.into_iter().map(|found| found.name));
        }
        progress.set(names.len(), "");
        if names.len() >= total {
            drop(progress);
            return read(context, names).await;
        }
        if Instant::now() > deadline {
            bail!("only {} of {total} jobs have an outcome after {} s", names.len(), LIMIT.as_secs());
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

async fn read(context: &Context, names: Vec<String>) -> anyhow::Result<Vec<Found>> {
    let bodies = context.store.read_all(&context.config.bucket, names.clone(), 32).await?;
    let mut found = Vec::new();
    for (object, body) in names.into_iter().zip(bodies) {
        let (_, body) = body.with_context(|| format!("find the outcome {object}, which was there a moment ago"))?;
        let outcome = serde_json::from_slice(&body).with_context(|| format!("parse the outcome {object}"))?;
        found.push(Found { object, outcome });
    }
    Ok(found)
}

impl Found {
    /// Whether the Job succeeded.
    pub(super) fn succeeded(&self) -> bool {
        self.outcome.state == State::Succeeded
    }
}
