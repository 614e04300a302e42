//! The settings of a web app, read once from arguments, environment variables and the files that they name.

use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use contract::{config::Config, labels};

/// Where Google publishes the keys with which Identity-Aware Proxy signs, as a JSON Web Key set.
const IAP_KEYS: &str = "https://www.gstatic.com/iap/verify/public_key-jwk";
/// Who signs its assertions.
const IAP_ISSUER: &str = "https://cloud.google.com/iap";

/// The settings of a web app.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The environment it serves.
    pub config: Config,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Who may use it.
    pub access: AccessSettings,
    /// Whether people reach it through TLS, which then ends before it: cookies are only sent there.
    pub tls: bool,
    /// The path under which a reverse proxy shows it, like `/deskgrid/monitor`; empty without one.
    pub base_path: String,
    /// Which log lines to write, as `tracing-subscriber` reads it.
    pub log_filter: String,
}

/// Who may use a web app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessSettings {
    /// Everybody with a token of this file.
    Tokens {
        /// The file, see [`crate::access::tokens`].
        file: PathBuf,
    },
    /// Everybody whom Identity-Aware Proxy admits.
    Iap(IapSettings),
}

/// How assertions of Identity-Aware Proxy are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IapSettings {
    /// Audience that an assertion must be for, like `/projects/123/global/backendServices/456`. Empty until the
    /// load balancer exists; then nobody has access.
    pub audience: String,
    /// Issuer that an assertion must be of.
    pub issuer: String,
    /// URL of the public keys, a JSON Web Key set.
    pub keys: String,
    /// File that limits people to businesses: JSON `{"EMAIL": ["BUSINESS", ...]}`, where `*@DOMAIN` means everybody of
    /// a domain, `*` everybody, and the business `*` every one. Without it, every admitted person sees every business.
    pub people: Option<PathBuf>,
}

#[derive(clap::Parser)]
#[command(disable_version_flag = true)]
struct Arguments {
    /// The generated configuration [env: DESKGRID_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Settings {
    /// Reads the arguments (the first is the program's name), the variables and the configuration file.
    ///
    /// # Errors
    /// When something is missing or wrong; names all that is missing.
    pub fn read(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let arguments = Arguments::try_parse_from(arguments)?;
        let value = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let config = arguments.config.or_else(|| value(labels::ENV_CONFIG).map(PathBuf::from));
        let mut missing = Vec::new();
        if config.is_none() {
            missing.push("--config FILE (the generated config.json)".to_owned());
        }
        let audience = variables.get(labels::ENV_IAP_AUDIENCE).map(String::as_str);
        let access = access(&value, audience, &mut missing)?;
        if !missing.is_empty() {
            bail!("this is missing: {}", missing.join("; "));
        }
        let (Some(config), Some(access)) = (config, access) else { bail!("the configuration is incomplete") };
        // A node of the laptop cloud sets the port of its probes.
        let of_laptop = value(labels::ENV_PORT_HTTP).map(|port| format!("127.0.0.1:{port}"));
        let listen = value(labels::ENV_LISTEN).or(of_laptop.as_deref()).unwrap_or("0.0.0.0:8080");
        let tls = match value(labels::ENV_TLS).unwrap_or("false") {
            "true" => true,
            "false" => false,
            other => bail!("{}={other} is neither true nor false", labels::ENV_TLS),
        };
        Ok(Self {
            config: Config::read(&config)?,
            listen: listen
                .parse()
                .with_context(|| format!("{}={listen} is not ADDRESS:PORT, like 0.0.0.0:8080", labels::ENV_LISTEN))?,
            access,
            tls,
            base_path: value(labels::ENV_BASE_PATH).unwrap_or_default().to_owned(),
            log_filter: value("RUST_LOG").unwrap_or("info").to_owned(),
        })
    }
}

fn access<'a>(
    value: &impl Fn(&str) -> Option<&'a str>,
    audience: Option<&str>,
    missing: &mut Vec<String>,
) -> anyhow::Result<Option<AccessSettings>> {
    match value(labels::ENV_ACCESS).unwrap_or("token") {
        "token" => {
            let file = value(labels::ENV_ACCESS_TOKEN_FILE);
            if file.is_none() {
                missing.push(format!("{} (a file with the access tokens)", labels::ENV_ACCESS_TOKEN_FILE));
            }
            Ok(file.map(|file| AccessSettings::Tokens { file: file.into() }))
        }
        "iap" => {
            if audience.is_none() {
                missing.push(format!(
                    "{} (like /projects/NUMBER/global/backendServices/ID; Identity-Aware Proxy shows it as \"signed \
                     header JWT audience\"; empty while it is not known)",
                    labels::ENV_IAP_AUDIENCE
                ));
            }
            Ok(audience.map(|audience| {
                AccessSettings::Iap(IapSettings {
                    audience: audience.to_owned(),
                    issuer: value(labels::ENV_IAP_ISSUER).unwrap_or(IAP_ISSUER).to_owned(),
                    keys: value(labels::ENV_IAP_KEYS).unwrap_or(IAP_KEYS).to_owned(),
                    people: value(labels::ENV_ACCESS_PEOPLE_FILE).map(PathBuf::from),
                })
            }))
        }
        other => bail!("{}={other} is neither token nor iap", labels::ENV_ACCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_never_open_by_accident() {
        let error = Settings::read(["monitor"], &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("--config") && error.contains(labels::ENV_ACCESS_TOKEN_FILE), "{error}");
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let iap = BTreeMap::from([variable(labels::ENV_ACCESS, "iap")]);
        let error = Settings::read(["monitor", "--config", "c.json"], &iap).unwrap_err().to_string();
        assert!(error.contains(labels::ENV_IAP_AUDIENCE) && !error.contains("--config"), "{error}");
        let open = BTreeMap::from([variable(labels::ENV_ACCESS, "none")]);
        assert!(Settings::read(["monitor"], &open).unwrap_err().to_string().contains("neither token nor iap"));
    }
}
