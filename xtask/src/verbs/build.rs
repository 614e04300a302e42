//! `build`: makes the images, with Cloud Build or on this machine, and writes them to a registry or a file.

use std::path::PathBuf;

use anyhow::Context as _;
use cli::{error::Failure, output::Output, text};
use contract::exit;
use images::Login;
use provision::environment::{Builder, CloudKind};
use serde_json::json;

use crate::{
    building::{self, LoginArgs, LoginSource, Plan, Request, Tagged, Target, here},
    context,
    globals::Globals,
    image_notes, login, setup,
};

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Images [default: those that `deploy` needs; `deskgrid` is the one with the daily verbs]. NAME:TAG, with --local
    /// and --registry, needs neither an environment nor git
    images: Vec<String>,
    /// Compile and put the images together on this machine, with no container daemon [default: as the environment
    /// file says]
    #[arg(long)]
    local: bool,
    /// Write an OCI archive instead of pushing: `kind load image-archive FILE`, `ctr images import FILE`; what it
    /// holds under other names stays; implies --local
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Registry, HOST/PATH [default: the environment's]
    #[arg(long, value_name = "PLACE")]
    registry: Option<String>,
    /// Build although nothing changed
    #[arg(long)]
    force: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Cargo's profile for --local; `dev` compiles quickly and is large
    #[arg(long, value_name = "NAME", default_value = here::PROFILE)]
    profile: String,
    #[command(flatten)]
    login: LoginArgs,
}

/// Builds the missing images.
///
/// # Errors
/// When something does not build, or cannot be brought where it should be.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if let Some(images) = building::tagged(&args.images)? {
        return make_tagged(args, &images, output).await;
    }
    let environment = context::load(globals)?;
    let specs = building::named(&args.images)?;
    let local = args.local || args.output.is_some();
    let builder = if local { Builder::Local } else { environment.build.builder };
    let place = args.registry.clone().unwrap_or_else(|| building::place(&environment));
    if builder == Builder::CloudBuild && args.registry.is_some() {
        return Err(Failure::usage("Cloud Build pushes to the environment's registry")
            .on(format!("--registry {place}"))
            .next("add --local to build here, or name the registry in the environment file")
            .into());
    }
    let laptop = environment.cloud == CloudKind::Local;
    if laptop && builder == Builder::Local && args.output.is_none() && args.registry.is_none() {
        return Err(Failure::usage("a laptop cloud has no registry to push to")
            .on(format!("environment {}", environment.name))
            .why("its nodes run programs of this machine, which `cargo xtask deploy` registers")
            .next("write a file with --output FILE, or name a registry with --registry HOST/PATH")
            .into());
    }
    let cloud = match builder {
        Builder::CloudBuild => Some(setup::connect(&environment, globals).await?),
        Builder::Local => None,
    };
    let target = match &args.output {
        Some(path) => Target::Archive { path: path.clone(), place },
        // Cloud Build pushes by itself.
        None if builder == Builder::CloudBuild => {
            Target::Registry { place, login: LoginSource::Known(Login::Anonymous) }
        }
        None => {
            let login = building::login_source(&place, &args.login, || login::credentials(&environment, globals))?;
            Target::Registry { place, login }
        }
    };
    let request =
        Request { environment: &environment, specs, builder, target, profile: args.profile.clone(), force: args.force };
    let plan = building::plan(&request, cloud.as_ref(), output).await?;
    show(&plan, output);
    if args.dry_run {
        if output.json {
            output.document(&plan)?;
        }
        return Ok(exit::DONE);
    }
    let made = building::carry_out(&plan, &request, cloud.as_ref(), output).await?;
    image_notes::write(&environment, made.iter().map(|made| (made.image.clone(), made.reference.clone())))?;
    if output.json {
        output.document(&json!({"source": plan.source, "builder": plan.builder, "images": made}))?;
        return Ok(exit::DONE);
    }
    for made in &made {
        output.line(&made.reference)?;
    }
    Ok(exit::DONE)
}

/// Makes images whose tags are given, as a step of Cloud Build does: it has the source, and neither an environment nor
/// git.
async fn make_tagged(args: &Args, images: &[Tagged], output: &Output) -> anyhow::Result<u8> {
    let place = place_of_tagged(args)?.to_owned();
    let login = building::login_source(&place, &args.login, cloud::clients::default_credentials)?;
    let (machine, target) = (here::Machine::read().await?, Target::Registry { place, login });
    for made in building::make_here(&machine, images, &args.profile, &target, output).await? {
        output.line(&made.reference)?;
    }
    Ok(exit::DONE)
}

fn place_of_tagged(args: &Args) -> Result<&str, Failure> {
    match &args.registry {
        Some(place) if args.local && args.output.is_none() && !args.dry_run => Ok(place),
        _ => Err(Failure::usage("an image with a tag is only made for a registry, on this machine")
            .on(args.images.join(", "))
            .next("add --local --registry HOST/PATH, or leave out the tag")),
    }
}

/// What a step of Cloud Build makes: the registry, and the images with their tags.
///
/// # Errors
/// When it is not this verb, with images that have tags.
pub(crate) fn of_step(args: &Args) -> anyhow::Result<(&str, Vec<Tagged>)> {
    let images = building::tagged(&args.images)?.context("find tags of the images")?;
    Ok((place_of_tagged(args)?, images))
}

/// Says what there is to do.
fn show(plan: &Plan, output: &Output) {
    output.note(format_args!(
        "source {}: {}, {}",
        plan.source,
        text::count(plan.files, "file"),
        text::bytes(plan.size_bytes)
    ));
    for step in &plan.steps {
        match &step.present {
            Some(reference) => output.note(format_args!("  = {} is there: {reference}", step.image)),
            None => output.note(format_args!("  + {} will be built: {}", step.image, step.tag)),
        }
    }
}
