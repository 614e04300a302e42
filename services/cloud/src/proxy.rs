//! The HTTP proxy on the way to a server.

use std::collections::BTreeMap;

use anyhow::Context as _;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Environment variable: the proxy of connections over TLS.
pub const HTTPS_PROXY: &str = "HTTPS_PROXY";
/// Environment variable: hosts that are reached directly.
pub const NO_PROXY: &str = "NO_PROXY";

/// The proxy on the way to a Kubernetes API server. `found` is the one that the library for Kubernetes chose: the
/// `proxy-url` of the kubeconfig, or else `HTTPS_PROXY`. The `proxy-url` always applies; `HTTPS_PROXY` applies unless
/// `NO_PROXY` names the server. A server on loopback is reached directly. kubectl decides in the same way
/// (`http.ProxyFromEnvironment` of Go); the library compares `NO_PROXY` with the proxy instead of the server.
///
/// # Errors
/// When the value of `HTTPS_PROXY` is not a URL.
pub fn proxy_for(
    server: &Uri,
    found: Option<Uri>,
    variables: &BTreeMap<String, String>,
) -> anyhow::Result<Option<Uri>> {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse::<std::net::IpAddr>().map_or(host == "localhost", |address| address.is_loopback());
    if is_loopback {
        return Ok(None);
    }
    let variable = |name: &str| {
        let value = variables.get(name).or_else(|| variables.get(&name.to_lowercase()));
        value.map(String::as_str).filter(|value| !value.is_empty())
    };
    let usual = variable(HTTPS_PROXY);
    let uri =
        usual.map(|usual| usual.parse::<Uri>().with_context(|| format!("use the proxy {usual:?}"))).transpose()?;
    if let Some(own) = found.filter(|found| Some(found) != uri.as_ref()) {
        return Ok(Some(own));
    }
    let Some(usual) = usual else { return Ok(None) };
    let direct = variable(NO_PROXY).unwrap_or_default();
    // The matcher compares `*` with names only.
    let is_off = direct.split(',').any(|host| host.trim() == "*");
    let matcher = Matcher::builder().all(usual).no(direct).build();
    Ok(uri.filter(|_| !is_off && matcher.intercept(server).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_directly_and_the_rest_through_the_proxy_that_counts() {
        let check = |url: &str, own: Option<&str>, variables: &[(&str, &str)], expected: Option<&str>| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let own = own.map(|own| own.parse().unwrap());
            let found = proxy_for(&url.parse().unwrap(), own.clone(), &variables).unwrap();
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), expected, "{url} {own:?} {variables:?}");
        };
        let proxy = [(HTTPS_PROXY, "http://proxy:3128")];
        let through = Some("http://proxy:3128/");
        check("https://10.0.0.1:443", None, &[], None);
        check("https://10.0.0.1:443", None, &proxy, through);
        check("https://10.0.0.1:443", None, &[("https_proxy", "http://proxy:3128")], through);
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
    fn what_is_no_proxy_is_named() {
        let variables = [(HTTPS_PROXY.to_owned(), "http://a b".to_owned())].into();
        let error = proxy_for(&"https://10.0.0.1".parse().unwrap(), None, &variables).unwrap_err();
        assert_eq!(error.to_string(), "use the proxy \"http://a b\"");
    }
}
