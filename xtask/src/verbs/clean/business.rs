//! What has ended of a business: Kubernetes Jobs and pods, and objects when they are asked for. What still works, or
//! has no outcome yet, is not touched, unless its namespace is being deleted: then no orchestrator settles it any more,
//! and the deletion waits for it.

use std::collections::BTreeSet;

use anyhow::Context as _;
use cli::{Context, confirm, output::Output, text};
use cloud::storage::{Object, Store};
use contract::{config::Business, exit, labels, object};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use inspect::cluster::{self, NamespaceState};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::Serialize;
use serde_json::json;
use sessions::jobs;

use super::{Args, Part};

/// Calls at a time.
const AT_ONCE: usize = 16;

/// What there is to remove of one business.
#[derive(Debug, Default, Serialize)]
struct Found {
    business: String,
    /// Kubernetes Jobs that ended and have their outcome.
    jobs: usize,
    /// Kubernetes Jobs without an outcome that hold up the deletion of their namespace.
    held: usize,
    /// Pods that ended and belong to no Job any more.
    pods: usize,
    /// Objects of each part.
    objects: Vec<Count>,
    #[serde(skip)]
    work: Work,
}

#[derive(Debug, Serialize)]
struct Count {
    part: Part,
    objects: usize,
    bytes: i64,
}

#[derive(Debug, Default)]
struct Work {
    jobs: Vec<Job>,
    held: Vec<Job>,
    pods: Vec<Pod>,
    objects: Vec<Object>,
}

/// Shows what would go, asks, and removes it.
///
/// # Errors
/// When the cluster or the bucket cannot be asked, or the question is not answered with yes.
pub(super) async fn run(context: &Context, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let mut all = Vec::new();
    for business in context.businesses(args.business.as_deref())? {
        all.push((business, find(context, business, args).await?));
    }
    for (business, found) in &all {
        output.note(format_args!("{}: {}", business.name, words(found)));
    }
    let nothing = all.iter().all(|(_, found)| found.jobs + found.held + found.pods + found.work.objects.len() == 0);
    if !nothing && !args.dry_run {
        if !args.yes {
            confirm::yes("remove all of that?")?;
        }
        for (business, found) in &all {
            remove(context, business, &found.work).await.with_context(|| format!("clean {}", business.name))?;
        }
    }
    if output.json {
        output.document(&all.iter().map(|(_, found)| found).collect::<Vec<_>>())?;
    } else {
        output.note(if nothing {
            "there is nothing to remove"
        } else if args.dry_run {
            "nothing was removed"
        } else {
            "removed"
        });
    }
    Ok(exit::DONE)
}

fn words(found: &Found) -> String {
    let mut words = vec![text::count(found.jobs, "ended Kubernetes Job"), text::count(found.pods, "orphaned pod")];
    if found.held > 0 {
        words.push(format!(
            "{} without an outcome in a namespace that is being deleted (released; their inputs are kept, and run within \
             about an hour of the next deploy)",
            text::count(found.held, "Kubernetes Job")
        ));
    }
    for count in &found.objects {
        let size = text::bytes(u64::try_from(count.bytes).unwrap_or_default());
        words.push(format!("{} of {} ({size})", text::count(count.objects, "object"), count.part.name()));
    }
    words.join(", ")
}

async fn find(context: &Context, business: &Business, args: &Args) -> anyhow::Result<Found> {
    let client = context.cluster()?;
    let session = args.session.as_deref();
    let mut jobs = cluster::jobs(client, &business.namespace, &business.name, session).await?;
    // One that has our finalizer has no outcome yet: the orchestrator still settles it.
    let has_finalizer = |job: &Job| job.metadata.finalizers.iter().flatten().any(|held| held == labels::FINALIZER);
    let held = match cluster::namespace_state(client, &business.namespace).await? {
        NamespaceState::Terminating => jobs.extract_if(.., |job| has_finalizer(job)).collect(),
        NamespaceState::Active | NamespaceState::Missing => Vec::new(),
    };
    jobs.retain(|job| cluster::is_finished(job) && !has_finalizer(job) && job.metadata.deletion_timestamp.is_none());
    let mut pods = cluster::engine_pods(client, &business.namespace, &business.name, session, None).await?;
    pods.retain(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
            && pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
    });
    let mut found = Found {
        business: business.name.clone(),
        jobs: jobs.len(),
        held: held.len(),
        pods: pods.len(),
        work: Work { jobs, held, pods, objects: Vec::new() },
        ..Found::default()
    };
    if args.objects.is_empty() {
        return Ok(found);
    }
    let listed = jobs::list(&context.store, business, session).await?;
    let known = jobs::merge(&business.name, session, &listed, &[]);
    let parts: BTreeSet<Part> = args.objects.iter().copied().collect();
    for part in &parts {
        let objects = of_part(&context.store, business, session, *part, &parts, &listed, &known).await?;
        let bytes = objects.iter().map(|object| object.size).sum();
        found.objects.push(Count { part: *part, objects: objects.len(), bytes });
        found.work.objects.extend(objects);
    }
    Ok(found)
}

/// The objects of one part that nothing needs any more.
async fn of_part(
    store: &Store,
    business: &Business,
    session: Option<&str>,
    part: Part,
    parts: &BTreeSet<Part>,
    listed: &jobs::Objects,
    known: &[jobs::Job],
) -> anyhow::Result<Vec<Object>> {
    let name = business.name.as_str();
    let open: BTreeSet<String> =
        known.iter().filter(|job| job.outcome.is_none()).map(|job| format!("{}/{}", job.session, job.job)).collect();
    let is_open = |session: &str, job: &str| open.contains(&format!("{session}/{job}"));
    let input = |object: &Object| object::parse_input(name, &object.name).ok();
    Ok(match part {
        Part::Input => {
            let ended = |object: &&Object| input(object).is_some_and(|(session, job)| !is_open(&session, &job));
            listed.inputs.iter().filter(ended).cloned().collect()
        }
        Part::Outcome => {
            // An input without its outcome would be computed again.
            let kept: BTreeSet<(String, String)> = match parts.contains(&Part::Input) {
                true => BTreeSet::new(),
                false => listed.inputs.iter().filter_map(input).collect(),
            };
            let free = |object: &&Object| match of_job(name, &object.name) {
                Some((session, job)) => !is_open(&session, &job) && !kept.contains(&(session, job)),
                None => session.is_none() && object::parse_refused(name, &object.name).is_some(),
            };
            listed.outcomes.iter().filter(free).cloned().collect()
        }
        Part::Output => {
            let prefix = format!("{name}/output/");
            let below = session.map_or_else(|| prefix.clone(), |session| object::output_prefix(name, session));
            let mut objects = store.list(&business.bucket, &below).await?;
            let open: Vec<String> = open.iter().map(|job| format!("{prefix}{job}/")).collect();
            objects.retain(|object| !open.iter().any(|open| object.name.starts_with(open)));
            objects
        }
    })
}

/// Session and job of an outcome or of the layout of a pack.
fn of_job(business: &str, object: &str) -> Option<(String, String)> {
    let outcome = object::parse_outcome(business, object).map(|name| (name.session, name.job));
    let layout = || object::parse_layout(business, object);
    outcome.or_else(|| layout().map(|(session, job, _)| (session.to_owned(), job.to_owned())))
}

/// Removes it: inputs before outcomes, so that a stop in between leaves nothing that would be computed again.
async fn remove(context: &Context, business: &Business, work: &Work) -> anyhow::Result<()> {
    let client = context.cluster()?;
    let api: Api<Job> = Api::namespaced(client.clone(), &business.namespace);
    let releases = work.held.iter().map(|job| release(&api, job));
    stream::iter(releases.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let deletes = work.jobs.iter().map(|job| delete(&api, job.metadata.name.as_deref(), job.metadata.uid.clone()));
    stream::iter(deletes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), &business.namespace);
    let deletes = work.pods.iter().map(|pod| delete(&api, pod.metadata.name.as_deref(), pod.metadata.uid.clone()));
    stream::iter(deletes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let (inputs, rest): (Vec<&Object>, Vec<&Object>) =
        work.objects.iter().partition(|object| object.name.starts_with(&object::input_prefix(&business.name)));
    for objects in [inputs, rest] {
        let deletes =
            objects.into_iter().map(|object| context.store.delete(&business.bucket, &object.name, object.generation));
        stream::iter(deletes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<Vec<bool>>().await?;
    }
    Ok(())
}

/// Removes our finalizer from exactly this Job; one that is gone is fine.
async fn release(api: &Api<Job>, job: &Job) -> anyhow::Result<()> {
    let mut finalizers = job.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != labels::FINALIZER);
    let patch = json!({"metadata": {"uid": job.metadata.uid, "finalizers": finalizers}});
    let name = job.metadata.name.as_deref().unwrap_or_default();
    match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        patched => patched.map(drop).with_context(|| format!("release the Job {name}")),
    }
}

/// Deletes exactly this object; one that is gone, or was made anew, is left alone.
async fn delete<K>(api: &Api<K>, name: Option<&str>, uid: Option<String>) -> anyhow::Result<()>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let only_this = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::background()
    };
    match api.delete(name.unwrap_or_default(), &only_this).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        deleted => deleted.map(drop).context("delete from the cluster"),
    }
}
