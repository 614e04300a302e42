//! A desk's own program that stays (`--resident`): it is started once for each thread and reads one item after another,
//! so that it imports its libraries and reads common data once.
//!
//! An item comes on standard input: a line of JSON, `{"index":7,"count":1000,"length":123}`, and so many bytes. Its
//! answer goes to standard output: a line of JSON, `{"length":456}` and so many bytes, which are the result; or
//! `{"error":"why","permanent":true}` alone, where `permanent` means that this item can never work. `content_type` may
//! stand beside `length`. Nothing else may be written to standard output; what is written to standard error is the log
//! of the item. When standard input ends, the program has to end too.
//!
//! A program that ends before its answer fails the item that it had, and is started again for the next one.

use std::{
    cell::RefCell,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use contract::labels;
use kernel::Share;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    compute::Output,
    failure::Failure,
    log::LogTail,
    program::{self, OUTPUT_GRACE, Program},
};

/// Reason code of an item whose program ended before its answer.
pub const ENDED: &str = "program-ended";

/// Limit of the first line of an answer, in bytes.
const HEADER_MAX: u64 = 64 * 1024;
/// How long the log of an item is still read after an error.
const LOG_GRACE: Duration = Duration::from_millis(10);

#[derive(Serialize)]
struct Request {
    index: u32,
    count: u32,
    length: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Error {
        error: String,
        #[serde(default)]
        permanent: bool,
    },
    Result {
        length: u64,
        #[serde(default)]
        content_type: Option<String>,
    },
}

/// The processes of a program that stays.
#[derive(Debug)]
pub struct Residents<'p> {
    program: &'p Program,
    /// Folder of the common data.
    common: &'p Path,
    idle: RefCell<Vec<Resident>>,
}

/// One process.
#[derive(Debug)]
struct Resident {
    child: Child,
    /// Dropped after the child, which it ends with all that the child started.
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Log of the item that it computes.
    log: Arc<Mutex<Option<LogTail>>>,
    logged: Option<JoinHandle<()>>,
}

/// A process group that is killed when it is dropped.
#[derive(Debug)]
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // The group may have ended already.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

impl<'p> Residents<'p> {
    /// No process yet: one is started when all others compute.
    pub fn new(program: &'p Program, common: &'p Path) -> Self {
        Self { program, common, idle: RefCell::default() }
    }

    /// Computes an item. Standard error goes to `log` if given, else to this process's.
    ///
    /// # Errors
    /// When the program cannot be started, answers with an error or not as it should, takes too long, or ends.
    pub async fn compute(&self, input: &[u8], share: Share, log: Option<&LogTail>) -> Result<Output, Failure> {
        let idle = self.idle.borrow_mut().pop();
        let mut resident = match idle {
            Some(resident) => resident,
            None => Resident::start(self.program, self.common, log.is_some())?,
        };
        resident.log_to(log);
        let limit = self.program.timeout.unwrap_or(Duration::MAX);
        let Ok(answered) = timeout(limit, resident.exchange(self.program, input, share)).await else {
            // What it is in the middle of is dropped with it.
            return Err(program::too_slow(self.program));
        };
        match answered? {
            Exchanged::Answer(answer) => {
                if answer.is_err() {
                    sleep(LOG_GRACE).await;
                }
                self.idle.borrow_mut().push(resident);
                answer
            }
            Exchanged::Ended => Err(resident.ended(self.program).await?),
        }
    }

    /// Ends the processes that compute nothing: their standard input ends.
    pub async fn close(&self) {
        let idle = self.idle.take();
        let close = |resident: Resident| async {
            let Resident { stdin, mut child, group, stdout, .. } = resident;
            drop((stdin, stdout));
            // What is still there then is killed.
            let _ = timeout(OUTPUT_GRACE, child.wait()).await;
            drop(group);
        };
        futures::future::join_all(idle.into_iter().map(close)).await;
    }
}

/// What came of an item.
enum Exchanged {
    /// The program answered, and can be given the next item.
    Answer(Result<Output, Failure>),
    /// The program closed its standard output before it had answered.
    Ended,
}

impl Resident {
    fn start(program: &Program, common: &Path, is_logged: bool) -> Result<Self, Failure> {
        let (name, arguments) = program
            .command
            .split_first()
            .ok_or_else(|| Failure::transient("cannot-start", "there is no program to run"))?;
        let mut child = Command::new(name)
            .args(arguments)
            .env(labels::ENV_COMMON, common)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if is_logged { Stdio::piped() } else { Stdio::inherit() })
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::transient("cannot-start", format!("{name} cannot be started: {error}")))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).context("find the program's id")?;
        let group = Group(Pid::from_raw(id));
        let stdin = child.stdin.take().context("take the program's standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("take the program's standard output")?);
        let log = Arc::<Mutex<Option<LogTail>>>::default();
        let current = log.clone();
        let line = move |line: &str| match &*current.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(log) => log.line(line),
            None => tracing::info!("{line}"),
        };
        let logged = child.stderr.take().map(|stderr| tokio::spawn(program::log_lines(stderr, line)));
        Ok(Self { child, group, stdin, stdout, log, logged })
    }

    fn log_to(&self, log: Option<&LogTail>) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = log.cloned();
    }

    /// Gives the program an item and reads its answer. After an error the program cannot be used any more.
    async fn exchange(&mut self, program: &Program, input: &[u8], share: Share) -> Result<Exchanged, Failure> {
        let Self { stdin, stdout, .. } = self;
        let request = Request { index: share.index, count: share.count, length: input.len() };
        let mut header = serde_json::to_vec(&request).context("encode an item")?;
        header.push(b'\n');
        // A program may answer while it still reads. If it has ended, its standard output ends too.
        let write = async {
            stdin.write_all(&header).await?;
            stdin.write_all(input).await?;
            stdin.flush().await
        };
        let (_, answer) = tokio::join!(write, read_answer(program, stdout));
        answer
    }

    /// Why the program ended before its answer.
    async fn ended(self, program: &Program) -> anyhow::Result<Failure> {
        let Self { mut child, group, logged, .. } = self;
        let status = timeout(OUTPUT_GRACE, child.wait()).await;
        drop(group);
        if let Some(mut logged) = logged
            && timeout(OUTPUT_GRACE, &mut logged).await.is_err()
        {
            logged.abort();
        }
        let name = program.name();
        Ok(match status {
            Err(_) => Failure::transient(ENDED, format!("{name} closed its standard output before it answered")),
            Ok(status) => {
                let status = status.context("wait for the program")?;
                match program::check_status(program, status) {
                    Err(failure) if failure.permanent => failure,
                    Err(failure) => Failure::transient(ENDED, format!("{} before it answered", failure.message)),
                    Ok(()) => Failure::transient(ENDED, format!("{name} exited with code 0 before it answered")),
                }
            }
        })
    }
}

async fn read_answer(program: &Program, stdout: &mut BufReader<ChildStdout>) -> Result<Exchanged, Failure> {
    let mut line = Vec::new();
    stdout.take(HEADER_MAX).read_until(b'\n', &mut line).await.context("read the answer of the program")?;
    if !line.ends_with(b"\n") && line.len() < HEADER_MAX as usize {
        return Ok(Exchanged::Ended);
    }
    let answer = serde_json::from_slice::<Answer>(&line).map_err(|_| {
        let line: String = String::from_utf8_lossy(&line).trim_end().chars().take(100).collect();
        let message = format!(
            "{} wrote {line:?} to standard output in place of an answer: a line of JSON with length or error, see --resident",
            program.name()
        );
        Failure::permanent("malformed-answer", message)
    })?;
    match answer {
        Answer::Error { error, permanent } => {
            Ok(Exchanged::Answer(Err(Failure { permanent, code: "program-failed", message: error })))
        }
        Answer::Result { length, .. } if length > program.output_limit() => Err(program::too_large(program)),
        Answer::Result { length, content_type } => {
            let mut bytes = Vec::new();
            stdout.take(length).read_to_end(&mut bytes).await.context("read the result of the program")?;
            if (bytes.len() as u64) < length {
                return Ok(Exchanged::Ended);
            }
            let content_type = content_type.or_else(|| program.content_type.clone());
            let content_type = content_type.unwrap_or_else(|| program::recognise(&bytes).to_owned());
            Ok(Exchanged::Answer(Ok(Output { bytes, content_type, seed: None, row_errors: 0 })))
        }
    }
}

#[cfg(test)]
mod tests;
