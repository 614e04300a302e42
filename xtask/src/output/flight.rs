//! What is in flight: one line each on a terminal, with how far it is; plain lines elsewhere.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{BETWEEN_LINES, Output};

/// Time between two looks of a moving line.
const TICK: Duration = Duration::from_millis(100);

/// Several things at once.
pub(crate) struct Flight {
    output: Output,
    terminal: Option<MultiProgress>,
    lines: Mutex<BTreeMap<String, Line>>,
}

struct Line {
    begun: Instant,
    told: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Flight {
    pub(super) fn new(output: &Output) -> Self {
        let terminal = (io::stderr().is_terminal() && !output.quiet).then(MultiProgress::new);
        Self { output: *output, terminal, lines: Mutex::default() }
    }

    /// Something began.
    pub(crate) fn begun(&self, name: &str) {
        self.output.detail(format_args!("  begun {name}"));
        let bar = self.terminal.as_ref().map(|terminal| {
            let bar = terminal.add(ProgressBar::new_spinner().with_message(name.to_owned()));
            bar.set_style(style("  {spinner} {msg} ({elapsed})"));
            bar.enable_steady_tick(TICK);
            bar
        });
        self.lines().insert(name.to_owned(), Line { begun: Instant::now(), told: None, bar });
    }

    /// It got further.
    pub(crate) fn advanced(&self, name: &str, what: &str, percent: Option<u8>) {
        let share = percent.map(|percent| format!("{percent} %, ")).unwrap_or_default();
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(name) else { return };
        match &line.bar {
            Some(bar) => {
                if let Some(percent) = percent {
                    bar.set_style(style("  {spinner} {msg} {bar:20} {pos} % ({elapsed})"));
                    bar.set_length(100);
                    bar.set_position(u64::from(percent));
                }
                bar.set_message(format!("{name}: {what}"));
            }
            None if line.told.is_none_or(|told| told.elapsed() >= BETWEEN_LINES) => {
                line.told = Some(Instant::now());
                self.output.note(format_args!("  {name}: {share}{what} ({} s)", line.begun.elapsed().as_secs()));
            }
            None => {}
        }
    }

    /// It ended, as this line says.
    pub(crate) fn ended(&self, name: &str, said: impl fmt::Display) {
        if let Some(Line { bar: Some(bar), .. }) = self.lines().remove(name) {
            bar.finish_and_clear();
        }
        match &self.terminal {
            // A line that cannot be written there is a terminal that went away.
            Some(terminal) => drop(terminal.println(said.to_string())),
            None => self.output.note(said),
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
