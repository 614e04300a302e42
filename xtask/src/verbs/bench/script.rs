//! The same set-up as a script of `gcloud` commands: which they are, and how long they take here. One of each kind is
//! run; a whole script takes minutes.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use localcloud::google::Google;
use provision::{
    plan::{Change, Plan},
    resource::{Kind, Wanted},
};

/// One command of each kind that is timed; the later ones need what the earlier ones made.
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

/// What a person would type to carry a plan out, one command after another: `gcloud` makes one thing at a time, and
/// grants one role at a time. Each with the kind of what it is about.
pub(super) fn commands(plan: &Plan) -> Vec<(Kind, String)> {
    let of = |change: &Change| of(change, &plan.project).into_iter().map(|line| (change.id.kind, line)).collect();
    plan.pending().flat_map(|change| -> Vec<(Kind, String)> { of(change) }).collect()
}

fn of(change: &Change, project: &str) -> Vec<String> {
    let name = change.id.short();
    let on = |group: &str| -> Vec<String> {
        let Some(Wanted::Grants(grants)) = change.resource.as_ref().map(|resource| &resource.wanted) else {
            return vec![];
        };
        let target = change.id.target();
        let bind = |grant: &provision::resource::Grant| {
            let condition = grant.condition.as_ref().map_or_else(
                || " --condition=None".to_owned(),
                |condition| format!(" --condition=title={},expression={}", condition.title, condition.expression),
            );
            format!(
                "gcloud {group} add-iam-policy-binding {} --member={} --role={}{condition}",
                target.short(),
                grant.member,
                grant.role
            )
        };
        grants.iter().map(bind).collect()
    };
    let one = |text: &str| vec![format!("gcloud {text} --project={project}")];
    match change.id.kind {
        Kind::Services => one("services enable container.googleapis.com pubsub.googleapis.com …"),
        Kind::Cluster => one(&format!("container clusters create {name} --enable-dataplane-v2 --enable-dns-access …")),
        Kind::NodePool => {
            one(&format!("container node-pools create {name} --cluster={} …", change.id.cluster().short()))
        }
        Kind::Registry => one(&format!("artifacts repositories create {name} --repository-format=docker …")),
        Kind::Bucket => one(&format!("storage buckets create gs://{name} --lifecycle-file=lifecycle.json …")),
        Kind::Notification => one(&format!("storage buckets notifications create gs://… --topic={name} …")),
        Kind::Topic => one(&format!("pubsub topics create {name} --labels=…")),
        Kind::Subscription => one(&format!("pubsub subscriptions create {name} --topic=… --expiration-period=never …")),
        Kind::Role => one(&format!("iam roles create {name} --permissions=storage.objects.list …")),
        Kind::ServiceAccount => {
            one(&format!("iam service-accounts create {} …", name.split('@').next().unwrap_or(name)))
        }
        Kind::BucketPolicy => on("storage buckets"),
        Kind::TopicPolicy => on("pubsub topics"),
        Kind::SubscriptionPolicy => on("pubsub subscriptions"),
        Kind::RegistryPolicy => on("artifacts repositories"),
        Kind::ServiceAccountPolicy => on("iam service-accounts"),
        Kind::ProjectPolicy => on("projects"),
        Kind::Project => vec![],
    }
}

/// What takes how long of the script.
pub(super) struct Timed {
    /// All of its commands, one after another: each as long as the one of its kind that was run, or as the quickest.
    pub(super) whole: Duration,
    /// What was run, and how long each took.
    pub(super) samples: String,
}

/// Runs one command of each kind with the real `gcloud` against this cloud, and adds up what the whole script takes;
/// nothing where `gcloud` is not on PATH.
pub(super) fn timed(google: &Google, kinds: &[Kind]) -> anyhow::Result<Option<Timed>> {
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
    let said: Vec<String> =
        samples.iter().map(|(_, line, took)| format!("{} {} ms", name(line), took.as_millis())).collect();
    Ok(Some(Timed { whole: kinds.iter().map(of).sum(), samples: said.join(", ") }))
}
