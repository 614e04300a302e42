//! Opens the environment of a verb: its configuration, credentials and clients.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use cli::{
    Context,
    context::{cluster, google_cluster},
    error::Failure,
    text,
};
use cloud::clients::{Connection, check_credentials};
use contract::config::{Config, variables};
use inspect::kubeconfig;
use kube::config::Kubeconfig;
use provision::{
    LocalState,
    cloud::LOCAL_CONTEXT,
    environment::{self, CloudKind, Environment},
    google::file_credentials,
};

use crate::{globals::Globals, login, network};

/// Where everything generated for an environment is, below the root of the workspace.
pub(crate) const GENERATED: &str = "infra/generated";
/// Where the environments are, below the root of the workspace.
const ENVIRONMENTS: &str = "infra/environments";
/// The generated configuration, in an environment's folder.
pub(crate) const CONFIG_FILE: &str = "config.json";
/// The state file of a running laptop cloud, in an environment's folder.
pub const STATE_FILE: &str = "cloud.json";
/// Longest that the laptop cloud takes to accept a connection.
const LAPTOP_ANSWERS: std::time::Duration = std::time::Duration::from_secs(2);

static PACKAGE: OnceLock<&'static str> = OnceLock::new();

/// Remembers the folder in which this package was compiled.
pub(crate) fn remember_package(folder: &'static str) {
    PACKAGE.get_or_init(|| folder);
}

/// Opens the environment that the command line names.
///
/// # Errors
/// When there is no such environment, it is not set up, or its credentials cannot be used.
pub(crate) async fn open(globals: &Globals) -> anyhow::Result<Context> {
    let environment = load(globals)?;
    let flag = globals
        .env
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(|name| format!(" --env {}", text::shell(name)))
        .unwrap_or_default();
    let folder = generated(&environment);
    let flag = match globals.context() {
        Some(name) => format!("{flag} --context {}", text::shell(name)),
        None => flag,
    };
    let mut context = open_generated(&environment, &folder, flag, globals).await?;
    if let Some(name) = globals.context() {
        context.cluster = cluster(kubeconfig::read_needed(&variables()), Some(name)).await;
    }
    Ok(context)
}

/// Opens an environment by the files generated for it in `folder`. Suggested commands have `flag` after `cargo xtask`.
///
/// # Errors
/// When the environment is not set up, or its credentials cannot be used.
pub(crate) async fn open_generated(
    environment: &Environment,
    folder: &Path,
    flag: String,
    globals: &Globals,
) -> anyhow::Result<Context> {
    let (config_path, state_path) = (folder.join(CONFIG_FILE), folder.join(STATE_FILE));
    let missing = |path: &Path| not_set_up(environment, &flag).why(format!("there is no {}", path.display()));
    let (endpoints, connection, local) = match environment.cloud {
        CloudKind::Local => {
            if !state_path.is_file() {
                return Err(missing(&state_path).into());
            }
            let state = LocalState::read(&state_path)?.with_emulators(&variables())?;
            answers(&state.endpoints.google.storage).await.map_err(|error| {
                Failure::new("unreachable", "the laptop cloud does not answer")
                    .on(state.endpoints.google.storage.clone())
                    .why(error.to_string())
                    .next(format!("cargo xtask{flag} local up"))
            })?;
            // The running laptop cloud says where it is; the configuration may be from an earlier run of it.
            let endpoints = contract::config::Endpoints {
                pubsub: Some(state.endpoints.google.pubsub),
                storage: Some(state.endpoints.google.storage),
            };
            let connection = Connection::with_credentials(&endpoints, file_credentials(&state.credentials)?);
            let kubeconfig = Kubeconfig::read_from(&state.kubeconfig).map_err(anyhow::Error::new);
            (Some(endpoints), connection, Some(cluster(kubeconfig, Some(LOCAL_CONTEXT)).await))
        }
        CloudKind::Google => {
            let endpoints = contract::config::Endpoints::default();
            let connection = match globals.impersonated() {
                Some(_) => Connection::with_credentials(&endpoints, login::credentials(environment, globals)?),
                None => Connection::for_people(&endpoints, &variables())?,
            };
            check_credentials(&connection.storage_credentials()).await?;
            (None, connection, None)
        }
    };
    if !config_path.is_file() {
        return Err(missing(&config_path).into());
    }
    let mut config = Config::read(&config_path)?;
    config.endpoints = endpoints.unwrap_or(config.endpoints);
    let cluster = match (local, &config.cluster) {
        (Some(cluster), _) => cluster,
        (None, Some(server)) => google_cluster(server, connection.storage_credentials()).await,
        (None, None) => Err(format!("{} names none; `cargo xtask{flag} provision` writes it", config_path.display())),
    };
    let is_laptop = environment.cloud == CloudKind::Local;
    Context::new(config, connection, cluster, flag, is_laptop).await
}

/// The environment file that the command line names.
///
/// # Errors
/// When there is none of that name, or it has errors.
pub(crate) fn load(globals: &Globals) -> anyhow::Result<Environment> {
    let variables = variables();
    let directory = root().join(ENVIRONMENTS);
    let name = globals.env.as_deref().filter(|name| !name.is_empty());
    let path = environment::locate(&directory, name).map_err(|error| {
        Failure::usage(error.to_string()).next("name an environment with --env, or set DESKGRID_ENV")
    })?;
    let mut environment = environment::load(&path, &variables)?;
    if globals.context().is_some() {
        // Somebody else's cluster is used as it is.
        environment.manage.cluster = environment::Managed::Off;
    }
    network::pass_on(&environment, &variables)?;
    Ok(environment)
}

/// The folder of the environment files.
pub(crate) fn environments() -> PathBuf {
    root().join(ENVIRONMENTS)
}

/// The folder of the files generated for an environment: `infra/generated/NAME` of the workspace, or for an environment
/// file elsewhere `generated/NAME` beside it, so that two of one name do not disturb each other.
pub fn generated(environment: &Environment) -> PathBuf {
    let root = root();
    let ours = |folder: &Path| match (folder.canonicalize(), root.join(ENVIRONMENTS).canonicalize()) {
        (Ok(folder), Ok(environments)) => folder == environments,
        _ => false,
    };
    let beside = environment.path.as_deref().and_then(Path::parent).map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    match beside.filter(|folder| !ours(folder)) {
        Some(folder) => folder.join("generated").join(&environment.name),
        None => root.join(GENERATED).join(&environment.name),
    }
}

/// The root of the workspace: where this program was built, if that still exists, else the nearest folder above the
/// current one that has environments, else the current one.
pub(crate) fn root() -> PathBuf {
    let built = PACKAGE.get().and_then(|package| Path::new(package).parent());
    if let Some(root) = built.filter(|root| root.join(ENVIRONMENTS).is_dir()) {
        return root.to_owned();
    }
    let current = std::env::current_dir().unwrap_or_default();
    let above = current.ancestors().find(|folder| folder.join(ENVIRONMENTS).is_dir());
    above.map_or_else(|| current.clone(), Path::to_owned)
}

fn not_set_up(environment: &Environment, flag: &str) -> Failure {
    let verb = match environment.cloud {
        CloudKind::Local => "local up",
        CloudKind::Google => "provision",
    };
    Failure::new("not-set-up", format!("environment {} is not set up", environment.name))
        .next(format!("cargo xtask{flag} {verb}"))
}

/// Whether anybody listens at an endpoint on this machine. The clients themselves would try for minutes.
async fn answers(endpoint: &str) -> std::io::Result<()> {
    let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address).trim_end_matches('/');
    tokio::time::timeout(LAPTOP_ANSWERS, tokio::net::TcpStream::connect(address)).await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_near_the_environment_file() {
        let local = root().join(ENVIRONMENTS).join("local.toml");
        let mut environment = environment::load(&local, &Default::default()).unwrap();
        assert_eq!(generated(&environment), root().join("infra/generated/local"));
        let elsewhere = tempfile::tempdir().unwrap();
        environment.path = Some(elsewhere.path().join("local.toml"));
        assert_eq!(generated(&environment), elsewhere.path().join("generated/local"));
    }

    #[test]
    fn the_root_has_environments() {
        assert!(root().join(ENVIRONMENTS).join("local.toml").is_file());
    }
}
