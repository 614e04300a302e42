//! The web apps of an environment: whom they serve, how people reach them, and who is let in.

use std::collections::BTreeMap;

use contract::names;
use serde::Serialize;

use super::{
    Business, CloudKind,
    read::{Reader, Section, Spanned, did_you_mean},
    value,
};

/// Most businesses that the web apps can serve: each is a condition of its own in the bucket's policy, of which IAM
/// takes 20 for one role and member.
const BUSINESSES_MAX: usize = 20;

/// The web apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Web {
    /// Whether they are deployed.
    pub enabled: bool,
    /// How they are reached.
    pub access: WebAccess,
    /// Identity-Aware Proxy, when it is what lets people in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iap: Option<Iap>,
    /// Businesses they serve.
    pub businesses: Vec<String>,
    /// The path under which a reverse proxy shows them, each at its name; empty without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base_path: String,
}

/// How the web apps are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebAccess {
    /// Through the Kubernetes API server.
    #[default]
    PortForward,
    /// An address inside the network.
    Internal,
    /// From everywhere, through Google's Identity-Aware Proxy.
    Iap,
}

/// How Identity-Aware Proxy stands before the apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Iap {
    /// The monitor.
    pub monitor: IapApp,
    /// The client.
    pub client: IapApp,
    /// Name of a reserved global address; a passing one without it.
    pub address: Option<String>,
    /// Name of a certificate of the project for both hosts; Google makes one without it.
    pub certificate: Option<String>,
    /// Secret in the apps' namespace with an OAuth client (`client_id`, `client_secret`); Google's own without it,
    /// which lets in people of the project's organization only.
    pub oauth_secret: Option<String>,
    /// Which businesses each may see: an email, `*@DOMAIN` or `*`, each with names of businesses or `*`.
    pub people: BTreeMap<String, Vec<String>>,
}

/// One app behind Identity-Aware Proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IapApp {
    /// Its host name.
    pub host: String,
    /// Audience of the assertions that count, like `/projects/NUMBER/global/backendServices/ID`. It is known only when
    /// the load balancer is there; nobody is let in before it is named.
    pub audience: Option<String>,
}

/// Reads `[web]`.
pub(super) fn read(reader: &Reader<'_>, section: Section<'_>, businesses: &[Business], cloud: CloudKind) -> Web {
    let names: Vec<&str> = businesses.iter().map(|business| business.name.as_str()).collect();
    let served = section.list("businesses").map(|served| {
        served.iter().for_each(|business| known(reader, business, &names));
        served.into_iter().map(|business| business.value).collect()
    });
    let enabled = section.boolean("enabled", true);
    let access = section.choice(
        "access",
        &[("port-forward", WebAccess::PortForward), ("internal", WebAccess::Internal), ("iap", WebAccess::Iap)],
    );
    let base_path = section.parsed("base_path", check_path).map(|path| path.value).unwrap_or_default();
    let iap = section.section("iap");
    let iap = match access {
        WebAccess::Iap if cloud == CloudKind::Local => {
            reader.problem_with_help(
                section.place(),
                "a laptop cloud has no Identity-Aware Proxy",
                Some("leave `web.access` out: `open` is the way to the apps there".to_owned()),
            );
            None
        }
        WebAccess::Iap => proxy(reader, iap, &names),
        // A section that waits to be used is fine, and read then.
        _ => None,
    };
    let businesses = served.unwrap_or_else(|| names.iter().map(|n| (*n).into()).collect());
    let web = Web { enabled, access, iap, businesses, base_path };
    if web.enabled && web.businesses.len() > BUSINESSES_MAX {
        let message = format!("the web apps would serve {} businesses", web.businesses.len());
        let help = format!(
            "list at most {BUSINESSES_MAX} of them as `web.businesses`: IAM takes no more conditions for one account"
        );
        reader.problem_with_help(section.place(), message, Some(help));
    }
    section.finish();
    web
}

fn proxy(reader: &Reader<'_>, section: Section<'_>, businesses: &[&str]) -> Option<Iap> {
    let text = |key, check: fn(&str) -> Result<String, String>| section.parsed(key, check);
    let mut missing = Vec::new();
    let mut app = |host: &'static str, audience: &'static str| {
        let found = text(host, check_host);
        if found.is_none() && !section.has(host, "") {
            missing.push(host);
        }
        let host = found.map(|host| host.value).unwrap_or_default();
        IapApp { host, audience: text(audience, check_audience).map(|audience| audience.value) }
    };
    let (monitor, client) = (app("monitor_host", "monitor_audience"), app("client_host", "client_audience"));
    for key in missing {
        reader.problem_with_help(
            section.place(),
            format!("`web.iap.{key}` is missing"),
            Some("with `access = \"iap\"` each app has a host name, like \"monitor.example.com\"".to_owned()),
        );
    }
    if monitor.host == client.host && !client.host.is_empty() {
        reader.problem(section.place(), format!("both apps have the host {:?}; each needs its own", client.host));
    }
    if monitor.audience == client.audience && client.audience.is_some() {
        reader.problem(section.place(), "both apps have the same audience; each is a backend service of its own");
    }
    let mut people = BTreeMap::new();
    let lists = section.lists("people");
    if lists.is_empty() {
        reader.problem_with_help(
            section.place(),
            "nobody may see anything: `web.iap.people` names no one",
            Some(
                "name people with their businesses, like \"alice@example.com\" = [\"bu1\"], \"*@example.com\" or \"*\", \
                 and [\"*\"] for every business"
                    .to_owned(),
            ),
        );
    }
    for (person, theirs) in lists {
        if let Err(message) = check_person(&person.value) {
            reader.problem(&person.place, format!("{:?} is named, but {message}", person.value));
        }
        theirs.iter().filter(|name| name.value != "*").for_each(|name| known(reader, name, businesses));
        people.insert(person.value.to_lowercase(), theirs.into_iter().map(|name| name.value).collect());
    }
    let name = |key| text(key, value::label).map(|name| name.value);
    let (address, certificate, oauth_secret) = (name("address"), name("certificate"), name("oauth_secret"));
    section.finish();
    Some(Iap { monitor, client, address, certificate, oauth_secret, people })
}

fn known(reader: &Reader<'_>, business: &Spanned<String>, names: &[&str]) {
    if !names.contains(&business.value.as_str()) {
        let message = format!("there is no business {:?} in this file", business.value);
        reader.problem_with_help(&business.place, message, did_you_mean(&business.value, names));
    }
}

/// A path, without a slash at its end.
fn check_path(text: &str) -> Result<String, String> {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_part) => Ok(text.to_owned()),
        _ => {
            Err("a path begins with / and has letters, digits, - and _ between its slashes, like \"/deskgrid\""
                .to_owned())
        }
    }
}

/// A full host name. Certificates that Google makes are of names of at most 63 characters.
fn check_host(text: &str) -> Result<String, String> {
    let is_label =
        |label: &str| !label.is_empty() && !label.starts_with('-') && names::is_dns_label(&format!("x{label}"));
    if text.len() <= 63 && text.split('.').count() >= 2 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err("a host is a full name in lower case of at most 63 characters, like \"monitor.example.com\"".into())
}

/// What Identity-Aware Proxy calls the audience of its signed header.
fn check_audience(text: &str) -> Result<String, String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        ["", "projects", project, "global", "backendServices", service] if is_number(project) && is_number(service) => {
            Ok(text.to_owned())
        }
        _ => Err("an audience looks like \"/projects/123/global/backendServices/456\", with numbers; `gcloud compute \
                  backend-services list --format='table(name,id)'` shows the second"
            .into()),
    }
}

/// An email, everybody of a domain, or everybody.
fn check_person(text: &str) -> Result<(), String> {
    let is_email = text.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && domain.contains('.') && !domain.contains('@') && !text.contains(char::is_whitespace)
    });
    let has_star = text.contains('*') && !text.starts_with("*@");
    if text == "*" || (is_email && !has_star && !text.chars().skip(1).any(|letter| letter == '*')) {
        return Ok(());
    }
    Err("a person is an email, \"*@DOMAIN\" for everybody of a domain, or \"*\" for whoever is let through".into())
}
