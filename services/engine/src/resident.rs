//! A desk's own program that stays (`--resident`): it is started once for each thread and reads one item after another,
//! so that it imports its libraries and reads common data once.
//!
//! An item comes on standard input: a line of JSON, `{"index":7,"count":1000,"length":123}`, and so many bytes; in a
//! pack of files, the `name` of the file stands before `length`. Its answer goes to standard output: a line of JSON,
//! `{"length":456}` and so many bytes, which are the result; or `{"error":"why","permanent":true}` alone, where
//! `permanent` means that this item can never work. `content_type` may stand beside `length`. Nothing else may be
//! written to standard output; what is written to standard error is the log of the item. When standard input ends, the
//! program has to end too.
//!
//! A program that ends before its answer fails the item that it had, and is started again for the next one.

use std::{
    cell::{Cell, RefCell},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use contract::labels;
use kernel::Share;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    compute::Output,
    failure::Failure,
    log::LogTail,
    program::{self, Group, OUTPUT_GRACE, Position, Program, Scratch},
};

/// Reason code of an item whose program ended before its answer.
pub const ENDED: &str = "program-ended";

/// Limit of the first line of an answer, in bytes.
const HEADER_MAX: u64 = 64 * 1024;
/// Limit of a line of standard error, in bytes; a longer line is split.
const LINE_MAX: usize = 64 * 1024;

#[derive(Serialize)]
struct Request<'n> {
    index: u32,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'n str>,
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

/// Runs a program on the only input of this process, whether it stays or not.
///
/// # Errors
/// As [`program::run`] and [`Residents::compute`].
pub async fn run_once(
    program: &Program,
    scratch: &Scratch,
    input: &[u8],
    position: Position<'_>,
) -> Result<Output, Failure> {
    if program.resident {
        let residents = Residents::default();
        let computed = residents.compute(program, scratch.common(), input, position, None).await;
        residents.close().await;
        return computed;
    }
    scratch.write_input(input)?;
    program::run(program, scratch, position, None).await
}

/// Runs a program, whether it stays or not, on one of several items that are computed at the same time.
///
/// # Errors
/// As [`program::run`] and [`Residents::compute`].
pub(crate) async fn run_apart(
    program: &Program,
    residents: &Residents,
    folders: Folders<'_>,
    input: &[u8],
    position: Position<'_>,
    log: &LogTail,
) -> Result<Output, Failure> {
    if program.resident {
        return residents.compute(program, folders.common, input, position, Some(log)).await;
    }
    let mut scratch = Scratch::new(folders.work)?;
    scratch.set_common(folders.common.to_owned());
    scratch.start_apart()?;
    scratch.write_input(input)?;
    program::run(program, &scratch, position, Some(log)).await
}

/// The folders of an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folders<'f> {
    /// For temporary files.
    pub(crate) work: &'f Path,
    /// Common data.
    pub(crate) common: &'f Path,
}

/// The processes of a program that stays.
#[derive(Debug, Default)]
pub struct Residents {
    /// Those that compute nothing, with the folders of their common data.
    idle: RefCell<Vec<(PathBuf, Resident)>>,
    /// Those that compute have a clone.
    busy: Rc<()>,
    /// Limit of the number of processes.
    limit: Cell<Option<usize>>,
}

/// One process.
#[derive(Debug)]
struct Resident {
    child: Child,
    /// Dropped after the child, which it ends with all that the child started.
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    errors: Errors,
}

/// The standard error of a process. It is read while an item is computed only, so that each line is in the log of its
/// item.
#[derive(Debug)]
struct Errors {
    /// `None` when it is this process's.
    stderr: Option<ChildStderr>,
    /// The beginning of a line.
    line: Vec<u8>,
}

impl Residents {
    /// Limits the number of processes to that of the items that are computed at the same time.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.set(Some(limit));
    }

    /// Computes an item; a process is started when all others with the same common data compute. Standard error goes to
    /// `log` if given, else to this process's.
    ///
    /// # Errors
    /// When the program cannot be started, answers with an error or not as it should, takes too long, or ends.
    pub async fn compute(
        &self,
        program: &Program,
        common: &Path,
        input: &[u8],
        position: Position<'_>,
        log: Option<&LogTail>,
    ) -> Result<Output, Failure> {
        let mut resident = match self.take(common) {
            Some(resident) => resident,
            None => {
                self.make_room().await;
                Resident::start(program, common, log.is_some())?
            }
        };
        let _busy = self.busy.clone();
        let limit = program.timeout.unwrap_or(Duration::MAX);
        let answered = timeout(limit, resident.exchange(program, input, position, log)).await;
        resident.errors.drain(log);
        // A process that is in the middle of an item is dropped, and so killed.
        match answered.map_err(|_| program::too_slow(program))?? {
            Exchanged::Answer(answer) => {
                self.idle.borrow_mut().push((common.to_owned(), resident));
                answer
            }
            Exchanged::Ended => Err(resident.ended(program, log).await?),
        }
    }

    fn take(&self, common: &Path) -> Option<Resident> {
        let mut idle = self.idle.borrow_mut();
        let position = idle.iter().rposition(|(other, _)| other == common)?;
        Some(idle.remove(position).1)
    }

    /// Ends processes with other common data until one more may be started.
    async fn make_room(&self) {
        let Some(limit) = self.limit.get() else { return };
        while self.idle.borrow().len() + Rc::strong_count(&self.busy) > limit {
            let oldest = self.idle.borrow_mut().drain(..1).next();
            let Some((_, resident)) = oldest else { return };
            resident.close().await;
        }
    }

    /// Ends the processes that compute nothing: their standard input ends.
    pub async fn close(&self) {
        let idle = self.idle.take();
        futures::future::join_all(idle.into_iter().map(|(_, resident)| resident.close())).await;
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
        let errors = Errors { stderr: child.stderr.take(), line: Vec::new() };
        Ok(Self { child, group, stdin, stdout, errors })
    }

    /// Ends the process: its standard input ends.
    async fn close(self) {
        let Self { stdin, mut child, group, stdout, .. } = self;
        drop((stdin, stdout));
        // What is still there then is killed.
        let _ = timeout(OUTPUT_GRACE, child.wait()).await;
        drop(group);
    }

    /// Gives the program an item and reads its answer. After an error the program cannot be used any more.
    async fn exchange(
        &mut self,
        program: &Program,
        input: &[u8],
        position: Position<'_>,
        log: Option<&LogTail>,
    ) -> Result<Exchanged, Failure> {
        let Self { stdin, stdout, errors, .. } = self;
        let Position { share: Share { index, count }, name } = position;
        let request = Request { index, count, name, length: input.len() };
        let mut header = serde_json::to_vec(&request).context("encode an item")?;
        header.push(b'\n');
        // A program may answer while it still reads. If it has ended, its standard output ends too.
        let write = async {
            stdin.write_all(&header).await?;
            stdin.write_all(input).await?;
            stdin.flush().await
        };
        let answer = async { tokio::join!(write, read_answer(program, stdout)).1 };
        let follow = async {
            errors.follow(log).await;
            std::future::pending().await
        };
        // Both are dropped in the middle of an item with the process only.
        tokio::select! {
            answer = answer => answer,
            never = follow => never,
        }
    }

    /// Why the program ended before its answer.
    async fn ended(self, program: &Program, log: Option<&LogTail>) -> anyhow::Result<Failure> {
        let Self { mut child, group, mut errors, .. } = self;
        let status = timeout(OUTPUT_GRACE, child.wait()).await;
        drop(group);
        // A process that left the group may keep it open.
        let _ = timeout(OUTPUT_GRACE, errors.follow(log)).await;
        errors.drain(log);
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

impl Errors {
    /// Logs lines until the end. Cancellation loses none.
    async fn follow(&mut self, log: Option<&LogTail>) {
        let mut bytes = [0; 4096];
        while let Some(stderr) = &mut self.stderr
            && let Ok(length @ 1..) = stderr.read(&mut bytes).await
        {
            self.add(&bytes[..length], log);
            if let Some(log) = log {
                log.until_room().await;
            }
        }
    }

    /// Logs what was written until now, without waiting.
    fn drain(&mut self, log: Option<&LogTail>) {
        let mut bytes = [0; 4096];
        while let Some(stderr) = &self.stderr
            && let Ok(length @ 1..) = nix::unistd::read(stderr.as_fd(), &mut bytes)
        {
            self.add(&bytes[..length], log);
        }
        if !self.line.is_empty() {
            self.add(b"\n", log);
        }
    }

    fn add(&mut self, bytes: &[u8], log: Option<&LogTail>) {
        for byte in bytes {
            // A line without an end is split, so that it does not fill the memory.
            if *byte != b'\n' && self.line.len() < LINE_MAX {
                self.line.push(*byte);
                continue;
            }
            if let Some(log) = log {
                log.line(String::from_utf8_lossy(&self.line).trim_end_matches('\r'));
            }
            self.line.clear();
            self.line.extend(Some(*byte).filter(|byte| *byte != b'\n'));
        }
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
            Ok(Exchanged::Answer(Ok(Output::of_program(bytes, content_type).await?)))
        }
    }
}

#[cfg(test)]
mod tests;
