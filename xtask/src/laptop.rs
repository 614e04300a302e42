//! The process of the laptop cloud: its files, whether it runs, how to start and stop it.

use std::os::unix::process::CommandExt as _;
use std::{
    ffi::OsString,
    fs::{File, OpenOptions, TryLockError},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use cli::error::Failure;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use provision::{Environment, LocalState, environment::OVERRIDES};

use crate::context;

/// Deadline of its start and of its stop; both take well under a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(10);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Remembers the path of `xtask`, which serves the laptop cloud. Call it at the start: the system no longer knows the
/// path of a running program once cargo has replaced its file.
pub fn remember_program(xtask: PathBuf) {
    PROGRAM.get_or_init(|| xtask);
}

/// The path of `xtask`.
pub(crate) fn program() -> anyhow::Result<&'static PathBuf> {
    PROGRAM.get().context("find the program xtask")
}

/// How a laptop cloud starts.
#[derive(Debug, Default)]
pub(crate) struct Start<'s> {
    /// The folder in which it keeps its data.
    pub(crate) data: Option<&'s Path>,
    /// Another address of Google's part than loopback.
    pub(crate) listen: Option<IpAddr>,
    /// It ends when the process does that started it.
    pub(crate) leash: bool,
    /// It answers like a cloud far away.
    pub(crate) far: bool,
}

/// The laptop cloud of one environment.
#[derive(Clone, Debug)]
pub(crate) struct Laptop {
    environment: String,
    file: Option<PathBuf>,
    folder: PathBuf,
    /// Variables that override the file, with the values that this environment has.
    overrides: Vec<(&'static str, String)>,
}

impl Laptop {
    /// The laptop cloud of an environment, whether it runs or not.
    pub(crate) fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.name.clone(),
            file: environment.path.clone(),
            folder: context::generated(environment),
            overrides: OVERRIDES.into_iter().zip(environment.overrides().map(str::to_owned)).collect(),
        }
    }

    /// Its state file.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.folder.join(context::STATE_FILE)
    }

    /// The folder it keeps pods, images, credentials and its log in.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.join("cloud")
    }

    /// The folder of images; registering one there is enough for its nodes to find it.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder().join("cluster").join("images")
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("cloud.lock")
    }

    /// Holds the lock that a running laptop cloud holds, or `None` when one runs.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub(crate) fn lock(&self) -> anyhow::Result<Option<File>> {
        let path = self.lock_path();
        let context = || format!("lock {}", path.display());
        std::fs::create_dir_all(&self.folder).with_context(context)?;
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path).with_context(context)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(context),
        }
    }

    /// The state of the running one; `None` when none runs.
    ///
    /// # Errors
    /// When its state file cannot be read.
    pub(crate) fn running(&self) -> anyhow::Result<Option<LocalState>> {
        if !self.folder.is_dir() || self.lock()?.is_some() {
            return Ok(None);
        }
        match LocalState::read(&self.state_path()) {
            // It holds the lock but has not written its state file yet.
            Err(_) if !self.state_path().exists() => Ok(None),
            state => state.map(Some),
        }
    }

    /// Starts one in the background and waits until it answers.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub(crate) fn start(&self, start: &Start<'_>) -> anyhow::Result<(LocalState, std::process::Child)> {
        std::fs::create_dir_all(self.folder())
            .with_context(|| format!("make the folder {}", self.folder().display()))?;
        let log = File::create(self.log()).with_context(|| format!("make the log {}", self.log().display()))?;
        let program = program()?;
        let mut arguments: Vec<OsString> = vec!["local".into(), "serve".into()];
        if let Some(data) = start.data {
            let data = std::path::absolute(data).with_context(|| format!("use the folder {}", data.display()))?;
            arguments.extend(["--data".into(), data.into()]);
        }
        if let Some(listen) = start.listen {
            arguments.extend(["--listen".into(), listen.to_string().into()]);
        }
        arguments.extend(start.leash.then(|| "--leash".into()));
        arguments.extend(start.far.then(|| "--far".into()));
        let mut child = Command::new(program)
            .args(arguments)
            .env("DESKGRID_ENV", self.environment_argument()?)
            .envs(self.overrides.iter().map(|(name, value)| (name, value)))
            .stdin(if start.leash { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the verb in the foreground, which stops the cloud or leaves it running.
            .process_group(0)
            .spawn()
            .context("start the laptop cloud")?;
        let started = Instant::now();
        loop {
            if let Ok(state) = LocalState::read(&self.state_path())
                && state.pid == child.id()
            {
                return Ok((state, child));
            }
            if let Some(status) = child.try_wait().context("wait for the laptop cloud")? {
                return Err(self.failed(format!("it ended with {status}")).into());
            }
            if started.elapsed() > LIMIT {
                let _ = child.kill();
                return Err(self.failed(format!("it did not answer within {} s", LIMIT.as_secs())).into());
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// The value of `DESKGRID_ENV` for the process in the background.
    fn environment_argument(&self) -> anyhow::Result<OsString> {
        match &self.file {
            Some(file) => Ok(std::path::absolute(file).context("find the environment file")?.into()),
            None => Ok(self.environment.clone().into()),
        }
    }

    fn failed(&self, why: String) -> Failure {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(10).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        Failure::new("local-start", "the laptop cloud did not start")
            .on(format!("environment {}", self.environment))
            .why(format!("{why}\n{}", tail.join("\n")))
            .next(format!("see {}", self.log().display()))
    }

    /// Stops the running one and waits until it has ended; `false` when none runs.
    ///
    /// # Errors
    /// When the signal cannot be sent, or it does not end.
    pub(crate) fn stop(&self) -> anyhow::Result<bool> {
        let Some(state) = self.running()? else { return Ok(false) };
        let pid = Pid::from_raw(i32::try_from(state.pid).context("read the process id of the laptop cloud")?);
        kill(pid, Signal::SIGTERM).with_context(|| format!("stop the laptop cloud, process {pid}"))?;
        let started = Instant::now();
        while self.lock()?.is_none() {
            if started.elapsed() > LIMIT {
                bail!(
                    "the laptop cloud, process {pid}, did not end within {} s; `kill -9 {pid}` ends it",
                    LIMIT.as_secs()
                );
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(true)
    }
}
