//! The same set-up as a script of `gcloud` commands: which they are, and how long one takes here.

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

/// Commands that are timed; the fastest counts.
const TIMED: u32 = 3;

/// What a person would type to carry a plan out, one command after another: `gcloud` makes one thing at a time, and
/// grants one role at a time.
pub(super) fn commands(plan: &Plan) -> Vec<String> {
    plan.pending().flat_map(|change| of(change, &plan.project)).collect()
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

/// How long one command of the real `gcloud` takes against this cloud; nothing where `gcloud` is not on PATH.
pub(super) fn one_command(google: &Google) -> anyhow::Result<Option<Duration>> {
    let paths = common::config::variables().remove("PATH").unwrap_or_default();
    if !std::env::split_paths(&paths).any(|folder| folder.join("gcloud").is_file()) {
        return Ok(None);
    }
    let folder = tempfile::tempdir().context("make a folder for gcloud")?;
    let variables = google.write_tools(folder.path())?;
    let mut fastest: Option<Duration> = None;
    // The first one makes its caches, and is not timed.
    for round in 0..=TIMED {
        let topic = format!("timed-{round}");
        let begun = Instant::now();
        let ended = Command::new("gcloud")
            .args(["pubsub", "topics", "create", &topic])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .context("run gcloud")?;
        anyhow::ensure!(ended.status.success(), "gcloud failed: {}", String::from_utf8_lossy(&ended.stderr));
        if round > 0 {
            fastest = Some(fastest.map_or(begun.elapsed(), |fastest| fastest.min(begun.elapsed())));
        }
    }
    Ok(fastest)
}
