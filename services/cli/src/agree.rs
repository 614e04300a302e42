//! Asking the person at the terminal before something changes.

use std::io::{IsTerminal as _, Write as _};

use crate::error::Failure;

/// Asks a question that yes or no answers.
///
/// # Errors
/// When nobody is there, or the answer is not yes.
pub fn to(question: &str) -> anyhow::Result<()> {
    let answer = ask(&format!("{question} [y/N] "), "agree beforehand with --yes")?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new("not-agreed", "nothing was changed").why("the question was not answered with yes").into())
}

/// Has a name typed, for what cannot be undone.
///
/// # Errors
/// When nobody is there, or something else is typed.
pub fn to_delete(bucket: &str) -> anyhow::Result<()> {
    let question = format!("the data in {bucket} cannot be brought back; type the bucket's name to delete it: ");
    let answer = ask(&question, &format!("agree beforehand with --yes-delete {bucket}"))?;
    if answer.trim() == bucket {
        return Ok(());
    }
    Err(Failure::new("not-agreed", "nothing was changed").why("the name of the bucket was not typed").into())
}

fn ask(question: &str, beforehand: &str) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to agree to the changes").next(beforehand).into());
    }
    let _ = write!(std::io::stderr().lock(), "{question}");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer)
}
