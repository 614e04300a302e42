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
    let name = |line: &str| {
        let words = line.split(' ').take_while(|word| !word.contains(['.', ':']));
        words.take(3).collect::<Vec<_>>().join(" ")
    };
    let said: Vec<String> =
        samples.iter().map(|(_, line, took)| format!("{} {} ms", name(line), took.as_millis())).collect();
    Ok(Some(Timed { whole: kinds.iter().map(of).sum(), samples: said.join(", ") }))
}
