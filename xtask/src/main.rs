//! `cargo xtask`.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::xtask(env!("CARGO_MANIFEST_DIR"))
}
