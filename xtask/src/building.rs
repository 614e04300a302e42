//! Images: a plan lists the missing ones; `build` shows the plan, and `build` and `deploy` carry it out.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use cli::{error::Failure, interrupt, output::Output, text};
use images::{Archive, CATALOGUE, Image, Login, Registry, RegistryError, Source, Spec};
use provision::{Cloud, Environment, build::RUST_IMAGE, environment::Builder};
use serde::Serialize;

use crate::{context, image_notes};

pub(crate) mod cloud_build;
pub(crate) mod here;
mod login;

pub(crate) use login::{LoginArgs, LoginSource, login_source};

/// A request for images.
pub(crate) struct Request<'a> {
    /// Environment that it is for.
    pub(crate) environment: &'a Environment,
    /// Which images.
    pub(crate) specs: Vec<&'static Spec>,
    /// The builder.
    pub(crate) builder: Builder,
    /// Where they are written.
    pub(crate) target: Target,
    /// Cargo's profile, when they are made here.
    pub(crate) profile: String,
    /// Makes them although nothing changed.
    pub(crate) force: bool,
}

/// Where images are written.
pub(crate) enum Target {
    /// A registry: a host and a path.
    Registry {
        /// `HOST/PATH`.
        place: String,
        /// The login to it.
        login: LoginSource,
    },
    /// An OCI archive, whose images are named as if they were in this registry.
    Archive {
        /// The file.
        path: PathBuf,
        /// `HOST/PATH`.
        place: String,
    },
}

impl Target {
    fn place(&self) -> &str {
        match self {
            Self::Registry { place, .. } | Self::Archive { place, .. } => place,
        }
    }
}

/// An image with its tag, which depends on its contents and its compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    /// Which image.
    pub(crate) spec: &'static Spec,
    /// `src-…`.
    pub(crate) tag: String,
}

/// The state of one image in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// Name of the image.
    pub(crate) image: &'static str,
    /// Name and tag that it gets.
    pub(crate) tag: String,
    /// Its reference by digest, when it exists already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) present: Option<String>,
}

/// The images that are missing, and those that exist.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// The builder.
    pub(crate) builder: Builder,
    /// Tag of the whole source; each image has its own tag.
    pub(crate) source: String,
    /// Files of the source.
    pub(crate) files: usize,
    /// Bytes of them.
    pub(crate) size_bytes: u64,
    /// Image by image.
    pub(crate) steps: Vec<Step>,
    #[serde(skip)]
    images: Vec<Tagged>,
    #[serde(skip)]
    source_files: Source,
    #[serde(skip)]
    machine: Option<here::Machine>,
}

/// An image that exists where it was requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Made {
    /// Name of the image.
    pub(crate) image: String,
    /// Its reference by digest.
    pub(crate) reference: String,
    /// It was made by this run.
    pub(crate) built: bool,
    /// Bytes of all files in it, when this run made it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size_bytes: Option<u64>,
}

/// The registry of an environment: a host and a path.
pub(crate) fn place(environment: &Environment) -> String {
    format!("{}-docker.pkg.dev/{}/{}", environment.location, environment.project, environment.build.registry)
}

/// The images of these names; those that `deploy` needs without any.
///
/// # Errors
/// When there is none of a name.
pub(crate) fn named(names: &[String]) -> anyhow::Result<Vec<&'static Spec>> {
    if names.is_empty() {
        return Ok(CATALOGUE.iter().filter(|spec| spec.deployed).collect());
    }
    names.iter().map(|name| find(name)).collect()
}

/// The images of names with tags, `NAME:TAG`; `None` when no name has one.
///
/// # Errors
/// When only some have one, or there is none of a name.
pub(crate) fn tagged(names: &[String]) -> anyhow::Result<Option<Vec<Tagged>>> {
    if !names.iter().any(|name| name.contains(':')) {
        return Ok(None);
    }
    let read = |name: &String| match name.split_once(':') {
        Some((name, tag)) => Ok(Tagged { spec: find(name)?, tag: tag.to_owned() }),
        None => Err(Failure::usage("either every image has a tag or none").on(name.clone()).into()),
    };
    names.iter().map(read).collect::<anyhow::Result<_>>().map(Some)
}

fn find(name: &str) -> anyhow::Result<&'static Spec> {
    images::find(name).ok_or_else(|| {
        let known: Vec<&str> = CATALOGUE.iter().map(|spec| spec.name).collect();
        Failure::usage(format!("there is no image {name:?}")).next(format!("there are {}", known.join(", "))).into()
    })
}

/// Reads the source and the target. Changes nothing.
///
/// # Errors
/// When the source or the target cannot be read.
pub(crate) async fn plan(request: &Request<'_>, cloud: Option<&Cloud>, output: &Output) -> anyhow::Result<Plan> {
    let source_files = Source::read(&context::root())?;
    if !source_files.unknown.is_empty() {
        output.warn(format_args!(
            "git does not track {}, so the image is built without: git add",
            text::some(source_files.unknown.iter().map(String::as_str), 5)
        ));
    }
    let machine = match request.builder {
        Builder::Local => Some(here::Machine::read().await?),
        Builder::CloudBuild => None,
    };
    let with = match &machine {
        Some(machine) => machine.traits(&request.profile),
        None => vec!["cloud-build".to_owned(), RUST_IMAGE.to_owned()],
    };
    let with: Vec<&str> = with.iter().map(String::as_str).collect();
    let tagged = |spec: &&'static Spec| Ok(Tagged { spec, tag: source_files.tag_of(spec, &with)? });
    let images = request.specs.iter().map(tagged).collect::<anyhow::Result<Vec<_>>>()?;
    let mut there = match (request.builder, cloud) {
        (Builder::CloudBuild, Some(cloud)) => cloud_build::present(request.environment, cloud, &images).await?,
        _ => present(&request.target, &images).await?,
    };
    let mut steps = Vec::new();
    for Tagged { spec, tag } in &images {
        let present = there.remove(spec.name).filter(|_| !request.force);
        steps.push(Step { image: spec.name, tag: format!("{}/{}:{tag}", request.target.place(), spec.name), present });
    }
    let (source, files, size_bytes) = (source_files.tag(), source_files.files(), source_files.size());
    Ok(Plan { builder: request.builder, source, files, size_bytes, steps, images, source_files, machine })
}

/// References by digest of the images that the target has, by name.
async fn present(target: &Target, images: &[Tagged]) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let mut there = BTreeMap::new();
    match target {
        Target::Registry { place, login } => {
            let registry = registry(place, login).await?;
            for Tagged { spec, tag } in images {
                let digest =
                    registry.digest_of(spec.name, tag).await.map_err(|error| registry_failure(place, error))?;
                if let Some(digest) = digest {
                    there.insert(spec.name, format!("{}@{digest}", registry.repository(spec.name)));
                }
            }
        }
        Target::Archive { path, place } => {
            let archive = Archive::read(path).map_err(|error| {
                Failure::usage("the file of --output is not an archive of images")
                    .on(path.display().to_string())
                    .why(format!("{error:#}"))
                    .next("name another file, or remove this one")
            })?;
            for Tagged { spec, tag } in images {
                let repository = format!("{place}/{}", spec.name);
                if let Some(digest) = archive.digest_of(&repository, tag) {
                    there.insert(spec.name, format!("{repository}@{digest}"));
                }
            }
        }
    }
    Ok(there)
}

/// Carries a plan out, and returns all of its images.
///
/// # Errors
/// When something does not build, or an image cannot be written.
pub(crate) async fn carry_out(
    plan: &Plan,
    request: &Request<'_>,
    cloud: Option<&Cloud>,
    output: &Output,
) -> anyhow::Result<Vec<Made>> {
    let is_missing =
        |image: &&Tagged| plan.steps.iter().any(|step| step.image == image.spec.name && step.present.is_none());
    let missing: Vec<Tagged> = plan.images.iter().filter(is_missing).cloned().collect();
    let mut made: Vec<Made> = Vec::new();
    if !missing.is_empty() {
        made = match (&plan.machine, cloud) {
            (Some(machine), _) => make_here(machine, &missing, &request.profile, &request.target, output).await?,
            (None, Some(cloud)) => {
                cloud_build::make(request, plan, &plan.source_files, &missing, cloud, output).await?
            }
            (None, None) => anyhow::bail!("Cloud Build needs the environment's cloud"),
        };
    }
    for step in &plan.steps {
        if let Some(reference) = &step.present
            && !made.iter().any(|made| made.image == step.image)
        {
            let (image, reference) = (step.image.to_owned(), reference.clone());
            made.push(Made { image, reference, built: false, size_bytes: None });
        }
    }
    made.sort_by(|one, other| one.image.cmp(&other.image));
    Ok(made)
}

/// Compiles these images on this machine and writes them to the target.
///
/// # Errors
/// When something does not compile, or an image cannot be written.
pub(crate) async fn make_here(
    machine: &here::Machine,
    images: &[Tagged],
    profile: &str,
    target: &Target,
    output: &Output,
) -> anyhow::Result<Vec<Made>> {
    let make = async {
        check_target(target, images).await?;
        let images = here::make(machine, images, profile, output).await?;
        deliver(&images, target, output).await
    };
    interrupt::unless_interrupted(make).await
}

/// A registry, with a fresh login.
async fn registry(place: &str, login: &LoginSource) -> anyhow::Result<Registry> {
    Registry::new(place, login.login(place).await?)
}

/// Checks, before anything is compiled, that these images can be pushed.
async fn check_target(target: &Target, images: &[Tagged]) -> anyhow::Result<()> {
    let Target::Registry { place, login } = target else { return Ok(()) };
    let registry = registry(place, login).await?;
    for Tagged { spec, .. } in images {
        registry.check_push(spec.name).await.map_err(|error| registry_failure(place, error))?;
    }
    Ok(())
}

/// Writes images to the target.
async fn deliver(images: &[Image], target: &Target, output: &Output) -> anyhow::Result<Vec<Made>> {
    let mut made = Vec::new();
    match target {
        Target::Archive { path, place } => {
            let named: Vec<(String, &Image)> =
                images.iter().map(|image| (format!("{place}/{}", image.name), image)).collect();
            images::write_archive(path, &named)?;
            for (repository, image) in named {
                made.push(self::made(image, format!("{repository}@{}", image.digest())));
            }
            output.note(format_args!("  wrote {}", path.display()));
        }
        Target::Registry { place, login } => {
            for image in images {
                let registry = registry(place, login).await?;
                let reference = registry.push(image).await.map_err(|error| registry_failure(place, error))?;
                output.note(format_args!("  pushed {reference}"));
                made.push(self::made(image, reference));
            }
        }
    }
    Ok(made)
}

fn made(image: &Image, reference: String) -> Made {
    Made { image: image.name.to_owned(), reference, built: true, size_bytes: Some(image.size) }
}

/// The error of a registry, for people.
fn registry_failure(place: &str, error: RegistryError) -> Failure {
    let (host, google) = (login::host(place), login::is_google(place));
    match error {
        RegistryError::Denied(why) => {
            Failure::new("registry-denied", "the registry denied access").on(place).why(why).next(if google {
                "check your login (`gcloud auth application-default login`), that `cargo xtask provision` made the \
                 registry, and that you have roles/artifactregistry.writer on it"
                    .to_owned()
            } else {
                format!("docker login {host}, or --username NAME --password-stdin")
            })
        }
        RegistryError::Missing(why) => Failure::new("not-set-up", "the image registry does not exist")
            .on(place)
            .why(why)
            .next(if google { "cargo xtask provision" } else { "check the name, or create it there" }),
        RegistryError::Unreachable(why) => Failure::new("registry-unreachable", "the registry does not answer")
            .on(place)
            .why(why)
            .next("check its address, and the network"),
        RegistryError::Refused(why) => Failure::new("registry-refused", "the registry did not accept the image")
            .on(place)
            .why(why)
            .next("see its reason; `cargo xtask build` sends only what is missing"),
    }
}

/// Images of an environment on a real cluster, by digest: those of the present source, made now if they are missing.
///
/// # Errors
/// As [`plan`] and [`carry_out`].
pub(crate) async fn ready(
    environment: &Environment,
    cloud: &Cloud,
    output: &Output,
) -> anyhow::Result<provision::manifests::Images> {
    let request = request(environment, cloud).await?;
    let plan = plan(&request, Some(cloud), output).await?;
    let made = carry_out(&plan, &request, Some(cloud), output).await?;
    image_notes::write(environment, made.into_iter().map(|made| (made.image, made.reference)))?;
    image_notes::read(environment)?.context("find the images that were just made")
}

/// The images that [`ready`] would make, and those that exist. Changes nothing.
///
/// # Errors
/// As [`plan`].
pub(crate) async fn foreseen(environment: &Environment, cloud: &Cloud, output: &Output) -> anyhow::Result<Vec<Step>> {
    let request = request(environment, cloud).await?;
    Ok(plan(&request, Some(cloud), output).await?.steps)
}

/// Every image that a deploy needs, in the environment's registry.
async fn request<'a>(environment: &'a Environment, cloud: &Cloud) -> anyhow::Result<Request<'a>> {
    let place = place(environment);
    let builder = environment.build.builder;
    let login = match builder {
        Builder::Local => login_source(&place, &LoginArgs::default(), || Ok(cloud.google.credentials().clone()))?,
        Builder::CloudBuild => LoginSource::Known(Login::Anonymous),
    };
    Ok(Request {
        environment,
        specs: named(&[])?,
        builder,
        target: Target::Registry { place, login },
        profile: here::PROFILE.to_owned(),
        force: false,
    })
}

#[cfg(test)]
mod tests;
