//! Images made by Cloud Build: the source is uploaded, the log is shown as it grows, and the registry lists the images.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use cli::{error::Failure, interrupt::Finishing, output::Output, text};
use cloud::{
    shutdown,
    storage::{Properties, Store, Written},
};
use contract::object::BUILD_SOURCE_PREFIX;
use images::Source;
use provision::{
    Cloud, Environment,
    build::{self, Build, Order, State},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Made, Plan, Request, Tagged, place};

/// Shortest pause between two reads of a build and its log.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Longest pause; a build takes minutes.
const POLL_AT_LEAST_EVERY: Duration = Duration::from_secs(3);
/// Time after which a build that does not end is no longer followed.
const PATIENCE: Duration = Duration::from_secs(build::LIMIT_SECS as u64 * 2 + 600);
/// Longest that the registry takes to list what a build pushed.
const LISTED_WITHIN: Duration = Duration::from_secs(30);
/// How long a failing call is retried before the error is reported.
const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// References by digest of the images that the registry has, by name.
///
/// # Errors
/// When the registry cannot be listed.
pub(crate) async fn present(
    environment: &Environment,
    cloud: &Cloud,
    images: &[Tagged],
) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let listed = match cloud.google.list(&build::images(environment), "dockerImages").await {
        Err(error) if error.is_not_found() => return Err(no_registry(environment).into()),
        listed => listed.context("list the images of the registry")?,
    };
    let place = place(environment);
    let find = |Tagged { spec, tag }: &Tagged| {
        Some((spec.name, build::tagged(&listed, &format!("{place}/{}", spec.name), tag)?))
    };
    Ok(images.iter().filter_map(find).collect())
}

/// Builds these images.
///
/// # Errors
/// When the source cannot be uploaded, or the build fails.
pub(super) async fn make(
    request: &Request<'_>,
    plan: &Plan,
    source: &Source,
    images: &[Tagged],
    cloud: &Cloud,
    output: &Output,
) -> anyhow::Result<Vec<Made>> {
    let environment = request.environment;
    let store = Store::connect_for(&cloud.connection(), STORE_PATIENCE).await?;
    let object = format!("{BUILD_SOURCE_PREFIX}{}.tar.gz", plan.source);
    let packed = source.tar_gz()?;
    let size = packed.len() as u64;
    let generation = upload(&store, &environment.bucket, &object, packed).await?;
    output.note(format_args!("  source in gs://{}/{object} ({})", environment.bucket, text::bytes(size)));
    let place = place(environment);
    let ordered: Vec<build::Image<'_>> =
        images.iter().map(|Tagged { spec, tag }| build::Image { name: spec.name, tag }).collect();
    let order = Order { environment, object: &object, generation, place: &place, images: &ordered };
    // A signal cancels a build that begins from here on, and no other.
    let (stop, _finishing) = (shutdown::on_signal()?, Finishing::begin());
    // A running build of another run is followed, unless --force asks for a new one.
    let begun =
        build::begin(&cloud.google, &order, request.force).await.map_err(|error| refusal(environment, error))?;
    let (begun, found) = begun.context("read the id of the build")?;
    if found {
        output.note(format_args!("  build {} of these images {}", begun.id, begun.state.description()));
    }
    output.note(format_args!("  build {} in {}", begun.id, environment.build.region));
    if let Some(page) = &begun.page {
        output.detail(format_args!("  {page}"));
    }
    let ended = follow(environment, cloud, &store, begun, !found, &stop, output).await?;
    unless_stopped(&ended, &stop)?;
    if ended.state != State::Success {
        return Err(failed(environment, ended).into());
    }
    pushed(environment, cloud, images).await
}

/// The source's generation in the bucket. The same source is the same object, and is uploaded once.
async fn upload(store: &Store, bucket: &str, object: &str, packed: Vec<u8>) -> anyhow::Result<i64> {
    let properties = Properties { content_type: "application/gzip".to_owned(), ..Properties::json() };
    if let Written::New(generation) = store.write_once(bucket, object, packed, properties).await? {
        return Ok(generation);
    }
    let there = store.describe(bucket, object, None).await?;
    Ok(there.with_context(|| format!("find gs://{bucket}/{object}, which was there a moment ago"))?.generation)
}

/// Waits until a build has ended, and shows its log meanwhile. A signal cancels it if this run began it; a build of
/// another run continues.
async fn follow(
    environment: &Environment,
    cloud: &Cloud,
    store: &Store,
    mut build: Build,
    is_ours: bool,
    stop: &CancellationToken,
    output: &Output,
) -> anyhow::Result<Build> {
    let (started, mut pause, mut shown) = (Instant::now(), POLL_EVERY, 0);
    let mut state = None;
    loop {
        let grown = show_log(environment, store, &build, &mut shown, output).await;
        if state != Some(build.state) {
            let waits = build.detail.as_ref().filter(|_| !build.state.has_ended());
            let why = waits.map(|detail| format!(": {detail}")).unwrap_or_default();
            output.note(format_args!("  the build {}{why}", build.state.description()));
            state = Some(build.state);
        }
        if build.state.has_ended() {
            return Ok(build);
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::new("timeout", "the build does not end")
                .on(format!("build {}", build.id))
                .next("see it in the Google Cloud console; the same command waits again")
                .into());
        }
        pause = if grown { POLL_EVERY } else { (pause * 2).min(POLL_AT_LEAST_EVERY) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {
                if !is_ours {
                    return Err(Failure::new("interrupted", "the build is no longer waited for")
                        .on(format!("build {}", build.id))
                        .why("this verb received a signal; another run began the build, so it continues")
                        .next("the same command waits for it")
                        .into());
                }
                match cloud.google.send(&build::cancel(environment, &build.id)).await {
                    // It ended a moment ago, or an earlier attempt cancelled it.
                    Err(error) if error.code == 400 => {}
                    answer => drop(answer.context("cancel the build")?),
                }
                return Err(Failure::new("interrupted", "the build was cancelled")
                    .on(format!("build {}", build.id))
                    .why("this verb received a signal")
                    .next("cargo xtask build")
                    .into());
            }
        }
        let answer =
            cloud.google.send(&build::get(environment, &build.id)).await.context("read the state of the build")?;
        build = Build::read(&answer).context("read the state of the build")?;
    }
}

/// Stops after a signal that arrived while a build ended by itself.
fn unless_stopped(ended: &Build, stop: &CancellationToken) -> Result<(), Failure> {
    if ended.state != State::Success || !stop.is_cancelled() {
        return Ok(());
    }
    Err(Failure::new("interrupted", "the build is done, and nothing more was started")
        .on(format!("build {}", ended.id))
        .why("this verb received a signal while the build ended; its images are in the registry")
        .next("the same command finds them"))
}

/// Shows the new lines of the log; returns whether there are any. A log that cannot be read fails no build.
async fn show_log(environment: &Environment, store: &Store, build: &Build, shown: &mut usize, output: &Output) -> bool {
    let object = build.log();
    let log = match store.read(&environment.bucket, &object, None).await {
        Ok(Some((_, log))) => log,
        Ok(None) => return false,
        Err(error) => {
            output.detail(format_args!("cannot read gs://{}/{object}: {error:#}", environment.bucket));
            return false;
        }
    };
    // Only complete lines, until the build has ended.
    let ready = match log.iter().rposition(|&byte| byte == b'\n') {
        _ if build.state.has_ended() => log.len(),
        Some(last) => last + 1,
        None => 0,
    };
    if ready <= *shown {
        return false;
    }
    for line in String::from_utf8_lossy(&log[*shown..ready]).lines() {
        output.note(format_args!("  | {line}"));
    }
    *shown = ready;
    true
}

/// A build that made no images.
fn failed(environment: &Environment, build: Build) -> Failure {
    let log = format!("gs://{}/{}", environment.bucket, build.log());
    let next = match build.state {
        State::Failure | State::Timeout => format!("see the log above, or {log}; `cargo xtask build` tries again"),
        _ => "`cargo xtask build` tries again; `cargo xtask build --local` needs no Cloud Build".to_owned(),
    };
    let why = build.detail.unwrap_or_else(|| format!("Cloud Build gives no reason; its log is {log}"));
    Failure::new("cloud-build", format!("the build {}", build.state.description()))
        .on(format!("build {} in {}", build.id, environment.build.region))
        .why(why)
        .next(next)
}

/// The images that a build pushed, as the registry lists them.
async fn pushed(environment: &Environment, cloud: &Cloud, images: &[Tagged]) -> anyhow::Result<Vec<Made>> {
    let until = Instant::now() + LISTED_WITHIN;
    loop {
        let listed = present(environment, cloud, images).await?;
        if listed.len() == images.len() {
            let made = |(image, reference): (&str, String)| Made {
                image: image.to_owned(),
                reference,
                built: true,
                size_bytes: None,
            };
            return Ok(listed.into_iter().map(made).collect());
        }
        if Instant::now() > until {
            anyhow::bail!(
                "find the images of the build in {}, which lists {} of {}",
                place(environment),
                listed.len(),
                images.len()
            );
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn no_registry(environment: &Environment) -> Failure {
    Failure::new("not-set-up", "the image registry does not exist").on(place(environment)).next("cargo xtask provision")
}

/// Cloud Build refused a build.
fn refusal(environment: &Environment, error: provision::google::Error) -> anyhow::Error {
    if !error.is_forbidden() && error.code != 400 {
        return anyhow::Error::new(error).context("begin a build in Cloud Build");
    }
    let (bucket, builder) = (&environment.bucket, &environment.accounts.builder);
    let next = if error.is_logs_bucket_denied() {
        format!(
            "gcloud storage buckets add-iam-policy-binding gs://{bucket} --member serviceAccount:{builder} --role \
             roles/storage.legacyBucketReader"
        )
    } else if error.message.contains("cannot run builds in this region") {
        "set `region` under [build] in the environment file to another one, such as \"us-central1\" or \"global\": new \
         projects may build in some regions only; or `cargo xtask build --local`"
            .to_owned()
    } else {
        format!(
            "`cargo xtask doctor` shows whether the service is enabled; you need roles/cloudbuild.builds.editor on the \
             project and roles/iam.serviceAccountUser on {builder}; `cargo xtask build --local` needs neither"
        )
    };
    Failure::new("cloud-build-refused", "Cloud Build refused the build")
        .on(format!("project {}, region {}", environment.project, environment.build.region))
        .why(error.message)
        .next(next)
        .into()
}

#[cfg(test)]
mod tests;
