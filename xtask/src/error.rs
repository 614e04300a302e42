//! Turns errors of the provisioner into the failures that the daily verbs report.

use cli::error::Failure;
use contract::exit;
use provision::environment::Problems;

/// Describes an error for the user: what failed, why, and what to do.
pub fn explain(error: &anyhow::Error) -> Failure {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        return Failure::new("environment-file", problems.to_string());
    }
    if let Some(failure) = error.downcast_ref::<provision::Failure>() {
        let provision::Failure { code, what, on, why, next } = failure.clone();
        let exit = if code == "usage" { exit::USAGE } else { exit::FAILED };
        return Failure { exit, on: Some(on), why: Some(why), next: Some(next), ..Failure::new(code, what) };
    }
    cli::error::explain(error)
}
