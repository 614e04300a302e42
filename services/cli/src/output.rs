//! Results on standard output, messages and progress on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::{error::Failure, globals::Globals, program};

/// Time between two lines of progress when standard error is not a terminal.
pub(crate) const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// Nobody reads standard output any more (`| head`): a normal end.
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
    /// From the options of the command line.
    pub fn new(globals: &Globals) -> Self {
        Self { json: globals.json, quiet: globals.quiet, verbose: globals.verbose }
    }

    /// Whether only errors go to standard error.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// For a step of a larger verb: only errors go to standard error.
    pub fn errors_only(&self) -> Self {
        Self { quiet: true, verbose: false, json: false }
    }

    /// Whether results are coloured: they go to a terminal, and `NO_COLOR` is not set.
    pub fn colour(&self) -> bool {
        let unwanted = contract::config::variables().get("NO_COLOR").is_some_and(|value| !value.is_empty());
        !self.json && io::stdout().is_terminal() && !unwanted
    }

    /// Prints a message, unless `--quiet` is given.
    pub fn note(&self, message: impl fmt::Display) {
        if !self.quiet {
            to_stderr(&message.to_string());
        }
    }

    /// Prints a message with `--verbose`.
    pub fn detail(&self, message: impl fmt::Display) {
        if self.verbose {
            to_stderr(&message.to_string());
        }
    }

    /// Prints a warning; the verb goes on.
    pub fn warn(&self, message: impl fmt::Display) {
        self.note(format_args!("warning: {message}"));
    }

    /// Prints an error, as JSON when results are JSON.
    pub fn failure(&self, failure: &Failure) {
        match serde_json::to_string(failure) {
            Ok(text) if self.json => to_stderr(&text),
            _ => to_stderr(&failure.to_string()),
        }
    }

    /// Prints a line of a result.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn line(&self, text: impl fmt::Display) -> anyhow::Result<()> {
        self.write(program::with_own_commands(&format!("{text}\n")).as_bytes())
    }

    /// Writes bytes of a result.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
            written => Ok(written?),
        }
    }

    /// Prints a result as one JSON document.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn document(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }

    /// Prints a result as one line of newline-delimited JSON.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn record(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string(value)?)
    }

    /// Starts progress of `total` parts.
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

/// Progress on standard error: a bar on a terminal, else a line every few seconds. Dropping it removes the bar.
pub struct Progress {
    output: Output,
    what: String,
    total: usize,
    bar: Option<ProgressBar>,
    started: Instant,
    last: Instant,
}

impl Progress {
    /// Shows that `done` parts are done; `detail` is printed with the numbers.
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

/// Starts the log of the libraries on standard error: only errors, more with `--verbose`. The Kubernetes client also
/// returns the errors that it logs, so its log is off.
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

/// Prints a line on standard error. If that is closed, nobody reads errors either.
fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", program::with_own_commands(text));
}
