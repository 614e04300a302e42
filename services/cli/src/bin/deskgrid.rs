//! `deskgrid`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::deskgrid()
}
