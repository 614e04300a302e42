//! Errors of the provisioner, explained as those of the daily verbs are.

use cli::error::Failure;
use contract::exit;
use provision::{environment::Problems, trouble::Trouble};

/// What is behind an error, and what to do about it.
pub(crate) fn explain(error: &anyhow::Error) -> Failure {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        return Failure::new("environment-file", problems.to_string());
    }
    if let Some(trouble) = error.downcast_ref::<Trouble>() {
        let Trouble { code, what, on, why, next } = trouble.clone();
        let exit = if code == "usage" { exit::USAGE } else { exit::FAILED };
        return Failure { exit, on: Some(on), why: Some(why), next: Some(next), ..Failure::new(code, what) };
    }
    cli::error::explain(error)
}
