//! `explain CODE`: the cause of a code, and what to do.

use contract::exit;

use crate::{
    codes::{self, Code},
    error::Failure,
    output::Output,
    text,
};

/// Error codes, reason codes of Jobs, and exit codes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The code, as in `error[CODE]`, in the reason of a Job, or an exit code [default: all]
    code: Option<String>,
}

/// Prints the explanation, once for each kind that has the code.
///
/// # Errors
/// When there is no such code.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let Some(word) = &args.code else {
        if output.json {
            output.document(&codes::all().collect::<Vec<_>>())?;
        } else {
            let rows =
                codes::all().map(|code| vec![code.kind.to_string(), code.code.to_owned(), code.cause.to_owned()]);
            output.line(text::table(&["kind", "code", "cause"], rows))?;
        }
        return Ok(exit::DONE);
    };
    let plain = word.trim_start_matches("error[").trim_end_matches(']');
    let mut is_known = false;
    for code in codes::all().filter(|code| code.code == plain) {
        is_known = true;
        if output.json {
            output.record(&code)?;
        } else {
            let Code { code, kind, cause, fix } = code;
            output.line(format_args!("{kind} {code}\n  cause {cause}\n  fix   {fix}"))?;
        }
    }
    if is_known {
        return Ok(exit::DONE);
    }
    let failure = Failure::new("unknown-code", format!("there is no code {word:?}"));
    Err(Failure { exit: exit::USAGE, ..failure.next("cargo xtask explain lists all codes") }.into())
}
