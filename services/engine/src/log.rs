//! The log of one item: each line goes to the process's log with the item's index, and the last lines are kept. Where the
//! program has a container of its own, its lines go to the engine.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

/// The last lines that were logged for one item. Clones share the lines.
#[derive(Clone, Debug)]
pub struct LogTail(Arc<Inner>);

/// Lines that wait for the engine, and how many may come at once.
const WAITING_MAX: usize = 8192;
const AT_ONCE_MAX: usize = 4096;

#[derive(Debug)]
struct Inner {
    to: To,
    keep_bytes: usize,
    lines: Mutex<Lines>,
}

/// Where lines go.
#[derive(Debug)]
enum To {
    Log { session: String, job: String, item: u32 },
    Engine(mpsc::Sender<String>),
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl LogTail {
    /// The log of an item of a job; the last `keep_bytes` bytes are kept.
    pub fn new(keep_bytes: usize, session: &str, job: &str, item: u32) -> Self {
        let to = To::Log { session: session.to_owned(), job: job.to_owned(), item };
        Self(Arc::new(Inner { to, keep_bytes, lines: Mutex::default() }))
    }

    /// A log whose lines go to the receiver; none is kept.
    pub fn of_program() -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(Arc::new(Inner { to: To::Engine(sender), keep_bytes: 0, lines: Mutex::default() })), receiver)
    }

    /// Waits until there is room for some lines.
    pub async fn until_room(&self) {
        if let To::Engine(sender) = &self.0.to {
            // Nobody reads lines of an item that was stopped.
            let _ = sender.reserve_many(AT_ONCE_MAX).await;
        }
    }

    /// Logs a line and keeps it. Lines for which there is no room are dropped.
    pub fn line(&self, line: &str) {
        let Inner { to, keep_bytes, lines } = &*self.0;
        match to {
            To::Log { session, job, item } => tracing::info!(session, job, item, "{line}"),
            To::Engine(sender) => {
                let _ = sender.try_send(line.to_owned());
                return;
            }
        }
        let mut kept = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from = line.len().saturating_sub(keep_bytes.saturating_sub(1));
        while !line.is_char_boundary(from) {
            from += 1;
        }
        kept.bytes += line.len() - from + 1;
        kept.lines.push_back(line[from..].to_owned());
        while kept.bytes > *keep_bytes {
            let Some(first) = kept.lines.pop_front() else { break };
            kept.bytes -= first.len() + 1;
        }
    }

    /// The lines that are kept.
    pub fn text(&self) -> String {
        let kept = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let log = LogTail::new(8, "s", "j", 7);
        for line in ["one", "two", "three"] {
            log.line(line);
        }
        assert_eq!(log.text(), "three\n");
        log.line("four");
        assert_eq!(log.text(), "four\n");
        log.line("a long é line");
        assert!(log.text().len() <= 8 && log.text().ends_with("line\n"), "{}", log.text());
    }
}
