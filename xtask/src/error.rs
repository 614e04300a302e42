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
    let failure = cli::error::explain(error);
    let google = error.chain().find_map(|cause| cause.downcast_ref::<provision::google::Error>());
    match google.filter(|_| failure.code == "failed") {
        Some(google) => {
            let (code, next) = match google.code {
                401 => ("credentials", cli::error::CREDENTIALS),
                0 => ("unreachable", cli::error::UNREACHABLE),
                408 | 504 => ("timeout", cli::error::UNREACHABLE),
                403 => ("denied", "ask for the missing role; `cargo xtask doctor` names what your account lacks"),
                _ => return failure,
            };
            Failure { code, next: Some(next.to_owned()), ..failure }
        }
        None => failure,
    }
}
