//! The engine's command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::program::Program;

/// Reads one input, computes, writes one result.
#[derive(Debug, Parser)]
#[command(name = "engine", version)]
pub struct Arguments {
    /// What to do; `run` when absent.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Compute with the built-in kernel, from and to Cloud Storage.
    Run,
    /// Compute with a program of your own, from and to Cloud Storage.
    Exec(ExecArguments),
    /// Compute the items that orchestrators send, as an engine of a pool.
    Serve,
    /// Run a program of your own for `serve` in the container beside this one.
    Program(ExecArguments),
    /// Compute standard input to standard output, with no cloud: with a program of your own, or the built-in kernel.
    Try(TryArguments),
    /// Copy this program to a path, for a desk's own image to run.
    Install {
        /// Where to write the copy.
        path: PathBuf,
    },
}

/// Arguments of `exec` and `program`.
#[derive(Debug, Args)]
pub struct ExecArguments {
    #[command(flatten)]
    flags: Flags,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Arguments of `try`.
#[derive(Debug, Args)]
pub struct TryArguments {
    #[command(flatten)]
    flags: Flags,
    /// The program and its arguments; the built-in kernel when absent.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct Flags {
    /// Exit codes of the program that mean a permanent failure of the input; any other code but 0 is retried.
    #[arg(long, value_delimiter = ',', value_name = "CODES")]
    permanent_exit_codes: Vec<u8>,
    /// Seconds the program may run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    timeout_secs: Option<u64>,
    /// Limit of a result in bytes; 256 MiB when absent.
    #[arg(long, value_name = "N")]
    max_output_bytes: Option<u64>,
    /// Content type of the result; recognised from its bytes when absent.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The program stays and reads one item after another from standard input: a line of JSON,
    /// {"index":7,"count":1000,"length":123}, and so many bytes; in a pack of files with the "name" of
    /// the file. It answers on standard output with
    /// {"length":456} and so many bytes, or with {"error":"why","permanent":true}.
    #[arg(long, requires = "command", verbatim_doc_comment)]
    resident: bool,
}

impl Flags {
    fn program(self, command: Vec<String>) -> Program {
        let Self { permanent_exit_codes, timeout_secs, max_output_bytes, content_type, resident } = self;
        Program {
            command,
            permanent_exit_codes,
            timeout: timeout_secs.map(Duration::from_secs),
            max_output_bytes,
            content_type,
            resident,
        }
    }
}

impl From<ExecArguments> for Program {
    fn from(arguments: ExecArguments) -> Self {
        arguments.flags.program(arguments.command)
    }
}

impl From<TryArguments> for Option<Program> {
    fn from(arguments: TryArguments) -> Self {
        let program = arguments.flags.program(arguments.command);
        (!program.command.is_empty()).then_some(program)
    }
}
