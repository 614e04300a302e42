//! Results on standard output, messages and progress on standard error.
//!
//! All text for people goes through [`clean`] here: names, log lines and errors come from others, and a control
//! character in them would reach the terminal of an operator. A program that reads a log or a result in a pipe gets its
//! bytes.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cloud::requests;
use contract::labels;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt as fmt_layer, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    error::Failure,
    globals::Globals,
    program,
    text::{self, clean},
};

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
            Ok(text) if self.json => to_stderr(&text::escape_json(&text)),
            _ => to_stderr(&failure.to_string()),
        }
    }

    /// Prints a line of a result.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn line(&self, text: impl fmt::Display) -> anyhow::Result<()> {
        to_stdout(format!("{}\n", for_people(&text.to_string())).as_bytes())
    }

    /// Prints the lines of a difference, each in the colour of its mark.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn changes(&self, text: &str) -> anyhow::Result<()> {
        to_stdout(format!("{}\n", painted(text, has_colour(&io::stdout()))).as_bytes())
    }

    /// Prints the lines of a difference as a message.
    pub fn note_changes(&self, text: &str) {
        if !self.quiet {
            print_stderr(&painted(text, has_colour(&io::stderr())));
        }
    }

    /// Prints a line of a log, and where it is from.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn log_line(&self, from: Option<&str>, line: &str) -> anyhow::Result<()> {
        let from = from.map(|from| text::tint(&clean(from), has_colour(&io::stdout())) + " | ").unwrap_or_default();
        let line = if io::stdout().is_terminal() { clean(line) } else { line.into() };
        to_stdout(format!("{from}{line}\n").as_bytes())
    }

    /// Writes bytes of a result.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        if io::stdout().is_terminal() {
            return to_stdout(clean(&String::from_utf8_lossy(bytes)).as_bytes());
        }
        to_stdout(bytes)
    }

    /// Prints a result as one JSON document.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn document(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(text::escape_json(&serde_json::to_string_pretty(value)?))
    }

    /// Prints a result as one line of newline-delimited JSON.
    ///
    /// # Errors
    /// [`Closed`] when standard output is closed.
    pub fn record(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(text::escape_json(&serde_json::to_string(value)?))
    }

    /// Starts progress of `total` parts.
    pub fn progress(&self, what: &str, total: usize) -> Progress {
        let bar = (io::stderr().is_terminal() && !self.quiet).then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(for_people(what));
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
            bar.set_message(for_people(detail));
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
    let log = fmt_layer::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .with_filter(EnvFilter::new(filter));
    let record = contract::config::variables().remove(labels::ENV_REQUESTS).filter(|path| !path.is_empty());
    let record = record.and_then(|path| {
        let failed = |error: &io::Error| to_stderr(&format!("warning: cannot write requests to {path}: {error}"));
        requests::layer(Path::new(&path)).inspect_err(failed).ok()
    });
    let _ = tracing_subscriber::registry().with(log).with(record).try_init();
}

/// Text for people: with the commands of this program, and clean.
pub(crate) fn for_people(text: &str) -> String {
    clean(&program::with_own_commands(text)).into_owned()
}

fn painted(text: &str, colour: bool) -> String {
    let text = for_people(text.trim_end());
    text.lines().map(|line| text::paint_change(line, colour)).collect::<Vec<_>>().join("\n")
}

/// Whether an output is coloured: it is a terminal, and `NO_COLOR` is not set.
fn has_colour(output: &impl io::IsTerminal) -> bool {
    let unwanted = contract::config::variables().get("NO_COLOR").is_some_and(|value| !value.is_empty());
    output.is_terminal() && !unwanted
}

tokio::task_local! {
    /// In place of standard output, for a program that calls verbs.
    static SINK: Box<dyn Fn(&[u8])>;
}

/// Runs a verb whose results go to `sink` in place of standard output.
pub(crate) async fn with_sink<T>(sink: impl Fn(&[u8]) + 'static, verb: impl Future<Output = T>) -> T {
    SINK.scope(Box::new(sink), verb).await
}

fn to_stdout(bytes: &[u8]) -> anyhow::Result<()> {
    if SINK.try_with(|sink| sink(bytes)).is_ok() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("write to standard output"),
    }
}

fn to_stderr(text: &str) {
    print_stderr(&for_people(text));
}

/// Prints a line on standard error. If that is closed, nobody reads errors either.
fn print_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
