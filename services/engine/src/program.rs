//! Runs a desk's own program on one input. The program finds the input on standard input and in the file
//! `DESKGRID_INPUT`, and common data in the folder `DESKGRID_COMMON`. Its result is the file `DESKGRID_RESULT`, or
//! standard output when it did not write that file.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use contract::labels;
use kernel::Share;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStderr, ChildStdout, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    compute::Output,
    failure::{self, Failure},
    log::LogTail,
};

/// How long a program may run on after a signal before the engine kills it: shorter than Kubernetes's default grace
/// period of 30 seconds. A process that left the program's group and keeps its output open may delay the engine by
/// twice [`OUTPUT_GRACE`] more; then Kubernetes kills the engine before it can write the termination message.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(20);
/// How long reading the rest of the output may take after the program has ended.
pub(crate) const OUTPUT_GRACE: Duration = Duration::from_secs(10);
/// Default limit of a result, in bytes.
pub const MAX_OUTPUT_BYTES: u64 = 256 * 1024 * 1024;
/// Limit of a line of standard error, in bytes; a longer line is split.
const LINE_MAX: u64 = 64 * 1024;
/// Limit of the unused standard output that is copied to the log, in bytes.
const LOGGED_OUTPUT_MAX: u64 = 64 * 1024;

/// What a program learns of its item beside the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'n> {
    /// Its index, and the number of items of its pack.
    pub share: Share,
    /// The name of its file, in a pack of files.
    pub name: Option<&'n str>,
}

impl Position<'_> {
    /// That of a single input.
    pub const ALONE: Self = Self { share: Share::ALL, name: None };
}

/// A program, its limits, and how to read its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Exit codes that mean a permanent failure of this input.
    pub permanent_exit_codes: Vec<u8>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Limit of a result, in bytes; [`MAX_OUTPUT_BYTES`] when absent.
    pub max_output_bytes: Option<u64>,
    /// Content type of the result; recognised from its bytes when absent.
    pub content_type: Option<String>,
    /// It stays and reads one item after another, see `resident`.
    pub resident: bool,
}

impl Program {
    /// The program with the settings of its business where it has none of its own.
    pub fn with_defaults(&self, config: &contract::config::Program) -> Self {
        let codes = if self.permanent_exit_codes.is_empty() {
            &config.permanent_exit_codes
        } else {
            &self.permanent_exit_codes
        };
        Self {
            permanent_exit_codes: codes.clone(),
            timeout: self.timeout.or(config.timeout_secs.map(|seconds| Duration::from_secs(seconds.into()))),
            max_output_bytes: self.max_output_bytes.or(config.max_output_bytes),
            resident: self.resident || config.resident,
            ..self.clone()
        }
    }

    /// As [`Program::with_defaults`], with a timeout that is never longer than that of an item.
    pub fn with_limits(&self, config: &contract::config::Program, timeout_max: Duration) -> Self {
        let program = self.with_defaults(config);
        Self { timeout: Some(program.timeout.map_or(timeout_max, |own| own.min(timeout_max))), ..program }
    }

    /// The program itself, for messages.
    pub(crate) fn name(&self) -> &str {
        self.command.first().map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn output_limit(&self) -> u64 {
        self.max_output_bytes.unwrap_or(MAX_OUTPUT_BYTES)
    }
}

/// The folder of one run, deleted with it.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
    common: PathBuf,
    /// The folder that the program starts in, when it is not that of the engine.
    work: Option<PathBuf>,
}

impl Scratch {
    /// A new folder inside `parent`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(parent: &Path) -> anyhow::Result<Self> {
        let context = || format!("create a folder in {}", parent.display());
        let folder = tempfile::Builder::new().prefix("engine-").tempdir_in(parent).with_context(context)?;
        let common = folder.path().join("common");
        std::fs::create_dir(&common).with_context(context)?;
        Ok(Self { folder, common, work: None })
    }

    /// Folder of the common data.
    pub fn common(&self) -> &Path {
        &self.common
    }

    /// Replaces the folder of the common data.
    pub fn set_common(&mut self, folder: PathBuf) {
        self.common = folder;
    }

    /// Starts the program in a folder of its own: several run at the same time, and must not find each other's files.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn start_apart(&mut self) -> anyhow::Result<()> {
        let work = self.folder.path().join("work");
        std::fs::create_dir(&work).with_context(|| format!("create {}", work.display()))?;
        self.work = Some(work);
        Ok(())
    }

    /// Writes the input for the program.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_input(&self, bytes: &[u8]) -> anyhow::Result<()> {
        std::fs::write(self.input(), bytes).context("write the input into the work folder")
    }

    fn input(&self) -> PathBuf {
        self.folder.path().join("input")
    }

    fn result(&self) -> PathBuf {
        self.folder.path().join("result")
    }

    fn stdout(&self) -> PathBuf {
        self.folder.path().join("stdout")
    }
}

/// Runs the program and reads its result. Its standard error goes to `log` if given, else to this process's.
///
/// # Errors
/// When the program cannot be started, runs too long, is stopped, writes too much, or does not exit with 0.
pub async fn run(
    program: &Program,
    scratch: &Scratch,
    position: Position<'_>,
    log: Option<&LogTail>,
) -> Result<Output, Failure> {
    let ended = supervise(program, scratch, position, log).await?;
    check_exit(program, &ended)?;
    read_result(program, scratch).await
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    status: ExitStatus,
    /// Why the engine stopped it, if it did.
    stopped: Option<Stopped>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// The engine received this signal.
    BySignal(Signal),
    /// It ran too long.
    TimedOut,
    /// It wrote too much to standard output.
    TooMuchOutput,
    /// A process that it started kept its standard output open.
    OutputHeldOpen,
}

fn check_exit(program: &Program, ended: &Ended) -> Result<(), Failure> {
    let name = program.name();
    match ended.stopped {
        // A program that exits with 0 after the signal has finished its work.
        Some(Stopped::BySignal(_)) if ended.status.success() => Ok(()),
        Some(Stopped::BySignal(signal)) => {
            Err(Failure::transient(failure::STOPPED, format!("the engine received {signal} while {name} ran")))
        }
        Some(Stopped::TimedOut) => Err(too_slow(program)),
        Some(Stopped::TooMuchOutput) => Err(too_large(program)),
        Some(Stopped::OutputHeldOpen) => {
            let message = format!("{name} ended, but a process that it started keeps its standard output open");
            Err(Failure::transient("output-held-open", message))
        }
        None => check_status(program, ended.status),
    }
}

/// Reads the status of a program that the engine did not stop.
pub(crate) fn check_status(program: &Program, status: ExitStatus) -> Result<(), Failure> {
    let name = program.name();
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => {
            let permanent = program.permanent_exit_codes.iter().any(|permanent| i32::from(*permanent) == code);
            let message = format!("{name} exited with code {code}");
            Err(Failure { permanent, code: "program-failed", message })
        }
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            let name_of_signal = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            let message = format!("{name} was ended by signal {signal} ({name_of_signal})");
            Err(Failure::transient("program-killed", message))
        }
    }
}

pub(crate) fn too_slow(program: &Program) -> Failure {
    let seconds = program.timeout.unwrap_or_default().as_secs();
    Failure::transient("timeout", format!("{} ran longer than {seconds} s", program.name()))
}

pub(crate) fn too_large(program: &Program) -> Failure {
    let message = format!(
        "the result of {} has more than {} bytes (--max-output-bytes, or max_output of the business)",
        program.name(),
        program.output_limit()
    );
    Failure::permanent("output-too-large", message)
}

/// Starts the program, forwards signals to it, and waits until it has ended and its output is read.
async fn supervise(
    program: &Program,
    scratch: &Scratch,
    Position { share, name: file }: Position<'_>,
    log: Option<&LogTail>,
) -> Result<Ended, Failure> {
    let (name, arguments) = program
        .command
        .split_first()
        .ok_or_else(|| Failure::transient("cannot-start", "there is no program to run"))?;
    // Before the program starts, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let input = File::open(scratch.input()).context("open the input in the work folder")?;
    let mut command = Command::new(name);
    if let Some(work) = &scratch.work {
        if name.contains('/') {
            command = Command::new(std::path::absolute(name).context("find the program")?);
        }
        command.current_dir(work);
    }
    let mut child = command
        .args(arguments)
        .env(labels::ENV_INPUT, scratch.input())
        .env(labels::ENV_COMMON, scratch.common())
        .env(labels::ENV_RESULT, scratch.result())
        .env(labels::ENV_INDEX, share.index.to_string())
        .env(labels::ENV_COUNT, share.count.to_string())
        .envs(file.map(|file| (labels::ENV_NAME, file)))
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .stderr(if log.is_some() { Stdio::piped() } else { Stdio::inherit() })
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::transient("cannot-start", format!("{name} cannot be started: {error}")))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw).context("find the program's id")?;
    // When this is dropped before the program has ended, nobody needs its result.
    let running = Group(group);
    let stdout = child.stdout.take().context("take the program's standard output")?;
    let logged = log.cloned().zip(child.stderr.take()).map(|(log, stderr)| tokio::spawn(log_lines(stderr, log)));
    let mut copied = tokio::spawn(copy(stdout, scratch.stdout(), program.output_limit()));

    let mut stopped = None;
    let mut copy_result = None;
    let far = Instant::now() + Duration::from_secs(86_400 * 365);
    let mut deadline = program.timeout.map_or(far, |timeout| Instant::now() + timeout);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("wait for the program")?,
            _ = terminate.recv() => {
                stopped = stopped.or(Some(Stopped::BySignal(Signal::SIGTERM)));
                deadline = deadline.min(Instant::now() + STOP_GRACE);
                send(group, Signal::SIGTERM);
            }
            _ = interrupt.recv() => {
                stopped = stopped.or(Some(Stopped::BySignal(Signal::SIGINT)));
                deadline = deadline.min(Instant::now() + STOP_GRACE);
                send(group, Signal::SIGINT);
            }
            () = sleep_until(deadline) => {
                send(group, if stopped.is_some() { Signal::SIGKILL } else { Signal::SIGTERM });
                stopped = stopped.or(Some(Stopped::TimedOut));
                deadline = Instant::now() + STOP_GRACE;
            }
            result = &mut copied, if copy_result.is_none() => {
                let result = result.context("read the program's standard output")?;
                if matches!(result, Ok(Copied::TooMuch)) {
                    stopped = stopped.or(Some(Stopped::TooMuchOutput));
                    send(group, Signal::SIGKILL);
                }
                copy_result = Some(result);
            }
        }
    };
    // A process that the program left running could change the result while it is read, and on a laptop it would
    // outlive the engine.
    drop(running);
    if let Some(mut logged) = logged
        && timeout(OUTPUT_GRACE, &mut logged).await.is_err()
    {
        logged.abort();
    }
    let copy_result = match copy_result {
        Some(result) => result,
        None => match timeout(OUTPUT_GRACE, &mut copied).await {
            Ok(result) => result.context("read the program's standard output")?,
            Err(_) => {
                copied.abort();
                stopped = stopped.or(Some(Stopped::OutputHeldOpen));
                Ok(Copied::All)
            }
        },
    };
    if matches!(copy_result?, Copied::TooMuch) {
        stopped = stopped.or(Some(Stopped::TooMuchOutput));
    }
    Ok(Ended { status, stopped })
}

/// A process group that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Group(pub(crate) Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // The group may have ended already.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

fn send(group: Pid, signal: Signal) {
    // The group may have ended already.
    let _ = killpg(group, signal);
}

/// Copies the program's standard error to the log, line by line; bytes that are not UTF-8 are replaced.
async fn log_lines(stderr: ChildStderr, log: LogTail) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    // A line without an end is split, so that it does not fill the memory.
    while let Ok(1..) = (&mut lines).take(LINE_MAX).read_until(b'\n', &mut line).await {
        log.until_room().await;
        log.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

enum Copied {
    All,
    TooMuch,
}

async fn copy(mut from: ChildStdout, to: PathBuf, limit: u64) -> anyhow::Result<Copied> {
    let context = || format!("keep the program's standard output in {}", to.display());
    let mut file = tokio::fs::File::create(&to).await.with_context(context)?;
    let copied = tokio::io::copy(&mut (&mut from).take(limit), &mut file).await.with_context(context)?;
    file.flush().await.with_context(context)?;
    if copied < limit {
        return Ok(Copied::All);
    }
    let excess = from.read(&mut [0]).await.with_context(context)?;
    Ok(if excess > 0 { Copied::TooMuch } else { Copied::All })
}

async fn read_result(program: &Program, scratch: &Scratch) -> Result<Output, Failure> {
    let (file, stdout) = (scratch.result(), scratch.stdout());
    let from_file = file.try_exists().context("check for the result file")?;
    if from_file {
        log_stdout(&stdout).await?;
    }
    let path = if from_file { file } else { stdout };
    let size = std::fs::metadata(&path).context("measure the result")?.len();
    if size > program.output_limit() {
        return Err(too_large(program));
    }
    let bytes = std::fs::read(&path).context("read the result")?;
    let content_type = program.content_type.clone().unwrap_or_else(|| recognise(&bytes).to_owned());
    Ok(Output::of_program(bytes, content_type).await?)
}

/// Copies standard output to the log when the result is the file, so that the output is not lost.
async fn log_stdout(stdout: &Path) -> anyhow::Result<()> {
    let context = "copy the program's standard output to the log";
    let mut file = tokio::fs::File::open(stdout).await.context(context)?.take(LOGGED_OUTPUT_MAX);
    tokio::io::copy(&mut file, &mut tokio::io::stderr()).await.context(context)?;
    tokio::io::stderr().flush().await.context(context)
}

/// Content type of a result, from its bytes.
pub(crate) fn recognise(bytes: &[u8]) -> &'static str {
    let starts_as_json = matches!(bytes.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['));
    if starts_as_json && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        "application/json"
    } else if std::str::from_utf8(bytes).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}
