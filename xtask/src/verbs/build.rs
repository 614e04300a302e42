//! `build`: makes the images, with Cloud Build or here, and brings them into a registry or a file.

use std::path::PathBuf;

use cli::{error::Failure, output::Output, text};
use contract::exit;
use images::Login;
use provision::environment::{Builder, CloudKind};
use serde_json::json;

use crate::{
    args::Globals,
    building::{self, LoginArgs, Plan, Target, Who, Wish, here},
    context, setup,
};

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Images [default: those that `deploy` needs; `deskgrid` is the one with the daily verbs]
    images: Vec<String>,
    /// Compile and put the images together on this machine, with no container daemon [default: as the environment
    /// file says]
    #[arg(long)]
    local: bool,
    /// Write into an OCI archive instead of pushing: `kind load image-archive FILE`, `ctr images import FILE`; what it
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

/// Makes what is missing.
///
/// # Errors
/// When something does not build, or cannot be brought where it should be.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
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
        None if builder == Builder::CloudBuild => Target::Registry { place, login: Who::Known(Login::Anonymous) },
        None => {
            let login = building::login(&place, &args.login, || building::credentials(&environment, globals))?;
            Target::Registry { place, login }
        }
    };
    let wish =
        Wish { environment: &environment, specs, builder, target, profile: args.profile.clone(), force: args.force };
    let plan = building::plan(&wish, cloud.as_ref(), output).await?;
    show(&plan, output);
    if args.dry_run {
        if output.json {
            output.document(&plan)?;
        }
        return Ok(exit::DONE);
    }
    let made = building::carry_out(&plan, &wish, cloud.as_ref(), output).await?;
    setup::note_images(&environment, &made)?;
    if output.json {
        output.document(&json!({"source": plan.source, "builder": plan.builder, "images": made}))?;
        return Ok(exit::DONE);
    }
    for made in &made {
        output.line(&made.reference)?;
    }
    Ok(exit::DONE)
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
