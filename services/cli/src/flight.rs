//! Progress of several tasks at once: on a terminal a line for each task, elsewhere plain lines.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{BETWEEN_LINES, Output, for_people};

/// Time between two frames of a moving line.
const TICK: Duration = Duration::from_millis(100);

/// Tasks with a line of their own from the start. The rest is counted, so that all fits on a screen.
const LINES_MAX: usize = 10;
/// A line without a percentage, and one with it. The message comes last and is cut off at the edge: a line that wraps
/// cannot be drawn over.
const PLAIN: &str = "  {spinner} {elapsed:>4} {wide_msg}";
const SHARED: &str = "  {spinner} {elapsed:>4} {bar:20} {pos:>3} % {wide_msg}";
const REST: &str = "    {wide_msg}";

/// Tasks that run at the same time.
pub struct Flight {
    output: Output,
    terminal: Option<MultiProgress>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<String, Line>,
    /// Number of tasks without a line.
    rest: Option<ProgressBar>,
}

struct Line {
    begun: Instant,
    printed: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Flight {
    /// No task yet.
    pub fn new(output: &Output) -> Self {
        let terminal = (io::stderr().is_terminal() && !output.is_quiet()).then(MultiProgress::new);
        Self { output: *output, terminal, state: Mutex::default() }
    }

    /// Adds a task that began.
    pub fn begun(&self, name: &str) {
        self.output.detail(format_args!("  begun {name}"));
        let mut state = self.state();
        let drawn = state.lines.values().filter(|line| line.bar.is_some()).count();
        let begun = Instant::now();
        let terminal = self.terminal.as_ref().filter(|_| drawn < LINES_MAX);
        let bar = terminal.map(|terminal| line(terminal, state.rest.as_ref(), name, begun));
        state.lines.insert(name.to_owned(), Line { begun, printed: None, bar });
        self.count(&mut state);
    }

    /// Shows the progress of a task.
    pub fn advanced(&self, name: &str, what: &str, percent: Option<u8>) {
        let share = percent.map(|percent| format!("{percent} %, ")).unwrap_or_default();
        let mut state = self.state();
        let State { lines, rest } = &mut *state;
        let Some(line) = lines.get_mut(name) else { return };
        // A task that reports progress takes long: it gets a line, however many others there are.
        if line.bar.is_none() {
            let bar = |terminal| self::line(terminal, rest.as_ref(), name, line.begun);
            line.bar = self.terminal.as_ref().map(bar);
        }
        match &line.bar {
            Some(bar) => {
                if let Some(percent) = percent {
                    bar.set_style(style(SHARED));
                    bar.set_length(100);
                    bar.set_position(u64::from(percent));
                }
                bar.set_message(for_people(&format!("{name}: {what}")));
                self.count(&mut state);
            }
            None if line.printed.is_none_or(|printed| printed.elapsed() >= BETWEEN_LINES) => {
                line.printed = Some(Instant::now());
                self.output.note(format_args!("  {name}: {share}{what} ({} s)", line.begun.elapsed().as_secs()));
            }
            None => {}
        }
    }

    /// Removes a task that ended, and prints `said`.
    pub fn ended(&self, name: &str, said: impl fmt::Display) {
        let mut state = self.state();
        let State { lines, rest } = &mut *state;
        if let Some(Line { bar: Some(bar), .. }) = lines.remove(name) {
            bar.finish_and_clear();
            // The oldest task without a line gets one.
            let waiting = lines.iter_mut().filter(|(_, line)| line.bar.is_none());
            if let Some((name, line)) = waiting.min_by_key(|(_, line)| line.begun) {
                let bar = |terminal| self::line(terminal, rest.as_ref(), name, line.begun);
                line.bar = self.terminal.as_ref().map(bar);
            }
        }
        self.count(&mut state);
        match &self.terminal {
            // Printing fails when the terminal is closed.
            Some(terminal) => drop(terminal.println(for_people(&said.to_string()))),
            None => self.output.note(said),
        }
    }

    /// Shows below the lines how many tasks have none.
    fn count(&self, state: &mut State) {
        let Some(terminal) = &self.terminal else { return };
        let more = state.lines.values().filter(|line| line.bar.is_none()).count();
        if let Some(rest) = state.rest.take_if(|_| more == 0) {
            rest.finish_and_clear();
        }
        if more > 0 {
            let rest = state.rest.get_or_insert_with(|| {
                let rest = ProgressBar::new_spinner().with_style(style(REST));
                terminal.add(rest)
            });
            rest.set_message(format!("and {more} more"));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line for a task, above the count of the others.
fn line(terminal: &MultiProgress, rest: Option<&ProgressBar>, name: &str, begun: Instant) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(style(PLAIN)).with_elapsed(begun.elapsed());
    let bar = match rest {
        Some(rest) => terminal.insert_before(rest, bar),
        None => terminal.add(bar),
    };
    bar.set_message(for_people(name));
    bar.enable_steady_tick(TICK);
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests;
