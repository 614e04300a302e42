//! `render`: the manifests of an environment in a folder, without credentials and without a cloud.

use std::path::PathBuf;

use cli::{error::Failure, output::Output};
use contract::{config, exit};
use provision::{
    environment::{CloudKind, Environment},
    manifests::{self, Images},
};

use crate::{context, globals::Globals, image_notes};

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for config.json and manifests/BUSINESS/*.yaml; manifests of businesses that are gone are removed there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Image of the orchestrator, by digest [default: of the last build for a laptop cloud]
    #[arg(long, value_name = "IMAGE", requires = "engine_image")]
    orchestrator_image: Option<String>,
    /// Image of the engine, by digest [default: of the last build for a laptop cloud]
    #[arg(long, value_name = "IMAGE", requires = "orchestrator_image")]
    engine_image: Option<String>,
}

/// Renders, validates and writes.
///
/// # Errors
/// When no image is known, a template is wrong, or the folder cannot be written to.
pub(crate) fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let images = match (&args.orchestrator_image, &args.engine_image) {
        (Some(orchestrator), Some(engine)) => by_digest(orchestrator, engine, &environment)?,
        _ => built(&environment)?,
    };
    // What runs on Google Cloud finds its APIs itself; a laptop cloud says where they are once it runs.
    let rendered = manifests::render(&environment, &config::Endpoints::default(), &images)?;
    let manifests = args.out.join("manifests");
    if manifests.exists() && !args.out.join(context::CONFIG_FILE).is_file() {
        return Err(Failure::usage("the folder has manifests that were not rendered here")
            .on(manifests.display().to_string())
            .why("they would be removed")
            .next("name another folder with --out, or remove them")
            .into());
    }
    rendered.write(&args.out)?;
    if output.json {
        output.document(&rendered.files.iter().map(|file| &file.path).collect::<Vec<_>>())?;
        return Ok(exit::DONE);
    }
    for file in &rendered.files {
        output.line(args.out.join(&file.path).display())?;
    }
    Ok(exit::DONE)
}

/// A tag may be another image tomorrow.
fn by_digest(orchestrator: &str, engine: &str, environment: &Environment) -> anyhow::Result<Images> {
    for image in [orchestrator, engine] {
        if environment.cloud == CloudKind::Google && !image.contains("@sha256:") {
            return Err(Failure::usage(format!("the image {image:?} is not named by its digest"))
                .why("a tag may be another image tomorrow, and what runs would not be what was reviewed")
                .next("name it as REPOSITORY/IMAGE@sha256:…")
                .into());
        }
    }
    Ok(Images { orchestrator: orchestrator.to_owned(), engine: engine.to_owned() })
}

/// The images that the last build made.
fn built(environment: &Environment) -> anyhow::Result<Images> {
    match image_notes::read(environment)? {
        Some(images) => Ok(images),
        None => Err(Failure::new("no-image", "no image was built for this environment")
            .on(format!("environment {}", environment.name))
            .next("name them with --orchestrator-image and --engine-image")
            .into()),
    }
}
