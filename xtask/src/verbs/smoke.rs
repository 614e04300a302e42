//! `smoke`: every command once in a temporary environment of your project, and a report of it without names.

mod cost;
mod report;
mod steps;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::Context as _;
use cli::{confirm, error::Failure, output::Output};
use cloud::{requests, shutdown};
use contract::{exit, labels};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use provision::environment::OVERRIDES;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{
    context, laptop,
    stage::{Stage, leftovers},
};
use report::{Done, Report};
use steps::Step;

/// The business of the environment.
const BUSINESS: &str = "smoke";
/// The input that succeeds, below the examples, and one made of it that takes minutes.
const EXAMPLE: &str = "pricing/01-index-calls.json";
const LONG: &str = "long.json";
/// Attempts to remove the environment.
const REMOVALS: u32 = 3;
/// Variables of the caller's environment, which are not meant here.
const OTHERS: [&str; 5] = ["BUSINESS_NAME", "CLIENT_NAME", "DESKGRID_CONFIG", "DESKGRID_CONTEXT", "DESKGRID_ENV"];

/// Arguments of `smoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Project in which the environment is made and removed
    #[arg(long, required_unless_present = "local")]
    project: Option<String>,
    /// Region of the environment
    #[arg(long, required_unless_present = "local")]
    location: Option<String>,
    /// Use a laptop cloud, which costs nothing
    #[arg(long, conflicts_with_all = ["project", "location"])]
    local: bool,
    /// File to write the report to
    #[arg(long, value_name = "FILE", default_value = "smoke-report.json")]
    report: PathBuf,
    /// Leave the environment running, and keep its file
    #[arg(long)]
    keep: bool,
    /// Do not ask before anything is made that costs money
    #[arg(long, short)]
    yes: bool,
}

/// Runs every command and writes the report. The environment is removed also after a failure and a signal.
///
/// # Errors
/// When the user does not agree, a command did not end as it should, or something is left.
pub(crate) async fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let project = args.project.as_deref().unwrap_or("smoke-desk");
    let location = args.location.as_deref().unwrap_or("europe-west1");
    if !args.local {
        output.note(cost::describe());
        if !args.yes {
            confirm::yes(&format!("make a temporary environment in project {project}, and remove it again?"))?;
        }
    }
    let stop = shutdown::on_signal()?;
    let mut stage = Stage::make("smoke", &environment_file(project, location, args.local))?;
    if args.local {
        stage.start_cloud(!args.keep, false)?;
    }
    let smoke = Smoke { stage: &stage, output, local: args.local };
    let mut report = Report::new(args.local, location);
    let worked = smoke.work(&stop, &mut report).await;
    let removed = if args.keep { Ok(false) } else { smoke.remove(&mut report).await };
    if matches!(removed, Ok(true)) {
        output.note(leftovers::describe(&stage.remove()?));
    } else {
        output.note(format_args!(
            "the environment is still there; remove it with: cargo xtask --env {} teardown --identities --delete-data",
            stage.file().display()
        ));
        stage.keep();
    }
    report.write(&args.report)?;
    output.note(format_args!("the report is in {}; it has no names, and can be sent", args.report.display()));
    worked.and(removed)?;
    if stop.is_cancelled() {
        return Err(Failure::new("interrupted", "the smoke test was interrupted").next("cargo xtask smoke").into());
    }
    let failed = report.failed();
    if failed.is_empty() {
        return Ok(exit::DONE);
    }
    Err(Failure::new("smoke-failed", "commands did not end as they should")
        .on(format!("project {project}"))
        .why(failed.join("\n"))
        .next(format!("read their messages above, and send the report {}", args.report.display()))
        .into())
}

/// The smallest environment that does everything. Its names are those of no other environment of the project.
fn environment_file(project: &str, location: &str, local: bool) -> String {
    let id = std::process::id();
    let cloud = if local { "cloud = \"local\"\n".to_owned() } else { format!("zone = \"{location}-b\"\n") };
    format!(
        "project = {project:?}\nlocation = {location:?}\nbucket = \"{project}-smoke-{id}\"\n{cloud}\
         [security]\nrole_prefix = \"smoke{id}\"\n\
         [build]\nregistry = \"smoke-{id}\"\n\
         [cluster]\nname = \"smoke-{id}\"\nnodes = 1\nmachine_type = \"e2-standard-2\"\n\
         [cluster.engine_pool]\nmin = 0\nmax = 1\n\
         [businesses.{BUSINESS}]\nmax_active_jobs = 2\n\
         [businesses.{BUSINESS}.engine]\ncpu = \"500m\"\nmemory = \"256Mi\"\ntimeout = \"10m\"\n"
    )
}

/// A running smoke test.
struct Smoke<'a> {
    stage: &'a Stage,
    output: &'a Output,
    local: bool,
}

impl Smoke<'_> {
    /// All steps but the removal.
    async fn work(&self, stop: &CancellationToken, report: &mut Report) -> anyhow::Result<()> {
        let limit = tokio::time::sleep(cost::LIMIT);
        let until = stop.child_token();
        let all = async {
            let context = || format!("make an input of {EXAMPLE}");
            let text = std::fs::read_to_string(context::root().join("examples").join(EXAMPLE)).with_context(context)?;
            let long = text.replace("\"paths\": 500000", "\"paths\": 1000000000");
            std::fs::write(self.stage.folder().join(LONG), long).with_context(context)?;
            for (index, step) in steps::SET_UP.iter().chain(steps::WORK).enumerate() {
                let done = self.step(*step, &until, index).await?;
                let goes_on = done.fine || index >= steps::SET_UP.len();
                report.steps.push(done);
                if until.is_cancelled() || !goes_on {
                    break;
                }
            }
            anyhow::Ok(())
        };
        tokio::pin!(all);
        tokio::select! {
            done = &mut all => return done,
            () = limit => self.output.warn("the time limit is reached; removing the environment"),
        }
        // The command that runs ends, as after a signal.
        until.cancel();
        all.await
    }

    /// Removes the environment, whatever was done before; `true` when nothing is left. A resource that was being made
    /// when a command was interrupted may need another attempt.
    async fn remove(&self, report: &mut Report) -> anyhow::Result<bool> {
        for _ in 0..REMOVALS {
            let done = self.step(steps::TEARDOWN, &CancellationToken::new(), report.steps.len()).await?;
            let fine = done.fine;
            report.steps.push(done);
            if fine {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs a command as a program of its own, with a record of its requests.
    async fn step(&self, step: Step, stop: &CancellationToken, index: usize) -> anyhow::Result<Done> {
        let verb = step.verb();
        let context = || format!("run {verb}");
        self.output.note(format_args!("running {verb}"));
        let record = self.stage.folder().join(format!("requests-{index}"));
        let started = Instant::now();
        let mut child = self.command(&step, &record)?.spawn().with_context(context)?;
        let lines = child.stderr.take().map(BufReader::new).with_context(context)?.lines();
        let (status, error) = tokio::join!(end(&mut child, stop), self.forward(lines));
        let code = status.with_context(context)?;
        let fine = code.is_some_and(|code| step.codes.iter().any(|fine| i32::from(*fine) == code));
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !fine {
            self.output.note(format_args!("  {verb} ended with {code:?}, expected {:?}", step.codes));
        }
        Ok(Done { verb, exit: code, fine, milliseconds, error, requests: report::requests(&record)? })
    }

    fn command(&self, step: &Step, record: &Path) -> anyhow::Result<Command> {
        let examples = context::root().join("examples");
        let word = |word: &str| match word {
            "FILE" => examples.join(EXAMPLE).display().to_string(),
            "LONG" => self.stage.folder().join(LONG).display().to_string(),
            "BAD" => examples.join("malformed.json").display().to_string(),
            "OUT" => self.stage.folder().join("rendered").display().to_string(),
            "BUCKET" => self.stage.environment().bucket.clone(),
            word => word.replace("DIGEST", &"0".repeat(64)),
        };
        let mut command = Command::new(laptop::program()?);
        command.arg("--env").arg(self.stage.file()).args(step.line.split(' ').map(word));
        if self.local && step.line == "build" {
            // The nodes of a laptop cloud run programs of this machine.
            command.args(["--dry-run", "--output"]).arg(self.stage.folder().join("images.tar"));
        }
        for name in OTHERS.into_iter().chain(OVERRIDES) {
            command.env_remove(name);
        }
        command
            .env("KUBECONFIG", self.stage.folder().join("kubeconfig"))
            .env(labels::ENV_REQUESTS, record)
            .env(requests::ENV_GOOGLE_SPANS, "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for this command, which passes it on.
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Shows what a command prints with `--verbose`, and returns the code of its error.
    async fn forward(&self, mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>) -> Option<String> {
        let mut error = None;
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((code, _)) = line.strip_prefix("error[").and_then(|rest| rest.split_once(']')) {
                error = Some(code.to_owned());
                self.output.note(format_args!("  {line}"));
            } else {
                self.output.detail(format_args!("  {line}"));
            }
        }
        error
    }
}

/// Waits for the end of a program, which a signal brings about early.
async fn end(child: &mut Child, stop: &CancellationToken) -> std::io::Result<Option<i32>> {
    let ended = tokio::select! {
        ended = child.wait() => ended?,
        () = stop.cancelled() => {
            if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(id), Signal::SIGINT);
            }
            child.wait().await?
        }
    };
    Ok(ended.code())
}
