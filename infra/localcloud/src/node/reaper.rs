//! A small process beside this one that kills the process groups of all pods when this one dies, even by SIGKILL.
//!
//! It reads `+PGID` and `-PGID` from its standard input, and acts when that ends.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{BufRead, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tracing::warn;

/// The life of the reaper's own process: reads lines until the end of input, then kills every group that is left.
///
/// # Errors
/// When the input cannot be read; the groups are killed all the same.
pub fn run(input: impl BufRead) -> std::io::Result<()> {
    let mut groups = BTreeSet::new();
    let mut result = Ok(());
    for line in input.lines() {
        match line {
            Ok(line) => note(&mut groups, &line),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    for group in groups {
        // One that is gone is as good as killed.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    result
}

fn note(groups: &mut BTreeSet<i32>, line: &str) {
    // Groups 0 and 1 would be the reaper's own and everybody's.
    let parse = |text: &str| text.trim().parse::<i32>().ok().filter(|group| *group > 1);
    if let Some(group) = line.strip_prefix('+').and_then(parse) {
        groups.insert(group);
    } else if let Some(group) = line.strip_prefix('-').and_then(parse) {
        groups.remove(&group);
    }
}

/// This process's end of the reaper; without a command it does nothing.
#[derive(Default)]
pub struct Reaper {
    process: Mutex<Option<(Child, ChildStdin)>>,
}

impl Reaper {
    /// Starts the reaper's process: a program and its arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: Option<&[OsString]>) -> anyhow::Result<Self> {
        let Some((program, arguments)) = command.and_then(<[_]>::split_first) else { return Ok(Self::default()) };
        // A group of its own, so that Ctrl-C on the terminal does not end it before its work is done.
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the reaper")?;
        let stdin = child.stdin.take().context("open the reaper's input")?;
        Ok(Self { process: Mutex::new(Some((child, stdin))) })
    }

    /// A group began.
    pub fn add(&self, group: i32) {
        self.send(&format!("+{group}\n"));
    }

    /// A group ended.
    pub fn remove(&self, group: i32) {
        self.send(&format!("-{group}\n"));
    }

    /// Ends the reaper, after which nothing of the pods is left.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut child, stdin)) = process {
            drop(stdin);
            if let Err(error) = child.wait() {
                warn!("failed to wait for the reaper: {error}");
            }
        }
    }

    fn send(&self, line: &str) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stdin)) = process.as_mut()
            && let Err(error) = stdin.write_all(line.as_bytes())
        {
            warn!("failed to notify the reaper: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn what_is_left_at_the_end_of_input_is_killed() {
        let sleeper = || Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let (mut left, mut gone) = (sleeper(), sleeper());
        let input = format!("+{}\n+{}\nnonsense\n+0\n-{}\n", left.id(), gone.id(), gone.id());
        run(input.as_bytes()).unwrap();
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(gone.try_wait().unwrap().is_none());
        gone.kill().unwrap();
        gone.wait().unwrap();
    }
}
