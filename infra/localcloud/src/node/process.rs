//! One process of a container: started in a group of its own, its output kept, its end reported.

use std::{collections::BTreeMap, io, os::unix::process::ExitStatusExt as _, path::PathBuf, process::Stdio};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    task::JoinSet,
};
use tracing::warn;

use super::{logs, reaper::Reaper};
use crate::clock::Clock;

/// What to start.
pub struct Launch {
    /// The program: a path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where it works.
    pub folder: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 and the signal when a signal ended it.
    pub code: i32,
    /// The signal, 0 when none.
    pub signal: i32,
}

/// A process that runs.
pub struct Process {
    child: Child,
    group: i32,
    output: JoinSet<()>,
}

impl Process {
    /// Starts a process.
    ///
    /// # Errors
    /// When the system does not start it.
    pub async fn start(launch: &Launch, log: logs::Writer, clock: &Clock, reaper: &Reaper) -> io::Result<Self> {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .env_clear()
            .envs(&launch.environment)
            .current_dir(&launch.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = spawn(&mut command).await?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        reaper.add(group);
        let mut output = JoinSet::new();
        if let Some(stream) = child.stdout.take() {
            output.spawn(keep("stdout", stream, log.clone(), clock.clone()));
        }
        if let Some(stream) = child.stderr.take() {
            output.spawn(keep("stderr", stream, log, clock.clone()));
        }
        Ok(Self { child, group, output })
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) {
        if self.group > 1 {
            // A group that is gone needs no signal.
            let _ = killpg(Pid::from_raw(self.group), signal);
        }
    }

    /// Waits for the end of the process. Safe to drop and call again.
    ///
    /// # Errors
    /// When the system cannot say.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        let status = self.child.wait().await?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Exit { code, signal: 0 },
            (None, signal) => Exit { code: 128 + signal.unwrap_or_default(), signal: signal.unwrap_or_default() },
        })
    }

    /// Ends what is left of the group and waits for the last output.
    pub async fn finish(mut self, reaper: &Reaper) {
        self.signal(Signal::SIGKILL);
        reaper.remove(self.group);
        // With the group dead nobody holds the pipes, but for one that made a session of its own: it is not waited for.
        let last = async { while self.output.join_next().await.is_some() {} };
        if tokio::time::timeout(std::time::Duration::from_secs(2), last).await.is_err() {
            warn!(group = self.group, "output of a process is still open after its end");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.signal(Signal::SIGKILL);
        }
    }
}

/// Starts the process; a program that is being written by somebody (a copy that another fork holds open) is tried
/// again for a moment.
async fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < 50 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}

async fn keep(name: &'static str, mut stream: impl AsyncRead + Unpin, log: logs::Writer, clock: Clock) {
    let mut pending = Vec::with_capacity(4 * 1024);
    loop {
        let count = match stream.read_buf(&mut pending).await {
            Ok(count) => count,
            Err(error) => {
                warn!("failed to read output: {error}");
                0
            }
        };
        let kept = log.write(clock.now(), name, &pending, count == 0).unwrap_or_else(|error| {
            warn!("failed to keep output: {error}");
            pending.len()
        });
        pending.drain(..kept);
        if count == 0 {
            return;
        }
    }
}
