//! `explain CODE`: what is behind an error code, and what to do.

use contract::exit;

use crate::{
    codes::{CODES, Code},
    error::Failure,
    output::Output,
    text,
};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The code, as in `error[CODE]` [default: all]
    code: Option<String>,
}

/// Prints the explanation.
///
/// # Errors
/// When there is no such code.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let Some(wanted) = &args.code else {
        if output.json {
            output.document(&CODES)?;
        } else {
            let rows = CODES.iter().map(|code| vec![code.code.to_owned(), code.cause.to_owned()]);
            output.line(text::table(&["code", "cause"], rows))?;
        }
        return Ok(exit::DONE);
    };
    let plain = wanted.trim_start_matches("error[").trim_end_matches(']');
    let Some(Code { code, cause, fix }) = CODES.iter().find(|code| code.code == plain) else {
        let failure = Failure::new("unknown-code", format!("there is no error code {wanted:?}"));
        return Err(Failure { exit: exit::USAGE, ..failure.next("cargo xtask explain lists them all") }.into());
    };
    if output.json {
        output.document(&Code { code, cause, fix })?;
    } else {
        output.line(format_args!("{code}\n  cause {cause}\n  fix   {fix}"))?;
    }
    Ok(exit::DONE)
}
