//! The log of one item of a range: each line goes to the process's log with the item's index, and the last lines are
//! kept.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// The last lines that were logged for one item. Clones share the lines.
#[derive(Clone, Debug)]
pub struct LogTail(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keep_bytes: usize,
    session: String,
    job: String,
    item: u32,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl LogTail {
    /// The log of an item of a job; the last `keep_bytes` bytes are kept.
    pub fn new(keep_bytes: usize, session: &str, job: &str, item: u32) -> Self {
        let lines = Mutex::default();
        Self(Arc::new(Inner { keep_bytes, session: session.to_owned(), job: job.to_owned(), item, lines }))
    }

    /// Logs a line and keeps it.
    pub fn line(&self, line: &str) {
        let Inner { keep_bytes, session, job, item, lines } = &*self.0;
        tracing::info!(session, job, item, "{line}");
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
