//! The HTTP proxy on the way to a server.

use std::{collections::BTreeMap, os::unix::process::CommandExt as _, process::Command};

use anyhow::Context as _;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Environment variable: the proxy of connections over TLS.
pub const HTTPS_PROXY: &str = "HTTPS_PROXY";
/// Environment variable: hosts that are reached directly.
pub const NO_PROXY: &str = "NO_PROXY";

/// Environment variable: the proxy of everything that has none of its own.
pub const ALL_PROXY: &str = "ALL_PROXY";
/// Never behind a proxy: this machine, and the metadata server of Google Cloud.
const DIRECT: [&str; 5] = ["localhost", "127.0.0.0/8", "::1", "metadata.google.internal", "169.254.169.254"];

/// The proxy on the way to a server over TLS. `own` is the `proxy-url` of the server's cluster in a kubeconfig, which
/// always applies; `HTTPS_PROXY` or `ALL_PROXY` applies unless `NO_PROXY` names the server, as everywhere in this
/// program (`hyper_util::client::proxy::matcher`, which reqwest uses). A server on loopback is reached directly.
///
/// # Errors
/// When the proxy is not a URL.
pub fn proxy_for(server: &Uri, own: Option<&str>, variables: &BTreeMap<String, String>) -> anyhow::Result<Option<Uri>> {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse::<std::net::IpAddr>().map_or(host == "localhost", |address| address.is_loopback());
    let usual = || variable(variables, HTTPS_PROXY).or_else(|| variable(variables, ALL_PROXY));
    let Some(proxy) = own.or_else(usual).filter(|_| !is_loopback) else { return Ok(None) };
    let direct = if own.is_some() { "" } else { variable(variables, NO_PROXY).unwrap_or_default() };
    let full = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let uri = full.parse::<Uri>().with_context(|| format!("use the proxy {proxy:?}"))?;
    // The matcher compares `*` with names only.
    let is_off = direct.split(',').any(|host| host.trim() == "*");
    let matcher = Matcher::builder().all(full).no(direct).build();
    Ok(Some(uri).filter(|_| !is_off && matcher.intercept(server).is_some()))
}

/// Starts this program again with `NO_PROXY` for this machine, when variables name a proxy and do not exclude it. The
/// libraries read these variables themselves, and would send what is for an API on loopback to the proxy.
///
/// # Errors
/// When the program cannot be started.
pub fn exclude_loopback(variables: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let Some(direct) = excluded(variables) else { return Ok(()) };
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(NO_PROXY, &direct).env(NO_PROXY.to_lowercase(), &direct);
    Err(command.exec()).context("start this program again without a proxy for this machine")
}

/// The value that `NO_PROXY` needs; `None` when there is no proxy, or the value is complete.
fn excluded(variables: &BTreeMap<String, String>) -> Option<String> {
    [HTTPS_PROXY, ALL_PROXY, "HTTP_PROXY"].iter().find_map(|name| variable(variables, name))?;
    let mut direct: Vec<&str> = variable(variables, NO_PROXY).unwrap_or_default().split(',').map(str::trim).collect();
    direct.retain(|host| !host.is_empty());
    let missing: Vec<&str> = DIRECT.into_iter().filter(|host| !direct.contains(host)).collect();
    (!missing.is_empty() && !direct.contains(&"*")).then(|| [direct, missing].concat().join(","))
}

/// A variable in capitals, or else in small letters.
fn variable<'a>(variables: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let value = variables.get(name).or_else(|| variables.get(&name.to_lowercase()));
    value.map(String::as_str).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_directly_and_the_rest_through_the_proxy_that_counts() {
        let check = |url: &str, own: Option<&str>, variables: &[(&str, &str)], expected: Option<&str>| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found = proxy_for(&url.parse().unwrap(), own, &variables).unwrap();
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), expected, "{url} {own:?} {variables:?}");
        };
        let proxy = [(HTTPS_PROXY, "http://proxy:3128")];
        let through = Some("http://proxy:3128/");
        check("https://10.0.0.1:443", None, &[], None);
        check("https://10.0.0.1:443", None, &proxy, through);
        for (name, value) in [("https_proxy", "http://proxy:3128"), ("all_proxy", "proxy:3128")] {
            check("https://10.0.0.1:443", None, &[(name, value)], through);
        }
        check("https://10.0.0.1:443", None, &[proxy[0], (ALL_PROXY, "http://other:1")], through);
        for loopback in ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443"] {
            check(loopback, Some("http://own:1"), &proxy, None);
        }
        for direct in ["10.0.0.1", "10.0.0.0/8", "*"] {
            check("https://10.0.0.1:443", None, &[proxy[0], (NO_PROXY, direct)], None);
        }
        let other = [proxy[0], (NO_PROXY, ".example.com")];
        check("https://gke.example.com", None, &other, None);
        check("https://10.0.0.1:443", None, &other, through);
        check("https://10.0.0.1", Some("http://own:1"), &[proxy[0], (NO_PROXY, "*")], Some("http://own:1/"));
    }

    #[test]
    fn this_machine_is_excluded_once_and_only_where_there_is_a_proxy() {
        let excluded = |pairs: &[(&str, &str)]| {
            excluded(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(excluded(&[(NO_PROXY, "a")]), None);
        let all = excluded(&[("all_proxy", "http://proxy:1"), ("no_proxy", "corp.example, ::1")]).unwrap();
        assert_eq!(all, "corp.example,::1,localhost,127.0.0.0/8,metadata.google.internal,169.254.169.254");
        assert_eq!(excluded(&[(HTTPS_PROXY, "http://proxy:1"), (NO_PROXY, &all)]), None);
        assert_eq!(excluded(&[(HTTPS_PROXY, "http://proxy:1"), (NO_PROXY, "*")]), None);
    }

    #[test]
    fn what_is_no_proxy_is_named() {
        let variables = [(HTTPS_PROXY.to_owned(), "http://a b".to_owned())].into();
        let error = proxy_for(&"https://10.0.0.1".parse().unwrap(), None, &variables).unwrap_err();
        assert_eq!(error.to_string(), "use the proxy \"http://a b\"");
    }
}
