//! `local`: the laptop cloud of an environment, up or down.

mod exports;
mod serve;

use std::{net::IpAddr, path::PathBuf};

use contract::exit;
pub(crate) use exports::exports;
use provision::{Environment, LocalState, environment::CloudKind};
use serde_json::json;

use crate::{
    context,
    globals::Globals,
    laptop::{Laptop, Start},
};
use cli::{error::Failure, output::Output};

/// Name of the environment that the verb means when none is named.
const DEFAULT: &str = "local";

/// Arguments of `local`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Start the laptop cloud in the background
    Up {
        /// Keep its data in this folder, so that it survives a restart
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Serve Google's part at this address of this machine instead of loopback, for pods of another cluster
        /// (`--context`): clients must show credentials
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        listen: Option<IpAddr>,
        /// Answer like a cloud far away: 50 ms for each call to storage and Pub/Sub, and 1,000 object writes a second
        #[arg(long)]
        far: bool,
    },
    /// Stop it, and everything that runs in it
    Down,
    /// Tell whether it runs and where
    Status,
    /// Print the exports that kubectl, gcloud, gsutil and this program need to use it
    Env,
    /// Serve it in the foreground (what `up` starts)
    #[command(hide = true)]
    Serve {
        /// Keep its data in this folder
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Address of Google's part
        #[arg(long)]
        listen: Option<IpAddr>,
        /// Stop when standard input ends
        #[arg(long)]
        leash: bool,
        /// Answer like a cloud far away
        #[arg(long)]
        far: bool,
    },
    /// Kill what a killed laptop cloud leaves behind (what `serve` starts)
    #[command(hide = true)]
    Reap,
}

/// Runs the verb.
///
/// # Errors
/// When the environment is not a laptop's, or the laptop cloud does not start, stop or answer.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if matches!(args.verb, Verb::Reap) {
        serve::reap()?;
        return Ok(exit::DONE);
    }
    let mut globals = globals.clone();
    globals.env.get_or_insert_with(|| DEFAULT.to_owned());
    let environment = context::load(&globals)?;
    if environment.cloud != CloudKind::Local {
        return Err(Failure::usage(format!("environment {} is not on a laptop cloud", environment.name))
            .why("its file does not say cloud = \"local\"")
            .next("cargo xtask --env local local up")
            .into());
    }
    let laptop = Laptop::new(&environment);
    match &args.verb {
        Verb::Up { data, listen, far } => {
            let start = Start { data: data.as_deref(), listen: *listen, leash: false, far: *far };
            up(&laptop, &environment, &start, output)
        }
        Verb::Down => down(&laptop, &environment, output),
        Verb::Status => status(&laptop, &environment, output),
        Verb::Env => env(&laptop, &environment, &globals, output),
        Verb::Serve { data, listen, leash, far } => {
            let start = Start { data: data.as_deref(), listen: *listen, leash: *leash, far: *far };
            serve::run(&laptop, &environment, &start).await
        }
        Verb::Reap => Ok(exit::DONE),
    }
}

/// An address for clients: one of this machine, and not all of them.
fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Err("name one address of this machine".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

fn up(laptop: &Laptop, environment: &Environment, start: &Start<'_>, output: &Output) -> anyhow::Result<u8> {
    let (state, fresh) = match laptop.running()? {
        Some(state) => (state, false),
        None => (laptop.start(start)?.0, true),
    };
    if output.json {
        output.document(&state)?;
        return Ok(exit::DONE);
    }
    output.note(format_args!(
        "the laptop cloud of {} {} (process {})",
        environment.name,
        if fresh { "runs" } else { "was running already" },
        state.pid
    ));
    output.note(format_args!(
        "next: export DESKGRID_ENV={}; cargo xtask provision; cargo xtask deploy",
        environment.name
    ));
    Ok(exit::DONE)
}

fn down(laptop: &Laptop, environment: &Environment, output: &Output) -> anyhow::Result<u8> {
    let stopped = laptop.stop()?;
    if output.json {
        output.document(&json!({"environment": environment.name, "stopped": stopped}))?;
    } else if stopped {
        output.note(format_args!("the laptop cloud of {} has stopped", environment.name));
    } else {
        output.note(format_args!("no laptop cloud of {} was running", environment.name));
    }
    Ok(exit::DONE)
}

fn status(laptop: &Laptop, environment: &Environment, output: &Output) -> anyhow::Result<u8> {
    let state = laptop.running()?;
    let code = if state.is_some() { exit::DONE } else { exit::FAILED };
    if output.json {
        output.document(&json!({"environment": environment.name, "running": state.is_some(), "state": state}))?;
        return Ok(code);
    }
    let Some(state) = state else {
        output.line(format_args!("the laptop cloud of {} is not running", environment.name))?;
        output.note("next: cargo xtask local up");
        return Ok(code);
    };
    output.line(format_args!("the laptop cloud of {} runs as process {}", environment.name, state.pid))?;
    for (api, address) in addresses(&state)? {
        output.line(format_args!("  {api:<22} {address}"))?;
    }
    output.line(format_args!("  {:<22} {}", "log", laptop.log().display()))?;
    Ok(code)
}

/// Every API with its address.
///
/// # Errors
/// Never, in practice: the endpoints are plain text.
pub(crate) fn addresses(state: &LocalState) -> anyhow::Result<Vec<(String, String)>> {
    let endpoints = serde_json::to_value(&state.endpoints)?;
    let entries = endpoints.as_object().into_iter().flatten();
    Ok(entries.filter_map(|(api, address)| Some((api.clone(), address.as_str()?.to_owned()))).collect())
}

fn env(laptop: &Laptop, environment: &Environment, globals: &Globals, output: &Output) -> anyhow::Result<u8> {
    let Some(state) = laptop.running()? else {
        return Err(Failure::new("not-running", format!("the laptop cloud of {} is not running", environment.name))
            .next("cargo xtask local up")
            .into());
    };
    let name = globals.env.as_deref().unwrap_or(&environment.name);
    let exports = exports(name, &state);
    if output.json {
        output.document(&exports.into_iter().collect::<std::collections::BTreeMap<_, _>>())?;
        return Ok(exit::DONE);
    }
    for (name, value) in exports {
        output.line(format_args!("export {name}={}", cli::text::shell(&value)))?;
    }
    Ok(exit::DONE)
}
