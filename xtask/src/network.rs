//! The proxy and the certificate authorities of an environment, for everything that this program is made of.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::Context as _;
use provision::environment::{CloudKind, Environment, Overrides};

/// Where the certificate authorities of a Linux system are.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs";

/// Begins this program anew with the variables by which everything in it, and every tool that it starts, goes through
/// the environment's proxy and trusts its certificate authorities: the libraries that fetch tokens ask nothing else.
/// What is set already stays as it is.
///
/// # Errors
/// When the file of authorities is not there, or this program cannot be begun.
pub(crate) fn pass_on(environment: &Environment, variables: &Overrides) -> anyhow::Result<()> {
    let is_set = |names: &[&str]| names.iter().any(|name| variables.get(*name).is_some_and(|value| !value.is_empty()));
    let mut set: Vec<(&str, OsString)> = Vec::new();
    if let Some(proxy) = &environment.network.proxy
        && !is_set(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
    {
        set.push(("HTTPS_PROXY", proxy.into()));
    }
    if let Some(bundle) = &environment.network.ca_bundle
        && !is_set(&["SSL_CERT_FILE"])
    {
        let found = bundle.canonicalize().with_context(|| format!("find `network.ca_bundle` {}", bundle.display()))?;
        set.push(("SSL_CERT_FILE", found.into()));
        // With the first one set, the usual place is only read when it is named too.
        if !is_set(&["SSL_CERT_DIR"]) && Path::new(SYSTEM_AUTHORITIES).is_dir() {
            set.push(("SSL_CERT_DIR", SYSTEM_AUTHORITIES.into()));
        }
    }
    if environment.cloud == CloudKind::Local || set.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().context("find this program")?;
    let error = Command::new(program).args(std::env::args_os().skip(1)).envs(set).exec();
    Err(error).context("begin anew with the environment's proxy and certificate authorities")
}
