//! The real binary: `try` and `exec`, their exit codes and their results.

mod examples;
mod exec;
mod try_program;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// The engine with these arguments and none of its variables set.
fn engine(arguments: &[&str]) -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_engine")), arguments)
}

/// A program with these arguments.
fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command on this standard input.
fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().expect("start the engine");
    // A program that does not read its input closes it early.
    let _ = child.stdin.take().expect("its standard input is a pipe").write_all(input);
    child.wait_with_output().expect("wait for the engine")
}

/// Runs `engine try` with these arguments, and returns exit code, standard output and standard error.
fn try_engine(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let output = run(engine(&[&["try"], arguments].concat()), input);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("the engine was ended by a signal"), text(&output.stdout), text(&output.stderr))
}
