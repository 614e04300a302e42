//! Asks the person at the terminal to confirm a change.

use std::io::{IsTerminal as _, Write as _};

use crate::{error::Failure, text::clean};

/// Asks a question, and returns when the answer is yes.
///
/// # Errors
/// When standard input is no terminal, or the answer is not yes.
pub fn yes(question: &str) -> anyhow::Result<()> {
    let answer = ask(&format!("{question} [y/N] "), "confirm with --yes")?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new("not-agreed", "nothing was changed").why("the answer was not yes").into())
}

/// Asks for the name of a bucket before its data is deleted, which cannot be undone.
///
/// # Errors
/// When standard input is no terminal, or another name is typed.
pub fn delete(bucket: &str) -> anyhow::Result<()> {
    let question = format!("the data in {bucket} cannot be restored; type the bucket's name to delete it: ");
    let answer = ask(&question, &format!("confirm with --yes-delete {bucket}"))?;
    if answer.trim() == bucket {
        return Ok(());
    }
    Err(Failure::new("not-agreed", "nothing was changed").why("the name of the bucket was not typed").into())
}

fn ask(question: &str, without_terminal: &str) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("standard input is no terminal, so nobody can confirm the changes")
            .next(without_terminal)
            .into());
    }
    let _ = write!(std::io::stderr().lock(), "{}", clean(question));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer)
}
