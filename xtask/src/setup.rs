//! The steps of setting an environment up, shared by the verbs `plan`, `provision`, `deploy` and `demo`.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use cli::{error::Failure, flight::Flight, output::Output};
use cloud::clients::{PUBSUB_EMULATOR_HOST, STORAGE_EMULATOR_HOST, check_credentials};
use contract::config::Config;
use localcloud::node::images::Images as Programs;
use provision::{
    Cloud, Environment, Report, apply,
    environment::{CloudKind, Managed},
    kubeconfig,
    manifests::Images,
    plan::{self, Plan},
    preflight,
    resource::Id,
    show,
};

use crate::{binaries::Binaries, building, context, globals::Globals, image_notes, laptop::Laptop};

mod deploying;
pub(crate) mod showing;

pub use deploying::deploy;
pub(crate) use deploying::{Chosen, carry_out_deploy, deploy_agreed, deploy_options, deploy_part, plan_part};

/// Connects to the cloud of an environment.
///
/// # Errors
/// When it is a laptop cloud that is not running, or credentials cannot be used.
pub async fn connect(environment: &Environment, globals: &Globals) -> anyhow::Result<Cloud> {
    let variables = contract::config::variables();
    let state = match environment.cloud {
        CloudKind::Google => {
            for name in [PUBSUB_EMULATOR_HOST, STORAGE_EMULATOR_HOST] {
                if variables.get(name).is_some_and(|value| !value.is_empty()) {
                    return Err(Failure::usage(format!("{name} is set, and the environment is on Google Cloud"))
                        .on(format!("environment {}", environment.name))
                        .why("what runs on Google Cloud cannot reach an emulator on this machine")
                        .next(format!("unset {name}, or name an environment with cloud = \"local\""))
                        .into());
                }
            }
            None
        }
        CloudKind::Local => {
            let state = Laptop::new(environment).running()?.ok_or_else(|| {
                Failure::new("not-running", "the laptop cloud is not running")
                    .on(format!("environment {}", environment.name))
                    .next("cargo xtask local up")
            })?;
            Some(state.with_emulators(&variables)?)
        }
    };
    let mut cloud = Cloud::connect(environment, state).await?;
    if environment.cloud == CloudKind::Google {
        check_credentials(cloud.google.credentials()).await?;
    }
    if let Some(email) = globals.impersonated() {
        cloud = cloud.standing_for(email)?;
    }
    Ok(match (globals.context(), environment.cloud) {
        (Some(name), _) => cloud.with_context(name).await,
        (None, CloudKind::Google) => cloud.find_cluster(environment).await,
        (None, CloudKind::Local) => cloud,
    })
}

/// Prints the progress of each change on standard error.
pub(crate) fn progress(output: &Output) -> apply::Progress {
    let (output, flight) = (*output, Flight::new(output));
    Arc::new(move |event| match event {
        apply::Event::Finished { id, elapsed_ms, .. } => {
            let name = brief(&id);
            flight.ended(&name, format_args!("  done {name} ({elapsed_ms} ms)"));
        }
        apply::Event::Failed { id, error } => {
            flight.ended(&brief(&id), format_args!("  failed {id}: {error}"));
        }
        apply::Event::Advanced { id, what, percent } => flight.advanced(&brief(&id), &what, percent),
        apply::Event::Observing { resources } => {
            output.detail(format_args!("reading {resources} resources"));
        }
        apply::Event::Started { id, .. } => flight.begun(&brief(&id)),
    })
}

/// A resource in a line of progress: an account without what follows its project.
fn brief(id: &Id) -> String {
    id.to_string().replace(".iam.gserviceaccount.com", "")
}

/// As [`progress`]; with `--json` also prints each event as a line on standard output.
pub(crate) fn progress_and_events(output: &Output) -> apply::Progress {
    let (shown, output) = (progress(output), *output);
    Arc::new(move |event| {
        if output.json {
            // A reader that stopped reading still expects the work to be done.
            let _ = output.record(&event);
        }
        shown(event);
    })
}

/// Reads the cloud and makes the plan.
///
/// # Errors
/// When the cloud does not answer.
pub async fn make_plan(
    environment: &Environment,
    cloud: &Cloud,
    options: plan::Options,
    output: &Output,
) -> anyhow::Result<Plan> {
    provision::make_plan(environment, cloud, options, &progress(output)).await
}

/// Checks that nothing blocks a plan.
///
/// # Errors
/// When something blocks it.
pub(crate) fn check_unblocked(plan: &Plan) -> anyhow::Result<()> {
    let Some(code) = plan.blockers().find_map(|change| change.action.code()) else { return Ok(()) };
    let lines = plan.blockers().map(|change| {
        let own = change.action.code().filter(|own| *own != code).map(|own| format!(" [{own}]")).unwrap_or_default();
        format!("{}{own}: {}", change.id, show::note(&change.action).unwrap_or_default())
    });
    let is_foreign = |change: &plan::Change| matches!(change.action, plan::Action::Foreign { .. });
    let next = match plan.blockers().any(is_foreign) {
        true => "correct each change marked `!`, or take over resources of others with --adopt",
        false => "correct each change marked `!`, then run the command again",
    };
    Err(Failure::new(code, "the plan cannot be carried out, since the changes above marked `!` block it")
        .on(format!("environment {}", plan.environment))
        .why(lines.collect::<Vec<_>>().join("\n"))
        .next(next)
        .into())
}

/// Checks the preconditions of a plan before anything is written. A plan without changes has none.
///
/// # Errors
/// When something would stop the plan halfway.
pub(crate) async fn preflight(
    environment: &Environment,
    cloud: &Cloud,
    plan: &Plan,
    output: &Output,
) -> anyhow::Result<()> {
    if plan.pending().next().is_none() {
        return Ok(());
    }
    let findings = preflight::check(environment, cloud, Some(plan)).await;
    // A quota may have been raised, or be enough for today's load, and a role may be granted where we may not look: a
    // warning is enough.
    let is_warned = |what: &str| ["quota", "network: roles", "key "].iter().any(|prefix| what.starts_with(prefix));
    for found in findings.iter().filter(|found| !found.fine && !found.needed && is_warned(&found.what)) {
        if let Some(fix) = &found.fix {
            output.warn(format_args!("{}: {}; {fix}", found.what, found.seen));
        }
    }
    Ok(preflight::pass(environment, &findings)?)
}

/// Writes the cluster into the kubeconfig that `kubectl` reads, with the namespace of the selected business. A laptop
/// cloud has its own kubeconfig.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn write_kubeconfig(environment: &Environment, cloud: &Cloud, output: &Output) -> anyhow::Result<()> {
    if environment.cloud == CloudKind::Local || environment.manage.cluster == Managed::Off {
        return Ok(());
    }
    let Some(server) = &cloud.server else { return Ok(()) };
    let variables = contract::config::variables();
    let meant = variables.get("BUSINESS_NAME").and_then(|name| environment.business(name));
    let namespace = meant.or(environment.businesses.first()).map(|business| business.namespace.as_str());
    let entry = kubeconfig::Entry::of(environment, server, namespace);
    if let Some((path, true)) = kubeconfig::write(&entry, &inspect::kubeconfig::paths(&variables))? {
        output.note(format_args!("  kubectl uses the context {} now ({})", entry.name, path.display()));
    }
    Ok(())
}

/// Carries a plan out.
///
/// # Errors
/// When something is in its way, or a change failed.
pub async fn carry_out(plan: Plan, cloud: &Cloud, output: &Output) -> anyhow::Result<Report> {
    provision::carry_out(plan, cloud, &progress(output)).await
}

/// Writes the generated configuration, which the daily verbs need before the first deploy.
///
/// # Errors
/// When it cannot be written.
pub fn write_config(environment: &Environment, cloud: &Cloud) -> anyhow::Result<()> {
    let folder = context::generated(environment);
    let path = folder.join(context::CONFIG_FILE);
    let config = Config { cluster: cloud.server.clone(), ..environment.config(&cloud.endpoints) };
    let text = serde_json::to_string_pretty(&config).context("encode the configuration")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make the folder {}", folder.display()))?;
    std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))
}

/// Registers the services as images with the nodes of the laptop cloud.
///
/// # Errors
/// When a program cannot be read, or the folder of the laptop cloud not written to.
pub fn images(environment: &Environment, binaries: &Binaries) -> anyhow::Result<Images> {
    let store = Programs::new(Laptop::new(environment).images());
    let registry = building::place(environment);
    let image = |service: &str| -> anyhow::Result<(String, String)> {
        let reference = store.register(&format!("{registry}/{service}"), binaries.path(service)?)?;
        Ok((service.to_owned(), reference))
    };
    let made = services(environment).into_iter().map(image).collect::<anyhow::Result<Vec<_>>>()?;
    image_notes::write(environment, made)?;
    image_notes::read(environment)?.context("find the images that were just registered")
}

/// References that [`images`] would give, by name. Changes nothing.
///
/// # Errors
/// When a program cannot be read.
fn preview_images(environment: &Environment, binaries: &Binaries) -> anyhow::Result<BTreeMap<String, String>> {
    let registry = building::place(environment);
    let image = |service: &str| {
        let reference = Programs::reference(&format!("{registry}/{service}"), binaries.path(service)?)?;
        Ok((service.to_owned(), reference))
    };
    services(environment).into_iter().map(image).collect()
}

/// The services of an environment that a laptop cloud runs.
fn services(environment: &Environment) -> Vec<&'static str> {
    let web: &[&str] = if environment.web.enabled { &["client", "monitor"] } else { &[] };
    [&["orchestrator", "engine"], web].concat()
}

/// The images to deploy, by digest, made now if they are missing.
///
/// # Errors
/// When they do not build, or cannot be brought to the environment's registry.
pub(crate) async fn ready_images(environment: &Environment, cloud: &Cloud, output: &Output) -> anyhow::Result<Images> {
    match environment.cloud {
        CloudKind::Local => images(environment, &Binaries::build(output).await?),
        CloudKind::Google => building::ready(environment, cloud, output).await,
    }
}
