//! The process of the laptop cloud itself.

use std::{io::Read as _, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Parser as _;
use cli::error::Failure;
use contract::exit;
use localcloud::{
    clock::Clock,
    cloud::{LocalCloud, Options},
    cloudbuild::{Pushed, Steps},
    faults::{Fault, When},
    google,
    node::images::Images,
    storage::WriteRates,
};
use provision::{Environment, LocalState};
use tokio_util::sync::CancellationToken;

use crate::{
    building::Tagged,
    laptop::{self, Laptop, Start},
    verbs::build,
};

/// Time of each call to a cloud that is far away.
const FAR_DELAY: Duration = Duration::from_millis(50);
/// The calls that take so long: storage over JSON and over gRPC, and Pub/Sub.
const FAR_PATHS: [&str; 4] = ["/storage/v1/", "/upload/storage/", "/google.storage.v2.", "/google.pubsub.v1."];
/// What a new bucket takes, by Google's documentation of request rates.
const FAR_WRITES: WriteRates = WriteRates { per_bucket: 1000 };

/// Serves the laptop cloud of an environment until a signal arrives, or with a leash until standard input ends.
///
/// # Errors
/// When it is running already, or cannot start.
pub(super) async fn run(laptop: &Laptop, environment: &Environment, start: &Start<'_>) -> anyhow::Result<u8> {
    let Some(_lock) = laptop.lock()? else {
        return Err(Failure::new("already-running", "a laptop cloud of this environment is running already")
            .on(format!("environment {}", environment.name))
            .next("cargo xtask local status")
            .into());
    };
    let stop = cloud::shutdown::on_signal()?;
    if start.leash {
        let stop = stop.clone();
        std::thread::spawn(move || end_of_input(&stop));
    }
    let program = laptop::program()?;
    let options = Options {
        folder: laptop.folder(),
        project: environment.project.clone(),
        location: environment.location.clone(),
        data: start.data.map(Path::to_owned),
        reaper: Some(vec![program.into(), "local".into(), "reap".into()]),
        variables: Vec::new(),
        clock: Clock::default(),
    };
    let configure = |options: &mut google::Options| {
        options.listen = start.listen.unwrap_or(options.listen);
        options.write_rates = start.far.then_some(FAR_WRITES);
    };
    let cloud = LocalCloud::start_with(options, configure).await?;
    for path in FAR_PATHS.into_iter().filter(|_| start.far) {
        cloud.faults().add("", path, When::Always, Fault::Delay(FAR_DELAY));
    }
    cloud.google.builds().set_steps(steps(laptop));
    // The business of the user, if a variable names it, else the first one.
    let named = contract::config::variables().remove(contract::labels::ENV_BUSINESS);
    let business = named.and_then(|name| environment.business(&name)).or(environment.businesses.first());
    let namespace = business.map_or("default", |business| business.namespace.as_str());
    let state = cloud.describe(&environment.name, namespace)?;
    let state: LocalState = serde_json::from_value(state).context("describe the laptop cloud")?;
    state.write(&laptop.state_path())?;
    tracing::info!(environment = environment.name, "the laptop cloud runs");
    stop.cancelled().await;
    cloud.stop().await;
    std::fs::remove_file(laptop.state_path()).context("remove the state file")?;
    Ok(exit::DONE)
}

/// The command line of a build step.
#[derive(clap::Parser)]
struct Command {
    #[command(subcommand)]
    step: Step,
}

/// The verbs that a build step may run.
#[derive(clap::Subcommand)]
enum Step {
    Build(build::Args),
}

/// Runs the steps of its Cloud Build: it parses the command, and registers the programs beside this one as images.
fn steps(laptop: &Laptop) -> Steps {
    let folder = laptop.images();
    Arc::new(move |command| {
        let [cargo, arguments @ ..] = command else { bail!("there is no command") };
        ensure!(*cargo == "cargo", "a laptop has no {cargo}");
        let Step::Build(args) = Command::try_parse_from(arguments)?.step;
        let (place, images) = build::of_step(&args)?;
        let push = |Tagged { spec, tag }| {
            let (repository, program) =
                (format!("{place}/{}", spec.name), laptop::program()?.with_file_name(spec.program));
            let compile =
                || format!("find {}; `cargo build --package {}` compiles it", program.display(), spec.package);
            program.is_file().then_some(()).with_context(compile)?;
            let reference = Images::new(folder.clone()).register(&repository, &program)?;
            let (_, digest) = reference.split_once('@').context("read the digest of an image")?;
            Ok(Pushed { repository, tag, digest: digest.to_owned() })
        };
        images.into_iter().map(push).collect()
    })
}

/// Kills what a killed laptop cloud leaves behind; runs until standard input ends.
///
/// # Errors
/// When standard input cannot be read.
pub(super) fn reap() -> anyhow::Result<()> {
    Ok(localcloud::node::reaper::run(std::io::stdin().lock())?)
}

/// Waits until standard input is closed.
fn end_of_input(stop: &CancellationToken) {
    let mut buffer = [0; 64];
    while std::io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
    stop.cancel();
}
