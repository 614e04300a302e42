//! Results on standard output, messages and progress on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::{args::Globals, error::Failure, program};

mod flight;

use flight::Flight;

/// Time between two lines of progress when standard error is not a terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// Whoever read standard output went away (`| head`): a normal end.
#[derive(Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// Where a verb writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output {
    /// Results are JSON.
    pub json: bool,
    quiet: bool,
    verbose: bool,
}

impl Output {
    /// As the command line asks.
    pub fn new(globals: &Globals) -> Self {
        Self { json: globals.json, quiet: globals.quiet, verbose: globals.verbose }
    }

    /// Whether only errors are wanted on standard error.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// For a part of something larger: only errors go to standard error, and nothing to standard output.
    pub fn only_errors(&self) -> Self {
        Self { quiet: true, verbose: false, json: false }
    }

    /// Whether results may be in colour: they go to a terminal, and nobody asked for none (`NO_COLOR`).
    pub fn colour(&self) -> bool {
        let unwanted = contract::config::variables().get("NO_COLOR").is_some_and(|value| !value.is_empty());
        !self.json && io::stdout().is_terminal() && !unwanted
    }

    /// A message for the person at the terminal.
    pub fn note(&self, message: impl fmt::Display) {
        if !self.quiet {
            to_stderr(&message.to_string());
        }
    }

    /// A message for the person who wants to know more.
    pub fn detail(&self, message: impl fmt::Display) {
        if self.verbose {
            to_stderr(&message.to_string());
        }
    }

    /// Something that is not as it should be, though the verb goes on.
    pub fn warn(&self, message: impl fmt::Display) {
        self.note(format_args!("warning: {message}"));
    }

    /// An error; as one JSON document on standard error when results are JSON.
    pub fn failure(&self, failure: &Failure) {
        match serde_json::to_string(failure) {
            Ok(text) if self.json => to_stderr(&text),
            _ => to_stderr(&failure.to_string()),
        }
    }

    /// Text of a result and the end of the line.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    pub fn line(&self, text: impl fmt::Display) -> anyhow::Result<()> {
        self.write(program::spoken(&format!("{text}\n")).as_bytes())
    }

    /// Bytes of a result.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    pub fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
            written => Ok(written?),
        }
    }

    /// A result as one JSON document.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    pub fn document(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }

    /// A result as one line of newline-delimited JSON.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    pub fn record(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string(value)?)
    }

    /// Progress of several things at once, each for as long as it takes.
    pub fn flight(&self) -> Flight {
        Flight::new(self)
    }

    /// Progress of something that has `total` parts.
    pub fn progress(&self, what: &str, total: usize) -> Progress {
        let bar = (io::stderr().is_terminal() && !self.quiet).then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress { output: *self, what: what.to_owned(), total, bar, started: Instant::now(), last: Instant::now() }
    }
}

/// Progress on standard error: a bar on a terminal, else a line every few seconds. Gone when dropped.
pub struct Progress {
    output: Output,
    what: String,
    total: usize,
    bar: Option<ProgressBar>,
    started: Instant,
    last: Instant,
}

impl Progress {
    /// So many parts are done; `detail` says more.
    pub fn set(&mut self, done: usize, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(detail.to_owned());
        } else if self.last.elapsed() >= BETWEEN_LINES {
            self.last = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
            self.output.note(format_args!("{} {done}/{}{detail} after {seconds} s", self.what, self.total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Starts the log of the libraries on standard error: only errors, more with `--verbose`. What the client of Kubernetes
/// logs it also answers, and that is told as every error is.
pub fn start_logging(globals: &Globals) {
    let filter = if globals.verbose {
        "warn,cli=debug,xtask=debug,cloud=debug,sessions=debug,provision=debug"
    } else {
        "error,kube_client=off"
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .try_init();
}

/// Standard error may be closed; there is nobody left to tell.
fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", program::spoken(text));
}
