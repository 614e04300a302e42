//! The same set-up as a script of `gcloud` commands: their number, and their time on this machine. The bench runs one
//! command of each kind, since a whole script takes minutes.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use localcloud::google::Google;
use provision::{
    plan::{Change, Plan},
    resource::{Desired, Kind},
};

/// One command of each kind that is timed; later ones need the resources of earlier ones.
const SAMPLES: [(Kind, &str); 9] = [
    (Kind::Services, "services enable cloudkms.googleapis.com"),
    (Kind::Bucket, "storage buckets create gs://PROJECT-sample --location=europe-west1 --uniform-bucket-level-access"),
    (Kind::Topic, "pubsub topics create sample"),
    (Kind::Subscription, "pubsub subscriptions create sample --topic=sample --expiration-period=never"),
    (Kind::ServiceAccount, "iam service-accounts create sample-account"),
    (Kind::Role, "iam roles create sampleRole --project=PROJECT --permissions=storage.objects.list"),
    (
        Kind::TopicPolicy,
        "pubsub topics add-iam-policy-binding sample --role=roles/pubsub.publisher \
         --member=serviceAccount:sample-account@PROJECT.iam.gserviceaccount.com",
    ),
    (
        Kind::BucketPolicy,
        "storage buckets add-iam-policy-binding gs://PROJECT-sample --role=roles/storage.objectViewer \
         --member=serviceAccount:sample-account@PROJECT.iam.gserviceaccount.com",
    ),
    (Kind::Registry, "artifacts repositories create sample --location=europe-west1 --repository-format=docker"),
];

/// The kinds of the commands that carry a plan out: `gcloud` makes one resource and grants one role per command.
pub(super) fn commands(plan: &Plan) -> Vec<Kind> {
    let of = |change: &Change| {
        let count = match change.resource.as_ref().map(|resource| &resource.desired) {
            Some(Desired::Grants(grants)) => grants.len(),
            _ => 1,
        };
        std::iter::repeat_n(change.id.kind, count)
    };
    plan.pending().flat_map(of).collect()
}

/// The times of the script.
pub(super) struct Timed {
    /// All of its commands, one after another: each as long as the one of its kind that was run, or as the quickest.
    pub(super) whole: Duration,
    /// The commands that were run, each with its time.
    pub(super) samples: String,
}

/// Runs one command of each kind with the real `gcloud` against this cloud, and adds up what the whole script takes;
/// nothing where `gcloud` is not on PATH.
pub(super) fn time_commands(google: &Google, kinds: &[Kind]) -> anyhow::Result<Option<Timed>> {
    let paths = contract::config::variables().remove("PATH").unwrap_or_default();
    if !std::env::split_paths(&paths).any(|folder| folder.join("gcloud").is_file()) {
        return Ok(None);
    }
    let folder = tempfile::tempdir().context("make a folder for gcloud")?;
    let variables = google.write_tools(folder.path())?;
    let run = |line: &str| -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let ended = Command::new("gcloud")
            .args(line.split(' '))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .context("run gcloud")?;
        anyhow::ensure!(ended.status.success(), "gcloud {line} failed: {}", String::from_utf8_lossy(&ended.stderr));
        Ok(begun.elapsed())
    };
    // The first one makes its caches, and is not counted.
    run("pubsub topics list")?;
    let samples: Vec<(Kind, &str, Duration)> = SAMPLES
        .iter()
        .map(|(kind, line)| Ok((*kind, *line, run(&line.replace("PROJECT", &google.options().project))?)))
        .collect::<anyhow::Result<_>>()?;
    let quickest = samples.iter().map(|(_, _, took)| *took).min().unwrap_or_default();
    let of = |kind: &Kind| samples.iter().find(|(other, ..)| other == kind).map_or(quickest, |(_, _, took)| *took);
    let name = |line: &str| {
        let words = line.split(' ').take_while(|word| !word.contains(['.', ':']));
        words.take(3).collect::<Vec<_>>().join(" ")
    };
    let described: Vec<String> =
        samples.iter().map(|(_, line, took)| format!("{} {} ms", name(line), took.as_millis())).collect();
    Ok(Some(Timed { whole: kinds.iter().map(of).sum(), samples: described.join(", ") }))
}
